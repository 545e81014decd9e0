// Convolution on occupied voxels: neighbours by a grid of row numbers, one sum per thread.

#include <algorithm>
#include <limits>

#include "device.cuh"
#include "stencil_active_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kMostBlocks = 1u << 20;
/// Partial sums of the weights' gradient: a fixed number, so that results repeat.
constexpr std::int64_t kParts = 64;

unsigned blocks_for(std::int64_t items) {
  const std::int64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<unsigned>(std::clamp<std::int64_t>(blocks, 1, kMostBlocks));
}

/// Calls body(i) for all i < count, by as many threads as there are.
template <class Body>
__device__ void each(std::int64_t count, const Body& body) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += step) {
    body(i);
  }
}

struct Grid {
  std::int64_t X, Y, Z;
  bool periodic;

  __device__ std::int64_t place(const std::int64_t* v) const {
    return ((v[0] * X + v[1]) * Y + v[2]) * Z + v[3];
  }
  /// Moves a coordinate along an axis of n voxels; false: beyond the edge.
  __device__ bool move(std::int64_t& i, std::int64_t d, std::int64_t n) const {
    i += d;
    if (periodic) i = ((i % n) + n) % n;
    return i >= 0 && i < n;
  }
};

__global__ void mark(Grid grid, const std::int64_t* coordinates, std::int64_t count,
                     std::int32_t* rows) {
  each(count, [&](std::int64_t i) {
    rows[grid.place(coordinates + 4 * i)] = static_cast<std::int32_t>(i);
  });
}

/// table (count, k^3)
__global__ void look_up(Grid grid, const std::int64_t* coordinates, std::int64_t count,
                        std::int64_t k, const std::int32_t* rows, std::int32_t* table) {
  const std::int64_t taps = k * k * k;
  each(count * taps, [&](std::int64_t item) {
    const std::int64_t* from = coordinates + 4 * (item / taps);
    const std::int64_t t = item % taps;
    std::int64_t v[4] = {from[0], from[1], from[2], from[3]};
    const bool inside = grid.move(v[1], t / (k * k) - k / 2, grid.X) &&
                        grid.move(v[2], t / k % k - k / 2, grid.Y) &&
                        grid.move(v[3], t % k - k / 2, grid.Z);
    table[item] = inside ? rows[grid.place(v)] : -1;
  });
}

/// packed (taps, inner, outer): of a convolution weight[outer, inner, t], of a scatter
/// weight[inner, outer, taps - 1 - t].
template <class T>
__global__ void pack(const T* weight, std::int64_t inner, std::int64_t outer, std::int64_t taps,
                     bool transposed, T* packed) {
  each(inner * outer * taps, [&](std::int64_t item) {
    const std::int64_t o = item % outer, c = item / outer % inner, t = item / outer / inner;
    packed[item] = transposed ? weight[(c * outer + o) * taps + taps - 1 - t]
                              : weight[(o * inner + c) * taps + t];
  });
}

template <class T>
__device__ T activated(Activation activation, T s) {
  switch (activation) {
    case Activation::relu:
      return s < T(0) ? T(0) : s;
    case Activation::silu:
      return s / (T(1) + exp(-s));
    case Activation::gelu:
      return T(0.5) * s * (T(1) + erf(s * T(0.70710678118654752440)));
    case Activation::tanh:
      return tanh(s);
    case Activation::sigmoid:
      return T(1) / (T(1) + exp(-s));
    default:
      return s;
  }
}

/// One thread per row and output; neighbouring threads share the row and read weights side by side.
template <class T>
__global__ void convolve(const std::int32_t* table, std::int64_t rows, std::int64_t taps,
                         const T* features, std::int64_t inner, const T* packed, std::int64_t outer,
                         ActiveEpilogue<T> epilogue, T* out) {
  each(rows * outer, [&](std::int64_t item) {
    const std::int64_t row = item / outer, o = item % outer;
    T sum = epilogue.bias.data ? epilogue.bias.data[o] : T(0);
    for (std::int64_t t = 0; t < taps; ++t) {
      const std::int64_t from = table[row * taps + t];
      if (from < 0) continue;
      const T* f = features + from * inner;
      const T* w = packed + t * inner * outer + o;
      for (std::int64_t c = 0; c < inner; ++c) sum += w[c * outer] * f[c];
    }
    if (epilogue.preactivation.data) epilogue.preactivation.data[item] = sum;
    sum = activated(epilogue.activation, sum);
    if (epilogue.residual.data) sum += epilogue.residual.data[item];
    out[item] = sum;
  });
}

/// sums (kParts, O, C, taps): part p adds the rows p, p + kParts, ...
template <class T>
__global__ void sum_weights(const std::int32_t* table, std::int64_t rows, std::int64_t taps,
                            const T* features, std::int64_t C, const T* values, std::int64_t O,
                            T* sums) {
  const std::int64_t size = O * C * taps;
  each(kParts * size, [&](std::int64_t item) {
    const std::int64_t part = item / size, entry = item % size;
    const std::int64_t t = entry % taps, c = entry / taps % C, o = entry / taps / C;
    T sum = 0;
    for (std::int64_t row = part; row < rows; row += kParts) {
      const std::int64_t from = table[row * taps + t];
      if (from >= 0) sum += values[row * O + o] * features[from * C + c];
    }
    sums[item] = sum;
  });
}

template <class T>
__global__ void add_parts(const T* sums, std::int64_t size, T* out) {
  each(size, [&](std::int64_t entry) {
    T sum = 0;
    for (std::int64_t part = 0; part < kParts; ++part) sum += sums[part * size + entry];
    out[entry] = sum;
  });
}

template <class T, int Rank>
void check_place(const char* name, View<T, Rank> view, int device) {
  if (view.empty()) return;
  MLCORE_CHECK(view.device == Device::cuda && device_of(name, view.data) == device,
               "all arrays must live on the same device, but ", name, " is not on GPU ", device);
}

/// Taps of weights, checked against the table.
template <class T>
std::int64_t taps_of(View<T, 5> weight, View<const std::int32_t, 1> table, std::int64_t rows) {
  const std::int64_t k = weight.shape[2], taps = k * k * k;
  MLCORE_CHECK((k == 1 || k == 3 || k == 5) && weight.shape[3] == k && weight.shape[4] == k,
               "weight must have the shape (O, C, k, k, k) with k 1, 3 or 5");
  MLCORE_CHECK(table.shape[0] == rows * taps, "rules must hold ", taps, " numbers for each of the ",
               rows, " outputs, got ", table.shape[0]);
  return taps;
}

template <class T>
void run(const Context& context, View<const std::int32_t, 1> table, View<const T, 2> features,
         View<const T, 5> weight, bool transposed, const ActiveEpilogue<T>& epilogue,
         View<T, 2> out) {
  if (out.empty()) return;
  const int device = device_of("out", out.data);
  check_place("rules", table, device);
  check_place("features", features, device);
  check_place("weight", weight, device);
  check_place("bias", epilogue.bias, device);
  check_place("residual", epilogue.residual, device);
  const std::int64_t taps = taps_of(weight, table, out.shape[0]);
  const std::int64_t inner = weight.shape[transposed ? 0 : 1];
  const std::int64_t outer = weight.shape[transposed ? 1 : 0];
  MLCORE_CHECK(features.shape[1] == inner && out.shape[1] == outer,
               "features and weight must have the same channels");
  MLCORE_CHECK(!epilogue.bias.data || epilogue.bias.shape[0] == outer, "bias must have the length ",
               outer, ", got ", epilogue.bias.shape[0]);
  MLCORE_CHECK(!epilogue.residual.data || epilogue.residual.shape == out.shape,
               "residual must have the shape of the result");
  const CurrentDevice current(device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const Scratch<T> packed(weight.size(), stream);
  pack<<<blocks_for(weight.size()), kThreads, 0, stream>>>(weight.data, inner, outer, taps,
                                                           transposed, packed.get());
  check(cudaGetLastError(), "pack weights");
  convolve<<<blocks_for(out.size()), kThreads, 0, stream>>>(table.data, out.shape[0], taps,
                                                            features.data, inner, packed.get(),
                                                            outer, epilogue, out.data);
  check(cudaGetLastError(), "convolve");
}

}  // namespace

void active_neighbors(const Context& context, const ActiveGrid& grid,
                      View<const std::int64_t, 2> inputs, View<const std::int64_t, 2> outputs,
                      std::int64_t k, View<std::int32_t, 2> out) {
  if (out.empty()) return;
  const int device = device_of("out", out.data);
  check_place("inputs", inputs, device);
  check_place("outputs", outputs, device);
  MLCORE_CHECK(inputs.shape[0] <= std::numeric_limits<std::int32_t>::max(),
               "at most 2^31 voxels may be occupied");
  const CurrentDevice current(device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const auto& n = grid.shape;
  const Grid where = {n[0], n[1], n[2], grid.boundary == Boundary::periodic};
  const std::size_t voxels = grid.batches * n[0] * n[1] * n[2];
  const Scratch<std::int32_t> rows(voxels, stream);
  check(cudaMemsetAsync(rows.get(), 0xff, voxels * sizeof(std::int32_t), stream), "clear a grid");
  mark<<<blocks_for(inputs.shape[0]), kThreads, 0, stream>>>(where, inputs.data, inputs.shape[0],
                                                             rows.get());
  check(cudaGetLastError(), "mark voxels");
  look_up<<<blocks_for(out.size()), kThreads, 0, stream>>>(where, outputs.data, outputs.shape[0], k,
                                                           rows.get(), out.data);
  check(cudaGetLastError(), "find neighbours");
}

template <class T>
void conv3d_active(const Context& context, View<const std::int32_t, 1> rules,
                   View<const T, 2> features, View<const T, 5> weight,
                   const ActiveEpilogue<T>& epilogue, View<T, 2> out) {
  run(context, rules, features, weight, false, epilogue, out);
}

template <class T>
void scatter3d_active(const Context& context, View<const std::int32_t, 1> rules,
                      View<const T, 2> values, View<const T, 5> weight, View<T, 2> out) {
  run(context, rules, values, weight, true, ActiveEpilogue<T>{}, out);
}

template <class T>
void conv3d_active_weight_gradient(const Context& context, View<const std::int32_t, 1> rules,
                                   View<const T, 2> features, View<const T, 2> values,
                                   View<T, 5> out) {
  if (out.empty()) return;
  const int device = device_of("out", out.data);
  check_place("rules", rules, device);
  check_place("features", features, device);
  check_place("values", values, device);
  const std::int64_t rows = values.shape[0], taps = taps_of(out, rules, rows);
  const std::int64_t O = out.shape[0], C = out.shape[1];
  MLCORE_CHECK(features.shape[1] == C && values.shape[1] == O,
               "features and values must have the channels of out");
  const CurrentDevice current(device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const Scratch<T> sums(kParts * out.size(), stream);
  sum_weights<<<blocks_for(kParts * out.size()), kThreads, 0, stream>>>(
      rules.data, rows, taps, features.data, C, values.data, O, sums.get());
  check(cudaGetLastError(), "sum the weights' gradient");
  add_parts<<<blocks_for(out.size()), kThreads, 0, stream>>>(sums.get(), out.size(), out.data);
  check(cudaGetLastError(), "add partial sums");
}

#define MLCORE_INSTANTIATE(T)                                                                      \
  template void conv3d_active<T>(const Context&, View<const std::int32_t, 1>, View<const T, 2>,    \
                                 View<const T, 5>, const ActiveEpilogue<T>&, View<T, 2>);          \
  template void scatter3d_active<T>(const Context&, View<const std::int32_t, 1>, View<const T, 2>, \
                                    View<const T, 5>, View<T, 2>);                                 \
  template void conv3d_active_weight_gradient<T>(const Context&, View<const std::int32_t, 1>,      \
                                                 View<const T, 2>, View<const T, 2>, View<T, 5>);

MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)

}  // namespace mlcore::cuda
