#pragma once

#include "mlcore/neighbors.hpp"
#include "neighbor_cells.hpp"
#include "neighbor_rows.hpp"

namespace mlcore::detail {

/// Writes the rows one after the other from entry `first` of the arrays on;
/// `base` is added to particle numbers.
template <class Index, class Real>
void write_rows(const Context& context, const NeighborCells& cells, const NeighborRows& rows,
                std::int64_t first, std::int64_t base, const NeighborArrays<Index, Real>& out);

/// Writes the rows from row `base` of the matrix on, which must be wide enough.
void write_matrix(const Context& context, const NeighborCells& cells, const NeighborRows& rows,
                  std::int64_t base, const NeighborMatrix& out);

}  // namespace mlcore::detail
