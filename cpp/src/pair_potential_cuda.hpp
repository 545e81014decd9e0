#pragma once

// The CUDA side of pair_potential: cuda/pair_potential.cu, or cuda/stub.cpp without nvcc. Shapes
// are checked, values on the GPU are not.

#include <memory>

#include "kernels/pair_potential.hpp"
#include "mlcore/pair_potential.hpp"

namespace mlcore::cuda {

/// Copies of a table on the GPUs that were asked for.
class PairTableOnDevice {
 public:
  virtual ~PairTableOnDevice() = default;
};

/// `plan` points to CPU memory; its arrays hold `rows` and `starts` numbers.
struct PairModel {
  kernels::PairPlan plan;
  std::int64_t rows, starts;
};

void pair_run(const Context& context, const PairModel& model,
              std::shared_ptr<PairTableOnDevice>& cache, const PairRows& rows,
              const PairResults& results);
void pair_derivatives(const Context& context, const PairModel& model,
                      std::shared_ptr<PairTableOnDevice>& cache, const PairRows& rows,
                      const kernels::PairDerivatives& derivatives);

}  // namespace mlcore::cuda
