// Mirrors cpp/src/mlp.cpp: one block per row of the batch, one thread per unit.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>

#include "device.cuh"
#include "mlcore/mlp.hpp"
#include "mlp_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr std::int64_t kMostThreads = 256;

template <class T>
struct Network {
  std::int64_t layers;
  const std::int64_t* widths;
  MlpActivation activation;
  const T* weights;             // see MlpModel
  std::int64_t widest, hidden;  // units of the widest layer, of all layers between
};

/// a(z) and da/dz; exp of what is not positive only.
template <class T>
__device__ T activated(MlpActivation activation, T z, T& slope) {
  const T e = exp(-fabs(z)), inverse = 1 / (1 + e);
  const T sigma = z > 0 ? inverse : e * inverse;
  switch (activation) {
    case MlpActivation::tanh: {
      const T y = tanh(z);
      slope = 1 - y * y;
      return y;
    }
    case MlpActivation::silu:
      slope = sigma + z * sigma * (1 - sigma);
      return z * sigma;
    case MlpActivation::relu:
      slope = z > 0 ? 1 : 0;
      return z > 0 ? z : 0;
    case MlpActivation::softplus:
      slope = sigma;
      return (z > 0 ? z : 0) + log1p(e);
    default:
      slope = 1;
      return z;
  }
}

/// From x to the outputs, which end up in `now`; slopes of the layers between one after the other.
template <class T>
__device__ void forward(const Network<T>& net, const T* x, T*& now, T*& next, T* slopes) {
  const T* w = net.weights + net.widths[0];
  for (std::int64_t k = threadIdx.x; k < net.widths[0]; k += blockDim.x) {
    now[k] = x[k] - net.weights[k];
  }
  __syncthreads();
  for (std::int64_t l = 0; l < net.layers; ++l) {
    const std::int64_t width = net.widths[l], units = net.widths[l + 1];
    for (std::int64_t o = threadIdx.x; o < units; o += blockDim.x) {
      T sum = w[width * units + o], slope = 1;
      for (std::int64_t k = 0; k < width; ++k) sum += w[k * units + o] * now[k];
      next[o] = l + 1 < net.layers ? activated(net.activation, sum, slope) : sum;
      if (l + 1 < net.layers) slopes[o] = slope;
    }
    __syncthreads();
    T* const swap = now;
    now = next;
    next = swap;
    w += (width + 1) * units;
    slopes += units;
  }
}

/// From what stands in `now` for the outputs back to the inputs.
template <class T>
__device__ void backward(const Network<T>& net, T*& now, T*& next, const T* slopes) {
  const T* w = net.weights + net.widths[0];
  for (std::int64_t l = 0; l < net.layers; ++l) w += (net.widths[l] + 1) * net.widths[l + 1];
  slopes += net.hidden;
  for (std::int64_t l = net.layers - 1; l >= 0; --l) {
    const std::int64_t width = net.widths[l], units = net.widths[l + 1];
    w -= (width + 1) * units;
    if (l > 0) slopes -= width;
    for (std::int64_t k = threadIdx.x; k < width; k += blockDim.x) {
      T sum = 0;
      for (std::int64_t o = 0; o < units; ++o) sum += w[k * units + o] * now[o];
      next[k] = l > 0 ? sum * slopes[k] : sum;
    }
    __syncthreads();
    T* const swap = now;
    now = next;
    next = swap;
  }
}

template <class T>
__global__ void run_rows(Network<T> net, MlpCall<T> call) {
  extern __shared__ double memory[];
  const std::int64_t inputs = net.widths[0], outputs = net.widths[net.layers];
  for (std::int64_t b = blockIdx.x; b < call.batch; b += gridDim.x) {
    T* now = reinterpret_cast<T*>(memory);
    T* next = now + net.widest;
    T* slopes = next + net.widest;
    forward(net, call.x + b * inputs, now, next, slopes);
    for (std::int64_t o = threadIdx.x; call.y && o < outputs; o += blockDim.x) {
      call.y[b * outputs + o] = now[o];
    }
    __syncthreads();
    if (!call.dx) continue;
    for (std::int64_t o = threadIdx.x; o < outputs; o += blockDim.x) {
      now[o] = call.v ? call.v[b * outputs + o] : 1;
    }
    __syncthreads();
    backward(net, now, next, slopes);
    for (std::int64_t k = threadIdx.x; k < inputs; k += blockDim.x) {
      call.dx[b * inputs + k] = now[k];
    }
    __syncthreads();
  }
}

/// One copy of the weights per GPU.
template <class T>
class Copies : public MlpWeightsOnDevice {
 public:
  struct Arrays {
    T* weights = nullptr;
    std::int64_t* widths = nullptr;
  };

  ~Copies() override {
    for (const auto& [device, arrays] : copies_) {
      cudaFree(arrays.weights);
      cudaFree(arrays.widths);
    }
  }

  const Arrays& on(int device, const MlpModel<T>& model) {
    Arrays& arrays = copies_[device];
    if (!arrays.weights) arrays.weights = copy(model.weights, model.size);
    if (!arrays.widths) arrays.widths = copy(model.widths, model.layers + 1);
    return arrays;
  }

 private:
  template <class U>
  static U* copy(const U* values, std::int64_t count) {
    U* data = nullptr;
    check(cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(U)), "allocate memory");
    check(cudaMemcpy(data, values, count * sizeof(U), cudaMemcpyHostToDevice),
          "copy to the device");
    return data;
  }

  std::map<int, Arrays> copies_;
};

template <class T>
void run(const Context& context, const MlpModel<T>& model,
         std::shared_ptr<MlpWeightsOnDevice>& cache, const MlpCall<T>& call) {
  const int device = device_of("x", call.x);
  for (const void* other : {static_cast<const void*>(call.v), static_cast<const void*>(call.y),
                            static_cast<const void*>(call.dx)}) {
    MLCORE_CHECK(!other || device_of("an array", other) == device,
                 "all arrays must live on the same device");
  }
  const CurrentDevice current(device);
  std::int64_t widest = 0, hidden = 0;
  for (std::int64_t l = 0; l <= model.layers; ++l) {
    widest = std::max(widest, model.widths[l]);
    if (l > 0 && l < model.layers) hidden += model.widths[l];
  }
  const std::size_t shared = (2 * widest + hidden) * sizeof(T);
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "ask for the shared memory of a block");
  MLCORE_CHECK(shared <= static_cast<std::size_t>(most), "the units of all layers, ",
               shared / sizeof(T), " numbers, must fit the ", most,
               " bytes of shared memory of a block; run this network on the CPU");
  check(cudaFuncSetAttribute(run_rows<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        "reserve shared memory");
  if (!cache) cache = std::make_shared<Copies<T>>();
  const auto& arrays = static_cast<Copies<T>&>(*cache).on(device, model);
  const Network<T> net{model.layers,   arrays.widths, static_cast<MlpActivation>(model.activation),
                       arrays.weights, widest,        hidden};
  const int threads = static_cast<int>(std::min(kMostThreads, (widest + 31) / 32 * 32));
  const int blocks = static_cast<int>(std::min<std::int64_t>(call.batch, 65535));
  run_rows<T><<<blocks, threads, shared, static_cast<cudaStream_t>(context.stream)>>>(net, call);
  check(cudaGetLastError(), "start the network's kernel");
}

}  // namespace

void mlp_run(const Context& context, const MlpModel<float>& model,
             std::shared_ptr<MlpWeightsOnDevice>& cache, const MlpCall<float>& call) {
  run(context, model, cache, call);
}

void mlp_run(const Context& context, const MlpModel<double>& model,
             std::shared_ptr<MlpWeightsOnDevice>& cache, const MlpCall<double>& call) {
  run(context, model, cache, call);
}

}  // namespace mlcore::cuda
