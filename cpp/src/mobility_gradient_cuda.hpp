#pragma once

// Derivatives of mobilities on the GPU: cuda/mobility_gradient.cu, or cuda/stub.cpp without nvcc.
// Shapes are checked; views lie in GPU memory.

#include <vector>

#include "mobility_gradient.hpp"

namespace mlcore::cuda {

/// One configuration of a scalar sum_ij C_ij : M_ij, C_ij = G_i F_j^T where C is empty.
struct MobilityScalar {
  View<const double, 2> x, F, G, C;
};

/// Derivatives in the positions (X, empty: not wanted) and sums for the parameters. `value`,
/// `radius` and `knots` hold pairs, waves and the self part in open space, not what the periodic
/// images of a particle do to itself.
/// @param knots  in CPU memory: rows par, dpar, perp, dperp of the table, or empty: not wanted
detail::ParameterSums mobility_backward(const Context& context, const MobilityModel& model,
                                        const detail::MobilityPlan& plan,
                                        const MobilityScalar& scalar, View<double, 2> X,
                                        std::vector<double>& knots);

/// One configuration each.
void mobility_tangent(const Context& context, const MobilityModel& model,
                      const detail::MobilityPlan& plan, View<const double, 2> x,
                      View<const double, 2> F, View<const double, 2> H, View<double, 2> dV);
void mobility_hessian(const Context& context, const MobilityModel& model,
                      const detail::MobilityPlan& plan, View<const double, 2> x,
                      View<const double, 2> F, View<const double, 2> G, View<const double, 2> H,
                      View<double, 2> dX);

}  // namespace mlcore::cuda
