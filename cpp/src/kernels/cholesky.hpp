#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

// Pieces of a right-looking blocked Cholesky factorisation of a row-major lower triangle, for
// T = double and float. A panel is `width` columns of the rows below a factored diagonal block. It
// is kept a second time in packed form: strips of a vector's length of rows, column after column,
// which the update of the trailing matrix reads as both of its factors.

/// Rows are handed out in multiples of this: a whole number of register tiles on every instruction
/// set.
constexpr std::int64_t kPanelRows = 48;

/// Numbers in a packed panel of so many rows and columns.
constexpr std::int64_t packed_size(std::int64_t rows, std::int64_t width) {
  return (rows + kPanelRows - 1) / kPanelRows * kPanelRows * width;
}

/// Columns of the panels a matrix of m rows is factored in. Their own diagonal blocks are factored
/// in the same way.
constexpr std::int64_t panel_width(std::int64_t m) {
  return m <= 24 ? 24 : m <= 384 ? 48 : m <= 2000 ? 192 : 384;
}

/// Numbers in the packed panel, the packed triangle and the inverse diagonal of one level.
constexpr std::int64_t level_work(std::int64_t m, std::int64_t width) {
  return packed_size(m, width) + packed_size(width, width) + packed_size(width, 1);
}

/// Numbers factor_block needs to work in, for its levels of decreasing width.
constexpr std::int64_t factor_work(std::int64_t m) {
  const std::int64_t width = panel_width(m);
  return level_work(m, width) + level_work(width, 48) + level_work(48, 24) + level_work(24, 24);
}

// The lower triangle at a becomes its Cholesky factor; false at a pivot that is not positive, the
// triangle is then partly overwritten. The result is the same to the last bit whether blocks are
// solved and subtracted here or by several threads.
MLCORE_DECLARE_PER_ISA(template <class T>
                       bool factor_block(std::int64_t m, T* a, std::int64_t stride, T* work);)

// Packs the factored triangle at a and the inverse of its diagonal.
MLCORE_DECLARE_PER_ISA(template <class T> void pack_triangle(std::int64_t width, const T* a,
                                                             std::int64_t stride, T* triangle,
                                                             T* inverse);)

// Rows begin..end-1 of a panel at a: X L^T = A, in place and into the packed panel. begin is a
// multiple of kPanelRows, end another one or the last row.
MLCORE_DECLARE_PER_ISA(template <class T> void solve_rows(std::int64_t begin, std::int64_t end,
                                                          std::int64_t width, T* a,
                                                          std::int64_t stride, const T* triangle,
                                                          const T* inverse, T* packed);)

// Rows begin..end-1 of the lower triangle at c: C -= X X^T for the packed panel X of the same rows;
// begin and end as above.
MLCORE_DECLARE_PER_ISA(template <class T>
                       void subtract_products(std::int64_t begin, std::int64_t end,
                                              std::int64_t width, const T* packed, T* c,
                                              std::int64_t stride);)

// Copies the entries (begin..end-1, 0..i) of a row-major m x m matrix, zeros the rest of those
// rows, and raises worst to the largest |a_ij - a_ji| and largest to the largest |a_ij| of them;
// entries that are not finite make worst NaN. begin is a multiple of kPanelRows. Where lower is
// null, the entries are looked at alone.
MLCORE_DECLARE_PER_ISA(template <class T> void copy_lower(std::int64_t begin, std::int64_t end,
                                                          std::int64_t m, const T* a, T* lower,
                                                          double* worst, double* largest);)

}  // namespace mlcore::kernels
