#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// When two particles are neighbors: their distance is strictly below `cutoff`,
/// and, where radii or a table of pair types is given, also strictly below the
/// cutoff of that pair.
struct NeighborCutoff {
  double cutoff = 0;                  ///< largest distance of any pair; >= 0
  View<const double, 1> radii;        ///< (n,) or none; pair cutoff radii[i] + radii[j]
  View<const std::int32_t, 1> types;  ///< (n,) in 0..t-1, or none; needs `table`
  View<const double, 2> table;        ///< (t, t) symmetric; pair cutoff table(type_i, type_j)
};

struct NeighborOptions {
  /// Each pair once instead of twice: i < j, or i = j and the first nonzero
  /// number of S positive.
  bool half = false;
  /// Order pairs of one i by j, then S; else in the order they were found,
  /// which is faster for full lists. Pairs are ordered by i in any case, and
  /// the order never depends on the thread count or the instruction set.
  bool sorted = true;
  /// Also report (i, i, S = 0), at distance 0. Images of a particle with itself
  /// are always in.
  bool self_pairs = false;
  /// Whether S, D and d can be filled; a search for i and j alone is faster.
  bool vectors = true;
  /// Keep the pairs until they are filled in, 4 to 8 bytes each; else fill() searches again.
  bool stored = true;
};

/// Where the pairs go; a view without data is not filled. For p pairs:
template <class Index, class Real = double>
struct NeighborArrays {
  View<Index, 1> i;         ///< (p,) first particle
  View<Index, 1> j;         ///< (p,) second particle
  View<std::int32_t, 2> S;  ///< (p, 3) cell boundaries crossed from i to j
  View<Real, 2> D;          ///< (p, 3) x_j - x_i + S @ cell
  View<Real, 1> d;          ///< (p,) length of D
};

/// A row of fixed length per particle, as compiled graphs take it.
struct NeighborMatrix {
  View<std::int32_t, 2> j;       ///< (n, m) second particles, then `padding`
  View<std::int32_t, 3> S;       ///< (n, m, 3) or none; zero where padded
  View<std::int64_t, 1> counts;  ///< (n,) or none; neighbors of each particle
  std::int32_t padding = -1;
};

/// Several systems, one after the other in the arrays of particles.
struct NeighborSystems {
  View<const std::int64_t, 1>
      offsets;              ///< (b + 1,) system s holds offsets(s) .. offsets(s + 1) - 1
  std::vector<Cell> cells;  ///< (b,)
};

/// All pairs of particles closer than a cutoff, by cell lists: count ->
/// allocate -> fill.
///
/// A pair is (i, j, S) with D = (x_j - x_i) + ((S_0 c_0 + S_1 c_1) + S_2 c_2),
/// each operation rounded once in double, and it is in the list when
/// sqrt((D_x^2 + D_y^2) + D_z^2) < cutoff. So the set of pairs is that of a
/// brute-force search, whatever the thread count or instruction set. S = 0
/// along open axes. Any triclinic cell, left-handed ones too; points may lie
/// outside it; a cutoff beyond half the cell gives several images.
/// Single-precision D and d are those of double precision, rounded.
///
/// Besides the caller's arrays it takes about 80 bytes per particle and, where
/// they are stored, 5 per pair (8 per pair where a search meets more than 256
/// images of the cell).
class MLCORE_API NeighborSearch {
 public:
  /// Finds the pairs of the positions `x` (n, 3), which are copied, as are
  /// radii, types and table.
  /// @throws InvalidArgument  wrong shapes, values that are not finite, a bad
  /// cell, positions more
  ///                          than 2^30 cells away, a cutoff of hundreds of
  ///                          cells
  NeighborSearch(const Context& context, View<const double, 2> x, const Cell& cell,
                 const NeighborCutoff& cutoff, const NeighborOptions& options = {});
  /// The same of many systems at once, which threads share; particles are
  /// numbered through.
  NeighborSearch(const Context& context, View<const double, 2> x, const NeighborSystems& systems,
                 const NeighborCutoff& cutoff, const NeighborOptions& options = {});
  ~NeighborSearch();
  NeighborSearch(NeighborSearch&&) noexcept;
  NeighborSearch& operator=(NeighborSearch&&) noexcept;

  std::int64_t particles() const;

  /// Number of pairs.
  std::int64_t count() const;

  /// Pairs of the particle that has most of them.
  std::int64_t largest_row() const;

  /// (n + 1,) pairs of particle i are offsets(i) .. offsets(i + 1) - 1; valid
  /// as long as this.
  View<const std::int64_t, 1> offsets() const;
  void copy_offsets(const Context& context, View<std::int64_t, 1> out) const;

  void fill(const Context& context, const NeighborArrays<std::int32_t>& arrays) const;
  void fill(const Context& context, const NeighborArrays<std::int64_t>& arrays) const;
  void fill(const Context& context, const NeighborArrays<std::int32_t, float>& arrays) const;
  void fill(const Context& context, const NeighborArrays<std::int64_t, float>& arrays) const;

  /// @throws InvalidArgument  rows are shorter than largest_row()
  void fill(const Context& context, const NeighborMatrix& matrix) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Neighbor list for moving particles: it sorts particles into cells as wide as
/// cutoff + skin and does so again only when a particle has moved by more than
/// skin / 2 since, or the cell or number of particles changed (Verlet, Phys.
/// Rev. 159, 98 (1967)). What it reports is always exact for the current
/// positions. On a GPU it keeps the pairs within cutoff + skin, 8 bytes each, besides its own.
class MLCORE_API NeighborList {
 public:
  /// Radii, types and table are copied.
  NeighborList(const NeighborCutoff& cutoff, double skin, const NeighborOptions& options = {});
  ~NeighborList();
  NeighborList(NeighborList&&) noexcept;
  NeighborList& operator=(NeighborList&&) noexcept;

  /// Takes new positions (n, 3) (copied) and says whether it had to search
  /// again. The list is where they are, on the CPU or a GPU.
  bool update(const Context& context, View<const double, 2> x, const Cell& cell);

  std::int64_t particles() const;
  /// Those of the last update, (n, 3), to an array on the same device.
  void copy_positions(const Context& context, View<double, 2> out) const;
  std::int64_t count() const;                   ///< see NeighborSearch
  std::int64_t largest_row() const;             ///< see NeighborSearch
  View<const std::int64_t, 1> offsets() const;  ///< valid until the next update; CPU only
  void copy_offsets(const Context& context, View<std::int64_t, 1> out) const;
  void fill(const Context& context, const NeighborArrays<std::int32_t>& arrays) const;
  void fill(const Context& context, const NeighborArrays<std::int64_t>& arrays) const;
  void fill(const Context& context, const NeighborArrays<std::int32_t, float>& arrays) const;
  void fill(const Context& context, const NeighborArrays<std::int64_t, float>& arrays) const;
  void fill(const Context& context, const NeighborMatrix& matrix) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mlcore
