#pragma once

#include <array>
#include <cstdint>

#include "mlcore/cell.hpp"

namespace mlcore::detail {

/// Of coordinates and cutoffs, so that their squares are finite.
inline constexpr double kLargestCoordinate = 1e100;
/// Cells a particle may be away from the one its position is given in.
inline constexpr double kMostWraps = 1 << 30;

/// Extremes of what the particles look like.
struct NeighborExtent {
  double largest = 0;                        // |coordinate|
  double low[3], high[3];                    // Cartesian, wrapped
  double fraction_low[3], fraction_high[3];  // along the cell vectors, wrapped
  bool wrapped = false;

  NeighborExtent();
  void join(const NeighborExtent& other);
};

struct NeighborAxis {
  double low = 0, scale = 1;  // bin = floor((fraction - low) * scale)
  std::int64_t bins = 1;
  std::int64_t reach = 0;   // neighbors lie at most so many bins away
  std::int32_t images = 0;  // and so many images
  bool periodic = false;
};

/// Cells at least as wide as the reach of a search, of a size that suits the particles.
struct NeighborGrid {
  NeighborGrid() = default;
  /// @throws InvalidArgument  a periodic axis without a vector
  NeighborGrid(const Cell& cell, double reach);

  /// @throws InvalidArgument  the reach spans hundreds of images
  void choose(const NeighborExtent& extent, std::int64_t particles);

  std::int64_t cells() const { return axes[0].bins * axes[1].bins * axes[2].bins; }

  /// Bound of the rounding errors of wrapped Cartesian coordinates.
  double coordinate_error(double largest) const;

  /// How far particles, none of them beyond `largest` along an axis, may move from where they are:
  /// pairs farther apart than the reach do not come within the cutoff, rounding included.
  double free_move(double cutoff, double largest) const;

  double reach = 0;
  Cell cell;                        // completed; open axes perpendicular to the others
  std::array<double, 9> inverse{};  // fraction k of x is x . column k
  NeighborAxis axes[3];
  std::array<double, 3> fraction_reach{};  // how far neighbors can be apart, rounding included

 private:
  double column_sum(int axis) const;
  double inverse_error() const;
  double reach_along(const NeighborExtent& extent, int axis) const;
};

}  // namespace mlcore::detail
