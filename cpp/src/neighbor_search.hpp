#pragma once

#include <vector>

#include "mlcore/neighbors.hpp"
#include "neighbor_cells.hpp"
#include "neighbor_rows.hpp"
#include "scratch.hpp"

namespace mlcore::detail {

/// NeighborCutoff with its largest value worked out.
struct PairCutoff {
  NeighborCutoff given;
  double largest = 0;
};

/// The candidates of every cell, in the order in which they are looked through. They stay the same
/// for as long as particles stay in their cells.
struct NeighborKept {
  NeighborRows candidates;    // per cell: places, images
  Scratch<std::int32_t> own;  // (n,) where the particle at a place is among those of its cell
  std::vector<float> shifts;
  std::int64_t most = 0;  // candidates of a cell

  bool empty() const { return shifts.empty(); }
};

/// For lists within the reach of the cells; empty where images of the cell are too many.
NeighborKept keep_candidates(const Context& context, const NeighborCells& cells,
                             const NeighborOptions& options);

/// The neighbors of all particles; `cells` must reach as far as the cutoff.
/// @param kept  of these cells, or empty
NeighborRows search_pairs(const Context& context, const NeighborCells& cells,
                          const PairCutoff& cutoff, const NeighborOptions& options,
                          const NeighborKept& kept = {});

}  // namespace mlcore::detail
