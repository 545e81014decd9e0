// Compiled once per instruction set; see simd.hpp.

#include <cstdint>

namespace mlcore::kernels::MLCORE_ISA {

namespace {

constexpr int kLanes = 16;

double dot(std::int64_t n, const double* a, const double* b) {
  double partial[kLanes] = {};
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) partial[lane] += a[j + lane] * b[j + lane];
  }
  double sum = 0;
  for (; j < n; ++j) sum += a[j] * b[j];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
  }
  return sum + partial[0];
}

}  // namespace

void lower_rows(std::int64_t begin, std::int64_t end, std::int64_t m, const double* lower,
                const double* x, double* out) {
  for (std::int64_t i = begin; i < end; ++i) out[i] = dot(i + 1, lower + i * m, x);
}

bool small_cholesky(std::int64_t m, double* a) {
  for (std::int64_t i = 0; i < m; ++i) {
    double* row = a + i * m;
    for (std::int64_t j = 0; j < i; ++j) {
      row[j] = (row[j] - dot(j, row, a + j * m)) / a[j * m + j];
    }
    const double pivot = row[i] - dot(i, row, row);
    if (!(pivot > 0)) return false;
    row[i] = __builtin_sqrt(pivot);
  }
  return true;
}

}  // namespace mlcore::kernels::MLCORE_ISA
