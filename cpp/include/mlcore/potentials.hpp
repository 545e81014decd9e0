#pragma once

#include <cstdint>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Functional forms, their parameters in the order of LAMMPS' files and with its meaning. P below
/// for S species; triplets (i, j, k) are in row-major order, pairs a <= b in the order (0, 0),
/// (0, 1), .., (1, 1), ..
enum class PotentialForm : int {
  lj = 0,                ///< pairs x (epsilon, sigma, cutoff): lj/cut
  morse = 1,             ///< pairs x (D0, alpha, r0, cutoff)
  buckingham = 2,        ///< pairs x (A, rho, C, cutoff): buck
  stillinger_weber = 3,  ///< triplets x (epsilon sigma a lambda gamma cos0 A B p q): sw
  tersoff = 4,           ///< triplets x (m gamma lam3 c d cos0 n beta lam2 B R D lam1 A)
  eam = 5,               ///< tables F (S, embedding_knots), rho (S, S, radial_knots) that the first
                         ///< gives at the second, r phi (pairs, radial_knots): eam/alloy, eam/fs
};

/// A form and what all its candidates share.
struct PotentialModel {
  PotentialForm form = PotentialForm::lj;
  std::int64_t species = 1;  ///< S
  bool shift = false;        ///< pair forms: zero at the cutoff, as `pair_modify shift yes`
  // eam only
  std::int64_t embedding_knots = 0, radial_knots = 0;  ///< >= 5
  double density_spacing = 0, radial_spacing = 0;      ///< > 0
  double cutoff = 0;                                   ///< > 0
  double largest_density =
      0;  ///< beyond it energies follow the line of the last knot; 0: from there
};

/// P, the parameters of a candidate.
MLCORE_API std::int64_t potential_parameters(const PotentialModel& model);

/// Structures, one after the other, with all their neighbors within a cutoff.
struct PotentialStructures {
  View<const std::int64_t, 1> starts;   ///< (M + 1,) first atoms of the structures, and N
  View<const std::int32_t, 1> species;  ///< (N,) in 0..S-1
  View<const std::int64_t, 1> offsets;  ///< (N + 1,) first neighbors of the atoms
  View<const std::int32_t, 1> columns;  ///< (p,) neighbors, atoms of the same structure
  View<const double, 2> vectors;        ///< (p, 3) to them
  View<const double, 1> volumes;        ///< (M,) of the cells; 0: none, its stress is NaN
  double cutoff = 0;                    ///< of this list
};

/// Candidates and how they change the structures: x -> F x + u, cells likewise.
struct PotentialCandidates {
  View<const double, 2> parameters;     ///< (C, P)
  View<const double, 3> directions;     ///< (1 or C, P, Q) or none
  View<const double, 4> deformation;    ///< F (1 or C, 1 or M, 3 x 3 as (3, 3)) or none
  View<const double, 3> displacements;  ///< u (C, N, 3) or none
};

/// Where results go; a view without data is not filled. Derivatives are along the directions.
struct PotentialResults {
  View<const std::uint8_t, 1> wanted;  ///< (M,) structures whose forces and stress are made, the
                                       ///< others' are NaN; none: all
  View<double, 2> energies;            ///< (C, M)
  View<double, 3> forces;              ///< (C, N, 3)
  View<double, 3> stress;              ///< (C, M, 6) xx yy zz yz xz xy of dE/dstrain / volume
  View<double, 3> d_energies;          ///< (C, M, Q)
  View<double, 4> d_forces;            ///< (C, N, 3, Q)
  View<double, 4> d_stress;            ///< (C, M, 6, Q)
};

/// Energies, forces and stress of M structures in C candidates, equal to those of LAMMPS' pair
/// styles to rounding. Lanes of vectors hold candidates, or a candidate's directions, so a lone
/// candidate takes about as long as a vector of them.
///
/// The results of a candidate do not depend on the others nor on the number of threads, among which
/// structures and vectors of candidates are shared. A candidate whose parameters LAMMPS would turn
/// down (a range, a cutoff of zero) has NaN in all its results.
///
/// On the GPU everything but the model lies there, and there are no derivatives by parameters.
///
/// @throws InvalidArgument  a shape or value is wrong; parameters, F or u not finite; a candidate's
///                          cutoff, with its F and u, reaches beyond the list's
MLCORE_API void evaluate_potentials(const Context& context, const PotentialModel& model,
                                    const PotentialStructures& structures,
                                    const PotentialCandidates& candidates,
                                    const PotentialResults& results);

}  // namespace mlcore
