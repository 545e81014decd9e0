#pragma once

#include <functional>
#include <memory>
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

/// What a search goes by.
struct NeighborScan {
  const NeighborCells& cells;  // reach as far as the cutoff
  PairCutoff cutoff;
  const NeighborOptions& options;
  const NeighborKept& kept;  // of these cells, or empty
};

/// The neighbors of all particles.
NeighborRows search_pairs(const Context& context, const NeighborScan& scan);

/// How many neighbors each particle has, to `counts` (n,).
void count_pairs(const Context& context, const NeighborScan& scan, std::int64_t* counts);

/// Sees rows, which are gone when it returns.
class NeighborVisitor {
 public:
  virtual ~NeighborVisitor() = default;
  virtual void visit(const kernels::NeighborRow& row) = 0;
};

/// Searches and shows each row to the visitor of the thread that found it, in any order.
/// @param images  whether rows hold images
void visit_pairs(const Context& context, const NeighborScan& scan, bool images,
                 const std::function<std::unique_ptr<NeighborVisitor>()>& visitor);

}  // namespace mlcore::detail
