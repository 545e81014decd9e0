// Mirrors cpp/src/recurrent.cpp: one block per row of the batch stays for the whole roll-out, one
// thread per gate.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>

#include "device.cuh"
#include "recurrent_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr int kMostThreads = 512;

template <class T>
struct Network {
  std::int64_t inputs, hidden, layers, outputs;
  const T* weights;  // see LstmModel
};

__device__ float sigmoid(float v) { return 1 / (1 + expf(-v)); }
__device__ double sigmoid(double v) { return 1 / (1 + exp(-v)); }
__device__ float hyperbolic(float v) { return tanhf(v); }
__device__ double hyperbolic(double v) { return tanh(v); }

/// Shared memory of a block: input (max(D, H)), gates (4H), h and c (L, H each).
template <class T>
struct Room {
  T *in, *gates, *h, *c;
};

/// One frame in room.in through all layers; ends with every thread seeing h.
template <class T>
__device__ void run_layers(const Network<T>& net, const Room<T>& room) {
  const std::int64_t H = net.hidden, G = 4 * H;
  const T* w = net.weights;
  const T* in = room.in;
  for (std::int64_t l = 0; l < net.layers; ++l) {
    const std::int64_t width = l == 0 ? net.inputs : H;
    const T *rec = w + width * G, *bias = rec + H * G;
    T *h = room.h + l * H, *c = room.c + l * H;
    for (std::int64_t row = threadIdx.x; row < G; row += blockDim.x) {
      T sum = bias[row];
      for (std::int64_t k = 0; k < width; ++k) sum += w[k * G + row] * in[k];
      for (std::int64_t k = 0; k < H; ++k) sum += rec[k * G + row] * h[k];
      room.gates[row] = sum;
    }
    __syncthreads();
    for (std::int64_t unit = threadIdx.x; unit < H; unit += blockDim.x) {
      const T* g = room.gates + unit;
      c[unit] = sigmoid(g[H]) * c[unit] + sigmoid(g[0]) * hyperbolic(g[2 * H]);
      h[unit] = sigmoid(g[3 * H]) * hyperbolic(c[unit]);
    }
    __syncthreads();
    in = h;
    w = bias + G;
  }
}

template <class T>
__device__ void write_output(const Network<T>& net, const Room<T>& room, T* y) {
  const std::int64_t H = net.hidden, O = net.outputs;
  std::int64_t offset = 0;
  for (std::int64_t l = 0; l < net.layers; ++l) {
    offset += ((l == 0 ? net.inputs : H) + H + 1) * 4 * H;
  }
  const T *w = net.weights + offset, *bias = w + H * O, *h = room.h + (net.layers - 1) * H;
  for (std::int64_t o = threadIdx.x; o < O; o += blockDim.x) {
    T sum = bias[o];
    for (std::int64_t k = 0; k < H; ++k) sum += w[k * O + o] * h[k];
    y[o] = sum;
  }
  __syncthreads();  // the next frame may be read from what was written here
}

template <class T>
__device__ void zero_state(const Network<T>& net, const Room<T>& room) {
  for (std::int64_t k = threadIdx.x; k < net.layers * net.hidden; k += blockDim.x) {
    room.h[k] = room.c[k] = 0;
  }
  __syncthreads();
}

/// Copies the state of row b between the caller's (layers, batch, hidden) arrays and the room.
template <class T>
__device__ void move_state(const Network<T>& net, const Room<T>& room, const LstmCall<T>& call,
                           std::int64_t b, bool in) {
  for (std::int64_t k = threadIdx.x; k < net.layers * net.hidden; k += blockDim.x) {
    const std::int64_t l = k / net.hidden, unit = k % net.hidden;
    const std::int64_t at = (l * call.batch + b) * net.hidden + unit;
    if (in) {
      room.h[k] = call.h[at];
      room.c[k] = call.c[at];
    } else {
      call.h[at] = room.h[k];
      call.c[at] = room.c[k];
    }
  }
  __syncthreads();
}

/// Frame t of row b: from the window, later ones from what was predicted.
template <class T>
__device__ void read_frame(const Network<T>& net, const Room<T>& room, const LstmCall<T>& call,
                           std::int64_t b, std::int64_t t) {
  const T* frame = t < call.window ? call.x + (b * call.window + t) * net.inputs
                                   : call.y + (b * call.steps + t - call.window) * net.outputs;
  for (std::int64_t k = threadIdx.x; k < net.inputs; k += blockDim.x) room.in[k] = frame[k];
  __syncthreads();
}

template <class T>
__global__ void run_rows(Network<T> net, LstmCall<T> call) {
  extern __shared__ double memory[];
  const std::int64_t H = net.hidden;
  Room<T> room;
  room.in = reinterpret_cast<T*>(memory);
  room.gates = room.in + net.inputs;
  room.h = room.gates + 4 * H;
  room.c = room.h + net.layers * H;
  for (std::int64_t b = blockIdx.x; b < call.batch; b += gridDim.x) {
    zero_state(net, room);
    if (call.h) move_state(net, room, call, b, true);
    for (std::int64_t step = 0; step < call.steps; ++step) {
      const bool restart = !call.carry && step > 0;
      if (restart) zero_state(net, room);
      const std::int64_t last = call.window + step;
      for (std::int64_t t = call.carry && step > 0 ? last - 1 : step; t < last; ++t) {
        read_frame(net, room, call, b, t);
        run_layers(net, room);
        if (call.every) {
          write_output(net, room, call.y + (b * call.window + t) * net.outputs);
        } else if (t == last - 1) {
          write_output(net, room, call.y + (b * call.steps + step) * net.outputs);
        }
      }
    }
    if (call.h) move_state(net, room, call, b, false);
  }
}

/// One copy of the weights per GPU.
template <class T>
class Copies : public LstmWeightsOnDevice {
 public:
  ~Copies() override {
    for (const auto& [device, data] : copies_) cudaFree(data);
  }

  const T* on(int device, const LstmModel<T>& model) {
    T*& data = copies_[device];
    if (data) return data;
    const std::size_t bytes = model.size * sizeof(T);
    check(cudaMalloc(reinterpret_cast<void**>(&data), bytes), "allocate memory");
    check(cudaMemcpy(data, model.weights, bytes, cudaMemcpyHostToDevice), "copy to the device");
    return data;
  }

 private:
  std::map<int, T*> copies_;
};

template <class T>
void run(const Context& context, const LstmModel<T>& model,
         std::shared_ptr<LstmWeightsOnDevice>& cache, const LstmCall<T>& call) {
  const int device = device_of("x", call.x);
  for (const void* other : {static_cast<const void*>(call.y), static_cast<const void*>(call.h),
                            static_cast<const void*>(call.c)}) {
    MLCORE_CHECK(!other || device_of("an array", other) == device,
                 "all arrays must live on the same device");
  }
  const CurrentDevice current(device);
  const std::size_t shared = (model.inputs + (4 + 2 * model.layers) * model.hidden) * sizeof(T);
  int most = 0;
  check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "ask for the shared memory of a block");
  MLCORE_CHECK(shared <= static_cast<std::size_t>(most),
               "inputs + (4 + 2 layers) hidden = ", shared / sizeof(T), " numbers must fit the ",
               most, " bytes of shared memory of a block; run this network on the CPU");
  check(cudaFuncSetAttribute(run_rows<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        "reserve shared memory");
  if (!cache) cache = std::make_shared<Copies<T>>();
  const Network<T> net{model.inputs, model.hidden, model.layers, model.outputs,
                       static_cast<Copies<T>&>(*cache).on(device, model)};
  const std::int64_t widest = std::max(4 * model.hidden, model.outputs);
  const int threads =
      static_cast<int>(std::min<std::int64_t>(kMostThreads, (widest + 31) / 32 * 32));
  const int blocks = static_cast<int>(std::min<std::int64_t>(call.batch, 65535));
  run_rows<T><<<blocks, threads, shared, static_cast<cudaStream_t>(context.stream)>>>(net, call);
  check(cudaGetLastError(), "start the recurrent kernel");
}

}  // namespace

void lstm_run(const Context& context, const LstmModel<float>& model,
              std::shared_ptr<LstmWeightsOnDevice>& cache, const LstmCall<float>& call) {
  run(context, model, cache, call);
}

void lstm_run(const Context& context, const LstmModel<double>& model,
              std::shared_ptr<LstmWeightsOnDevice>& cache, const LstmCall<double>& call) {
  run(context, model, cache, call);
}

}  // namespace mlcore::cuda
