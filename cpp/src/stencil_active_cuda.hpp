#pragma once

// The CUDA side of stencil_active: cuda/stencil_active.cu, or cuda/stub.cpp without nvcc. Rules are
// the flattened table of active_neighbors. Defined for float and double.

#include "mlcore/stencil_active.hpp"

namespace mlcore::cuda {

void active_neighbors(const Context& context, const ActiveGrid& grid,
                      View<const std::int64_t, 2> inputs, View<const std::int64_t, 2> outputs,
                      std::int64_t k, View<std::int32_t, 2> out);
template <class T>
void conv3d_active(const Context& context, View<const std::int32_t, 1> rules,
                   View<const T, 2> features, View<const T, 5> weight,
                   const ActiveEpilogue<T>& epilogue, View<T, 2> out);
template <class T>
void scatter3d_active(const Context& context, View<const std::int32_t, 1> rules,
                      View<const T, 2> values, View<const T, 5> weight, View<T, 2> out);
template <class T>
void conv3d_active_weight_gradient(const Context& context, View<const std::int32_t, 1> rules,
                                   View<const T, 2> features, View<const T, 2> values,
                                   View<T, 5> out);

}  // namespace mlcore::cuda
