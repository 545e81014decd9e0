// Stands in for the CUDA sources when the library is built without nvcc.

#include "mlcore/context.hpp"
#include "mobility_cuda.hpp"

namespace mlcore {

CudaStatus cuda_status() { return {}; }

namespace cuda {
namespace {

[[noreturn]] void unavailable() {
  throw BackendUnavailable(
      "the array is on the GPU, but this build of mlcore has no CUDA part; build it with CUDA=ON "
      "or pass a CPU array");
}

}  // namespace

void mobility_matrix(const Context&, const MobilityModel&, const detail::MobilityPlan&,
                     View<const double, 3>, View<double, 3>) {
  unavailable();
}

void mobility_apply(const Context&, const MobilityModel&, const detail::MobilityPlan&,
                    View<const double, 3>, View<const double, 3>, View<double, 3>) {
  unavailable();
}

void mobility_divergence(const Context&, const MobilityModel&, const detail::MobilityPlan&,
                         View<const double, 3>, View<double, 3>) {
  unavailable();
}

}  // namespace cuda
}  // namespace mlcore
