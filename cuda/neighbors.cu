// Mirrors cpp/src/neighbors.cpp. Particles are sorted into the same cells by a stable radix sort;
// one thread per particle counts its pairs and then writes a key for each; rows of keys are sorted
// where that is asked for; a warp per row turns them into the caller's arrays. Everything is
// decided in double precision, each operation rounded once, so the pairs are those of the CPU.
// Where particles move, the search goes as far as the reach; its keys are kept, and a warp per row
// picks those of pairs that are near now.

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_segmented_sort.cuh>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "device.cuh"
#include "neighbor_grid.hpp"
#include "neighbors_cuda.hpp"

namespace mlcore::cuda {
namespace {

using detail::NeighborAxis;
using detail::NeighborExtent;
using detail::NeighborGrid;
using Key = std::uint64_t;

constexpr int kBlock = 128;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr unsigned long long kNone = ~0ull;
// A key is particle << 30 | image, the latter three numbers of ten bits.
constexpr int kBits = 10;
constexpr int kBias = 1 << (kBits - 1);
constexpr int kMask = (1 << kBits) - 1;

unsigned blocks_for(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// Extremes as integers that compare like the numbers, and the first particles at fault.
struct Survey {
  unsigned long long largest, low[3], high[3];
  unsigned long long not_finite, too_far;
};

__host__ __device__ unsigned long long ordered(double value) {
  unsigned long long bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits >> 63 ? ~bits : bits | 1ull << 63;
}

double unordered(unsigned long long bits) {
  bits = bits >> 63 ? bits & ~(1ull << 63) : ~bits;
  double value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

/// What kernels need to know, by value.
struct Plan {
  double rows[9], inverse[9];
  NeighborAxis axes[3];
  std::int64_t particles;
  const double* x;      // (n, 3)
  std::int32_t* wraps;  // (n, 3)
  double cutoff;
  const double* radii;
  const std::int32_t* types;
  const double* table;
  std::int64_t kinds;
  bool half, self_pairs;
};

/// Most particles do not change an extreme, so look before the costly operation.
__device__ void raise_to(unsigned long long* extreme, unsigned long long value) {
  if (value > *static_cast<volatile unsigned long long*>(extreme)) atomicMax(extreme, value);
}
__device__ void lower_to(unsigned long long* extreme, unsigned long long value) {
  if (value < *static_cast<volatile unsigned long long*>(extreme)) atomicMin(extreme, value);
}

__global__ void survey(Plan plan, double* fractions, Survey* result) {
  const std::int64_t i = blockIdx.x * std::int64_t{kBlock} + threadIdx.x;
  if (i >= plan.particles) return;
  const double x[3] = {plan.x[3 * i], plan.x[3 * i + 1], plan.x[3 * i + 2]};
  for (int k = 0; k < 3; ++k) {
    if (!(fabs(x[k]) <= detail::kLargestCoordinate)) {
      atomicMin(&result->not_finite, static_cast<unsigned long long>(i));
      return;
    }
    raise_to(&result->largest, ordered(fabs(x[k])));
  }
  for (int axis = 0; axis < 3; ++axis) {
    double f =
        x[0] * plan.inverse[axis] + x[1] * plan.inverse[3 + axis] + x[2] * plan.inverse[6 + axis];
    double moved = 0;
    if (plan.axes[axis].periodic && !(f >= 0 && f < 1)) {
      moved = floor(f);
      if (!(fabs(moved) < detail::kMostWraps)) {
        atomicMin(&result->too_far, static_cast<unsigned long long>(i));
        return;
      }
      f -= moved;
    }
    plan.wraps[3 * i + axis] = static_cast<std::int32_t>(moved);
    fractions[3 * i + axis] = f;
    lower_to(&result->low[axis], ordered(f));
    raise_to(&result->high[axis], ordered(f));
  }
}

__global__ void number_cells(Plan plan, const double* fractions, std::int32_t* cell,
                             std::int32_t* number) {
  const std::int64_t i = blockIdx.x * std::int64_t{kBlock} + threadIdx.x;
  if (i >= plan.particles) return;
  std::int64_t bin = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const NeighborAxis& a = plan.axes[axis];
    const double along = (fractions[3 * i + axis] - a.low) * a.scale;
    const double inside = fmin(fmax(along, 0.0), static_cast<double>(a.bins - 1));
    bin = bin * a.bins + static_cast<std::int64_t>(inside);
  }
  cell[i] = static_cast<std::int32_t>(bin);
  number[i] = static_cast<std::int32_t>(i);
}

/// start[c] is the first place whose cell is not before c.
__global__ void find_starts(const std::int32_t* cell, std::int64_t particles, std::int64_t cells,
                            std::int32_t* start) {
  const std::int64_t c = blockIdx.x * std::int64_t{kBlock} + threadIdx.x;
  if (c > cells) return;
  std::int64_t low = 0, high = particles;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (cell[middle] < c) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  start[c] = static_cast<std::int32_t>(low);
}

struct Pair {
  int S[3];
  double D[3], d;
};

/// D = (x_j - x_i) + ((S_0 c_0 + S_1 c_1) + S_2 c_2), never contracted.
__device__ Pair pair_of(const Plan& plan, std::int64_t i, std::int64_t j, const int* image) {
  Pair p;
  for (int k = 0; k < 3; ++k) {
    p.S[k] = image[k] + plan.wraps[3 * i + k] - plan.wraps[3 * j + k];
  }
  for (int k = 0; k < 3; ++k) {
    const double ab =
        __dadd_rn(__dmul_rn(p.S[0], plan.rows[k]), __dmul_rn(p.S[1], plan.rows[3 + k]));
    const double shift = __dadd_rn(ab, __dmul_rn(p.S[2], plan.rows[6 + k]));
    p.D[k] = __dadd_rn(__dsub_rn(plan.x[3 * j + k], plan.x[3 * i + k]), shift);
  }
  const double xy = __dadd_rn(__dmul_rn(p.D[0], p.D[0]), __dmul_rn(p.D[1], p.D[1]));
  p.d = __dsqrt_rn(__dadd_rn(xy, __dmul_rn(p.D[2], p.D[2])));
  return p;
}

__device__ double cutoff_of(const Plan& plan, std::int64_t i, std::int64_t j) {
  double result = plan.cutoff;
  if (plan.radii) result = fmin(result, __dadd_rn(plan.radii[i], plan.radii[j]));
  if (plan.table) result = fmin(result, plan.table[plan.types[i] * plan.kinds + plan.types[j]]);
  return result;
}

/// Whether a particle and an image of itself are wanted.
__device__ bool wants_self(const Plan& plan, const int* image) {
  for (int k = 0; k < 3; ++k) {
    if (image[k] != 0) return !plan.half || image[k] > 0;
  }
  return plan.self_pairs;
}

__device__ bool is_pair(const Plan& plan, std::int64_t i, std::int64_t j, const int* image) {
  if (i == j && !wants_self(plan, image)) return false;
  if (i > j && plan.half) return false;
  return pair_of(plan, i, j, image).d < cutoff_of(plan, i, j);
}

/// Where bin t, in or beyond the cell, is: false where there is none.
__device__ bool fold(const NeighborAxis& axis, std::int64_t t, std::int64_t& bin, int& image) {
  image = 0;
  bin = t;
  if (!axis.periodic) return t >= 0 && t < axis.bins;
  const std::int64_t turns = t >= 0 ? t / axis.bins : -((axis.bins - 1 - t) / axis.bins);
  image = static_cast<int>(turns);
  bin = t - turns * axis.bins;
  return true;
}

/// One thread per place: counts the pairs of the particle there, or writes their keys.
template <bool kWrite>
__global__ void search(Plan plan, const std::int32_t* cell, const std::int32_t* number,
                       const std::int32_t* start, std::int64_t* counts, Key* keys) {
  const std::int64_t place = blockIdx.x * std::int64_t{kBlock} + threadIdx.x;
  if (place >= plan.particles) return;
  const NeighborAxis* axes = plan.axes;
  const std::int64_t i = number[place], home = cell[place];
  const std::int64_t own[3] = {home / (axes[1].bins * axes[2].bins),
                               home / axes[2].bins % axes[1].bins, home % axes[2].bins};
  std::int64_t found = kWrite ? counts[i] : 0;
  std::int64_t bin[3];
  int image[3];
  for (std::int64_t a = -axes[0].reach; a <= axes[0].reach; ++a) {
    if (!fold(axes[0], own[0] + a, bin[0], image[0])) continue;
    for (std::int64_t b = -axes[1].reach; b <= axes[1].reach; ++b) {
      if (!fold(axes[1], own[1] + b, bin[1], image[1])) continue;
      for (std::int64_t c = -axes[2].reach; c <= axes[2].reach; ++c) {
        if (!fold(axes[2], own[2] + c, bin[2], image[2])) continue;
        const std::int64_t other = (bin[0] * axes[1].bins + bin[1]) * axes[2].bins + bin[2];
        for (std::int32_t q = start[other]; q < start[other + 1]; ++q) {
          const std::int64_t j = number[q];
          if (!is_pair(plan, i, j, image)) continue;
          if (kWrite) {
            Key key = static_cast<Key>(j);
            for (int k = 0; k < 3; ++k) key = key << kBits | static_cast<Key>(image[k] + kBias);
            keys[found] = key;
          }
          ++found;
        }
      }
    }
  }
  if (!kWrite) counts[i + 1] = found;
}

__device__ Pair pair_of_key(const Plan& plan, std::int64_t i, Key key, std::int64_t& j) {
  int image[3];
  for (int k = 0; k < 3; ++k) image[k] = static_cast<int>(key >> ((2 - k) * kBits) & kMask) - kBias;
  j = static_cast<std::int64_t>(key >> (3 * kBits));
  return pair_of(plan, i, j, image);
}

/// Counts the kept pairs of a row that are within their cutoff, or copies their keys, in order; a
/// warp per row.
template <bool kWrite>
__global__ void pick(Plan plan, const std::int64_t* kept_offsets, const Key* kept,
                     std::int64_t* counts, Key* keys) {
  const std::int64_t i = (blockIdx.x * std::int64_t{kBlock} + threadIdx.x) / kWarp;
  if (i >= plan.particles) return;  // all of the warp
  const int lane = threadIdx.x % kWarp;
  const std::int64_t last = kept_offsets[i + 1];
  std::int64_t found = kWrite ? counts[i] : 0;
  for (std::int64_t first = kept_offsets[i]; first < last; first += kWarp) {
    const std::int64_t e = first + lane;
    Key key = 0;
    bool near = false;
    if (e < last) {
      std::int64_t j;
      key = kept[e];
      const double d = pair_of_key(plan, i, key, j).d;
      near = d < cutoff_of(plan, i, j);
    }
    const unsigned votes = __ballot_sync(kAllLanes, near);
    if (kWrite && near) keys[found + __popc(votes & ((1u << lane) - 1))] = key;
    found += __popc(votes);
  }
  if (!kWrite && lane == 0) counts[i + 1] = found;
}

/// Says whether a particle is farther than `most` from where it was, or nowhere.
__global__ void look_for_moves(const double* now, const double* before, std::int64_t particles,
                               double most, int* moved) {
  const std::int64_t i = blockIdx.x * std::int64_t{kBlock} + threadIdx.x;
  if (i >= particles) return;
  double square = 0;
  for (std::int64_t k = 3 * i; k < 3 * i + 3; ++k) {
    const double step = now[k] - before[k];
    square += step * step;
  }
  if (!(sqrt(square) <= most)) *moved = 1;
}

/// A warp per row.
template <class Index, class Real>
__global__ void write_arrays(Plan plan, const std::int64_t* offsets, const Key* keys,
                             std::int64_t base, Index* is, Index* js, std::int32_t* S, Real* D,
                             Real* d) {
  const std::int64_t i = (blockIdx.x * std::int64_t{kBlock} + threadIdx.x) / kWarp;
  if (i >= plan.particles) return;
  for (std::int64_t e = offsets[i] + threadIdx.x % kWarp; e < offsets[i + 1]; e += kWarp) {
    std::int64_t j;
    const Pair pair = pair_of_key(plan, i, keys[e], j);
    if (is) is[e] = static_cast<Index>(base + i);
    if (js) js[e] = static_cast<Index>(base + j);
    if (d) d[e] = static_cast<Real>(pair.d);
    for (int k = 0; k < 3; ++k) {
      if (S) S[3 * e + k] = pair.S[k];
      if (D) D[3 * e + k] = static_cast<Real>(pair.D[k]);
    }
  }
}

/// A warp per row of `width` entries.
__global__ void write_matrix(Plan plan, const std::int64_t* offsets, const Key* keys,
                             std::int64_t base, std::int64_t width, std::int32_t padding,
                             std::int32_t* js, std::int32_t* S, std::int64_t* counts) {
  const std::int64_t i = (blockIdx.x * std::int64_t{kBlock} + threadIdx.x) / kWarp;
  if (i >= plan.particles) return;
  const std::int64_t first = offsets[i], size = offsets[i + 1] - first;
  for (std::int64_t e = threadIdx.x % kWarp; e < width; e += kWarp) {
    const std::int64_t to = (base + i) * width + e;
    std::int64_t j = padding - base;
    Pair pair{};
    if (e < size) pair = pair_of_key(plan, i, keys[first + e], j);
    js[to] = static_cast<std::int32_t>(base + j);
    for (int k = 0; S && k < 3; ++k) S[3 * to + k] = pair.S[k];
  }
  if (counts && threadIdx.x % kWarp == 0) counts[base + i] = size;
}

__global__ void write_offsets(const std::int64_t* offsets, std::int64_t count, std::int64_t pairs,
                              std::int64_t* out) {
  const std::int64_t k = blockIdx.x * std::int64_t{kBlock} + threadIdx.x;
  if (k < count) out[k] = offsets[k] + pairs;
}

struct Difference {
  const std::int64_t* offsets;
  __host__ __device__ std::int64_t operator()(std::int64_t i) const {
    return offsets[i + 1] - offsets[i];
  }
};

/// Calls a function of CUB twice: for the size of its scratch memory, and to run it.
template <class Call>
void with_scratch(cudaStream_t stream, const char* what, const Call& call) {
  std::size_t bytes = 0;
  check(call(nullptr, bytes), what);
  const Scratch<char> memory(std::max<std::size_t>(bytes, 1), stream);
  check(call(memory.get(), bytes), what);
}

template <class T>
T read_back(const T* value, cudaStream_t stream) {
  T result;
  check(cudaMemcpyAsync(&result, value, sizeof(T), cudaMemcpyDeviceToHost, stream), "read back");
  check(cudaStreamSynchronize(stream), "search for neighbors");
  return result;
}

template <class T, int Rank>
std::size_t length(const View<T, Rank>& view) {
  return view.data ? static_cast<std::size_t>(view.size()) : 0;
}

/// The keys of all pairs, row by row.
struct KeyRows {
  KeyRows(std::int64_t particles, cudaStream_t stream)
      : offsets(static_cast<std::size_t>(particles + 1), stream) {
    check(cudaMemsetAsync(offsets.get(), 0, (particles + 1) * sizeof(std::int64_t), stream),
          "clear");
  }

  void make_room(std::int64_t particles, cudaStream_t stream);

  Scratch<std::int64_t> offsets;  // (n + 1,), or 0 and the counts until there is room
  std::optional<Scratch<Key>> keys;
  std::int64_t count = 0, largest = 0;
};

/// Makes offsets of the counts, and memory for the keys.
void KeyRows::make_room(std::int64_t particles, cudaStream_t stream) {
  with_scratch(stream, "add up pairs", [&](void* memory, std::size_t& bytes) {
    return cub::DeviceScan::InclusiveSum(memory, bytes, offsets.get(), offsets.get(), particles + 1,
                                         stream);
  });
  count = read_back(offsets.get() + particles, stream);
  const Scratch<std::int64_t> most(1, stream);
  const auto sizes = thrust::make_transform_iterator(thrust::counting_iterator<std::int64_t>(0),
                                                     Difference{offsets.get()});
  with_scratch(stream, "find the fullest row", [&](void* memory, std::size_t& bytes) {
    return cub::DeviceReduce::Max(memory, bytes, sizes, most.get(), particles, stream);
  });
  largest = read_back(most.get(), stream);
  keys.emplace(static_cast<std::size_t>(count), stream);
}

}  // namespace

struct NeighborSearch::State {
  State(int device, cudaStream_t stream, View<const double, 2> given, const NeighborCutoff& cutoff)
      : device(device),
        stream(stream),
        x(static_cast<std::size_t>(given.size()), stream),
        wraps(static_cast<std::size_t>(given.size()), stream),
        rows(std::make_unique<KeyRows>(given.shape[0], stream)),
        radii(cutoff.radii.data, length(cutoff.radii), stream),
        table(cutoff.table.data, length(cutoff.table), stream),
        types(cutoff.types.data, cutoff.table.data ? length(cutoff.types) : 0, stream) {}

  void take(const double* from, const Scratch<double>& to) const;
  void look_at(View<const double, 2> given, NeighborGrid& grid, const Scratch<double>& fractions);
  void sort(const Scratch<double>& fractions, std::int64_t cells, Scratch<std::int32_t>& cell,
            Scratch<std::int32_t>& number, Scratch<std::int32_t>& start);
  void search(const NeighborGrid& grid, const Scratch<double>& fractions, bool sorted);
  void sort_rows();
  void search_wide(const NeighborGrid& grid, const Scratch<double>& fractions, bool sorted);
  bool has_moved(const double* now) const;
  void pick_near();

  int device;
  cudaStream_t stream;
  Scratch<double> x;
  Scratch<std::int32_t> wraps;
  std::unique_ptr<KeyRows> rows;
  Scratch<double> radii, table;
  Scratch<std::int32_t> types;
  Plan plan{};
  double largest = 0;  // |coordinate|

  std::unique_ptr<KeyRows> kept;  // pairs within the reach, where particles move
  std::optional<Scratch<double>> x_at_search;
  double free_move = 0;  // pairs that are not kept stay beyond the cutoff
};

void NeighborSearch::State::take(const double* from, const Scratch<double>& to) const {
  check(cudaMemcpyAsync(to.get(), from, 3 * plan.particles * sizeof(double),
                        cudaMemcpyDeviceToDevice, stream),
        "copy positions");
}

/// Fractions and wraps, the extent of the particles, and the grid for it.
void NeighborSearch::State::look_at(View<const double, 2> given, NeighborGrid& grid,
                                    const Scratch<double>& fractions) {
  const double infinity = std::numeric_limits<double>::infinity();
  const unsigned long long top = ordered(infinity), bottom = ordered(-infinity);
  const Survey nothing{ordered(0), {top, top, top}, {bottom, bottom, bottom}, kNone, kNone};
  const Scratch<Survey> found(&nothing, 1, stream);
  survey<<<blocks_for(plan.particles, kBlock), kBlock, 0, stream>>>(plan, fractions.get(),
                                                                    found.get());
  check(cudaGetLastError(), "look at the positions");
  const Survey result = read_back(found.get(), stream);
  MLCORE_CHECK(result.not_finite == kNone, "positions must be finite and at most ",
               detail::kLargestCoordinate, ", but those of particle ", result.not_finite,
               " are not");
  MLCORE_CHECK(result.too_far == kNone, "positions[", result.too_far,
               "] lies more than 2^30 cells away");
  NeighborExtent extent;
  extent.largest = unordered(result.largest);
  for (int axis = 0; axis < 3; ++axis) {
    extent.fraction_low[axis] = unordered(result.low[axis]);
    extent.fraction_high[axis] = unordered(result.high[axis]);
  }
  largest = extent.largest;
  grid.choose(extent, given.shape[0]);
  std::copy_n(grid.axes, 3, plan.axes);
}

/// Places in the order of the cells, particles of a cell in the caller's order.
void NeighborSearch::State::sort(const Scratch<double>& fractions, std::int64_t cells,
                                 Scratch<std::int32_t>& cell, Scratch<std::int32_t>& number,
                                 Scratch<std::int32_t>& start) {
  const std::int64_t n = plan.particles;
  const Scratch<std::int32_t> unsorted_cell(n, stream), unsorted_number(n, stream);
  number_cells<<<blocks_for(n, kBlock), kBlock, 0, stream>>>(
      plan, fractions.get(), unsorted_cell.get(), unsorted_number.get());
  check(cudaGetLastError(), "number the cells");
  with_scratch(stream, "sort particles into cells", [&](void* memory, std::size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(memory, bytes, unsorted_cell.get(), cell.get(),
                                           unsorted_number.get(), number.get(), n, 0, 32, stream);
  });
  find_starts<<<blocks_for(cells + 1, kBlock), kBlock, 0, stream>>>(cell.get(), n, cells,
                                                                    start.get());
  check(cudaGetLastError(), "find the cells");
}

void NeighborSearch::State::search(const NeighborGrid& grid, const Scratch<double>& fractions,
                                   bool sorted) {
  const std::int64_t n = plan.particles;
  Scratch<std::int32_t> cell(n, stream), number(n, stream), start(grid.cells() + 1, stream);
  sort(fractions, grid.cells(), cell, number, start);
  cuda::search<false><<<blocks_for(n, kBlock), kBlock, 0, stream>>>(
      plan, cell.get(), number.get(), start.get(), rows->offsets.get(), nullptr);
  check(cudaGetLastError(), "count pairs");
  rows->make_room(n, stream);
  if (rows->count == 0) return;
  cuda::search<true><<<blocks_for(n, kBlock), kBlock, 0, stream>>>(
      plan, cell.get(), number.get(), start.get(), rows->offsets.get(), rows->keys->get());
  check(cudaGetLastError(), "write pairs");
  if (sorted) sort_rows();
}

void NeighborSearch::State::sort_rows() {
  const std::int64_t count = rows->count;
  Key* const keys = rows->keys->get();
  const std::int64_t* const offsets = rows->offsets.get();
  Scratch<Key> ordered_keys(static_cast<std::size_t>(count), stream);
  with_scratch(stream, "sort rows", [&](void* memory, std::size_t& bytes) {
    return cub::DeviceSegmentedSort::SortKeys(memory, bytes, keys, ordered_keys.get(), count,
                                              plan.particles, offsets, offsets + 1, stream);
  });
  check(cudaMemcpyAsync(keys, ordered_keys.get(), count * sizeof(Key), cudaMemcpyDeviceToDevice,
                        stream),
        "copy rows");
}

/// Finds and keeps the pairs within the reach of the grid, and lists those that are near.
void NeighborSearch::State::search_wide(const NeighborGrid& grid, const Scratch<double>& fractions,
                                        bool sorted) {
  const Plan near = plan;
  plan.cutoff = grid.reach;
  plan.radii = plan.table = nullptr;
  search(grid, fractions, sorted);
  plan = near;
  kept = std::move(rows);
  pick_near();
}

void NeighborSearch::State::pick_near() {
  if (!kept) return;  // a cutoff of 0
  const std::int64_t n = plan.particles;
  const unsigned blocks = blocks_for(n, kBlock / kWarp);
  rows = std::make_unique<KeyRows>(n, stream);
  pick<false><<<blocks, kBlock, 0, stream>>>(plan, kept->offsets.get(), kept->keys->get(),
                                             rows->offsets.get(), nullptr);
  check(cudaGetLastError(), "count kept pairs");
  rows->make_room(n, stream);
  if (rows->count == 0) return;
  pick<true><<<blocks, kBlock, 0, stream>>>(plan, kept->offsets.get(), kept->keys->get(),
                                            rows->offsets.get(), rows->keys->get());
  check(cudaGetLastError(), "pick kept pairs");
}

bool NeighborSearch::State::has_moved(const double* now) const {
  const int no = 0;
  const Scratch<int> moved(&no, 1, stream);
  look_for_moves<<<blocks_for(plan.particles, kBlock), kBlock, 0, stream>>>(
      now, x_at_search->get(), plan.particles, free_move, moved.get());
  check(cudaGetLastError(), "look for moves");
  return read_back(moved.get(), stream) != 0;
}

NeighborSearch::NeighborSearch(const Context& context, View<const double, 2> x, const Cell& cell,
                               const detail::PairCutoff& cutoff, double reach,
                               const NeighborOptions& options, bool moving) {
  const std::int64_t n = x.shape[0];
  if (n == 0) return;
  const int device = device_of("positions", x.data);
  const CurrentDevice current(device);
  // What is kept may outlive the caller's stream: it is made, and freed, on the default one.
  const auto given = static_cast<cudaStream_t>(context.stream);
  const cudaStream_t stream = moving ? nullptr : given;
  if (stream != given) check(cudaStreamSynchronize(given), "wait for the positions");
  state_ = std::make_unique<State>(device, stream, x, cutoff.given);
  State& s = *state_;
  NeighborGrid grid(cell, reach);
  Plan& plan = s.plan;
  std::copy_n(grid.cell.rows.data(), 9, plan.rows);
  std::copy_n(grid.inverse.data(), 9, plan.inverse);
  for (int axis = 0; axis < 3; ++axis) plan.axes[axis].periodic = grid.cell.pbc[axis];
  plan.particles = n;
  plan.x = s.x.get();
  plan.wraps = s.wraps.get();
  plan.cutoff = cutoff.given.cutoff;
  plan.radii = s.radii.get();
  plan.types = s.types.get();
  plan.table = s.table.get();
  plan.kinds = cutoff.given.table.shape[0];
  plan.half = options.half;
  plan.self_pairs = options.self_pairs;
  s.take(x.data, s.x);
  const Scratch<double> fractions(static_cast<std::size_t>(x.size()), stream);
  s.look_at(x, grid, fractions);
  const bool sorted = options.sorted || options.half;
  if (moving) {
    s.x_at_search.emplace(static_cast<std::size_t>(x.size()), stream);
    s.take(x.data, *s.x_at_search);
    s.free_move = grid.free_move(cutoff.largest, s.largest);
  }
  if (cutoff.largest > 0 && moving) s.search_wide(grid, fractions, sorted);
  if (cutoff.largest > 0 && !moving) s.search(grid, fractions, sorted);
  check(cudaStreamSynchronize(stream), "search for neighbors");  // other streams may follow
}

NeighborSearch::~NeighborSearch() {
  if (!state_) return;
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(state_->device);
  state_.reset();
  cudaSetDevice(before);
}
NeighborSearch::NeighborSearch(NeighborSearch&&) noexcept = default;
NeighborSearch& NeighborSearch::operator=(NeighborSearch&&) noexcept = default;

bool NeighborSearch::move(const Context& context, View<const double, 2> x) {
  if (!state_) return true;  // of no particles
  State& s = *state_;
  if (device_of("positions", x.data) != s.device) return false;
  const CurrentDevice current(s.device);
  const auto given = static_cast<cudaStream_t>(context.stream);
  if (given != s.stream) check(cudaStreamSynchronize(given), "wait for the positions");
  if (s.has_moved(x.data)) return false;
  s.take(x.data, s.x);
  s.pick_near();
  check(cudaStreamSynchronize(s.stream), "pick kept pairs");  // other streams may follow
  return true;
}

std::int64_t NeighborSearch::count() const { return state_ ? state_->rows->count : 0; }
std::int64_t NeighborSearch::largest_row() const { return state_ ? state_->rows->largest : 0; }

namespace {

/// What was read must outlive kernels of streams other than the one it was made on.
void finish(cudaStream_t stream, cudaStream_t made_on, const char* what) {
  check(cudaGetLastError(), what);
  if (stream != made_on) check(cudaStreamSynchronize(stream), what);
}

template <class T>
T* part(const char* name, T* data, std::int64_t entry) {
  if (!data) return nullptr;
  device_of(name, data);
  return data + entry;
}

}  // namespace

void NeighborSearch::copy_positions(const Context& context, View<double, 2> out) const {
  if (!state_) return;
  const CurrentDevice current(state_->device);
  device_of("positions", out.data);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  check(cudaMemcpyAsync(out.data, state_->x.get(), out.size() * sizeof(double), cudaMemcpyDefault,
                        stream),
        "copy positions");
  finish(stream, state_->stream, "copy positions");
}

void NeighborSearch::offsets(const Context& context, std::int64_t pairs, std::int64_t* out) const {
  const auto stream = static_cast<cudaStream_t>(context.stream);
  if (!state_) {
    check(cudaMemcpyAsync(out, &pairs, sizeof(pairs), cudaMemcpyHostToDevice, stream), "copy");
    check(cudaStreamSynchronize(stream), "copy");
    return;
  }
  const CurrentDevice current(state_->device);
  const std::int64_t entries = state_->plan.particles + 1;
  write_offsets<<<blocks_for(entries, kBlock), kBlock, 0, stream>>>(state_->rows->offsets.get(),
                                                                    entries, pairs, out);
  finish(stream, state_->stream, "write offsets");
}

template <class Index, class Real>
void NeighborSearch::fill(const Context& context, std::int64_t pairs, std::int64_t base,
                          const NeighborArrays<Index, Real>& out) const {
  if (count() == 0) return;
  const State& s = *state_;
  const CurrentDevice current(s.device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  write_arrays<<<blocks_for(s.plan.particles, kBlock / kWarp), kBlock, 0, stream>>>(
      s.plan, s.rows->offsets.get(), s.rows->keys->get(), base, part("i", out.i.data, pairs),
      part("j", out.j.data, pairs), part("S", out.S.data, 3 * pairs),
      part("D", out.D.data, 3 * pairs), part("d", out.d.data, pairs));
  finish(stream, s.stream, "write pairs");
}

template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int32_t, double>&) const;
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int64_t, double>&) const;
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int32_t, float>&) const;
template void NeighborSearch::fill(const Context&, std::int64_t, std::int64_t,
                                   const NeighborArrays<std::int64_t, float>&) const;

void NeighborSearch::fill(const Context& context, std::int64_t base,
                          const NeighborMatrix& out) const {
  if (!state_) return;
  const State& s = *state_;
  const CurrentDevice current(s.device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  write_matrix<<<blocks_for(s.plan.particles, kBlock / kWarp), kBlock, 0, stream>>>(
      s.plan, s.rows->offsets.get(), s.rows->keys ? s.rows->keys->get() : nullptr, base,
      out.j.shape[1], out.padding, out.j.data, out.S.data, out.counts.data);
  finish(stream, s.stream, "write the matrix");
}

}  // namespace mlcore::cuda
