#include "mlcore/cell.hpp"

namespace mlcore {
namespace {

using Vector = std::array<double, 3>;

Vector row(const Cell& cell, int k) {
  return {cell.rows[3 * k], cell.rows[3 * k + 1], cell.rows[3 * k + 2]};
}

Vector cross(const Vector& a, const Vector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double norm(const Vector& a) { return std::sqrt(a[0] * a[0] + a[1] * a[1] + a[2] * a[2]); }

void set_row(Cell& cell, int k, const Vector& v) {
  const double length = norm(v);
  for (int d = 0; d < 3; ++d) cell.rows[3 * k + d] = v[d] / length;
}

/// A direction that is not along `a`.
Vector off_axis(const Vector& a) {
  const bool mostly_x = std::fabs(a[0]) > 0.9 * norm(a);
  return mostly_x ? Vector{0, 1, 0} : Vector{1, 0, 0};
}

}  // namespace

Cell completed(const Cell& cell) {
  Cell full = cell;
  bool given[3];
  for (int k = 0; k < 3; ++k) {
    const double length = norm(row(cell, k));
    MLCORE_CHECK(std::isfinite(length), "cell vector ", k, " must be finite");
    given[k] = length > 0;
    MLCORE_CHECK(given[k] || !cell.pbc[k], "cell vector ", k,
                 " is zero, but pbc is set along it; give it a length or switch pbc off");
  }
  const int count = given[0] + given[1] + given[2];
  if (count == 0) {
    full.rows = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    return full;
  }
  if (count == 1) {
    const int a = given[0] ? 0 : given[1] ? 1 : 2;
    const int b = (a + 1) % 3;
    set_row(full, b, cross(row(full, a), off_axis(row(full, a))));
    given[b] = true;
  }
  for (int k = 0; k < 3; ++k) {
    if (given[k]) continue;
    const Vector normal = cross(row(full, (k + 1) % 3), row(full, (k + 2) % 3));
    MLCORE_CHECK(norm(normal) > 0, "cell vectors ", (k + 1) % 3, " and ", (k + 2) % 3,
                 " are parallel");
    set_row(full, k, normal);
  }
  double scale = 1;
  for (int k = 0; k < 3; ++k) scale *= norm(row(full, k));
  MLCORE_CHECK(std::fabs(determinant(full.rows)) > 1e-12 * scale,
               "the cell vectors are linearly dependent (volume ", determinant(full.rows), ")");
  return full;
}

std::array<double, 3> heights(const Cell& cell) {
  const double volume = std::fabs(determinant(cell.rows));
  std::array<double, 3> result{};
  for (int k = 0; k < 3; ++k) {
    result[k] = volume / norm(cross(row(cell, (k + 1) % 3), row(cell, (k + 2) % 3)));
  }
  return result;
}

}  // namespace mlcore
