#pragma once

#include "mlcore/neighbors.hpp"
#include "neighbor_cells.hpp"
#include "neighbor_rows.hpp"

namespace mlcore::detail {

/// NeighborCutoff with its largest value worked out.
struct PairCutoff {
  NeighborCutoff given;
  double largest = 0;
};

/// The neighbors of all particles; `cells` must reach as far as the cutoff.
NeighborRows search_pairs(const Context& context, const NeighborCells& cells,
                          const PairCutoff& cutoff, const NeighborOptions& options);

}  // namespace mlcore::detail
