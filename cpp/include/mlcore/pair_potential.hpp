#pragma once

#include <cstdint>
#include <memory>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Energies u(r) of pairs of T types on K uniform knots from `first` to `cutoff`, and their slopes
/// du/dr there: between knots the cubic with these values and slopes (Hermite), below `first` the
/// line with the first ones (a constant force), zero at and beyond `cutoff`.
///
/// Pairs a <= b come in the order (0, 0), (0, 1), .., (0, T-1), (1, 1), ..: P = T (T + 1) / 2 rows.
struct PairEnergyTable {
  std::int64_t types = 1;        ///< T
  double first = 0;              ///< distance of the first knot, >= 0
  double cutoff = 0;             ///< distance of the last knot, > first
  View<const double, 2> energy;  ///< (P, K), K >= 2
  View<const double, 2> slope;   ///< (P, K)
};

/// Which pairs there are: every ordered pair (i, j) of a row i < n and its neighbor j, as a full
/// neighbor list has them; those at `cutoff` or beyond are skipped.
struct PairRows {
  View<const double, 2> x;              ///< (m, 3), m >= n: after the owned particles come ghosts
  View<const std::int32_t, 1> types;    ///< (m,) in first_type .. first_type + T - 1; none: T = 1
  std::int32_t first_type = 0;          ///< number of the first type; 1 in LAMMPS
  View<const std::int64_t, 1> offsets;  ///< (n + 1,) neighbors of i are offsets(i) ..
  View<const std::int32_t, 1> columns;  ///< j
  /// (p, 3) x_j - x_i of every neighbor, which then may be periodic images; `x` is not read and may
  /// be empty.
  View<const double, 2> vectors;
};

/// Where the results go; a view without data is not filled.
struct PairResults {
  View<double, 2> forces;    ///< (n, 3) on the particles of the rows; added to what is there
  View<double, 1> energies;  ///< (n,) share * sum of u over the neighbors
  /// What of u a row gets: 1/2 of a potential, 1 for the plain sum of a function of pairs.
  double share = 0.5;
  View<double, 1> virial;  ///< (6,) xx yy zz xy xz yz: sum of -D (du/dr) D / (2 r)
};

/// Tabulated pair potential: packed once, then every call is one pass over the rows, the same bits
/// on any number of threads. Particles in one place push each other nowhere. Views on the GPU run
/// there; the table is copied over on the first call.
class MLCORE_API PairPotential {
 public:
  /// @throws InvalidArgument  a shape does not fit, a value is not finite
  explicit PairPotential(const PairEnergyTable& table);
  ~PairPotential();
  PairPotential(PairPotential&&) noexcept;
  PairPotential& operator=(PairPotential&&) noexcept;

  std::int64_t types() const;  ///< T
  std::int64_t knots() const;  ///< K
  double first() const;
  double cutoff() const;

  /// @throws InvalidArgument  a shape is wrong, x or vectors are not finite, a type or column is
  ///                          out of range (forces may then be half added)
  void evaluate(const Context& context, const PairRows& rows, const PairResults& results) const;

  /// Gradient (p, 3) of sum_i weights(i) energies(i), with share 1/2, by the `vectors` of `rows`:
  /// weights(i) (du/dr) D / (2 r).
  void gradient(const Context& context, const PairRows& rows, View<const double, 1> weights,
                View<double, 2> out) const;

  /// Gradients of sum of along(e, k) gradient(e, k) by the vectors (p, 3) and the weights (n,).
  void second_gradient(const Context& context, const PairRows& rows, View<const double, 1> weights,
                       View<const double, 2> along, View<double, 2> by_vectors,
                       View<double, 1> by_weights) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mlcore
