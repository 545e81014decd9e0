// Compiled once per instruction set; see simd.hpp. The register tile is that of K. Goto and R. A.
// van de Geijn, ACM Trans. Math. Softw. 34, 12 (2008): kTile rows by kAcross vectors of columns.

#include <utility>

#include "kernels/cholesky.hpp"

namespace mlcore::kernels::MLCORE_ISA {

namespace {

// Bytes of a vector, and vectors and rows of a tile: what the registers hold.
#if MLCORE_ISA_IS_avx512
constexpr int kBytes = 64, kAcross = 3, kTile = 8;
#elif MLCORE_ISA_IS_avx2
constexpr int kBytes = 32, kAcross = 3, kTile = 4;
#elif MLCORE_ISA_IS_neon
constexpr int kBytes = 16, kAcross = 6, kTile = 2;
#else
constexpr int kBytes = 16, kAcross = 3, kTile = 2;
#endif

constexpr std::int64_t kCachedRows = 192;  // of a packed panel, while its columns stream by

template <class T>
struct Simd {
  typedef T Vector __attribute__((vector_size(kBytes)));
  typedef T Unaligned __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias));
  static constexpr int lanes = kBytes / sizeof(T);  // = rows of a strip
  static constexpr int columns = kAcross * lanes;   // of a tile
};

/// One tile: C[r][s][lane] -= sum_k a[k][r] b[s][k][lane].
/// a steps by a strip's lanes, C by row and by strip as told.
template <class T>
inline __attribute__((always_inline)) void subtract_tile(std::int64_t count, const T* a, const T* b,
                                                         std::int64_t b_strip, T* c,
                                                         std::int64_t c_row, std::int64_t c_strip) {
  using Vector = typename Simd<T>::Vector;
  using Unaligned = typename Simd<T>::Unaligned;
  constexpr int lanes = Simd<T>::lanes;
  Vector sum[kTile][kAcross];
#pragma GCC unroll 16
  for (int r = 0; r < kTile; ++r) {
#pragma GCC unroll 16
    for (int s = 0; s < kAcross; ++s) {
      sum[r][s] = *reinterpret_cast<const Unaligned*>(c + r * c_row + s * c_strip);
    }
  }
  for (std::int64_t k = 0; k < count; ++k) {
    Vector row[kAcross];
#pragma GCC unroll 16
    for (int s = 0; s < kAcross; ++s) {
      row[s] = *reinterpret_cast<const Unaligned*>(b + s * b_strip + k * lanes);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kTile; ++r) {
      const T factor = a[k * lanes + r];
#pragma GCC unroll 16
      for (int s = 0; s < kAcross; ++s) sum[r][s] -= factor * row[s];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kTile; ++r) {
#pragma GCC unroll 16
    for (int s = 0; s < kAcross; ++s) {
      *reinterpret_cast<Unaligned*>(c + r * c_row + s * c_strip) = sum[r][s];
    }
  }
}

/// A tile with fewer rows, or cut by the diagonal: of row r, the first r + offset + 1 columns
/// count.
template <class T>
void subtract_part(std::int64_t count, const T* a, const T* b, std::int64_t b_strip, T* c,
                   std::int64_t c_row, std::int64_t rows, std::int64_t offset) {
  constexpr int columns = Simd<T>::columns;
  T part[kTile * columns] = {};
  const auto length = [&](std::int64_t r) {
    const std::int64_t n = r + offset + 1;
    return n < columns ? n : columns;
  };
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < length(r); ++j) part[r * columns + j] = c[r * c_row + j];
  }
  subtract_tile(count, a, b, b_strip, part, columns, Simd<T>::lanes);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t j = 0; j < length(r); ++j) c[r * c_row + j] = part[r * columns + j];
  }
}

/// Up to one tile's columns of rows: column by column, a column in kAcross vectors.
template <class T>
bool factor_smallest(std::int64_t m, T* a, std::int64_t stride) {
  using Vector = typename Simd<T>::Vector;
  constexpr int lanes = Simd<T>::lanes, rows = Simd<T>::columns;
  Vector columns[rows * kAcross] = {};
  T* entries = reinterpret_cast<T*>(columns);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) entries[j * rows + i] = a[i * stride + j];
  }
  bool positive = true;
  for (std::int64_t j = 0; j < m && positive; ++j) {
    Vector* column = columns + j * kAcross;
    const T pivot = entries[j * rows + j];
    positive = pivot > 0;
    const T root = __builtin_sqrt(pivot), inverse = 1 / root;
    for (int s = 0; s < kAcross; ++s) column[s] *= inverse;
    entries[j * rows + j] = root;
    for (std::int64_t k = j + 1; k < m; ++k) {
      const T factor = entries[j * rows + k];
      Vector* other = columns + k * kAcross;
      for (int s = static_cast<int>(k / lanes); s < kAcross; ++s) other[s] -= factor * column[s];
    }
  }
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) a[i * stride + j] = entries[j * rows + i];
  }
  return positive;
}

/// X L^T = A for one tile's columns of packed rows (the lanes), in place.
template <class T>
void solve_group(std::int64_t width, const T* triangle, const T* inverse, T* x) {
  using Vector = typename Simd<T>::Vector;
  constexpr int lanes = Simd<T>::lanes;
  const std::int64_t strip = width * lanes;
  const auto at = [&](std::int64_t k, int s) {
    return reinterpret_cast<typename Simd<T>::Unaligned*>(x + s * strip + k * lanes);
  };
  for (std::int64_t j = 0; j < width; j += kTile) {
    const T* rows = triangle + j / lanes * strip + j % lanes;
    const std::int64_t end = j + kTile < width ? j + kTile : width;
    if (end - j == kTile) {
      if (j > 0) subtract_tile(j, rows, x, strip, x + j * lanes, lanes, strip);
    } else {
      for (std::int64_t i = j; i < end; ++i) {
        for (std::int64_t k = 0; k < j; ++k) {
          for (int s = 0; s < kAcross; ++s) *at(i, s) -= rows[k * lanes + i - j] * *at(k, s);
        }
      }
    }
    Vector done[kTile][kAcross];
    for (std::int64_t i = j; i < end; ++i) {
      for (int s = 0; s < kAcross; ++s) {
        Vector value = *at(i, s);
        for (std::int64_t k = j; k < i; ++k) value -= rows[k * lanes + i - j] * done[k - j][s];
        value *= inverse[i];
        done[i - j][s] = value;
        *at(i, s) = value;
      }
    }
  }
}

/// One stage of the transposition of a square of vectors: blocks of `half` lanes change places.
template <int half, class Vector, int... lane>
inline __attribute__((always_inline)) void swap_blocks(Vector& a, Vector& b,
                                                       std::integer_sequence<int, lane...>) {
  constexpr int lanes = sizeof...(lane);
  const Vector low = __builtin_shufflevector(a, b, (lane & half ? lanes + lane - half : lane)...);
  b = __builtin_shufflevector(a, b, (lane & half ? lanes + lane : lane + half)...);
  a = low;
}

template <int half, class Vector, int lanes>
inline __attribute__((always_inline)) void transpose(Vector (&rows)[lanes]) {
  if constexpr (half > 0) {
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) {
      if ((i & half) == 0) {
        swap_blocks<half>(rows[i], rows[i + half], std::make_integer_sequence<int, lanes>{});
      }
    }
    transpose<half / 2>(rows);
  }
}

/// A square of a strip's lanes: from[i * from_row + k] to to[k * to_row + i].
template <class T>
inline __attribute__((always_inline)) void copy_transposed(const T* from, std::int64_t from_row,
                                                           T* to, std::int64_t to_row) {
  using Unaligned = typename Simd<T>::Unaligned;
  constexpr int lanes = Simd<T>::lanes;
  typename Simd<T>::Vector rows[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) {
    rows[i] = *reinterpret_cast<const Unaligned*>(from + i * from_row);
  }
  transpose<lanes / 2>(rows);
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) *reinterpret_cast<Unaligned*>(to + i * to_row) = rows[i];
}

/// Up to a strip's lanes of rows into a strip, zeros for those that are missing.
template <class T>
void pack_strip(std::int64_t rows, std::int64_t width, const T* a, std::int64_t stride, T* strip) {
  constexpr int lanes = Simd<T>::lanes;
  std::int64_t first = 0;
  if (rows >= lanes) {
    rows = lanes;
    for (; first + lanes <= width; first += lanes) {
      copy_transposed(a + first, stride, strip + first * lanes, lanes);
    }
  } else {
    for (std::int64_t k = 0; k < width * lanes; ++k) strip[k] = 0;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t k = first; k < width; ++k) strip[k * lanes + i] = a[i * stride + k];
  }
}

template <class T>
void unpack_strip(std::int64_t rows, std::int64_t width, const T* strip, T* a,
                  std::int64_t stride) {
  constexpr int lanes = Simd<T>::lanes;
  std::int64_t first = 0;
  if (rows >= lanes) {
    rows = lanes;
    for (; first + lanes <= width; first += lanes) {
      copy_transposed(strip + first * lanes, lanes, a + first, stride);
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t k = first; k < width; ++k) a[i * stride + k] = strip[k * lanes + i];
  }
}

/// What is to be known of a symmetric matrix, lane by lane.
template <class T>
struct Symmetry {
  typename Simd<T>::Vector worst{}, largest{}, unreal{};

  inline __attribute__((always_inline)) void see(typename Simd<T>::Vector entry,
                                                 typename Simd<T>::Vector across) {
    const auto off = entry - across, size = entry < 0 ? -entry : entry;
    const auto difference = off < 0 ? -off : off;
    worst = difference > worst ? difference : worst;
    largest = size > largest ? size : largest;
    unreal += (entry - entry) + (across - across);
  }
};

/// Row i0 + r and column j0 + r, r = 0..lanes-1, of a square below the diagonal.
template <class T, bool copied>
inline __attribute__((always_inline)) void copy_square(std::int64_t i0, std::int64_t j0,
                                                       std::int64_t m, const T* a, T* lower,
                                                       Symmetry<T>& symmetry) {
  using Unaligned = typename Simd<T>::Unaligned;
  constexpr int lanes = Simd<T>::lanes;
  typename Simd<T>::Vector across[lanes];
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) {
    across[r] = *reinterpret_cast<const Unaligned*>(a + (j0 + r) * m + i0);
  }
  transpose<lanes / 2>(across);
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) {
    const std::int64_t place = (i0 + r) * m + j0;
    const typename Simd<T>::Vector entry = *reinterpret_cast<const Unaligned*>(a + place);
    symmetry.see(entry, across[r]);
    if constexpr (copied) *reinterpret_cast<Unaligned*>(lower + place) = entry;
  }
}

template <class T, bool copied>
void copy_rows(std::int64_t begin, std::int64_t end, std::int64_t m, const T* a, T* lower,
               Symmetry<T>& symmetry) {
  constexpr std::int64_t lanes = Simd<T>::lanes;
  for (std::int64_t j0 = 0; j0 < end; j0 += lanes) {
    for (std::int64_t i0 = j0 > begin ? j0 : begin; i0 < end; i0 += lanes) {
      if (i0 + lanes <= m && j0 + lanes <= i0) {
        copy_square<T, copied>(i0, j0, m, a, lower, symmetry);
        continue;
      }
      for (std::int64_t i = i0; i < end && i < i0 + lanes; ++i) {
        for (std::int64_t j = j0; j <= i && j < j0 + lanes; ++j) {
          symmetry.see(typename Simd<T>::Vector{} + a[i * m + j],
                       typename Simd<T>::Vector{} + a[j * m + i]);
          if constexpr (copied) lower[i * m + j] = a[i * m + j];
        }
      }
    }
  }
  if constexpr (!copied) return;
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = i + 1; j < m; ++j) lower[i * m + j] = 0;
  }
}

}  // namespace

template <class T>
void pack_triangle(std::int64_t width, const T* a, std::int64_t stride, T* triangle, T* inverse) {
  constexpr int lanes = Simd<T>::lanes;
  for (std::int64_t i = 0; i < width; i += lanes) {
    pack_strip(width - i, width, a + i * stride, stride, triangle + i * width);
  }
  for (std::int64_t i = 0; i < width; ++i) inverse[i] = 1 / a[i * stride + i];
}

template <class T>
void solve_rows(std::int64_t begin, std::int64_t end, std::int64_t width, T* a, std::int64_t stride,
                const T* triangle, const T* inverse, T* packed) {
  constexpr std::int64_t lanes = Simd<T>::lanes, group = Simd<T>::columns;
  const std::int64_t full = begin + (end - begin + kPanelRows - 1) / kPanelRows * kPanelRows;
  for (std::int64_t first = begin; first < full; first += group) {
    for (std::int64_t i = first; i < first + group; i += lanes) {
      pack_strip(end - i, width, a + i * stride, stride, packed + i * width);
    }
    if (first >= end) continue;
    solve_group(width, triangle, inverse, packed + first * width);
    for (std::int64_t i = first; i < first + group; i += lanes) {
      unpack_strip(end - i, width, packed + i * width, a + i * stride, stride);
    }
  }
}

template <class T>
void subtract_products(std::int64_t begin, std::int64_t end, std::int64_t width, const T* packed,
                       T* c, std::int64_t stride) {
  constexpr std::int64_t lanes = Simd<T>::lanes, group = Simd<T>::columns;
  for (std::int64_t low = begin; low < end; low += kCachedRows) {
    const std::int64_t high = low + kCachedRows < end ? low + kCachedRows : end;
    for (std::int64_t j = 0; j < high; j += group) {
      const T* columns = packed + j * width;
      for (std::int64_t i = j > low ? j : low; i < high; i += kTile) {
        const T* rows = packed + i / lanes * lanes * width + i % lanes;
        T* target = c + i * stride + j;
        if (i + kTile <= high && j + group <= i + 1) {
          subtract_tile(width, rows, columns, width * lanes, target, stride, lanes);
        } else {
          const std::int64_t count = high - i < kTile ? high - i : kTile;
          subtract_part(width, rows, columns, width * lanes, target, stride, count, i - j);
        }
      }
    }
  }
}

template <class T>
void copy_lower(std::int64_t begin, std::int64_t end, std::int64_t m, const T* a, T* lower,
                double* worst, double* largest) {
  constexpr std::int64_t lanes = Simd<T>::lanes;
  Symmetry<T> symmetry;
  if (lower) {
    copy_rows<T, true>(begin, end, m, a, lower, symmetry);
  } else {
    copy_rows<T, false>(begin, end, m, a, lower, symmetry);
  }
  for (int lane = 0; lane < lanes; ++lane) {
    if (symmetry.worst[lane] > *worst) *worst = symmetry.worst[lane];
    if (symmetry.largest[lane] > *largest) *largest = symmetry.largest[lane];
  }
  for (int lane = 0; lane < lanes; ++lane) *worst += symmetry.unreal[lane];
}

template <class T>
bool factor_block(std::int64_t m, T* a, std::int64_t stride, T* work) {
  if (m <= Simd<T>::columns) return factor_smallest(m, a, stride);
  const std::int64_t width = panel_width(m) < m ? panel_width(m) : Simd<T>::columns;
  T* packed = work;
  T* triangle = packed + packed_size(m, width);
  T* inverse = triangle + packed_size(width, width);
  T* rest = inverse + packed_size(width, 1);
  for (std::int64_t first = 0; first < m; first += width) {
    const std::int64_t columns = m - first < width ? m - first : width;
    const std::int64_t next = first + columns, rows = m - next;
    T* diagonal = a + first * stride + first;
    if (!factor_block(columns, diagonal, stride, rest)) return false;
    if (rows == 0) break;
    pack_triangle(columns, diagonal, stride, triangle, inverse);
    solve_rows(0, rows, columns, a + next * stride + first, stride, triangle, inverse, packed);
    subtract_products(0, rows, columns, packed, a + next * stride + next, stride);
  }
  return true;
}

#define MLCORE_INSTANTIATE(T)                                                                  \
  template bool factor_block<T>(std::int64_t, T*, std::int64_t, T*);                           \
  template void pack_triangle<T>(std::int64_t, const T*, std::int64_t, T*, T*);                \
  template void solve_rows<T>(std::int64_t, std::int64_t, std::int64_t, T*, std::int64_t,      \
                              const T*, const T*, T*);                                         \
  template void subtract_products<T>(std::int64_t, std::int64_t, std::int64_t, const T*, T*,   \
                                     std::int64_t);                                            \
  template void copy_lower<T>(std::int64_t, std::int64_t, std::int64_t, const T*, T*, double*, \
                              double*);
MLCORE_INSTANTIATE(double)
MLCORE_INSTANTIATE(float)
#undef MLCORE_INSTANTIATE

}  // namespace mlcore::kernels::MLCORE_ISA
