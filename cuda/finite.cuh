#pragma once

// Looks for numbers that are not finite on the GPU.

#include <cstdint>

#include "device.cuh"

namespace mlcore::cuda {

/// Notes the first number that is not finite.
static __global__ void find_not_finite(const double* values, std::int64_t count,
                                       unsigned long long* first) {
  const std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (k < count && !isfinite(values[k])) atomicMin(first, static_cast<unsigned long long>(k));
}

/// Throws InvalidArgument when an array holds a NaN or an infinity; waits for the stream.
inline void check_finite_there(const char* name, const double* values, std::int64_t count,
                               cudaStream_t stream) {
  if (count == 0) return;
  constexpr unsigned long long kNowhere = ~0ull;
  unsigned long long found = kNowhere;
  const Scratch<unsigned long long> first(&kNowhere, 1, stream);
  find_not_finite<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(values, count,
                                                                                  first.get());
  check(cudaGetLastError(), "check numbers");
  check(cudaMemcpyAsync(&found, first.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "check numbers");
  MLCORE_CHECK(found == kNowhere, name, " must be finite, but entry ", found,
               " (counted along the flattened array) is not");
}

}  // namespace mlcore::cuda
