// Compiled once per instruction set; see simd.hpp.

#include "kernels/machine.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

#if defined(MLCORE_ISA_IS_avx512)
#define MLCORE_VECTOR_BYTES 64
#elif defined(MLCORE_ISA_IS_avx2)
#define MLCORE_VECTOR_BYTES 32
#else
#define MLCORE_VECTOR_BYTES 16
#endif
typedef double Doubles __attribute__((vector_size(MLCORE_VECTOR_BYTES), may_alias));
typedef float Floats __attribute__((vector_size(MLCORE_VECTOR_BYTES), may_alias));

/// Nothing known about memory survives this: no loop becomes memcpy or memset, which choose
/// stores past the caches by themselves.
inline void barrier() { __asm__ volatile("" ::: "memory"); }

template <class Vector, class T>
T fma_chains(std::int64_t iterations) {
  constexpr int kChains = kFmaOperations / 2;
  Vector x[kChains];
  for (int k = 0; k < kChains; ++k) x[k] = Vector{} + static_cast<T>(0.1 * (k + 1));
  Vector m = Vector{} + static_cast<T>(0.999999), c = Vector{} + static_cast<T>(1e-6);
  __asm__ volatile("" : "+m"(m), "+m"(c));
  for (std::int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < kChains; ++k) x[k] = x[k] * m + c;
  }
  Vector sum = x[0];
  for (int k = 1; k < kChains; ++k) sum += x[k];
  T total = 0;
  for (unsigned lane = 0; lane < sizeof(Vector) / sizeof(T); ++lane) total += sum[lane];
  return total;
}

constexpr std::int64_t kVector = MLCORE_VECTOR_BYTES / sizeof(double);
constexpr int kUnroll = 64 / kVector / 2;

}  // namespace

std::int64_t vector_doubles() { return kVector; }
std::int64_t vector_floats() { return 2 * kVector; }
double fma_chains_double(std::int64_t iterations) {
  return fma_chains<Doubles, double>(iterations);
}
float fma_chains_float(std::int64_t iterations) { return fma_chains<Floats, float>(iterations); }

void stream_copy(const double* from, double* to, std::int64_t count) {
  const auto* source = reinterpret_cast<const Doubles*>(from);
  auto* target = reinterpret_cast<Doubles*>(to);
  for (std::int64_t i = 0; i < count / kVector; i += kUnroll) {
    for (int k = 0; k < kUnroll; ++k) target[i + k] = source[i + k];
    barrier();
  }
}

void stream_write(double value, double* to, std::int64_t count) {
  auto* target = reinterpret_cast<Doubles*>(to);
  const Doubles values = Doubles{} + value;
  for (std::int64_t i = 0; i < count / kVector; i += kUnroll) {
    for (int k = 0; k < kUnroll; ++k) target[i + k] = values;
    barrier();
  }
}

double stream_read(const double* from, std::int64_t count) {
  const auto* source = reinterpret_cast<const Doubles*>(from);
  Doubles sums[4] = {};
  for (std::int64_t i = 0; i < count / kVector; i += 4) {
    for (int k = 0; k < 4; ++k) sums[k] += source[i + k];
  }
  const Doubles sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double total = 0;
  for (int lane = 0; lane < kVector; ++lane) total += sum[lane];
  return total;
}

double gather_records(const double* table, const std::uint32_t* index, std::int64_t count) {
  double a = 0, b = 0, c = 0, d = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    const double* record = table + 4 * static_cast<std::int64_t>(index[k]);
    a += record[0];
    b += record[1];
    c += record[2];
    d += record[3];
  }
  return (a + b) + (c + d);
}

}  // namespace mlcore::kernels::MLCORE_ISA
