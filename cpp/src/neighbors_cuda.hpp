#pragma once

// The CUDA side of neighbors: cuda/neighbors.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked, except for what only the values of the positions tell.

#include <memory>

#include "mlcore/neighbors.hpp"
#include "neighbor_search.hpp"

namespace mlcore::cuda {

/// The list of one system, in GPU memory.
class NeighborSearch {
 public:
  /// `reach` is the cutoff, or a tiny number where that is 0. Where particles are `moving`, it may
  /// be longer, and the pairs within it are kept for move().
  NeighborSearch(const Context& context, View<const double, 2> x, const Cell& cell,
                 const detail::PairCutoff& cutoff, double reach, const NeighborOptions& options,
                 bool moving = false);
  ~NeighborSearch();
  NeighborSearch(NeighborSearch&&) noexcept;
  NeighborSearch& operator=(NeighborSearch&&) noexcept;

  /// Takes new positions of as many particles and lists the kept pairs that are near now; false,
  /// with nothing changed, where a particle has moved so far that others may be, or the positions
  /// are on another GPU.
  bool move(const Context& context, View<const double, 2> x);
  void copy_positions(const Context& context, View<double, 2> out) const;

  std::int64_t count() const;
  std::int64_t largest_row() const;

  /// Writes (n + 1,) first pairs, plus `pairs`.
  void offsets(const Context& context, std::int64_t pairs, std::int64_t* out) const;

  /// Writes the pairs from entry `pairs` of the arrays on; `base` is added to particle numbers.
  template <class Index, class Real>
  void fill(const Context& context, std::int64_t pairs, std::int64_t base,
            const NeighborArrays<Index, Real>& out) const;

  /// Writes from row `base` of the matrix on, which is wide enough.
  void fill(const Context& context, std::int64_t base, const NeighborMatrix& out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mlcore::cuda
