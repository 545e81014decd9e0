#pragma once

// The CUDA side of splitting: cuda/splitting.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked, but for values on the GPU.

#include <memory>

#include "kernels/splitting.hpp"
#include "mlcore/splitting.hpp"

namespace mlcore::cuda {

/// Tables on the devices they have been used on.
struct SplittingOnDevice {
  virtual ~SplittingOnDevice() = default;
};

/// A plan in CPU memory and the lengths of its arrays.
struct SplittingModel {
  kernels::SplittingPlan plan;
  std::int64_t rows, starts;
};

void splitting_run(const Context& context, const SplittingModel& model,
                   std::shared_ptr<SplittingOnDevice>& on_device,
                   const kernels::SplittingSpace& space, View<const std::int32_t, 1> species,
                   const SplittingState& state, std::int64_t every, std::int64_t first,
                   std::int64_t last, View<double, 4> x, View<double, 4> v);

}  // namespace mlcore::cuda
