#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/recurrent.hpp"

namespace mlcore::reference {

/// One frame through all layers, by the formula: x (B, D) -> y (B, O), state moved on.
template <class T>
MLCORE_API void lstm_frame(const LstmWeights<T>& weights, View<const T, 2> x,
                           const LstmState<T>& state, View<T, 2> y);

extern template MLCORE_API void lstm_frame(const LstmWeights<float>&, View<const float, 2>,
                                           const LstmState<float>&, View<float, 2>);
extern template MLCORE_API void lstm_frame(const LstmWeights<double>&, View<const double, 2>,
                                           const LstmState<double>&, View<double, 2>);

}  // namespace mlcore::reference
