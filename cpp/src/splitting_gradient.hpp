#pragma once

// The adjoint of one step of a splitting.

#include "kernels/splitting.hpp"
#include "mlcore/splitting.hpp"

namespace mlcore::detail {

/// One replica: x, v and their adjoints gx, gv (n, 3); see PairSplitting::step_gradient.
/// @param nearest  whether the cutoff lies within half the cell
void splitting_gradient(const kernels::SplittingPlan& plan, const SplittingSystem& system,
                        const Cell& cell, bool nearest, View<const double, 2> x,
                        View<const double, 2> v, View<double, 2> gx, View<double, 2> gv);

}  // namespace mlcore::detail
