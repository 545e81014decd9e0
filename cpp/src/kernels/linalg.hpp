#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

// T = double or float: of the matrix. Vectors are double.

// out[i] = sum_{j <= i} lower[i * m + j] * x[j] for rows begin..end-1.
MLCORE_DECLARE_PER_ISA(template <class T> void lower_rows(std::int64_t begin, std::int64_t end,
                                                          std::int64_t m, const T* lower,
                                                          const double* x, double* out);)

// What the rows begin..end-1 of the lower triangle of a symmetric matrix hold, added to y = A x for
// `columns` vectors of length m, one after the other; the rows are read downwards or upwards.
MLCORE_DECLARE_PER_ISA(template <class T> void symmetric_rows(std::int64_t begin, std::int64_t end,
                                                              std::int64_t m, const T* a,
                                                              std::int64_t columns, bool upwards,
                                                              const double* x, double* y);)

// sum_i a_i b_i
MLCORE_DECLARE_PER_ISA(double dot(std::int64_t n, const double* a, const double* b);)

// w[i] = keep * w[i] + sum_k factors[k] * vectors[k][i] for begin <= i < end.
MLCORE_DECLARE_PER_ISA(void combine(std::int64_t begin, std::int64_t end, std::int64_t count,
                                    const double* const* vectors, const double* factors,
                                    double keep, double* w);)

}  // namespace mlcore::kernels
