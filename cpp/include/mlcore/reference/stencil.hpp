#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/stencil.hpp"

namespace mlcore::reference {

/// conv3d, one product at a time.
MLCORE_API void conv3d(const Stencil& stencil, View<const double, 5> field,
                       View<const double, 5> weight, const Epilogue<double>& epilogue,
                       View<double, 5> out);

/// scatter3d, one product at a time.
MLCORE_API void scatter3d(const Stencil& stencil, View<const double, 5> values,
                          View<const double, 5> weight, View<double, 5> out);

/// conv3d_weight_gradient, one product at a time.
MLCORE_API void conv3d_weight_gradient(const Stencil& stencil, View<const double, 5> field,
                                       View<const double, 5> values, View<double, 5> out);

/// finite_difference, one voxel at a time.
MLCORE_API void finite_difference(const FiniteDifference& difference, View<const double, 4> field,
                                  View<double, 5> out);

}  // namespace mlcore::reference
