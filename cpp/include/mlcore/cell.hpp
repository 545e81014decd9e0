#pragma once

#include <array>
#include <cmath>

#include "mlcore/error.hpp"

namespace mlcore {

/// Simulation cell: row vectors (ASE convention) and the axes along which it repeats.
/// A cell without any periodic axis is open space; its vectors are then ignored.
struct Cell {
  std::array<double, 9> rows{};  ///< vector k is rows[3k], rows[3k+1], rows[3k+2]
  std::array<bool, 3> pbc{};

  static Cell open() { return {}; }
  static Cell cubic(double length) {
    return {{length, 0, 0, 0, length, 0, 0, 0, length}, {true, true, true}};
  }

  bool is_open() const { return !pbc[0] && !pbc[1] && !pbc[2]; }
  bool fully_periodic() const { return pbc[0] && pbc[1] && pbc[2]; }
};

/// Signed volume of three row vectors.
inline double determinant(const std::array<double, 9>& m) {
  return m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6]) +
         m[2] * (m[3] * m[7] - m[4] * m[6]);
}

/// Inverse of a 3x3 row-major matrix (not singular).
inline std::array<double, 9> inverse(const std::array<double, 9>& m) {
  const double d = 1.0 / determinant(m);
  return {(m[4] * m[8] - m[5] * m[7]) * d, (m[2] * m[7] - m[1] * m[8]) * d,
          (m[1] * m[5] - m[2] * m[4]) * d, (m[5] * m[6] - m[3] * m[8]) * d,
          (m[0] * m[8] - m[2] * m[6]) * d, (m[2] * m[3] - m[0] * m[5]) * d,
          (m[3] * m[7] - m[4] * m[6]) * d, (m[1] * m[6] - m[0] * m[7]) * d,
          (m[0] * m[4] - m[1] * m[3]) * d};
}

/// Cell with a full-rank matrix: zero rows of open axes are replaced by unit vectors
/// perpendicular to the others, so that fractional coordinates exist.
/// Throws InvalidArgument for a periodic axis with a zero, non-finite or dependent vector.
MLCORE_API Cell completed(const Cell& cell);

/// Distances between opposite faces of a completed cell.
MLCORE_API std::array<double, 3> heights(const Cell& cell);

/// d + S @ rows with integer S on periodic axes so that fractional coordinates lie in [-1/2, 1/2).
/// This is the nearest image whenever |result| <= half the smallest height.
/// `inverse_rows` is inverse(cell.rows) of a completed cell.
inline void wrap_displacement(const Cell& cell, const std::array<double, 9>& inverse_rows,
                              double d[3]) {
  for (int axis = 0; axis < 3; ++axis) {
    if (!cell.pbc[axis]) continue;
    const double fraction =
        d[0] * inverse_rows[axis] + d[1] * inverse_rows[3 + axis] + d[2] * inverse_rows[6 + axis];
    const double shift = std::floor(fraction + 0.5);
    for (int k = 0; k < 3; ++k) d[k] -= shift * cell.rows[3 * axis + k];
  }
}

}  // namespace mlcore
