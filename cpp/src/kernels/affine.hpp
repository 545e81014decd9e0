#pragma once

// Products of small matrices with a few rows of a batch, for kernels/*.inl only; see lanes.hpp.
// Every sum runs over its terms in order, so a row alone and among others gives the same bits.

#include "kernels/lanes.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

#if defined(MLCORE_ISA_IS_avx512)
constexpr int kMostRows = 6;  // rows of a batch that run together, at most
constexpr int kWideRows = 2;  // that leave registers for two blocks of gates at once
#else
constexpr int kMostRows = 3;  // 16 registers
constexpr int kWideRows = 1;
#endif

/// sums[r][u V + v] += sum_k x[r][k] w[u][k][v], blocks `stride` elements apart.
template <class T, int R, int U, int V>
MLCORE_LANES void multiply(Vector<T> (&sums)[R][U * V], const T* const* x, std::int64_t count,
                           const T* w, std::int64_t stride) {
  for (std::int64_t k = 0; k < count; ++k) {
    Vector<T> column[U * V];
    for (int u = 0; u < U; ++u) {
      for (int v = 0; v < V; ++v) {
        column[u * V + v] = load(w + u * stride + (k * V + v) * kLanesOf<T>);
      }
    }
    for (int r = 0; r < R; ++r) {
      const Vector<T> value = all(x[r][k]);
      for (int v = 0; v < U * V; ++v) sums[r][v] = fma(value, column[v], sums[r][v]);
    }
  }
}

/// U blocks of V vectors: out[r] = bias + w x[r].
template <class T, int R, int U, int V>
MLCORE_LANES void affine_blocks(const T* const* x, std::int64_t count, const T* w, const T* bias,
                                T* const* out) {
  Vector<T> sums[R][U * V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < U * V; ++v) sums[r][v] = load(bias + v * kLanesOf<T>);
  }
  multiply<T, R, U, V>(sums, x, count, w, count * V * kLanesOf<T>);
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < U * V; ++v) store(out[r] + v * kLanesOf<T>, sums[r][v]);
  }
}

/// All blocks, R rows; `Together` blocks at a time.
template <class T, int R, int Together, int V>
void affine_rows(const T* const* x, std::int64_t count, std::int64_t blocks, const T* w,
                 const T* bias, T* const* out) {
  constexpr std::int64_t kWidth = V * kLanesOf<T>;
  T* to[R];
  for (int r = 0; r < R; ++r) to[r] = out[r];
  std::int64_t block = 0;
  for (; block + Together <= blocks; block += Together) {
    affine_blocks<T, R, Together, V>(x, count, w + block * count * kWidth, bias + block * kWidth,
                                     to);
    for (int r = 0; r < R; ++r) to[r] += Together * kWidth;
  }
  for (; block < blocks; ++block) {
    affine_blocks<T, R, 1, V>(x, count, w + block * count * kWidth, bias + block * kWidth, to);
    for (int r = 0; r < R; ++r) to[r] += kWidth;
  }
}

/// out[r] = bias + w x[r] for up to kMostRows rows; V vectors per block.
template <class T, int V>
void affine(int rows, const T* const* x, std::int64_t count, std::int64_t blocks, const T* w,
            const T* bias, T* const* out) {
  constexpr int kWide = V == 1 ? 6 : 2, kNarrow = V == 1 ? 4 : 1;
  switch (rows) {
    case 1:
      return affine_rows<T, 1, kWide, V>(x, count, blocks, w, bias, out);
    case 2:
      return affine_rows<T, 2, kWideRows == 2 ? kWide : kNarrow, V>(x, count, blocks, w, bias, out);
    case 3:
      return affine_rows<T, 3, kNarrow, V>(x, count, blocks, w, bias, out);
#if defined(MLCORE_ISA_IS_avx512)
    case 4:
      return affine_rows<T, 4, kNarrow, V>(x, count, blocks, w, bias, out);
    case 5:
      return affine_rows<T, 5, kNarrow, V>(x, count, blocks, w, bias, out);
    default:
      return affine_rows<T, 6, kNarrow, V>(x, count, blocks, w, bias, out);
#endif
  }
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
