#pragma once

// Small pieces every CUDA operation needs: errors, the device of an array, scratch memory.

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  detail::raise<Error>("CUDA failed to ", what, ": ", cudaGetErrorString(status));
}

/// Number of the GPU a pointer belongs to.
inline int device_of(const char* name, const void* pointer) {
  cudaPointerAttributes attributes{};
  const cudaError_t status = cudaPointerGetAttributes(&attributes, pointer);
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) {
    detail::raise<BackendUnavailable>("no usable CUDA device: ", cudaGetErrorString(status));
  }
  check(status, "ask where an array lives");
  MLCORE_CHECK(attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged,
               name, " does not lie in GPU memory");
  return attributes.device;
}

/// Makes a GPU the current one for as long as this lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    check(cudaGetDevice(&before_), "ask for the current device");
    if (device != before_) check(cudaSetDevice(device), "select the device of the arrays");
  }
  ~CurrentDevice() { cudaSetDevice(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int before_ = 0;
};

/// GPU memory that lives as long as this, in the order of a stream.
template <class T>
class Scratch {
 public:
  Scratch(std::size_t count, cudaStream_t stream) : stream_(stream) {
    if (count == 0) return;
    check(cudaMallocAsync(reinterpret_cast<void**>(&data_), count * sizeof(T), stream),
          "allocate memory");
  }
  /// A copy of host memory.
  Scratch(const T* values, std::size_t count, cudaStream_t stream) : Scratch(count, stream) {
    if (count == 0) return;
    check(cudaMemcpyAsync(data_, values, count * sizeof(T), cudaMemcpyHostToDevice, stream),
          "copy to the device");
  }
  Scratch(const std::vector<T>& values, cudaStream_t stream)
      : Scratch(values.data(), values.size(), stream) {}
  ~Scratch() {
    if (data_) cudaFreeAsync(data_, stream_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* get() const { return data_; }

 private:
  T* data_ = nullptr;
  cudaStream_t stream_;
};

}  // namespace mlcore::cuda
