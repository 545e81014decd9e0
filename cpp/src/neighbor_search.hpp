#pragma once

#include <algorithm>

#include "mlcore/neighbors.hpp"
#include "neighbor_rows.hpp"

namespace mlcore::detail {

/// Of coordinates and cutoffs, so that their squares are finite.
inline constexpr double kLargestCoordinate = 1e100;

/// NeighborCutoff with its largest value worked out and a skin added to every pair.
struct PairCutoff {
  NeighborCutoff given;
  double largest = 0;
  double skin = 0;

  bool uniform() const { return !given.radii.data && !given.table.data; }

  double of(std::int64_t i, std::int64_t j) const {
    double result = given.cutoff;
    if (given.radii.data) result = std::min(result, given.radii(i) + given.radii(j));
    if (given.table.data) result = std::min(result, given.table(given.types(i), given.types(j)));
    return result + skin;
  }
};

/// Finds the neighbors of all particles. Takes frame.cell and frame.inverse, sets frame.wraps.
PairRows search_pairs(const Context& context, View<const double, 2> x, const PairCutoff& cutoff,
                      const NeighborOptions& options, Frame& frame);

}  // namespace mlcore::detail
