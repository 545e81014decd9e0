#include "neighbor_grid.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlcore::detail {
namespace {

constexpr std::int64_t kMaxSegments = std::int64_t{1} << 24;
constexpr double kMaxImages = 512;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

Cell without_open_rows(Cell cell) {
  for (int axis = 0; axis < 3; ++axis) {
    for (int k = 0; k < 3 && !cell.pbc[axis]; ++k) cell.rows[3 * axis + k] = 0;
  }
  return cell;
}

double row_size(const Cell& cell, int axis) {
  const double* row = cell.rows.data() + 3 * axis;
  return std::fabs(row[0]) + std::fabs(row[1]) + std::fabs(row[2]);
}

}  // namespace

NeighborExtent::NeighborExtent() {
  std::fill_n(low, 3, std::numeric_limits<double>::infinity());
  std::fill_n(fraction_low, 3, std::numeric_limits<double>::infinity());
  std::fill_n(high, 3, -std::numeric_limits<double>::infinity());
  std::fill_n(fraction_high, 3, -std::numeric_limits<double>::infinity());
}

void NeighborExtent::join(const NeighborExtent& other) {
  largest = std::max(largest, other.largest);
  wrapped |= other.wrapped;
  for (int k = 0; k < 3; ++k) {
    low[k] = std::min(low[k], other.low[k]);
    high[k] = std::max(high[k], other.high[k]);
    fraction_low[k] = std::min(fraction_low[k], other.fraction_low[k]);
    fraction_high[k] = std::max(fraction_high[k], other.fraction_high[k]);
  }
}

NeighborGrid::NeighborGrid(const Cell& given, double reach)
    : reach(reach),
      cell(completed(without_open_rows(given))),
      inverse(mlcore::inverse(cell.rows)) {}

double NeighborGrid::column_sum(int axis) const {
  return std::fabs(inverse[axis]) + std::fabs(inverse[3 + axis]) + std::fabs(inverse[6 + axis]);
}

/// Bound of the rounding errors of wrapped Cartesian coordinates.
double NeighborGrid::coordinate_error(double largest) const {
  double size = largest;
  for (int axis = 0; axis < 3; ++axis) {
    if (!cell.pbc[axis]) continue;
    size += (largest * column_sum(axis) + 1) * row_size(cell, axis);
  }
  return 32 * kEpsilon * size;
}

double NeighborGrid::free_move(double cutoff, double largest) const {
  return std::max(0.0, 0.5 * (reach - cutoff) - 16 * coordinate_error(largest + reach));
}

/// Largest entry of |cell @ inverse - 1|.
double NeighborGrid::inverse_error() const {
  double worst = 0;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      double sum = i == j ? -1 : 0;
      for (int k = 0; k < 3; ++k) sum += cell.rows[3 * i + k] * inverse[3 * k + j];
      worst = std::max(worst, std::fabs(sum));
    }
  }
  return worst + kEpsilon;
}

/// How far, in fractions along an axis, two neighbors can be apart, rounding
/// included.
double NeighborGrid::reach_along(const NeighborExtent& extent, int axis) const {
  const double a = inverse[axis], b = inverse[3 + axis], c = inverse[6 + axis];
  const double norm = std::sqrt(a * a + b * b + c * c);
  const double most = (reach * (1 + 1e-12) + coordinate_error(extent.largest)) * norm;
  const double size = extent.largest * column_sum(axis) + 1;
  return most + 32 * kEpsilon * size + 3 * inverse_error() * (size + most);
}

void NeighborGrid::choose(const NeighborExtent& extent, std::int64_t particles) {
  double span[3], bins[3];
  for (int axis = 0; axis < 3; ++axis) {
    const bool periodic = cell.pbc[axis];
    axes[axis].periodic = periodic;
    axes[axis].low = periodic ? 0 : extent.fraction_low[axis];
    span[axis] = periodic ? 1 : extent.fraction_high[axis] - extent.fraction_low[axis];
    fraction_reach[axis] = reach_along(extent, axis);
    bins[axis] = std::max(1.0, std::floor(span[axis] * (1 - 1e-9) / fraction_reach[axis]));
  }
  const double most = std::min(2.0 * static_cast<double>(particles) + 64, 0x1p30);
  while (bins[0] * bins[1] * bins[2] > most) {
    double& widest = *std::max_element(bins, bins + 3);
    widest = std::ceil(widest / 2);
  }
  std::int64_t segments = 1;
  for (int axis = 0; axis < 3; ++axis) {
    NeighborAxis& a = axes[axis];
    a.bins = static_cast<std::int64_t>(bins[axis]);
    a.scale = a.periodic || a.bins > 1 ? bins[axis] / span[axis] : 0;
    const double cells = std::ceil(fraction_reach[axis] * a.scale);
    const double images = a.periodic ? std::floor(cells / bins[axis]) + 1 : 0;
    MLCORE_CHECK(images < kMaxImages, "cutoff ", reach, " reaches over ", images,
                 " images of the cell along axis ", axis, "; at most ", kMaxImages - 1,
                 " are possible: repeat the cell or lower the cutoff");
    a.reach = a.periodic ? static_cast<std::int64_t>(cells)
                         : static_cast<std::int64_t>(std::min(cells, bins[axis] - 1));
    a.images = a.periodic ? static_cast<std::int32_t>((a.reach + a.bins - 1) / a.bins) : 0;
    segments *= axis < 2 ? 2 * a.reach + 1 : 2 * static_cast<std::int64_t>(images) + 1;
    MLCORE_CHECK(segments <= kMaxSegments, "cutoff ", reach,
                 " reaches over too many images of the cell: repeat the cell "
                 "or lower the cutoff");
  }
}

}  // namespace mlcore::detail
