#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Operations of one iteration of fma_chains per element: 12 chains, a product and a sum each.
inline constexpr std::int64_t kFmaOperations = 24;

// Results are returned so that no loop is for nothing.
MLCORE_DECLARE_PER_ISA(
    // Elements of one vector register.
    std::int64_t vector_doubles(); std::int64_t vector_floats();
    // 12 independent chains x = x m + c.
    double fma_chains_double(std::int64_t iterations);
    float fma_chains_float(std::int64_t iterations);
    // Multiples of 64 elements, aligned to 64 bytes.
    void stream_copy(const double* from, double* to, std::int64_t count);
    void stream_write(double value, double* to, std::int64_t count);
    double stream_read(const double* from, std::int64_t count);
    // Sum over records of four doubles, table[4 * index[k]...].
    double gather_records(const double* table, const std::uint32_t* index, std::int64_t count);)

}  // namespace mlcore::kernels
