#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/mlp.hpp"

namespace mlcore::reference {

/// y (B, O) and, where dx has data, dx (B, D) = v dy/dx (v without data: ones), layer by layer in
/// double.
template <class T>
MLCORE_API void mlp(const MlpWeights<T>& weights, View<const T, 2> x, View<const T, 2> v,
                    View<T, 2> y, View<T, 2> dx);

extern template MLCORE_API void mlp(const MlpWeights<float>&, View<const float, 2>,
                                    View<const float, 2>, View<float, 2>, View<float, 2>);
extern template MLCORE_API void mlp(const MlpWeights<double>&, View<const double, 2>,
                                    View<const double, 2>, View<double, 2>, View<double, 2>);

}  // namespace mlcore::reference
