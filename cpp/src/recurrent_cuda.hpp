#pragma once

// The CUDA side of recurrent: cuda/recurrent.cu, or cuda/stub.cpp without nvcc. Arguments are
// checked, but for values on the GPU.

#include <cstdint>
#include <memory>

#include "mlcore/context.hpp"

namespace mlcore::cuda {

/// Weights as the kernel reads them, on the host: per layer (inputs of the layer + H, 4H) and
/// biases (4H,), one after the other; then the output (H, O) and its bias (O,).
template <class T>
struct LstmModel {
  std::int64_t inputs, hidden, layers, outputs;
  const T* weights;
  std::int64_t size;
};

/// One call; arrays as in LstmJob, on the GPU. h and c null: from zero.
template <class T>
struct LstmCall {
  std::int64_t batch, window, steps;
  bool carry, every;
  const T* x;
  T* y;
  T* h;
  T* c;
};

/// Copies of the weights on the GPUs that were asked for.
class LstmWeightsOnDevice {
 public:
  virtual ~LstmWeightsOnDevice() = default;
};

void lstm_run(const Context& context, const LstmModel<float>& model,
              std::shared_ptr<LstmWeightsOnDevice>& cache, const LstmCall<float>& call);
void lstm_run(const Context& context, const LstmModel<double>& model,
              std::shared_ptr<LstmWeightsOnDevice>& cache, const LstmCall<double>& call);

}  // namespace mlcore::cuda
