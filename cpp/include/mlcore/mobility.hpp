#pragma once

#include <cstdint>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// Analytic kernel of a mobility.
enum class Kernel : int { none = 0, oseen = 1, rpy = 2, regularized_oseen = 3, rpy_wall = 4 };

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
/// K is one of
///  - oseen: the Oseen tensor;
///  - rpy: the Rotne-Prager-Yamakawa tensor, overlapping spheres included (Yamakawa, J. Chem. Phys.
///    53, 436 (1970); Rotne and Prager, 50, 4831 (1969)), of spheres of one radius or of `radii`
///    (Zuk et al., J. Fluid Mech. 741, R5 (2014): apart, overlapping, one inside the other);
///  - regularized_oseen: the regularised Stokeslet of the blob 15 e^4 / (8 pi (r^2 + e^2)^(7/2))
///    (Cortez, Fauci and Medovikov, Phys. Fluids 17, 031504 (2005)) of width e = 3 a / 2;
///  - rpy_wall: rpy above a no-slip wall at z = 0 (Swan and Brady, Phys. Fluids 19, 113306 (2007));
///    every particle must lie at z >= a. M_ii depends on z.
/// K_self = 1 / (6 pi eta a), and K is free of divergence but for the self part near the wall.
///
/// In a periodic box K (oseen or rpy of one radius) is the sum over all images without the k = 0
/// mode (Hasimoto, J. Fluid Mech. 5, 317 (1959); Beenakker, J. Chem. Phys. 85, 1581 (1986)) and the
/// self part holds a particle's own images. The table is summed over every image within its
/// cutoff, a particle's own images included.
struct MobilityModel {
  Kernel kernel = Kernel::none;
  double radius = 1;            ///< hydrodynamic radius a > 0
  double viscosity = 1;         ///< eta > 0
  double self = 0;              ///< extra diagonal; holds the table's own value at r = 0 too
  PairTable table;              ///< short-ranged part
  double tolerance = 1e-10;     ///< error of the Ewald sums relative to K_self, 1e-14 .. 1e-2
  double splitting = 0;         ///< Ewald parameter, 1/length; 0: the fastest; no effect on results
  View<const double, 1> radii;  ///< (n,) radii > 0 for Kernel::rpy in open space; empty: `radius`
};

/// Mobility matrix of n particles.
///
/// Cells: open, or periodic along all axes (any lattice; oseen and rpy of one radius); with
/// Kernel::none any mixture of the two. Positions may lie outside the cell.
///
/// Memory beside M: 32 bytes per particle in open space; in a periodic cell also 16 bytes per
/// particle and wave vector.
///
/// @param x  (n, 3)
/// @param M  (3n, 3n), symmetric; row 3i + a, column 3j + b
/// @throws InvalidArgument  a shape, parameter or cell is wrong, positions are not finite, two
///                          particles coincide (Oseen; they are closer than 1e-40, or 1e-9 where
///                          single precision does the work), or one reaches through the wall
MLCORE_API void mobility_matrix(const Context& context, const MobilityModel& model,
                                const Cell& cell, View<const double, 2> x, View<double, 2> M);

/// Velocities V = M F without storing M. In open space without a table every pair is computed once
/// and nothing is allocated; a periodic cell needs some 100 bytes per particle and per wave vector,
/// which each thread keeps for its next call.
///
/// @param x,F,V  (n, 3)
/// @throws InvalidArgument  as mobility_matrix
MLCORE_API void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                               View<const double, 2> x, View<const double, 2> F, View<double, 2> V);

/// Divergence D_i = sum_j d/dx_j . M_ij. All kernels are free of divergence but for the self part
/// near a wall; tables contribute the derivative of their interpolant.
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

/// Where the derivatives of a scalar go. Empty views: not wanted. Those in parameters are sums over
/// the batch.
struct MobilityGradients {
  View<double, 3> x;                       ///< (B, n, 3)
  View<double, 1> radius;                  ///< (1,), or (n,) where the model has `radii`
  View<double, 1> viscosity;               ///< (1,)
  View<double, 1> self;                    ///< (1,)
  View<double, 1> par, dpar, perp, dperp;  ///< (k,) values and slopes at the knots of the table
};

/// Vector-Jacobian product of mobility_apply: derivatives of sum G . V, V = M(x) F. That in F is
/// M G: mobility_apply with G for F. Arrays on a GPU are worked on there; the derivatives in the
/// parameters lie in CPU memory all the same.
///
/// @param x,F,G  (B, n, 3)
/// @throws InvalidArgument  as mobility_matrix
MLCORE_API void mobility_apply_backward(const Context& context, const MobilityModel& model,
                                        const Cell& cell, View<const double, 3> x,
                                        View<const double, 3> F, View<const double, 3> G,
                                        const MobilityGradients& gradients);

/// Vector-Jacobian product of mobility_matrix: derivatives of sum C M.
///
/// @param x  (B, n, 3)
/// @param C  (B, 3n, 3n)
/// @throws InvalidArgument  as mobility_matrix
MLCORE_API void mobility_matrix_backward(const Context& context, const MobilityModel& model,
                                         const Cell& cell, View<const double, 3> x,
                                         View<const double, 3> C,
                                         const MobilityGradients& gradients);

/// Change of V = M(x) F along a motion H of the particles: dV = (d/dt) M(x + t H) F.
///
/// @param x,F,H,dV  (B, n, 3)
MLCORE_API void mobility_apply_tangent(const Context& context, const MobilityModel& model,
                                       const Cell& cell, View<const double, 3> x,
                                       View<const double, 3> F, View<const double, 3> H,
                                       View<double, 3> dV);

/// Change of d/dx sum G . M(x) F along a motion H of the particles.
///
/// @param x,F,G,H,dX  (B, n, 3)
MLCORE_API void mobility_apply_hessian(const Context& context, const MobilityModel& model,
                                       const Cell& cell, View<const double, 3> x,
                                       View<const double, 3> F, View<const double, 3> G,
                                       View<const double, 3> H, View<double, 3> dX);

/// In single precision. Open space without a table is computed in it: an entry of M is off by
/// some 1e-6 of itself or of K_self, a velocity by some 1e-6 of sum_j |M_ij| |F_j|. Everything else
/// is computed in double precision and rounded.
MLCORE_API void mobility_matrix(const Context& context, const MobilityModel& model,
                                const Cell& cell, View<const float, 3> x, View<float, 3> M);
MLCORE_API void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                               View<const float, 3> x, View<const float, 3> F, View<float, 3> V);
MLCORE_API void mobility_divergence(const Context& context, const MobilityModel& model,
                                    const Cell& cell, View<const float, 3> x, View<float, 3> D);
MLCORE_API void mobility_matrix(const Context& context, const MobilityModel& model,
                                const Cell& cell, View<const float, 2> x, View<float, 2> M);
MLCORE_API void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                               View<const float, 2> x, View<const float, 2> F, View<float, 2> V);
MLCORE_API void mobility_divergence(const Context& context, const MobilityModel& model,
                                    const Cell& cell, View<const float, 2> x, View<float, 2> D);

}  // namespace mlcore
