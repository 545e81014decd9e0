// Mirrors cpp/src/stencil.cpp. A block of threads makes a tile of results of one plane for a few
// outputs; the patch of the field they see lies in shared memory, one channel at a time.

#include <algorithm>
#include <cstdint>

#include "device.cuh"
#include "stencil_cuda.hpp"

namespace mlcore::cuda {
namespace {

using detail::ConvolutionPlan;
using detail::DifferencePlan;
using detail::FieldStrides;

constexpr int kTileY = 4, kTileZ = 32, kTile = kTileY * kTileZ;
constexpr int kOutputs = 8;                // of a thread
constexpr std::size_t kShared = 48 << 10;  // bytes every device has
constexpr int kSummers = 256;              // threads of a block that sums

__host__ __device__ std::int64_t parts(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

template <class T>
__device__ T activated(Activation activation, T s) {
  switch (activation) {
    case Activation::relu:
      return s < 0 ? T(0) : s;
    case Activation::silu:
      return s / (1 + exp(-s));
    case Activation::gelu:
      return T(0.5) * s * (1 + erf(s * T(0.70710678118654752440)));
    case Activation::tanh:
      return tanh(s);
    case Activation::sigmoid:
      return 1 / (1 + exp(-s));
    default:
      return s;
  }
}

/// What a kernel needs of a convolution, by value.
template <class T>
struct Convolution {
  ConvolutionPlan plan;
  FieldStrides from, to;
  const T* in;
  const T* weight;
  T* out;
  const T* bias;
  Activation activation;
  const T* residual;
  const std::uint8_t* mask;
  bool one_mask;
  T* preactivation;
  std::int64_t output_blocks;     // of a group
  std::int64_t patch_y, patch_z;  // extents of a patch, which is `taps` deep
};

/// Which tile a block of threads makes.
struct Tile {
  std::int64_t b, group, output, x, y, z;
};

template <class T>
__device__ Tile tile_of(const Convolution<T>& c, std::int64_t block) {
  const std::int64_t across = parts(c.plan.out[2], kTileZ), down = parts(c.plan.out[1], kTileY);
  Tile t;
  t.z = block % across * kTileZ;
  block /= across;
  t.y = block % down * kTileY;
  block /= down;
  t.x = block % c.plan.out[0];
  block /= c.plan.out[0];
  t.output = block % c.output_blocks * kOutputs;
  block /= c.output_blocks;
  t.group = block % c.plan.groups;
  t.b = block / c.plan.groups;
  return t;
}

/// Value of a channel of the field at positions of the grid, zero where there is none.
template <class T>
__device__ T value_at(const Convolution<T>& c, const T* channel, std::int64_t x, std::int64_t y,
                      std::int64_t z) {
  const std::int64_t i = c.plan.place(0, x), j = c.plan.place(1, y), k = c.plan.place(2, z);
  return i < 0 || j < 0 || k < 0 ? T(0) : channel[i * c.from.x + j * c.from.y + k * c.from.z];
}

template <class T>
__device__ void store(const Convolution<T>& c, const Tile& t, std::int64_t y, std::int64_t z,
                      const T* sums) {
  const ConvolutionPlan& plan = c.plan;
  const std::int64_t voxel = (t.x * plan.out[1] + y) * plan.out[2] + z;
  const std::int64_t sample = c.one_mask ? 0 : t.b;
  const bool masked = c.mask && !c.mask[sample * plan.out[0] * plan.out[1] * plan.out[2] + voxel];
  const std::int64_t count = min(std::int64_t{kOutputs}, plan.group_outputs() - t.output);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t o = t.group * plan.group_outputs() + t.output + i;
    const std::int64_t at =
        t.b * c.to.batch + o * c.to.channel + t.x * c.to.x + y * c.to.y + z * c.to.z;
    const T s = c.bias ? sums[i] + c.bias[o] : sums[i];
    if (c.preactivation) c.preactivation[at] = s;
    T result = activated(c.activation, s);
    if (c.residual) result += c.residual[at];
    c.out[at] = masked ? T(0) : result;
  }
}

/// `Patched`: the patch is in shared memory; else, for strides too wide for it, every thread reads
/// the field itself.
template <class T, bool Patched>
__global__ void convolve_tiles(Convolution<T> c) {
  extern __shared__ __align__(16) unsigned char shared[];
  const ConvolutionPlan& plan = c.plan;
  const std::int64_t k = plan.taps, k3 = k * k * k;
  T* const weights = reinterpret_cast<T*>(shared);  // (k3, kOutputs)
  T* const patch = weights + k3 * kOutputs;         // (k, patch_y, patch_z)
  const Tile t = tile_of(c, blockIdx.x);
  const std::int64_t ty = threadIdx.x / kTileZ, tz = threadIdx.x % kTileZ;
  const std::int64_t x0 = t.x * plan.step - plan.offset, y0 = t.y * plan.step - plan.offset;
  const std::int64_t z0 = t.z * plan.step - plan.offset;
  const std::int64_t patch_size = k * c.patch_y * c.patch_z;
  T sums[kOutputs] = {};
  for (std::int64_t ci = 0; ci < plan.group_inputs(); ++ci) {
    const T* channel =
        c.in + t.b * c.from.batch + (t.group * plan.group_inputs() + ci) * c.from.channel;
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < k3 * kOutputs; i += kTile) {
      const std::int64_t o = t.output + i % kOutputs, d = i / kOutputs;
      weights[i] = o < plan.group_outputs()
                       ? c.weight[plan.weight_index(t.group, o, ci, d / (k * k), d / k % k, d % k)]
                       : T(0);
    }
    for (std::int64_t i = threadIdx.x; Patched && i < patch_size; i += kTile) {
      patch[i] = value_at(c, channel, x0 + i / (c.patch_y * c.patch_z),
                          y0 + i / c.patch_z % c.patch_y, z0 + i % c.patch_z);
    }
    __syncthreads();
    for (std::int64_t d = 0; d < k3; ++d) {
      const std::int64_t dx = d / (k * k), dy = ty * plan.step + d / k % k;
      const std::int64_t dz = tz * plan.step + d % k;
      const T v = Patched ? patch[(dx * c.patch_y + dy) * c.patch_z + dz]
                          : value_at(c, channel, x0 + dx, y0 + dy, z0 + dz);
      for (int o = 0; o < kOutputs; ++o) sums[o] += weights[d * kOutputs + o] * v;
    }
  }
  if (t.y + ty < plan.out[1] && t.z + tz < plan.out[2]) {
    store(c, t, t.y + ty, t.z + tz, sums);
  }
}

/// One block per output, input of its group and (dx, dy): the sums over all results, added in the
/// same order every time.
template <class T>
__global__ void sum_weights(ConvolutionPlan plan, FieldStrides from, FieldStrides to, const T* in,
                            const T* values, T* out) {
  constexpr int most = 5;
  __shared__ double partial[most][kSummers];
  const std::int64_t k = plan.taps, inputs = plan.group_inputs();
  const std::int64_t xy = blockIdx.x % (k * k), pair = blockIdx.x / (k * k);
  const std::int64_t o = pair / inputs, c = pair % inputs;
  const std::int64_t channel = o / plan.group_outputs() * inputs + c;
  const std::int64_t volume = plan.out[0] * plan.out[1] * plan.out[2];
  double sums[most] = {};
  for (std::int64_t i = threadIdx.x; i < plan.batch * volume; i += kSummers) {
    const std::int64_t b = i / volume, x = i % volume / (plan.out[1] * plan.out[2]);
    const std::int64_t y = i / plan.out[2] % plan.out[1], z = i % plan.out[2];
    const std::int64_t row = plan.place(0, x * plan.step + xy / k - plan.offset);
    const std::int64_t column = plan.place(1, y * plan.step + xy % k - plan.offset);
    if (row < 0 || column < 0) continue;
    const double value = values[b * to.batch + o * to.channel + x * to.x + y * to.y + z * to.z];
    const T* line = in + b * from.batch + channel * from.channel + row * from.x + column * from.y;
    for (int d = 0; d < k; ++d) {
      const std::int64_t at = plan.place(2, z * plan.step + d - plan.offset);
      if (at >= 0) sums[d] += value * line[at * from.z];
    }
  }
  for (int d = 0; d < k; ++d) partial[d][threadIdx.x] = sums[d];
  for (int width = kSummers / 2; width > 0; width /= 2) {
    __syncthreads();
    if (threadIdx.x >= width) continue;
    for (int d = 0; d < k; ++d) partial[d][threadIdx.x] += partial[d][threadIdx.x + width];
  }
  __syncthreads();
  if (threadIdx.x < k) out[blockIdx.x * k + threadIdx.x] = static_cast<T>(partial[threadIdx.x][0]);
}

template <class T>
__global__ void difference_voxels(DifferencePlan plan, std::int64_t count, const T* in, T* out) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const std::int64_t volume = plan.out[0] * plan.out[1] * plan.out[2];
  const std::int64_t results = plan.results(), sources = plan.sources();
  const std::int64_t voxel = index % volume, result = index / volume % results;
  const std::int64_t n = index / volume / results;
  const std::int64_t at[3] = {voxel / (plan.out[1] * plan.out[2]),
                              voxel / plan.out[2] % plan.out[1], voxel % plan.out[2]};
  T sum = 0;
  for (int axis = 0; axis < 3; ++axis) {
    if (results == 3 && result != axis) continue;
    const std::int64_t source = n * sources + (sources == 3 ? axis : 0);
    for (int d = -plan.reach; d <= plan.reach; ++d) {
      const double weight = plan.weight[axis][d + plan.reach];
      if (weight == 0) continue;
      std::int64_t place[3];
      bool inside = true;
      for (int a = 0; a < 3; ++a) {
        place[a] = plan.place(a, at[a] + plan.shift + (a == axis ? d : 0));
        inside = inside && place[a] >= 0;
      }
      if (!inside) continue;
      const std::int64_t from =
          ((source * plan.in[0] + place[0]) * plan.in[1] + place[1]) * plan.in[2] + place[2];
      sum += static_cast<T>(weight) * in[from];
    }
  }
  out[index] = sum;
}

/// Number of blocks of a launch.
unsigned launch_size(std::int64_t blocks) {
  MLCORE_CHECK(blocks < (std::int64_t{1} << 31),
               "the field is too large for one GPU launch: ", blocks,
               " blocks of threads; split the batch");
  return static_cast<unsigned>(blocks);
}

/// Number of the GPU all arrays belong to; null ones are left out.
template <class First, class... Others>
int common_device(const First* first, const Others*... others) {
  const int device = device_of("out", first);
  const void* const all[] = {others...};
  for (const void* other : all) {
    if (!other) continue;
    const int its = device_of("an array", other);
    MLCORE_CHECK(its == device, "all arrays must live on the same device, but out is on GPU ",
                 device, " and another one on GPU ", its);
  }
  return device;
}

}  // namespace

template <class T>
void convolve(const Context& context, const ConvolutionPlan& plan, const T* in, const T* weight,
              const Epilogue<T>& e, T* out) {
  const bool nothing = plan.in[0] * plan.in[1] * plan.in[2] == 0;
  const CurrentDevice current(common_device(out, weight, nothing ? nullptr : in, e.bias.data,
                                            e.residual.data, e.mask.data, e.preactivation.data));
  Convolution<T> c{plan,
                   FieldStrides(plan.layout, plan.inputs, plan.in),
                   FieldStrides(plan.layout, plan.outputs, plan.out),
                   in,
                   weight,
                   out,
                   e.bias.data,
                   e.activation,
                   e.residual.data,
                   e.mask.data,
                   e.mask.data && e.mask.shape[0] == 1,
                   e.preactivation.data,
                   parts(plan.group_outputs(), kOutputs),
                   (kTileY - 1) * plan.step + plan.taps,
                   (kTileZ - 1) * plan.step + plan.taps};
  const unsigned blocks = launch_size(plan.batch * plan.groups * c.output_blocks * plan.out[0] *
                                      parts(plan.out[1], kTileY) * parts(plan.out[2], kTileZ));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const std::size_t weights = sizeof(T) * kOutputs * plan.taps * plan.taps * plan.taps;
  const bool small = plan.step <= 8;  // so that the product below cannot overflow
  const std::size_t patch = small ? sizeof(T) * plan.taps * c.patch_y * c.patch_z : kShared;
  if (weights + patch <= kShared) {
    convolve_tiles<T, true><<<blocks, kTile, weights + patch, stream>>>(c);
  } else {
    convolve_tiles<T, false><<<blocks, kTile, weights, stream>>>(c);
  }
  check(cudaGetLastError(), "convolve");
}

template <class T>
void weight_gradient(const Context& context, const ConvolutionPlan& plan, const T* in,
                     const T* values, T* out) {
  const bool empty = plan.batch * plan.out[0] * plan.out[1] * plan.out[2] == 0;
  const CurrentDevice current(common_device(out, empty ? nullptr : in, empty ? nullptr : values));
  const unsigned blocks = launch_size(plan.outputs * plan.group_inputs() * plan.taps * plan.taps);
  sum_weights<T><<<blocks, kSummers, 0, static_cast<cudaStream_t>(context.stream)>>>(
      plan, FieldStrides(plan.layout, plan.inputs, plan.in),
      FieldStrides(plan.layout, plan.outputs, plan.out), in, values, out);
  check(cudaGetLastError(), "sum the gradient of the weights");
}

template <class T>
void differentiate(const Context& context, const DifferencePlan& plan, const T* in, T* out) {
  const bool nothing = plan.in[0] * plan.in[1] * plan.in[2] == 0;
  const CurrentDevice current(common_device(out, nothing ? nullptr : in));
  constexpr int threads = 256;
  const std::int64_t count = plan.batch * plan.results() * plan.out[0] * plan.out[1] * plan.out[2];
  difference_voxels<T><<<launch_size(parts(count, threads)), threads, 0,
                         static_cast<cudaStream_t>(context.stream)>>>(plan, count, in, out);
  check(cudaGetLastError(), "take finite differences");
}

template void convolve<float>(const Context&, const ConvolutionPlan&, const float*, const float*,
                              const Epilogue<float>&, float*);
template void convolve<double>(const Context&, const ConvolutionPlan&, const double*, const double*,
                               const Epilogue<double>&, double*);
template void weight_gradient<float>(const Context&, const ConvolutionPlan&, const float*,
                                     const float*, float*);
template void weight_gradient<double>(const Context&, const ConvolutionPlan&, const double*,
                                      const double*, double*);
template void differentiate<float>(const Context&, const DifferencePlan&, const float*, float*);
template void differentiate<double>(const Context&, const DifferencePlan&, const double*, double*);

}  // namespace mlcore::cuda
