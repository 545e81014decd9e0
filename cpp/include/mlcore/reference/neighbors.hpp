#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include <array>
#include <compare>
#include <vector>

#include "mlcore/neighbors.hpp"

namespace mlcore::reference {

struct NeighborPair {
  std::int64_t i, j;
  std::array<std::int32_t, 3> S;
  std::array<double, 3> D;
  double d;
};

/// Every particle against every image of every other one; ordered by i, j, S.
MLCORE_API std::vector<NeighborPair> neighbor_pairs(View<const double, 2> x, const Cell& cell,
                                                    const NeighborCutoff& cutoff,
                                                    const NeighborOptions& options = {});

}  // namespace mlcore::reference
