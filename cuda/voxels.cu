// Mirrors cpp/src/voxels.cpp. Points are sorted by the voxel of their first tap; then one thread
// per voxel adds up what reaches it, in the order of the taps and of the points. Without the wish
// for a fixed order one thread per point and channel adds with atomics.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cub/device/device_radix_sort.cuh>

#include "device.cuh"
#include "voxels_cuda.hpp"

namespace mlcore::cuda {
namespace {

using kernels::VoxelJet;
using kernels::VoxelStencil;

constexpr int kThreads = 256;
constexpr int kChannels = 8;  // a voxel's thread adds up so many at a time
constexpr double kFar = 0x1p30;

unsigned blocks(std::int64_t items) {
  return static_cast<unsigned>((items + kThreads - 1) / kThreads);
}

__device__ std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

// ------------------------------------------------------------------------------- where points lie
// Rounded operation by operation, as cpp/src/kernels/voxel_places.inl does.

__device__ double coordinate(const VoxelStencil& s, int axis, const double* x) {
  return __dadd_rn(
      __dadd_rn(__dmul_rn(x[0], s.to_grid[axis]), __dmul_rn(x[1], s.to_grid[3 + axis])),
      __dmul_rn(x[2], s.to_grid[6 + axis]));
}

__device__ bool admissible(const VoxelStencil& s, int axis, double u) {
  const double images = s.periodic[axis] ? u * s.inverse_n[axis] : u * 0.0;
  return images > -kFar && images < kFar;
}

__device__ double wrapped(double u, double n, double inverse_n, double& image) {
  const double k0 = floor(__dmul_rn(u, inverse_n));
  const double w0 = __dsub_rn(u, __dmul_rn(k0, n));
  const double k1 = w0 < 0.0 ? k0 - 1.0 : k0;
  const double w1 = w0 < 0.0 ? __dadd_rn(w0, n) : w0;
  image = w1 >= n ? k1 + 1.0 : k1;
  return w1 >= n ? w1 - n : w1;
}

/// A point's window, and its direction in voxels.
struct Point {
  std::int32_t first[3];
  double fraction[3];
  double k[3];
};

__device__ Point place(const VoxelStencil& s, const double* x, const double* direction,
                       std::int64_t p) {
  Point point{};
  for (int a = 0; a < 3; ++a) {
    double u = coordinate(s, a, x + 3 * p);
    if (!admissible(s, a, u)) u = 0.0;
    const double n = s.n[a], offset = s.offset[a];
    double image, v;
    if (s.periodic[a]) {
      v = __dsub_rn(wrapped(u, n, s.inverse_n[a], image), offset);
    } else {
      v = fmin(fmax(__dsub_rn(u, offset), -static_cast<double>(s.taps[a])), n);
    }
    const double i = floor(v);
    point.fraction[a] = v - i;
    int first = static_cast<int>(i);
    if (s.periodic[a]) first = ((first % s.n[a]) + s.n[a]) % s.n[a];
    point.first[a] = first;
  }
  if (direction) {
    for (int a = 0; a < 3; ++a) point.k[a] = coordinate(s, a, direction + 3 * p);
  }
  return point;
}

/// Notes the first point the kernels cannot take.
__global__ void find_bad(VoxelStencil s, const double* x, std::int64_t count, bool inside_only,
                         unsigned long long* first) {
  const std::int64_t p = thread_index();
  if (p >= count) return;
  for (int a = 0; a < 3; ++a) {
    const double u = coordinate(s, a, x + 3 * p);
    const bool inside = s.periodic[a] || !inside_only || (u >= 0.0 && u < s.n[a]);
    if (!admissible(s, a, u) || !inside) atomicMin(first, static_cast<unsigned long long>(p));
  }
}

void check_positions(const VoxelStencil& s, const double* x, std::int64_t count, bool inside_only,
                     cudaStream_t stream) {
  if (count == 0) return;
  const unsigned long long none = ~0ull;
  Scratch<unsigned long long> first(&none, 1, stream);
  find_bad<<<blocks(count), kThreads, 0, stream>>>(s, x, count, inside_only, first.get());
  unsigned long long found = none;
  check(cudaMemcpyAsync(&found, first.get(), sizeof found, cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "look at the positions");
  MLCORE_CHECK(found == none, "positions must be finite, less than 2^30 cells away",
               inside_only ? " and inside the grid along open axes" : "", ", but position ", found,
               " is not");
}

// --------------------------------------------------------------------------------------- weights

/// Weight before normalisation and its derivatives by u, and their sums over a window.
struct Share {
  double value, along, by[3], along_by[3];
};

/// What normalises a kernel of the distance.
struct Norm {
  double nearest;
  Share sum;
};

__device__ void sample(const VoxelStencil& s, const Point& point, const int tap[3], double d[3],
                       double e[3]) {
  for (int a = 0; a < 3; ++a) d[a] = tap[a] + (0.5 - point.fraction[a] - s.offset[a]);
  const double* g = s.metric;
  e[0] = g[0] * d[0] + g[1] * d[1] + g[2] * d[2];
  e[1] = g[1] * d[0] + g[3] * d[1] + g[4] * d[2];
  e[2] = g[2] * d[0] + g[4] * d[1] + g[5] * d[2];
}

__device__ double dot(const double* a, const double* b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

__device__ Share radial_share(const VoxelStencil& s, const Point& point, double nearest,
                              const int tap[3]) {
  double d[3], e[3];
  sample(s, point, tap, d, e);
  const VoxelJet jet = kernels::voxel_radial(s, dot(d, e), nearest);
  const double *k = point.k, *g = s.metric, ke = dot(k, e);
  const double Gk[3] = {g[0] * k[0] + g[1] * k[1] + g[2] * k[2],
                        g[1] * k[0] + g[3] * k[1] + g[4] * k[2],
                        g[2] * k[0] + g[4] * k[1] + g[5] * k[2]};
  Share share;
  share.value = jet.p;
  share.along = -2.0 * jet.p1 * ke;
  for (int a = 0; a < 3; ++a) {
    share.by[a] = -2.0 * jet.p1 * e[a];
    share.along_by[a] = 4.0 * jet.p2 * e[a] * ke + 2.0 * jet.p1 * Gk[a];
  }
  return share;
}

__device__ bool next_tap(const VoxelStencil& s, int tap[3]) {
  for (int a = 2; a >= 0; --a) {
    if (++tap[a] < s.taps[a]) return true;
    tap[a] = 0;
  }
  return false;
}

__device__ bool is_radial(const VoxelStencil& s) { return s.scheme >= 3; }

__device__ Norm norm_of(const VoxelStencil& s, const Point& point) {
  Norm norm{1e300, {}};
  if (!is_radial(s)) return norm;
  int tap[3] = {0, 0, 0};
  do {
    double d[3], e[3];
    sample(s, point, tap, d, e);
    norm.nearest = fmin(norm.nearest, dot(d, e));
  } while (next_tap(s, tap));
  do {
    const Share share = radial_share(s, point, norm.nearest, tap);
    norm.sum.value += share.value;
    norm.sum.along += share.along;
    for (int a = 0; a < 3; ++a) {
      norm.sum.by[a] += share.by[a];
      norm.sum.along_by[a] += share.along_by[a];
    }
  } while (next_tap(s, tap));
  return norm;
}

/// The voxel that holds the point.
__device__ bool holds_point(const VoxelStencil& s, const Point& point, const int tap[3]) {
  for (int a = 0; a < 3; ++a) {
    const int j = static_cast<int>(point.fraction[a] + s.offset[a]);
    if (tap[a] != (j < s.taps[a] ? j : s.taps[a] - 1)) return false;
  }
  return true;
}

struct Splines {
  double w[3][3];  // of each axis: value, first, second derivative
};

__device__ Splines splines(const VoxelStencil& s, const Point& point, const int tap[3]) {
  Splines result;
  for (int a = 0; a < 3; ++a) {
    double w[3], w1[3], w2[3];
    kernels::voxel_spline(s.taps[a], point.fraction[a], w, w1, w2);
    result.w[a][0] = w[tap[a]], result.w[a][1] = w1[tap[a]], result.w[a][2] = w2[tap[a]];
  }
  return result;
}

/// Weight of a tap, or its derivative along the direction.
__device__ double weight(const VoxelStencil& s, const Point& point, const Norm& norm,
                         const int tap[3], bool directional) {
  if (!is_radial(s)) {
    const Splines spline = splines(s, point, tap);
    const auto& w = spline.w;
    if (!directional) return w[0][0] * w[1][0] * w[2][0] * s.scale;
    return (point.k[0] * w[0][1] * w[1][0] * w[2][0] + point.k[1] * w[0][0] * w[1][1] * w[2][0] +
            point.k[2] * w[0][0] * w[1][0] * w[2][1]) *
           s.scale;
  }
  const Share& z = norm.sum;
  if (z.value == 0.0) return !directional && holds_point(s, point, tap) ? s.scale : 0.0;
  const Share p = radial_share(s, point, norm.nearest, tap);
  if (!directional) return p.value / z.value * s.scale;
  return (p.along - p.value / z.value * z.along) / z.value * s.scale;
}

/// Derivatives by u of what `weight` gives.
__device__ void weight_gradient(const VoxelStencil& s, const Point& point, const Norm& norm,
                                const int tap[3], bool directional, double g[3]) {
  if (!is_radial(s)) {
    const Splines spline = splines(s, point, tap);
    const auto& w = spline.w;
    for (int a = 0; a < 3; ++a) {
      const int b = (a + 1) % 3, c = (a + 2) % 3;
      g[a] = s.scale * (directional ? point.k[a] * w[a][2] * w[b][0] * w[c][0] +
                                          point.k[b] * w[a][1] * w[b][1] * w[c][0] +
                                          point.k[c] * w[a][1] * w[b][0] * w[c][1]
                                    : w[a][1] * w[b][0] * w[c][0]);
    }
    return;
  }
  const Share& z = norm.sum;
  g[0] = g[1] = g[2] = 0.0;
  if (z.value == 0.0) return;
  const Share p = radial_share(s, point, norm.nearest, tap);
  const double inverse = 1.0 / z.value, share = p.value * inverse;
  for (int a = 0; a < 3; ++a) {
    g[a] = s.scale * inverse *
           (directional ? p.along_by[a] - share * z.along_by[a] -
                              (p.along * z.by[a] + p.by[a] * z.along) * inverse +
                              2.0 * share * z.along * z.by[a] * inverse
                        : p.by[a] - share * z.by[a]);
  }
}

/// Voxel of a tap, -1 outside.
__device__ std::int64_t voxel_of(const VoxelStencil& s, const Point& point, const int tap[3]) {
  std::int64_t voxel = 0;
  for (int a = 0; a < 3; ++a) {
    int i = point.first[a] + tap[a];
    if (s.periodic[a]) i %= s.n[a];
    if (i < 0 || i >= s.n[a]) return -1;
    voxel = voxel * s.n[a] + i;
  }
  return voxel;
}

// ---------------------------------------------------------------------------------- point by point

/// One system: field of channel c and voxel v at c * channel_step + v * voxel_step.
template <class T>
struct Job {
  VoxelStencil s;
  const double* x;
  const double* direction;
  std::int64_t points;
  std::int64_t channels;
  std::int64_t voxels;
  std::int64_t channel_step, voxel_step;
};

template <class T>
__global__ void spread_atomically(Job<T> job, const T* features, T* field) {
  const std::int64_t k = thread_index();
  if (k >= job.points * job.channels) return;
  const std::int64_t p = k / job.channels, c = k % job.channels;
  const Point point = place(job.s, job.x, job.direction, p);
  const Norm norm = norm_of(job.s, point);
  const T value = features[k];
  int tap[3] = {0, 0, 0};
  do {
    const std::int64_t voxel = voxel_of(job.s, point, tap);
    if (voxel < 0) continue;
    const double w = weight(job.s, point, norm, tap, job.direction != nullptr);
    atomicAdd(field + c * job.channel_step + voxel * job.voxel_step, static_cast<T>(w) * value);
  } while (next_tap(job.s, tap));
}

template <class T>
__global__ void gather_points(Job<T> job, const T* field, T* out) {
  const std::int64_t k = thread_index();
  if (k >= job.points * job.channels) return;
  const std::int64_t p = k / job.channels, c = k % job.channels;
  const Point point = place(job.s, job.x, job.direction, p);
  const Norm norm = norm_of(job.s, point);
  T total = 0;
  int tap[3] = {0, 0, 0};
  do {
    const std::int64_t voxel = voxel_of(job.s, point, tap);
    if (voxel < 0) continue;
    const double w = weight(job.s, point, norm, tap, job.direction != nullptr);
    total += static_cast<T>(w) * field[c * job.channel_step + voxel * job.voxel_step];
  } while (next_tap(job.s, tap));
  out[k] = total;
}

template <class T>
__global__ void gradient_points(Job<T> job, const T* features, const T* field, double* out) {
  const std::int64_t p = thread_index();
  if (p >= job.points) return;
  const Point point = place(job.s, job.x, job.direction, p);
  const Norm norm = norm_of(job.s, point);
  double by[3] = {0, 0, 0};
  int tap[3] = {0, 0, 0};
  do {
    const std::int64_t voxel = voxel_of(job.s, point, tap);
    if (voxel < 0) continue;
    double product = 0, g[3];
    for (std::int64_t c = 0; c < job.channels; ++c) {
      product += static_cast<double>(features[p * job.channels + c] *
                                     field[c * job.channel_step + voxel * job.voxel_step]);
    }
    weight_gradient(job.s, point, norm, tap, job.direction != nullptr, g);
    for (int a = 0; a < 3; ++a) by[a] += g[a] * product;
  } while (next_tap(job.s, tap));
  for (int k = 0; k < 3; ++k) {
    const double* row = job.s.to_grid + 3 * k;
    out[3 * p + k] = row[0] * by[0] + row[1] * by[1] + row[2] * by[2];
  }
}

// ---------------------------------------------------------------------------------- voxel by voxel

/// Voxels a window may begin in: of the grid, and before it along open axes.
__host__ __device__ std::int64_t key_extent(const VoxelStencil& s, int axis) {
  return s.periodic[axis] ? s.n[axis] : std::int64_t{s.n[axis]} + s.taps[axis] - 1;
}

/// Number of such a voxel; the number of them for a point that touches no voxel.
__device__ std::int64_t key_of(const VoxelStencil& s, const int first[3]) {
  std::int64_t key = 0, total = 1;
  bool inside = true;
  for (int a = 0; a < 3; ++a) {
    const std::int64_t extent = key_extent(s, a);
    const std::int64_t i = first[a] + (s.periodic[a] ? 0 : s.taps[a] - 1);
    inside = inside && i >= 0 && i < extent;
    key = key * extent + i;
    total *= extent;
  }
  return inside ? key : total;
}

template <class T>
__global__ void fill_keys(Job<T> job, std::int64_t* keys, std::int32_t* order, Norm* norms) {
  const std::int64_t p = thread_index();
  if (p >= job.points) return;
  const Point point = place(job.s, job.x, job.direction, p);
  keys[p] = key_of(job.s, point.first);
  order[p] = static_cast<std::int32_t>(p);
  if (norms) norms[p] = norm_of(job.s, point);
}

/// starts[key] = how many sorted keys are smaller, for key in 0 .. count_of_keys.
__global__ void fill_starts(const std::int64_t* keys, std::int64_t count,
                            std::int64_t count_of_keys, std::int64_t* starts) {
  const std::int64_t i = thread_index();
  if (i > count) return;
  const std::int64_t before = i == 0 ? -1 : keys[i - 1];
  const std::int64_t here = i == count ? count_of_keys : keys[i];
  for (std::int64_t key = before + 1; key <= here && key <= count_of_keys; ++key) starts[key] = i;
}

template <class T>
__global__ void spread_sorted(Job<T> job, const std::int64_t* starts, const std::int32_t* order,
                              const Norm* norms, const T* features, T* field) {
  const std::int64_t voxel = thread_index();
  if (voxel >= job.voxels) return;
  const VoxelStencil& s = job.s;
  const std::int64_t row = voxel / s.n[2];
  const int index[3] = {static_cast<int>(row / s.n[1]), static_cast<int>(row % s.n[1]),
                        static_cast<int>(voxel % s.n[2])};
  for (std::int64_t c0 = 0; c0 < job.channels; c0 += kChannels) {
    const int width = static_cast<int>(min(std::int64_t{kChannels}, job.channels - c0));
    T total[kChannels] = {};
    int tap[3] = {0, 0, 0};
    do {
      int first[3];
      for (int a = 0; a < 3; ++a) {
        first[a] = index[a] - tap[a];
        if (s.periodic[a]) first[a] = ((first[a] % s.n[a]) + s.n[a]) % s.n[a];
      }
      const std::int64_t key = key_of(s, first);
      for (std::int64_t i = starts[key]; i < starts[key + 1]; ++i) {
        const std::int64_t p = order[i];
        const Point point = place(s, job.x, job.direction, p);
        const Norm norm = norms ? norms[p] : Norm{};
        const T w = static_cast<T>(weight(s, point, norm, tap, job.direction != nullptr));
        const T* value = features + p * job.channels + c0;
        for (int c = 0; c < width; ++c) total[c] += w * value[c];
      }
    } while (next_tap(s, tap));
    for (int c = 0; c < width; ++c) {
      field[(c0 + c) * job.channel_step + voxel * job.voxel_step] = total[c];
    }
  }
}

/// Sorts (key, value) pairs; equal keys stay in order.
template <class Value>
void sort_pairs(const std::int64_t* keys, std::int64_t* sorted_keys, const Value* values,
                Value* sorted, std::int64_t count, cudaStream_t stream) {
  std::size_t bytes = 0;
  check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, sorted_keys, values, sorted, count, 0,
                                        64, stream),
        "plan a sort");
  Scratch<char> room(bytes, stream);
  check(cub::DeviceRadixSort::SortPairs(room.get(), bytes, keys, sorted_keys, values, sorted, count,
                                        0, 64, stream),
        "sort");
}

template <class T>
void spread_in_order(const Job<T>& job, const T* features, T* field, cudaStream_t stream) {
  const std::int64_t n = job.points;
  std::int64_t extent = 1;
  for (int a = 0; a < 3; ++a) extent *= key_extent(job.s, a);
  Scratch<std::int64_t> keys(n, stream), sorted_keys(n, stream), starts(extent + 1, stream);
  Scratch<std::int32_t> points(n, stream), order(n, stream);
  Scratch<Norm> norms(job.s.scheme >= 3 ? n : 0, stream);
  if (n > 0) {
    fill_keys<<<blocks(n), kThreads, 0, stream>>>(job, keys.get(), points.get(), norms.get());
    sort_pairs(keys.get(), sorted_keys.get(), points.get(), order.get(), n, stream);
  }
  fill_starts<<<blocks(n + 1), kThreads, 0, stream>>>(sorted_keys.get(), n, extent, starts.get());
  spread_sorted<<<blocks(job.voxels), kThreads, 0, stream>>>(job, starts.get(), order.get(),
                                                             norms.get(), features, field);
}

/// Calls body(job, begin, system) for every system.
template <class T, class Body>
void for_systems(const Context& context, const VoxelStencil& s, const VoxelPoints& points,
                 std::int64_t channels, const VoxelOptions& options, const Body& body) {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const std::int64_t count = points.offsets.data ? points.offsets.shape[0] - 1 : 1;
  check_positions(s, points.x.data, points.x.shape[0], false, stream);
  for (std::int64_t system = 0; system < count; ++system) {
    const std::int64_t begin = points.offsets.data ? points.offsets(system) : 0;
    const std::int64_t end = points.offsets.data ? points.offsets(system + 1) : points.x.shape[0];
    const std::int64_t voxels = std::int64_t{s.n[0]} * s.n[1] * s.n[2];
    const bool first = options.layout == VoxelLayout::channels_first;
    const Job<T> job{s,
                     points.x.data + 3 * begin,
                     points.direction.data ? points.direction.data + 3 * begin : nullptr,
                     end - begin,
                     channels,
                     voxels,
                     first ? voxels : 1,
                     first ? 1 : channels};
    body(job, begin, system * voxels * channels);
  }
  check(cudaGetLastError(), "start the voxel kernels");
}

}  // namespace

template <class T>
void rasterize(const Context& context, const VoxelStencil& stencil, const VoxelPoints& points,
               View<const T, 2> features, View<T, 5> field, const VoxelOptions& options) {
  if (field.empty()) return;
  const CurrentDevice device(device_of("field", field.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const auto spread = [&](const Job<T>& job, std::int64_t begin, std::int64_t place) {
    const T* from = features.data + begin * job.channels;
    T* to = field.data + place;
    if (options.deterministic) return spread_in_order(job, from, to, stream);
    check(cudaMemsetAsync(to, 0, job.voxels * job.channels * sizeof(T), stream), "clear the field");
    const std::int64_t items = job.points * job.channels;
    if (items > 0) spread_atomically<<<blocks(items), kThreads, 0, stream>>>(job, from, to);
  };
  for_systems<T>(context, stencil, points, features.shape[1], options, spread);
}

template <class T>
void gather(const Context& context, const VoxelStencil& stencil, const VoxelPoints& points,
            View<const T, 5> field, View<T, 2> out, const VoxelOptions& options) {
  if (out.empty()) return;
  const CurrentDevice device(device_of("out", out.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const auto run = [&](const Job<T>& job, std::int64_t begin, std::int64_t place) {
    const std::int64_t items = job.points * job.channels;
    if (items == 0) return;
    gather_points<<<blocks(items), kThreads, 0, stream>>>(job, field.data + place,
                                                          out.data + begin * job.channels);
  };
  for_systems<T>(context, stencil, points, out.shape[1], options, run);
}

template <class T>
void voxel_position_gradient(const Context& context, const VoxelStencil& stencil,
                             const VoxelPoints& points, View<const T, 2> features,
                             View<const T, 5> field, View<double, 2> out,
                             const VoxelOptions& options) {
  if (out.empty()) return;
  const CurrentDevice device(device_of("out", out.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const auto run = [&](const Job<T>& job, std::int64_t begin, std::int64_t place) {
    if (job.points == 0) return;
    gradient_points<<<blocks(job.points), kThreads, 0, stream>>>(
        job, features.data + begin * job.channels, field.data + place, out.data + 3 * begin);
  };
  for_systems<T>(context, stencil, points, features.shape[1], options, run);
}

#define MLCORE_INSTANTIATE(T)                                                                      \
  template void rasterize<T>(const Context&, const VoxelStencil&, const VoxelPoints&,              \
                             View<const T, 2>, View<T, 5>, const VoxelOptions&);                   \
  template void gather<T>(const Context&, const VoxelStencil&, const VoxelPoints&,                 \
                          View<const T, 5>, View<T, 2>, const VoxelOptions&);                      \
  template void voxel_position_gradient<T>(const Context&, const VoxelStencil&,                    \
                                           const VoxelPoints&, View<const T, 2>, View<const T, 5>, \
                                           View<double, 2>, const VoxelOptions&);
MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE

// ------------------------------------------------------------------------------------------ bins
namespace {

struct Rows {
  double v[9];
};

/// Order-preserving integer of a double; its own inverse.
__device__ unsigned long long ordered(unsigned long long bits) {
  return bits ^ (static_cast<unsigned long long>(static_cast<long long>(bits) >> 63) >> 1);
}

__device__ unsigned long long bits_of(double x) {
  return static_cast<unsigned long long>(__double_as_longlong(x));
}

__device__ void position(const VoxelStencil& s, const Rows& rows, const std::int64_t* voxel,
                         const double* offset, const std::int32_t* image, double* x) {
  double f[3];
  for (int a = 0; a < 3; ++a) {
    const double u = __dadd_rn(static_cast<double>(voxel[a]), offset[a]);
    f[a] = __dadd_rn(__dmul_rn(u, s.inverse_n[a]), static_cast<double>(image[a]));
  }
  for (int k = 0; k < 3; ++k) {
    x[k] = __dadd_rn(__dadd_rn(__dmul_rn(f[0], rows.v[k]), __dmul_rn(f[1], rows.v[3 + k])),
                     __dmul_rn(f[2], rows.v[6 + k]));
  }
}

__global__ void bin_points(VoxelStencil s, Rows rows, const double* x, std::int64_t count,
                           VoxelBins bins, std::int64_t* points) {
  const std::int64_t p = thread_index();
  if (p >= count) return;
  std::int64_t voxel[3];
  for (int a = 0; a < 3; ++a) {
    double u = coordinate(s, a, x + 3 * p), k = 0.0;
    if (s.periodic[a]) u = wrapped(u, s.n[a], s.inverse_n[a], k);
    const double i = floor(u);
    voxel[a] = static_cast<std::int64_t>(i);
    bins.offset.data[3 * p + a] = u - i;
    bins.image.data[3 * p + a] = static_cast<std::int32_t>(k);
  }
  bins.cell.data[p] = (voxel[0] * s.n[1] + voxel[1]) * s.n[2] + voxel[2];
  points[p] = p;
  double back[3];
  position(s, rows, voxel, bins.offset.data + 3 * p, bins.image.data + 3 * p, back);
  for (int k = 0; k < 3; ++k) {
    bins.ulps.data[3 * p + k] =
        static_cast<std::int64_t>(ordered(bits_of(x[3 * p + k])) - ordered(bits_of(back[k])));
  }
}

__global__ void unbin_points(VoxelStencil s, Rows rows, std::int64_t count,
                             const std::int64_t* cell, const double* offset,
                             const std::int32_t* image, const std::int64_t* ulps, double* x) {
  const std::int64_t p = thread_index();
  if (p >= count) return;
  const std::int64_t row = cell[p] / s.n[2];
  const std::int64_t voxel[3] = {row / s.n[1], row % s.n[1], cell[p] % s.n[2]};
  double point[3];
  position(s, rows, voxel, offset + 3 * p, image + 3 * p, point);
  for (int k = 0; k < 3; ++k) {
    if (ulps) {
      const auto steps = static_cast<unsigned long long>(ulps[3 * p + k]);
      const auto bits = ordered(ordered(bits_of(point[k])) + steps);
      point[k] = __longlong_as_double(static_cast<long long>(bits));
    }
    x[3 * p + k] = point[k];
  }
}

__global__ void find_bad_cell(const std::int64_t* cell, std::int64_t count, std::int64_t voxels,
                              unsigned long long* first) {
  const std::int64_t p = thread_index();
  if (p < count && (cell[p] < 0 || cell[p] >= voxels)) {
    atomicMin(first, static_cast<unsigned long long>(p));
  }
}

Rows by_value(const std::array<double, 9>& rows) {
  Rows result;
  std::copy(rows.begin(), rows.end(), result.v);
  return result;
}

}  // namespace

void bin_atoms(const Context& context, const VoxelStencil& stencil,
               const std::array<double, 9>& rows, View<const double, 2> x, const VoxelBins& bins) {
  const CurrentDevice device(device_of("starts", bins.starts.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const std::int64_t n = x.shape[0];
  check_positions(stencil, x.data, n, true, stream);
  Scratch<std::int64_t> points(n, stream), sorted(n, stream);
  if (n > 0) {
    bin_points<<<blocks(n), kThreads, 0, stream>>>(stencil, by_value(rows), x.data, n, bins,
                                                   points.get());
    sort_pairs(bins.cell.data, sorted.get(), points.get(), bins.order.data, n, stream);
  }
  fill_starts<<<blocks(n + 1), kThreads, 0, stream>>>(sorted.get(), n, bins.starts.size() - 1,
                                                      bins.starts.data);
  check(cudaGetLastError(), "start the binning kernels");
}

void unbin_atoms(const Context& context, const VoxelStencil& stencil,
                 const std::array<double, 9>& rows, View<const std::int64_t, 1> cell,
                 View<const double, 2> offset, View<const std::int32_t, 2> image,
                 View<const std::int64_t, 2> ulps, View<double, 2> x) {
  const std::int64_t n = cell.size();
  if (n == 0) return;
  const CurrentDevice device(device_of("cell", cell.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const std::int64_t voxels = std::int64_t{stencil.n[0]} * stencil.n[1] * stencil.n[2];
  const unsigned long long none = ~0ull;
  Scratch<unsigned long long> first(&none, 1, stream);
  find_bad_cell<<<blocks(n), kThreads, 0, stream>>>(cell.data, n, voxels, first.get());
  unsigned long long found = none;
  check(cudaMemcpyAsync(&found, first.get(), sizeof found, cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "look at the cells");
  MLCORE_CHECK(found == none, "cell must lie in 0 .. ", voxels - 1, ", but entry ", found,
               " does not");
  unbin_points<<<blocks(n), kThreads, 0, stream>>>(stencil, by_value(rows), n, cell.data,
                                                   offset.data, image.data, ulps.data, x.data);
  check(cudaGetLastError(), "start the unbinning kernel");
}

}  // namespace mlcore::cuda
