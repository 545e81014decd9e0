#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/stencil_active.hpp"

namespace mlcore::reference {

/// conv3d_active by way of dense fields.
MLCORE_API void conv3d_active(const ActiveSet& inputs, const ActiveSet& outputs,
                              View<const double, 2> features, View<const double, 5> weight,
                              const ActiveEpilogue<double>& epilogue, View<double, 2> out);

/// scatter3d_active by way of dense fields; sets as in the convolution.
MLCORE_API void scatter3d_active(const ActiveSet& inputs, const ActiveSet& outputs,
                                 View<const double, 2> values, View<const double, 5> weight,
                                 View<double, 2> out);

/// conv3d_active_weight_gradient by way of dense fields.
MLCORE_API void conv3d_active_weight_gradient(const ActiveSet& inputs, const ActiveSet& outputs,
                                              View<const double, 2> features,
                                              View<const double, 2> values, View<double, 5> out);

}  // namespace mlcore::reference
