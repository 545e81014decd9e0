#pragma once

// The CUDA side of mlp: cuda/mlp.cu, or cuda/stub.cpp without nvcc. Arguments are checked, but for
// values on the GPU.

#include <cstdint>
#include <memory>

#include "mlcore/context.hpp"

namespace mlcore::cuda {

/// Weights as the kernel reads them, on the host: shifts of the inputs, then per layer (width
/// before, units) and biases (units,), one after the other.
template <class T>
struct MlpModel {
  std::int64_t layers;
  const std::int64_t* widths;  // (layers + 1,)
  int activation;
  const T* weights;
  std::int64_t size;
};

/// One call; arrays as in MlpJob, on the GPU.
template <class T>
struct MlpCall {
  std::int64_t batch;
  const T* x;
  const T* v;
  T* y;
  T* dx;
};

/// Copies of the weights on the GPUs that were asked for.
class MlpWeightsOnDevice {
 public:
  virtual ~MlpWeightsOnDevice() = default;
};

void mlp_run(const Context& context, const MlpModel<float>& model,
             std::shared_ptr<MlpWeightsOnDevice>& cache, const MlpCall<float>& call);
void mlp_run(const Context& context, const MlpModel<double>& model,
             std::shared_ptr<MlpWeightsOnDevice>& cache, const MlpCall<double>& call);

}  // namespace mlcore::cuda
