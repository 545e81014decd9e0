// Compiled once per instruction set; see simd.hpp.

#include "kernels/linalg.hpp"

namespace mlcore::kernels::MLCORE_ISA {

namespace {

#if MLCORE_ISA_IS_avx512
constexpr int kLanes = 8;
#elif MLCORE_ISA_IS_avx2
constexpr int kLanes = 4;
#else
constexpr int kLanes = 2;
#endif
constexpr int kSums = 16;  // partial sums of a product, on every instruction set

typedef double Vector __attribute__((vector_size(kLanes * sizeof(double))));
typedef double Unaligned
    __attribute__((vector_size(kLanes * sizeof(double)), aligned(sizeof(double)), may_alias));
typedef float Halves
    __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));

inline __attribute__((always_inline)) Vector load(const double* a) {
  return *reinterpret_cast<const Unaligned*>(a);
}

inline __attribute__((always_inline)) Vector load(const float* a) {
  return __builtin_convertvector(*reinterpret_cast<const Halves*>(a), Vector);
}

template <class T>
double product(std::int64_t n, const T* a, const double* b) {
  double partial[kSums] = {};
  std::int64_t j = 0;
  for (; j + kSums <= n; j += kSums) {
    for (int lane = 0; lane < kSums; ++lane) partial[lane] += a[j + lane] * b[j + lane];
  }
  double sum = 0;
  for (; j < n; ++j) sum += a[j] * b[j];
  for (int width = kSums / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
  }
  return sum + partial[0];
}

/// `rows` rows from row i on, left of column i: both what they and what their transposes give.
template <class T, int rows, int columns>
inline __attribute__((always_inline)) void rectangle(std::int64_t i, std::int64_t m, const T* a,
                                                     const double* x, double* y) {
  constexpr int kAhead = 512 / sizeof(T);  // a cache line is asked for half a KiB before its turn
  Vector sum[rows][columns], factor[rows][columns];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < columns; ++c) {
      sum[r][c] = Vector{};
      factor[r][c] = Vector{} + x[c * m + i + r];
    }
  }
  const T* row = a + i * m;
  std::int64_t j = 0;
  for (; j + kLanes <= i; j += kLanes) {
    Vector from[columns], to[columns];
#pragma GCC unroll 8
    for (int c = 0; c < columns; ++c) {
      from[c] = load(x + c * m + j);
      to[c] = load(y + c * m + j);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      __builtin_prefetch(row + r * m + j + kAhead);
      const Vector entry = load(row + r * m + j);
#pragma GCC unroll 8
      for (int c = 0; c < columns; ++c) {
        sum[r][c] += entry * from[c];
        to[c] += entry * factor[r][c];
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < columns; ++c) *reinterpret_cast<Unaligned*>(y + c * m + j) = to[c];
  }
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < columns; ++c) {
      double total = 0;
      for (int lane = 0; lane < kLanes; ++lane) total += sum[r][c][lane];
      const T* left = row + r * m + j;
      const int count = static_cast<int>(i - j) + r;
      for (int k = 0; k < count; ++k) {
        total += left[k] * x[c * m + j + k];
        y[c * m + j + k] += left[k] * x[c * m + i + r];
      }
      y[c * m + i + r] += total + row[r * m + i + r] * x[c * m + i + r];
    }
  }
}

template <class T, int rows, int columns>
void all_rectangles(std::int64_t begin, std::int64_t end, std::int64_t m, const T* a, bool upwards,
                    const double* x, double* y) {
  const std::int64_t blocks = (end - begin) / rows, rest = begin + blocks * rows;
  if (upwards) {
    for (std::int64_t i = end - 1; i >= rest; --i) rectangle<T, 1, columns>(i, m, a, x, y);
    for (std::int64_t b = blocks - 1; b >= 0; --b) {
      rectangle<T, rows, columns>(begin + b * rows, m, a, x, y);
    }
  } else {
    for (std::int64_t b = 0; b < blocks; ++b) {
      rectangle<T, rows, columns>(begin + b * rows, m, a, x, y);
    }
    for (std::int64_t i = rest; i < end; ++i) rectangle<T, 1, columns>(i, m, a, x, y);
  }
}

}  // namespace

template <class T>
void lower_rows(std::int64_t begin, std::int64_t end, std::int64_t m, const T* lower,
                const double* x, double* out) {
  for (std::int64_t i = begin; i < end; ++i) out[i] = product(i + 1, lower + i * m, x);
}

template <class T>
void symmetric_rows(std::int64_t begin, std::int64_t end, std::int64_t m, const T* a,
                    std::int64_t columns, bool upwards, const double* x, double* y) {
  for (std::int64_t c = 0; c < columns;) {
    if (columns - c >= 4) {
      all_rectangles<T, 4, 4>(begin, end, m, a, upwards, x + c * m, y + c * m);
      c += 4;
    } else if (columns - c >= 2) {
      all_rectangles<T, 4, 2>(begin, end, m, a, upwards, x + c * m, y + c * m);
      c += 2;
    } else {
      all_rectangles<T, 8, 1>(begin, end, m, a, upwards, x + c * m, y + c * m);
      c += 1;
    }
  }
}

double dot(std::int64_t n, const double* a, const double* b) { return product(n, a, b); }

void combine(std::int64_t begin, std::int64_t end, std::int64_t count, const double* const* vectors,
             const double* factors, double keep, double* w) {
  constexpr std::int64_t kBlock = 64;
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const std::int64_t length = end - first < kBlock ? end - first : kBlock;
    double sum[kBlock];
    for (std::int64_t i = 0; i < length; ++i) sum[i] = keep == 0 ? 0 : keep * w[first + i];
    for (std::int64_t k = 0; k < count; ++k) {
      const double* v = vectors[k] + first;
      for (std::int64_t i = 0; i < length; ++i) sum[i] += factors[k] * v[i];
    }
    for (std::int64_t i = 0; i < length; ++i) w[first + i] = sum[i];
  }
}

#define MLCORE_INSTANTIATE(T)                                                                    \
  template void lower_rows<T>(std::int64_t, std::int64_t, std::int64_t, const T*, const double*, \
                              double*);                                                          \
  template void symmetric_rows<T>(std::int64_t, std::int64_t, std::int64_t, const T*,            \
                                  std::int64_t, bool, const double*, double*);
MLCORE_INSTANTIATE(double)
MLCORE_INSTANTIATE(float)
#undef MLCORE_INSTANTIATE

}  // namespace mlcore::kernels::MLCORE_ISA
