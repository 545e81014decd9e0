#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

// out[i] = sum_{j <= i} lower[i * m + j] * x[j] for rows begin..end-1.
MLCORE_DECLARE_PER_ISA(void lower_rows(std::int64_t begin, std::int64_t end, std::int64_t m,
                                       const double* lower, const double* x, double* out);)

// The lower triangle of a small matrix becomes its Cholesky factor; false at a pivot that is not
// positive, the triangle is then partly overwritten.
MLCORE_DECLARE_PER_ISA(bool small_cholesky(std::int64_t m, double* a);)

}  // namespace mlcore::kernels
