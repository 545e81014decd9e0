#pragma once

// Looks for numbers that are not finite on the GPU.

#include <cmath>
#include <cstdint>
#include <limits>

#include "device.cuh"

namespace mlcore::cuda {

/// Notes the first number that is no number or whose size exceeds `largest`.
template <class Real>
__global__ void find_beyond(const Real* values, std::int64_t count, Real largest,
                            unsigned long long* first) {
  const std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (k < count && !(fabs(values[k]) <= largest)) {
    atomicMin(first, static_cast<unsigned long long>(k));
  }
}

/// Starts the search on a stream.
template <class Real>
void look_beyond(const Real* values, std::int64_t count, Real largest, unsigned long long* first,
                 cudaStream_t stream) {
  if (count == 0) return;
  find_beyond<<<static_cast<unsigned>((count + 255) / 256), 256, 0, stream>>>(values, count,
                                                                              largest, first);
  check(cudaGetLastError(), "check numbers");
}

template <class Real>
void look_for_not_finite(const Real* values, std::int64_t count, unsigned long long* first,
                         cudaStream_t stream) {
  look_beyond(values, count, std::numeric_limits<Real>::max(), first, stream);
}

/// Throws InvalidArgument when an array holds a NaN or an infinity; waits for the stream.
template <class Real>
void check_finite_there(const char* name, const Real* values, std::int64_t count,
                        cudaStream_t stream) {
  if (count == 0) return;
  constexpr unsigned long long kNowhere = ~0ull;
  unsigned long long found = kNowhere;
  const Scratch<unsigned long long> first(&kNowhere, 1, stream);
  look_for_not_finite(values, count, first.get(), stream);
  check(cudaMemcpyAsync(&found, first.get(), sizeof(found), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "check numbers");
  MLCORE_CHECK(found == kNowhere, name, " must be finite, but entry ", found,
               " (counted along the flattened array) is not");
}

}  // namespace mlcore::cuda
