#pragma once

#include <cstdint>
#include <memory>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/pair_potential.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// One step of a symmetric splitting of particles that act in pairs:
///
///   x += c_0 h v;   for k = 0 .. K-1:  v_i += (h / m_i) sum_j G_k(r_ij) (x_i - x_j),
///                                      x += c_{k+1} h v
///
/// with G_k = u^8 S(u), u = 1 / r. S is a cubic on each of M uniform intervals from u_lo to u_hi,
/// its value at u_hi beyond; G = 0 at the cutoff 1 / u_lo and beyond. Kick k reads table
/// min(k, K-1-k), so that with c_k = c_{K-k} the step is its own inverse backwards in time.
///
/// Particles belong to S species; pairs a <= b of them come in the order (0, 0), (0, 1), ..,
/// (0, S-1), (1, 1), ..: P = S (S + 1) / 2.
struct SplittingTables {
  double step = 0;                     ///< h, > 0
  View<const double, 1> drifts;        ///< (K + 1,) c, K >= 1, palindromic, sum 1
  View<const double, 1> masses;        ///< (S,) of the species, > 0
  View<const double, 4> coefficients;  ///< (ceil(K / 2), P, M, 4): S = a + t (b + t (c + t d)) with
                                       ///< t = 0 .. 1 along an interval
  double u_lo = 0;                     ///< 1 / cutoff, > 0
  double u_hi = 0;                     ///< 1 / closest, > u_lo
};

/// Where particles live.
struct SplittingSystem {
  Cell cell;                            ///< every image within the cutoff counts
  double wall = 0;                      ///< > 0: radius of a sphere about the origin that reflects
                                        ///< them on the straight way of a drift; open space only
  View<const std::int32_t, 1> species;  ///< (n,) in 0 .. S-1; none: all 0. In CPU memory.
};

/// Why a replica stands still.
enum class SplittingStatus : std::int32_t {
  running = 0,
  too_close = 1,   ///< a pair would come closer than 1 / u_hi in the next step
  not_finite = 2,  ///< a number would become infinite or NaN in the next step, or a coordinate
                   ///< larger than 1e8 cutoffs and cells
};

/// R replicas of n particles, written to.
struct SplittingState {
  View<double, 3> x;             ///< (R, n, 3) unwrapped
  View<double, 3> v;             ///< (R, n, 3)
  View<std::int64_t, 1> done;    ///< (R,) steps done are added to it
  View<double, 1> closest;       ///< (R,) lowered to the smallest distance below the cutoff that a
                                 ///< kick saw, that of a step not done included
  View<std::int32_t, 1> status;  ///< (R,) SplittingStatus; one that is not running is left alone
};

/// Neighbor lists of the replicas of one run, kept between the calls it is made of: then the pieces
/// do not show in its bits.
class MLCORE_API SplittingLists {
 public:
  SplittingLists();
  ~SplittingLists();
  SplittingLists(SplittingLists&&) noexcept;
  SplittingLists& operator=(SplittingLists&&) noexcept;

  struct State;
  State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

/// The step, its tables packed once. What it gives does not depend on the number of threads.
class MLCORE_API PairSplitting {
 public:
  /// @throws InvalidArgument  a shape or value is wrong
  explicit PairSplitting(const SplittingTables& tables);
  ~PairSplitting();
  PairSplitting(PairSplitting&&) noexcept;
  PairSplitting& operator=(PairSplitting&&) noexcept;

  int kicks() const;             ///< K
  std::int64_t species() const;  ///< S
  std::int64_t intervals() const;
  double step() const;
  double cutoff() const;
  double closest() const;

  /// Fills frames first + 1 .. last, `every` steps apart, from the state, which moves along. A
  /// replica stops before a step that is not good; its frames from there on are NaN.
  ///
  /// Up to 128 particles all pairs are looked at, by their nearest images, where these are all
  /// within the cutoff; else those of a neighbor list. Replicas run in parallel, lone large ones by
  /// particles. Views on the GPU run there (n <= 1024, all pairs).
  ///
  /// @param x, v   (R, T, n, 3) unwrapped; both may be empty: not wanted
  /// @param lists  may be null: made anew
  /// @throws InvalidArgument  a shape or value is wrong, a start not finite or outside the wall
  void run(const Context& context, const SplittingSystem& system, const SplittingState& state,
           std::int64_t every, std::int64_t first, std::int64_t last, View<double, 4> x,
           View<double, 4> v, SplittingLists* lists = nullptr) const;

  /// Takes gx, gv (R, n, 3), derivatives of some number by the x and v after one step, to those by
  /// x, v (R, n, 3) before it. In open space or a cell, without a wall, in CPU memory. Pairs closer
  /// than closest() follow the continued functions.
  /// @throws InvalidArgument  a shape or value is wrong
  void step_gradient(const Context& context, const SplittingSystem& system, View<const double, 3> x,
                     View<const double, 3> v, View<double, 3> gx, View<double, 3> gv) const;

  /// Kick `stage`, 0 .. K-1, alone, for a caller that drifts itself: adds to v (n, 3) of the
  /// particles of the rows; rows.types are their species. Returns the smallest distance of a pair
  /// below the cutoff, infinity where there is none; below closest() the kick is not good.
  /// @throws InvalidArgument  a shape is wrong, x is not finite, a species or column out of range
  double kick(const Context& context, int stage, const PairRows& rows, View<double, 2> v) const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace mlcore
