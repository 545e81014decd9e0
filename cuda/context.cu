#include <cuda_runtime.h>

#include <cstdio>

#include "mlcore/context.hpp"

namespace mlcore {

CudaStatus cuda_status() {
  CudaStatus status;
  status.compiled = true;
  if (cudaGetDeviceCount(&status.devices) != cudaSuccess) status.devices = 0;
  if (status.devices > 0) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, 0) == cudaSuccess) {
      std::snprintf(status.name, sizeof(status.name), "%.*s",
                    static_cast<int>(sizeof(status.name)) - 1, properties.name);
    }
  }
  return status;
}

}  // namespace mlcore
