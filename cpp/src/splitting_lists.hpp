#pragma once

// Steps of many particles, by a neighbor list.

#include <cstdint>
#include <vector>

#include "kernels/splitting.hpp"
#include "mlcore/splitting.hpp"

namespace mlcore::detail {

/// Particles within cutoff + skin of each other, as long as none has moved by skin / 2: rows of
/// `places`, which hold the particles, folded into the cell, and after them their images.
struct SplittingList {
  std::vector<double> start;          // (n, 3) where the particles were; none: no list
  std::vector<std::int32_t> owner;    // (m,) whose place it is
  std::vector<double> shift;          // (m, 3) place - x of the owner
  std::vector<double> places;         // (m, 4) and the species
  std::vector<std::int64_t> offsets;  // (n + 1,)
  std::vector<std::int32_t> columns;

  std::int64_t size() const { return static_cast<std::int64_t>(owner.size()); }
};

/// Up to `steps` steps of one system, those that are good; their number. The list is made anew
/// where particles have left it.
std::int64_t listed_steps(const Context& context, const kernels::SplittingPlan& plan,
                          const Cell& cell, const kernels::SplittingSpace& space,
                          View<const std::int32_t, 1> species, SplittingList& list,
                          std::int64_t steps, View<double, 2> x, View<double, 2> v,
                          double* closest_square, SplittingStatus& status);

}  // namespace mlcore::detail
