// Stands in for the CUDA sources when the library is built without nvcc.

#include "mlcore/context.hpp"

namespace mlcore {

CudaStatus cuda_status() { return {}; }

}  // namespace mlcore
