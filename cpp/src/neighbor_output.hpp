#pragma once

#include "mlcore/neighbors.hpp"
#include "neighbor_cells.hpp"
#include "neighbor_rows.hpp"
#include "neighbor_search.hpp"

namespace mlcore::detail {

/// Writes the rows one after the other from entry `first` of the arrays on;
/// `base` is added to particle numbers.
template <class Index, class Real>
void write_rows(const Context& context, const NeighborCells& cells, const NeighborRows& rows,
                std::int64_t first, std::int64_t base, const NeighborArrays<Index, Real>& out);

/// Searches and writes row i from entry offsets[i] of the arrays on.
template <class Index, class Real>
void write_found(const Context& context, const NeighborScan& scan, const std::int64_t* offsets,
                 std::int64_t base, const NeighborArrays<Index, Real>& out);

/// Writes the rows from row `base` of the matrix on, which must be wide enough.
void write_matrix(const Context& context, const NeighborCells& cells, const NeighborRows& rows,
                  std::int64_t base, const NeighborMatrix& out);
void write_found(const Context& context, const NeighborScan& scan, std::int64_t base,
                 const NeighborMatrix& out);

}  // namespace mlcore::detail
