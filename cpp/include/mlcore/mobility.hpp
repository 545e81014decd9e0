#pragma once

#include <cstdint>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Analytic far-field kernel of a mobility.
enum class Kernel : int { none = 0, oseen = 1, rpy = 2 };

/// Two radial functions on uniform knots r_k = k h, k = 0..n-1, with cubic Hermite interpolation
/// between them; exactly zero for r >= cutoff = (n - 1) h.
struct PairTable {
  View<const double, 1> par;    ///< (n,) mobility along the line of centres
  View<const double, 1> dpar;   ///< (n,) d par / dr
  View<const double, 1> perp;   ///< (n,) mobility across it
  View<const double, 1> dperp;  ///< (n,) d perp / dr
  double cutoff = 0;            ///< 0: no table
};

/// M_ij = K(r_ij) + par(r) rr + perp(r) (I - rr),  M_ii = K_self I + self I.
///
/// K is the Oseen tensor or the Rotne-Prager-Yamakawa tensor of equal spheres, overlapping ones
/// included (Yamakawa, J. Chem. Phys. 53, 436 (1970); Rotne and Prager, 50, 4831 (1969)), with
/// K_self = 1 / (6 pi eta a). In a periodic box K is the sum over all images without the k = 0
/// mode (Hasimoto, J. Fluid Mech. 5, 317 (1959); Beenakker, J. Chem. Phys. 85, 1581 (1986)) and the
/// self part holds a particle's own images. The table is summed over every image within its
/// cutoff, a particle's own images included.
struct MobilityModel {
  Kernel kernel = Kernel::none;
  double radius = 1;         ///< hydrodynamic radius a > 0
  double viscosity = 1;      ///< eta > 0
  double self = 0;           ///< extra diagonal; holds the table's own value at r = 0 too
  PairTable table;           ///< short-ranged part
  double tolerance = 1e-10;  ///< error of the Ewald sums relative to K_self, 1e-14 .. 1e-2
  double splitting = 0;      ///< Ewald parameter, 1/length; 0: the fastest; no effect on results
};

/// Mobility matrix of n particles.
///
/// Cells: open, or periodic along all axes (any lattice); with Kernel::none any mixture of the two.
/// Positions may lie outside the cell.
///
/// @param x  (n, 3)
/// @param M  (3n, 3n), symmetric; row 3i + a, column 3j + b
/// @throws InvalidArgument  a shape, parameter or cell is wrong, positions are not finite, or two
///                          particles coincide (Oseen)
MLCORE_API void mobility_matrix(const Context& context, const MobilityModel& model,
                                const Cell& cell, View<const double, 2> x, View<double, 2> M);

/// Velocities V = M F without storing M.
///
/// @param x,F,V  (n, 3)
/// @throws InvalidArgument  as mobility_matrix
MLCORE_API void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                               View<const double, 2> x, View<const double, 2> F, View<double, 2> V);

/// Divergence D_i = sum_j d/dx_j . M_ij. The Oseen and RPY parts are free of divergence; tables
/// contribute the derivative of their interpolant.
///
/// @param x,D  (n, 3)
/// @throws InvalidArgument  as mobility_matrix
MLCORE_API void mobility_divergence(const Context& context, const MobilityModel& model,
                                    const Cell& cell, View<const double, 2> x, View<double, 2> D);

/// Batches of configurations of equal size in one cell: x (B, n, 3), M (B, 3n, 3n).
MLCORE_API void mobility_matrix(const Context& context, const MobilityModel& model,
                                const Cell& cell, View<const double, 3> x, View<double, 3> M);
/// x, F, V (B, n, 3).
MLCORE_API void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                               View<const double, 3> x, View<const double, 3> F, View<double, 3> V);
/// x, D (B, n, 3).
MLCORE_API void mobility_divergence(const Context& context, const MobilityModel& model,
                                    const Cell& cell, View<const double, 3> x, View<double, 3> D);

}  // namespace mlcore
