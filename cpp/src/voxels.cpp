#include "mlcore/voxels.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/voxel_places.hpp"
#include "kernels/voxels.hpp"
#include "mlcore/buffer.hpp"
#include "parallel.hpp"
#include "voxels_cuda.hpp"

namespace mlcore {
namespace {

using kernels::VoxelJob;
using kernels::VoxelStencil;

constexpr std::int64_t kMostVoxelsAlong = std::int64_t{1} << 20;
constexpr double kMostTaps = 1 << 18;
/// A field up to this size stays in cache while points in any order are spread over it; of a larger
/// one, slabs of kSlabBytes are done one by one.
constexpr std::int64_t kCacheBytes = std::int64_t{12} << 20;
constexpr std::int64_t kSlabBytes = std::int64_t{6} << 20;
constexpr std::int64_t kGrain = 1024;
/// So many threads find their points faster by looking at all of them than with sorted lists.
constexpr int kMostSelecting = 4;

// ------------------------------------------------------------------------------------- arguments
void check_kernel(const VoxelKernel& kernel) {
  const auto positive = [](const char* name, double value) {
    MLCORE_CHECK(std::isfinite(value) && value > 0, name, " must be positive and finite, got ",
                 value);
  };
  if (kernel.scheme == VoxelScheme::gaussian) {
    positive("sigma", kernel.sigma);
    positive("truncation", kernel.truncation);
  } else if (kernel.scheme == VoxelScheme::sphere) {
    positive("radius", kernel.radius);
    MLCORE_CHECK(kernel.edge >= 0 && kernel.edge <= 2 * kernel.radius,
                 "edge must lie in 0 .. 2 radius = ", 2 * kernel.radius, ", got ", kernel.edge);
  }
}

void check_differentiable(const VoxelKernel& kernel) {
  MLCORE_CHECK(kernel.scheme != VoxelScheme::nearest,
               "the kernel \"nearest\" has no derivatives by the positions");
  MLCORE_CHECK(kernel.scheme != VoxelScheme::sphere || kernel.edge > 0,
               "a sphere with a sharp edge has no derivatives by the positions; give it an edge");
}

void set_metric(const VoxelGrid& grid, VoxelStencil& s) {
  const auto product = [&](int a, int b) {
    double sum = 0;
    for (int k = 0; k < 3; ++k) sum += grid.cell.rows[3 * a + k] * grid.cell.rows[3 * b + k];
    return sum / (static_cast<double>(grid.shape[a]) * static_cast<double>(grid.shape[b]));
  };
  const int first[6] = {0, 0, 0, 1, 1, 2}, second[6] = {0, 1, 2, 1, 2, 2};
  for (int m = 0; m < 6; ++m) s.metric[m] = product(first[m], second[m]);
}

/// Extent of a kernel of the distance; 0 for the others.
double reach(const VoxelKernel& kernel) {
  if (kernel.scheme == VoxelScheme::gaussian) return kernel.truncation * kernel.sigma;
  return kernel.scheme == VoxelScheme::sphere ? kernel.radius + 0.5 * kernel.edge : 0.0;
}

VoxelStencil make_stencil(const VoxelGrid& grid, const VoxelKernel& kernel, bool density) {
  check_voxel_grid(grid);
  check_kernel(kernel);
  VoxelStencil s{};
  const auto inverse_rows = inverse(grid.cell.rows);
  const auto height = heights(grid.cell);
  double taps = 1;
  for (int a = 0; a < 3; ++a) {
    const double n = static_cast<double>(grid.shape[a]);
    for (int k = 0; k < 3; ++k) s.to_grid[3 * k + a] = inverse_rows[3 * k + a] * n;
    double wanted = static_cast<double>(kernel.scheme) + 1;
    if (kernel.scheme >= VoxelScheme::gaussian) {
      wanted = std::floor(2 * reach(kernel) * n / height[a] * (1 + 2e-9)) + 1;
    }
    taps *= wanted;
    MLCORE_CHECK(taps <= kMostTaps, "the kernel covers ", taps, " voxels or more, at most ",
                 kMostTaps, " are allowed; take a coarser grid or a narrower kernel");
    s.n[a] = static_cast<std::int32_t>(grid.shape[a]);
    s.taps[a] = static_cast<std::int32_t>(wanted);
    s.offset[a] = 0.5 * (wanted - 1);
    s.inverse_n[a] = 1 / n;
    s.periodic[a] = grid.cell.pbc[a];
  }
  set_metric(grid, s);
  s.scheme = static_cast<std::int32_t>(kernel.scheme);
  s.separable = kernel.scheme < VoxelScheme::gaussian;
  if (kernel.scheme == VoxelScheme::gaussian) {
    s.decay = 0.5 / (kernel.sigma * kernel.sigma);
    s.separable = s.metric[1] == 0 && s.metric[2] == 0 && s.metric[4] == 0;
    double diagonal = 0;  // a bound on the squared distance of the nearest sample point
    for (int m : {0, 1, 1, 2, 2, 3, 4, 4, 5}) diagonal += 0.25 * std::fabs(s.metric[m]);
    s.narrow = s.decay * diagonal > 600;
  }
  // A centre right on a sharp edge is inside, however its distance was rounded.
  s.outer = kernel.edge > 0 ? kernel.radius + 0.5 * kernel.edge : kernel.radius * (1 + 1e-9);
  s.inverse_edge = kernel.edge > 0 ? 1 / kernel.edge : 0;
  const double volume =
      std::fabs(determinant(grid.cell.rows)) * s.inverse_n[0] * s.inverse_n[1] * s.inverse_n[2];
  s.scale = density ? 1 / volume : 1;
  return s;
}

bool on_gpu(std::initializer_list<Device> devices) {
  const Device first = *devices.begin();
  for (Device device : devices) {
    MLCORE_CHECK(device == first, "all arrays must live on the same device");
  }
  return first == Device::cuda;
}

std::int64_t systems_of(const VoxelPoints& points) {
  return points.offsets.data ? points.offsets.shape[0] - 1 : 1;
}

void check_points(const VoxelPoints& points) {
  const std::int64_t n = points.x.shape[0];
  MLCORE_CHECK(points.x.shape[1] == 3, "positions must have the shape (n, 3), got (", n, ", ",
               points.x.shape[1], ")");
  MLCORE_CHECK(n < (std::int64_t{1} << 31), "at most 2^31 - 1 positions, got ", n);
  if (points.direction.data) {
    MLCORE_CHECK(points.direction.shape == points.x.shape, "direction must have the shape (", n,
                 ", 3), got (", points.direction.shape[0], ", ", points.direction.shape[1], ")");
    on_gpu({points.x.device, points.direction.device});
  }
  if (!points.offsets.data) return;
  const auto& offsets = points.offsets;
  MLCORE_CHECK(offsets.device == Device::cpu, "offsets must lie in CPU memory");
  MLCORE_CHECK(offsets.shape[0] >= 1, "offsets must have one entry more than there are systems");
  MLCORE_CHECK(offsets(0) == 0 && offsets(offsets.shape[0] - 1) == n,
               "offsets must run from 0 to the number of positions, ", n);
  for (std::int64_t s = 0; s + 1 < offsets.shape[0]; ++s) {
    MLCORE_CHECK(offsets(s) <= offsets(s + 1), "offsets must not fall, but entry ", s + 1, " is ",
                 offsets(s + 1), " after ", offsets(s));
  }
}

void check_features(const char* name, std::array<std::int64_t, 2> shape,
                    const VoxelPoints& points) {
  MLCORE_CHECK(shape[0] == points.x.shape[0], name, " must have one row per position, ",
               points.x.shape[0], ", got ", shape[0]);
  MLCORE_CHECK(shape[1] >= 1 && shape[1] < (1 << 24), name, " must have 1 .. 2^24 channels, got ",
               shape[1]);
}

void check_field(const std::array<std::int64_t, 5>& shape, const VoxelGrid& grid,
                 std::int64_t systems, std::int64_t channels, VoxelLayout layout) {
  const auto [x, y, z] = grid.shape;
  const std::array<std::int64_t, 5> first{systems, channels, x, y, z};
  const std::array<std::int64_t, 5> last{systems, x, y, z, channels};
  const auto& want = layout == VoxelLayout::channels_first ? first : last;
  double size = 1;
  for (std::int64_t extent : want) size *= static_cast<double>(extent);
  MLCORE_CHECK(size < 0x1p58, "a field of ", size, " numbers is too large");
  if (shape == want) return;
  detail::raise<InvalidArgument>("the field must have the shape (", want[0], ", ", want[1], ", ",
                                 want[2], ", ", want[3], ", ", want[4], "), got (", shape[0], ", ",
                                 shape[1], ", ", shape[2], ", ", shape[3], ", ", shape[4], ")");
}

/// Says which of the positions begin .. end - 1 the kernels could not take.
[[noreturn]] void raise_bad_position(const VoxelStencil& s, View<const double, 2> x,
                                     std::int64_t begin, std::int64_t end) {
  for (std::int64_t p = begin; p < end; ++p) {
    for (int k = 0; k < 3; ++k) {
      MLCORE_CHECK(std::isfinite(x(p, k)), "positions must be finite, but component ", k,
                   " of position ", p, " is ", x(p, k));
    }
    for (int a = 0; a < 3; ++a) {
      const double u =
          x(p, 0) * s.to_grid[a] + x(p, 1) * s.to_grid[3 + a] + x(p, 2) * s.to_grid[6 + a];
      MLCORE_CHECK(!s.periodic[a] || std::fabs(u * s.inverse_n[a]) < 0x1p30, "position ", p,
                   " lies more than 2^30 cells away along axis ", a, "; wrap it into the cell");
      MLCORE_CHECK(s.periodic[a] || (u >= 0 && u < s.n[a]), "position ", p,
                   " lies outside the grid along the open axis ", a, " (", u * s.inverse_n[a],
                   " of the cell vector); enlarge the grid");
    }
  }
  detail::raise<InvalidArgument>("a position lies too far away");
}

// ----------------------------------------------------------------------------------------- slabs

template <class T>
struct Kernels;
template <>
struct Kernels<float> {
  static bool spread(const VoxelJob<float>& j) { return MLCORE_DISPATCH(voxel_spread_f32)(j); }
  static bool gather(const VoxelJob<float>& j) { return MLCORE_DISPATCH(voxel_gather_f32)(j); }
  static bool gradient(const VoxelJob<float>& j) { return MLCORE_DISPATCH(voxel_gradient_f32)(j); }
  static auto transpose() { return MLCORE_DISPATCH(voxel_transpose_f32); }
  static auto untranspose() { return MLCORE_DISPATCH(voxel_untranspose_f32); }
};
template <>
struct Kernels<double> {
  static bool spread(const VoxelJob<double>& j) { return MLCORE_DISPATCH(voxel_spread_f64)(j); }
  static bool gather(const VoxelJob<double>& j) { return MLCORE_DISPATCH(voxel_gather_f64)(j); }
  static bool gradient(const VoxelJob<double>& j) { return MLCORE_DISPATCH(voxel_gradient_f64)(j); }
  static auto transpose() { return MLCORE_DISPATCH(voxel_transpose_f64); }
  static auto untranspose() { return MLCORE_DISPATCH(voxel_untranspose_f64); }
};

/// Consecutive planes of the first axis, and the points that have to do with each slab in the order
/// they came. Each voxel gets its points in this order whatever the slabs are.
class Slabs {
 public:
  /// One slab of all planes, all points.
  Slabs(std::int32_t planes, std::int64_t begin, std::int64_t end)
      : cut_{0, planes}, begin_{begin, end} {}

  /// `wanted` slabs without lists, of like numbers of points; each finds its own by their planes.
  Slabs(const Context& context, const VoxelStencil& s, View<const double, 2> x, std::int64_t begin,
        std::int64_t end, std::int64_t wanted)
      : stencil_(s), begin_{begin, end}, first_(4 * (end - begin)) {
    count_planes(context, x, begin, end - begin, chunks(context, end - begin));
    cut(wanted, s.n[0]);
  }

  /// `wanted` slabs or more, of `most_planes` at most, with like numbers of points. A point goes to
  /// every slab it has taps in (`all_taps`) or to the one of its first tap.
  Slabs(const Context& context, const VoxelStencil& s, View<const double, 2> x, std::int64_t begin,
        std::int64_t end, std::int64_t wanted, std::int64_t most_planes, bool all_taps)
      : stencil_(s), first_(4 * (end - begin)) {
    const std::int64_t n = end - begin;
    const int parts = chunks(context, n);
    count_planes(context, x, begin, n, parts);
    cut(wanted, most_planes);
    find_touched(all_taps);
    sort(context, begin, n, parts);
  }

  std::int64_t count() const { return static_cast<std::int64_t>(cut_.size()) - 1; }
  std::int32_t plane(std::int64_t slab) const { return cut_[slab]; }
  const std::int32_t* list() const { return static_cast<const std::int32_t*>(index_.data()); }
  std::int64_t begin(std::int64_t slab) const { return begin_[list() ? slab : 0]; }
  std::int64_t end(std::int64_t slab) const { return begin_[list() ? slab + 1 : 1]; }
  /// Plane of the first tap of each point where each slab has to find its points among all.
  const std::int32_t* planes() const {
    return list() ? nullptr : static_cast<const std::int32_t*>(first_.data());
  }

 private:
  static int chunks(const Context& context, std::int64_t n) {
    return static_cast<int>(
        std::clamp<std::int64_t>(n / kGrain, 1, detail::resolve_threads(context)));
  }

  /// Plane of the first tap of each point, and how many points of each chunk have it.
  void count_planes(const Context& context, View<const double, 2> x, std::int64_t begin,
                    std::int64_t n, int chunks) {
    auto* first = static_cast<std::int32_t*>(first_.data());
    const std::int32_t low = stencil_.taps[0];
    histogram_.assign(chunks, std::vector<std::int64_t>(stencil_.n[0] + low + 1));
    std::atomic<bool> good = true;
    detail::parallel_for(context, chunks, 1, [&](std::int64_t from, std::int64_t to, int) {
      for (std::int64_t c = from; c < to; ++c) {
        const std::int64_t b = n * c / chunks, e = n * (c + 1) / chunks;
        if (!MLCORE_DISPATCH(voxel_planes)(stencil_, x.data + 3 * (begin + b), 0, e - b, first + b))
          good = false;
        std::int64_t* count = histogram_[c].data() + low;
        for (std::int64_t p = b; p < e; ++p) ++count[first[p]];
      }
    });
    if (!good) raise_bad_position(stencil_, x, begin, begin + n);
  }

  void cut(std::int64_t wanted, std::int64_t most_planes) {
    const std::int32_t planes = stencil_.n[0], low = stencil_.taps[0];
    std::vector<std::int64_t> work(planes);
    const std::int64_t per_plane = std::int64_t{stencil_.n[1]} * stencil_.n[2] / 8;
    for (std::int32_t i = 0; i < planes; ++i) {
      work[i] = per_plane;
      for (const auto& chunk : histogram_) work[i] += chunk[low + i];
    }
    const std::int64_t total = std::accumulate(work.begin(), work.end(), std::int64_t{0});
    cut_ = {0};
    std::int64_t done = 0;
    for (std::int32_t i = 0; i < planes; ++i) {
      done += work[i];
      const std::int64_t share =
          (total * static_cast<std::int64_t>(cut_.size()) + wanted - 1) / wanted;
      if (i + 1 == planes || done >= share || i + 1 - cut_.back() >= most_planes) {
        cut_.push_back(i + 1);
      }
    }
  }

  /// Slabs of each first plane -taps .. planes.
  void find_touched(bool all_taps) {
    const std::int32_t planes = stencil_.n[0], taps = all_taps ? stencil_.taps[0] : 1;
    std::vector<std::int32_t> slab(planes);
    for (std::int64_t s = 0; s < count(); ++s) {
      std::fill(slab.begin() + cut_[s], slab.begin() + cut_[s + 1], static_cast<std::int32_t>(s));
    }
    touched_begin_ = {0};
    for (std::int32_t i = -stencil_.taps[0]; i <= planes; ++i) {
      const std::size_t before = touched_.size();
      for (std::int32_t j = i; j < i + taps; ++j) {
        std::int32_t plane = j;
        if (stencil_.periodic[0]) plane = ((j % planes) + planes) % planes;
        if (!all_taps) plane = std::clamp(plane, 0, planes - 1);
        if (plane < 0 || plane >= planes) continue;
        const auto from = touched_.begin() + static_cast<std::ptrdiff_t>(before);
        if (std::find(from, touched_.end(), slab[plane]) == touched_.end()) {
          touched_.push_back(slab[plane]);
        }
      }
      touched_begin_.push_back(static_cast<std::int32_t>(touched_.size()));
    }
  }

  void sort(const Context& context, std::int64_t begin, std::int64_t n, int chunks) {
    const std::int32_t low = stencil_.taps[0];
    std::vector<std::vector<std::int64_t>> place(chunks, std::vector<std::int64_t>(count()));
    for (int c = 0; c < chunks; ++c) {
      for (std::size_t i = 0; i < histogram_[c].size(); ++i) {
        for (std::int32_t t = touched_begin_[i]; t < touched_begin_[i + 1]; ++t) {
          place[c][touched_[t]] += histogram_[c][i];
        }
      }
    }
    begin_ = {0};
    std::int64_t total = 0;
    for (std::int64_t s = 0; s < count(); ++s) {
      for (int c = 0; c < chunks; ++c) total += std::exchange(place[c][s], total);
      begin_.push_back(total);
    }
    index_ = Buffer(4 * total);
    auto* index = static_cast<std::int32_t*>(index_.data());
    const auto* first = static_cast<const std::int32_t*>(first_.data());
    detail::parallel_for(context, chunks, 1, [&](std::int64_t from, std::int64_t to, int) {
      for (std::int64_t c = from; c < to; ++c) {
        std::int64_t* next = place[c].data();
        for (std::int64_t p = n * c / chunks; p < n * (c + 1) / chunks; ++p) {
          const std::int32_t i = first[p] + low;
          for (std::int32_t t = touched_begin_[i]; t < touched_begin_[i + 1]; ++t) {
            index[next[touched_[t]]++] = static_cast<std::int32_t>(begin + p);
          }
        }
      }
    });
  }

  VoxelStencil stencil_{};
  std::vector<std::int32_t> cut_;    // first plane of each slab, and the number of planes
  std::vector<std::int64_t> begin_;  // where the points of each slab begin
  Buffer first_, index_;
  std::vector<std::vector<std::int64_t>> histogram_;  // of each chunk
  std::vector<std::int32_t> touched_, touched_begin_;
};

/// Calls body(slab) for all slabs, each thread taking the next one.
template <class Body>
void for_slabs(const Context& context, std::int64_t count, const Body& body) {
  std::atomic<std::int64_t> next = 0;
  const std::int64_t threads = std::min<std::int64_t>(detail::resolve_threads(context), count);
  detail::parallel_for(context, threads, 1, [&](std::int64_t, std::int64_t, int) {
    for (std::int64_t slab = next++; slab < count; slab = next++) body(slab);
  });
}

/// One system: its points and its part of the field.
template <class T>
struct System {
  const VoxelStencil& stencil;
  const VoxelPoints& points;
  std::int64_t begin, end;  // points
  std::int64_t channels;
  bool channels_first;

  std::int64_t plane() const { return std::int64_t{stencil.n[1]} * stencil.n[2]; }
  std::int64_t voxels() const { return stencil.n[0] * plane(); }
  std::int64_t bytes() const { return voxels() * channels * static_cast<std::int64_t>(sizeof(T)); }
  std::int64_t taps() const {
    return std::int64_t{stencil.taps[0]} * stencil.taps[1] * stencil.taps[2];
  }
  /// Fewer taps than it costs to turn the field around.
  bool few_points() const { return (end - begin) * taps() < voxels() / 32; }

  /// Slabs for so many threads.
  Slabs slabs(const Context& context, bool all_taps) const {
    const std::int64_t planes = stencil.n[0], points_count = end - begin;
    const std::int64_t plane_bytes = plane() * channels * static_cast<std::int64_t>(sizeof(T));
    const bool beyond_cache = bytes() > kCacheBytes && points_count > 4 * kGrain;
    const bool share = all_taps && points_count * taps() + voxels() / 4 > 16 * kGrain;
    const int threads = share ? detail::resolve_threads(context) : 1;
    if (!beyond_cache && threads == 1) return Slabs(stencil.n[0], begin, end);
    const bool spline = stencil.scheme < 3 && !points.direction.data;
    if (!beyond_cache && spline && threads <= kMostSelecting) {
      return Slabs(context, stencil, points.x, begin, end, threads);
    }
    const std::int64_t most =
        beyond_cache ? std::max<std::int64_t>(kSlabBytes / plane_bytes, stencil.taps[0]) : planes;
    return Slabs(context, stencil, points.x, begin, end, threads, std::max<std::int64_t>(most, 1),
                 all_taps);
  }

  VoxelJob<T> job() const {
    VoxelJob<T> j{};
    j.stencil = &stencil;
    j.x = points.x.data;
    j.direction = points.direction.data;
    j.begin = begin, j.end = end;
    j.plane_begin = 0, j.plane_end = stencil.n[0];
    j.channels = static_cast<std::int32_t>(channels);
    return j;
  }
};

/// Memory for the tables of one thread.
class Scratch {
 public:
  explicit Scratch(const VoxelStencil& s)
      : memory_(static_cast<std::size_t>(kernels::voxel_scratch(s))) {}
  void* data() const { return memory_.data(); }

 private:
  Buffer memory_;
};

// --------------------------------------------------------------------------------- one system each

/// What normalises the weights of each point, for kernels whose windows are dealt with in pieces.
template <class T>
Buffer norms_of(const Context& context, const System<T>& system) {
  Buffer norms(24 * static_cast<std::size_t>(system.points.x.shape[0]));
  VoxelJob<float> job{};
  job.stencil = &system.stencil;
  job.x = system.points.x.data;
  job.direction = system.points.direction.data;
  job.plane_end = system.stencil.n[0];
  job.channels = 1;
  job.norms = static_cast<double*>(norms.data());
  detail::parallel_for(context, system.end - system.begin, 16,
                       [&](std::int64_t from, std::int64_t to, int) {
                         const Scratch scratch(system.stencil);
                         VoxelJob<float> part = job;
                         part.scratch = scratch.data();
                         part.begin = system.begin + from, part.end = system.begin + to;
                         MLCORE_DISPATCH(voxel_norms)(part);  // bad positions show later
                       });
  return norms;
}

template <class T>
bool spread_slab(const System<T>& system, const Slabs& slabs, std::int64_t slab, const T* features,
                 T* field, double* norms) {
  const Scratch scratch(system.stencil);
  VoxelJob<T> job = system.job();
  job.scratch = scratch.data();
  job.list = slabs.list();
  job.begin = slabs.begin(slab), job.end = slabs.end(slab);
  job.planes = slabs.planes();
  job.norms = norms;
  job.plane_begin = slabs.plane(slab), job.plane_end = slabs.plane(slab + 1);
  job.features = const_cast<T*>(features);
  job.feature_stride = system.channels;
  const std::int64_t first = job.plane_begin * system.plane();
  const std::int64_t voxels = (job.plane_end - job.plane_begin) * system.plane();
  const std::size_t bytes = static_cast<std::size_t>(voxels * system.channels) * sizeof(T);
  if (!system.channels_first) {
    job.field = field + first * system.channels;
    std::memset(job.field, 0, bytes);
    return Kernels<T>::spread(job);
  }
  const Buffer turned(bytes);
  job.field = static_cast<T*>(turned.data());
  std::memset(job.field, 0, bytes);
  const bool good = Kernels<T>::spread(job);
  Kernels<T>::transpose()(job.field, voxels, system.channels, field + first, system.voxels());
  return good;
}

/// The channels one after the other, each on its own part of a channels-first field.
template <class T, class Body>
void for_single_channels(const Context& context, const System<T>& system, T* features, T* field,
                         const Body& body) {
  detail::parallel_for(context, system.channels, 1, [&](std::int64_t from, std::int64_t to, int) {
    const Scratch scratch(system.stencil);
    for (std::int64_t c = from; c < to; ++c) {
      VoxelJob<T> job = system.job();
      job.scratch = scratch.data();
      job.channels = 1;
      job.features = features + c;
      job.feature_stride = system.channels;
      job.field = field + c * system.voxels();
      body(job);
    }
  });
}

template <class T>
void spread_system(const Context& context, System<T> system, const T* features, T* field) {
  if (system.channels == 1) system.channels_first = false;
  std::atomic<bool> good = true;
  if (system.channels_first && system.few_points()) {
    for_single_channels(context, system, const_cast<T*>(features), field, [&](VoxelJob<T>& job) {
      std::memset(job.field, 0, static_cast<std::size_t>(system.voxels()) * sizeof(T));
      if (!Kernels<T>::spread(job)) good = false;
    });
  } else {
    const Slabs slabs = system.slabs(context, true);
    Buffer norms;
    const bool pieces = system.stencil.taps[0] > system.stencil.n[0] / slabs.count();
    if (slabs.count() > 1 && pieces && !system.stencil.separable) {
      norms = norms_of(context, system);
    }
    auto* values = static_cast<double*>(norms.data());
    for_slabs(context, slabs.count(), [&](std::int64_t slab) {
      if (!spread_slab(system, slabs, slab, features, field, values)) good = false;
    });
  }
  if (!good) raise_bad_position(system.stencil, system.points.x, system.begin, system.end);
}

/// A channels-last copy of a channels-first field.
template <class T>
Buffer channels_last(const Context& context, const System<T>& system, const T* field) {
  Buffer turned(static_cast<std::size_t>(system.bytes()));
  T* to = static_cast<T*>(turned.data());
  detail::parallel_for(
      context, system.stencil.n[0], 1, [&](std::int64_t from, std::int64_t end, int) {
        const std::int64_t first = from * system.plane();
        Kernels<T>::untranspose()(field + first, system.voxels(), (end - from) * system.plane(),
                                  system.channels, to + first * system.channels);
      });
  return turned;
}

/// Runs a kernel that writes one row per point on all points of a system.
template <class T>
void for_points(const Context& context, const System<T>& system, VoxelJob<T> job,
                bool (*kernel)(const VoxelJob<T>&)) {
  std::atomic<bool> good = true;
  const auto run = [&](std::int64_t begin, std::int64_t end) {
    const Scratch scratch(system.stencil);
    VoxelJob<T> part = job;
    part.scratch = scratch.data();
    part.begin = begin, part.end = end;
    if (!kernel(part)) good = false;
  };
  const Slabs slabs = system.slabs(context, false);
  if (slabs.count() > 1) {
    job.list = slabs.list();
    for_slabs(context, slabs.count(),
              [&](std::int64_t slab) { run(slabs.begin(slab), slabs.end(slab)); });
  } else {
    const std::int64_t grain = std::max<std::int64_t>(1, kGrain / system.taps());
    detail::parallel_for(context, system.end - system.begin, grain,
                         [&](std::int64_t from, std::int64_t to, int) {
                           run(system.begin + from, system.begin + to);
                         });
  }
  if (!good) raise_bad_position(system.stencil, system.points.x, system.begin, system.end);
}

template <class T>
void gather_system(const Context& context, System<T> system, const T* field, T* out) {
  if (system.channels == 1) system.channels_first = false;
  if (system.channels_first && system.few_points()) {
    std::atomic<bool> good = true;
    for_single_channels(context, system, out, const_cast<T*>(field), [&](VoxelJob<T>& job) {
      if (!Kernels<T>::gather(job)) good = false;
    });
    if (!good) raise_bad_position(system.stencil, system.points.x, system.begin, system.end);
    return;
  }
  Buffer turned;
  VoxelJob<T> job = system.job();
  job.field = const_cast<T*>(field);
  if (system.channels_first) {
    turned = channels_last(context, system, field);
    job.field = static_cast<T*>(turned.data());
  }
  job.features = out;
  job.feature_stride = system.channels;
  for_points(context, system, job, &Kernels<T>::gather);
}

template <class T>
void gradient_system(const Context& context, System<T> system, const T* features, const T* field,
                     double* out) {
  if (system.channels == 1) system.channels_first = false;
  Buffer turned;
  VoxelJob<T> job = system.job();
  job.field = const_cast<T*>(field);
  if (system.channels_first) {
    turned = channels_last(context, system, field);
    job.field = static_cast<T*>(turned.data());
  }
  job.features = const_cast<T*>(features);
  job.feature_stride = system.channels;
  job.gradient = out;
  for_points(context, system, job, &Kernels<T>::gradient);
}

/// Calls body(context, system, number): systems in parallel, a single one in parallel inside.
template <class T, class Body>
void for_systems(const Context& context, const VoxelStencil& stencil, const VoxelPoints& points,
                 std::int64_t channels, VoxelLayout layout, const Body& body) {
  const std::int64_t count = systems_of(points);
  const bool first = layout == VoxelLayout::channels_first;
  const auto system = [&](std::int64_t s) {
    const bool all = !points.offsets.data;
    return System<T>{stencil,
                     points,
                     all ? 0 : points.offsets(s),
                     all ? points.x.shape[0] : points.offsets(s + 1),
                     channels,
                     first};
  };
  if (count == 1) return body(context, system(0), 0);
  detail::parallel_for(context, count, 1, [&](std::int64_t from, std::int64_t to, int) {
    for (std::int64_t s = from; s < to; ++s) body(Context{1}, system(s), s);
  });
}

}  // namespace

// ----------------------------------------------------------------------------------------- faces
void check_voxel_grid(const VoxelGrid& grid) {
  for (int a = 0; a < 3; ++a) {
    MLCORE_CHECK(grid.shape[a] >= 1 && grid.shape[a] <= kMostVoxelsAlong, "shape must hold 1 .. ",
                 kMostVoxelsAlong, " voxels along each axis, got ", grid.shape[a], " along axis ",
                 a);
    const double* row = grid.cell.rows.data() + 3 * a;
    MLCORE_CHECK(row[0] != 0 || row[1] != 0 || row[2] != 0, "cell vector ", a,
                 " is zero; a grid needs the extent of its open axes, too");
  }
  completed(grid.cell);
}

template <class T>
void rasterize(const Context& context, const VoxelGrid& grid, const VoxelKernel& kernel,
               const VoxelPoints& points, View<const T, 2> features, View<T, 5> field,
               const VoxelOptions& options) {
  const VoxelStencil stencil = make_stencil(grid, kernel, options.density);
  check_points(points);
  check_features("features", features.shape, points);
  const std::int64_t channels = features.shape[1];
  check_field(field.shape, grid, systems_of(points), channels, options.layout);
  if (points.direction.data) check_differentiable(kernel);
  if (on_gpu({points.x.device, features.device, field.device})) {
    return cuda::rasterize(context, stencil, points, features, field, options);
  }
  for_systems<T>(context, stencil, points, channels, options.layout,
                 [&](const Context& inner, const System<T>& system, std::int64_t s) {
                   spread_system(inner, system, features.data, field[s].data);
                 });
}

template <class T>
void gather(const Context& context, const VoxelGrid& grid, const VoxelKernel& kernel,
            const VoxelPoints& points, View<const T, 5> field, View<T, 2> out,
            const VoxelOptions& options) {
  const VoxelStencil stencil = make_stencil(grid, kernel, options.density);
  check_points(points);
  check_features("out", out.shape, points);
  const std::int64_t channels = out.shape[1];
  check_field(field.shape, grid, systems_of(points), channels, options.layout);
  if (points.direction.data) check_differentiable(kernel);
  if (on_gpu({points.x.device, out.device, field.device})) {
    return cuda::gather(context, stencil, points, field, out, options);
  }
  for_systems<T>(context, stencil, points, channels, options.layout,
                 [&](const Context& inner, const System<T>& system, std::int64_t s) {
                   gather_system(inner, system, field[s].data, out.data);
                 });
}

template <class T>
void voxel_position_gradient(const Context& context, const VoxelGrid& grid,
                             const VoxelKernel& kernel, const VoxelPoints& points,
                             View<const T, 2> features, View<const T, 5> field, View<double, 2> out,
                             const VoxelOptions& options) {
  const VoxelStencil stencil = make_stencil(grid, kernel, options.density);
  check_differentiable(kernel);
  check_points(points);
  check_features("features", features.shape, points);
  const std::int64_t channels = features.shape[1];
  check_field(field.shape, grid, systems_of(points), channels, options.layout);
  MLCORE_CHECK(out.shape == points.x.shape, "out must have the shape (", points.x.shape[0],
               ", 3), got (", out.shape[0], ", ", out.shape[1], ")");
  if (on_gpu({points.x.device, features.device, field.device, out.device})) {
    return cuda::voxel_position_gradient(context, stencil, points, features, field, out, options);
  }
  for_systems<T>(context, stencil, points, channels, options.layout,
                 [&](const Context& inner, const System<T>& system, std::int64_t s) {
                   gradient_system(inner, system, features.data, field[s].data, out.data);
                 });
}

#define MLCORE_INSTANTIATE(T)                                                                      \
  template void rasterize<T>(const Context&, const VoxelGrid&, const VoxelKernel&,                 \
                             const VoxelPoints&, View<const T, 2>, View<T, 5>,                     \
                             const VoxelOptions&);                                                 \
  template void gather<T>(const Context&, const VoxelGrid&, const VoxelKernel&,                    \
                          const VoxelPoints&, View<const T, 5>, View<T, 2>, const VoxelOptions&);  \
  template void voxel_position_gradient<T>(const Context&, const VoxelGrid&, const VoxelKernel&,   \
                                           const VoxelPoints&, View<const T, 2>, View<const T, 5>, \
                                           View<double, 2>, const VoxelOptions&);
MLCORE_INSTANTIATE(float)
MLCORE_INSTANTIATE(double)
#undef MLCORE_INSTANTIATE

// ------------------------------------------------------------------------------------------ bins
namespace {

void check_length(const char* name, std::int64_t got, std::int64_t want) {
  MLCORE_CHECK(got == want, name, " must have the length ", want, ", got ", got);
}

template <class T>
void check_triples(const char* name, View<T, 2> array, std::int64_t n) {
  MLCORE_CHECK(array.shape[0] == n && array.shape[1] == 3, name, " must have the shape (", n,
               ", 3), got (", array.shape[0], ", ", array.shape[1], ")");
}

/// Stable counting sort.
void sort_by_cell(const VoxelBins& bins) {
  std::int64_t* starts = bins.starts.data;
  std::fill(bins.starts.begin(), bins.starts.end(), 0);
  for (std::int64_t cell : bins.cell) ++starts[cell + 1];
  for (std::int64_t v = 1; v < bins.starts.size(); ++v) starts[v] += starts[v - 1];
  for (std::int64_t p = 0; p < bins.cell.size(); ++p) bins.order(starts[bins.cell(p)]++) = p;
  std::memmove(starts + 1, starts,
               static_cast<std::size_t>(bins.starts.size() - 1) * sizeof(*starts));
  starts[0] = 0;
}

}  // namespace

void bin_atoms(const Context& context, const VoxelGrid& grid, View<const double, 2> x,
               const VoxelBins& bins) {
  const VoxelStencil stencil = make_stencil(grid, {VoxelScheme::nearest}, false);
  const std::int64_t n = x.shape[0];
  check_triples("positions", x, n);
  check_length("cell", bins.cell.size(), n);
  check_triples("offset", bins.offset, n);
  check_triples("image", bins.image, n);
  check_triples("ulps", bins.ulps, n);
  check_length("order", bins.order.size(), n);
  const auto [nx, ny, nz] = grid.shape;
  MLCORE_CHECK(static_cast<double>(nx) * static_cast<double>(ny) * static_cast<double>(nz) < 0x1p58,
               "a grid of ", nx, " x ", ny, " x ", nz, " voxels is too large");
  check_length("starts", bins.starts.size(), nx * ny * nz + 1);
  if (on_gpu({x.device, bins.cell.device, bins.offset.device, bins.image.device, bins.ulps.device,
              bins.order.device, bins.starts.device})) {
    return cuda::bin_atoms(context, stencil, grid.cell.rows, x, bins);
  }
  std::atomic<bool> good = true;
  detail::parallel_for(context, n, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
    if (!MLCORE_DISPATCH(voxel_bins)(stencil, grid.cell.rows.data(), x.data, begin, end,
                                     bins.cell.data, bins.offset.data, bins.image.data,
                                     bins.ulps.data)) {
      good = false;
    }
  });
  if (!good) raise_bad_position(stencil, x, 0, n);
  sort_by_cell(bins);
}

void unbin_atoms(const Context& context, const VoxelGrid& grid, View<const std::int64_t, 1> cell,
                 View<const double, 2> offset, View<const std::int32_t, 2> image,
                 View<const std::int64_t, 2> ulps, View<double, 2> x) {
  const VoxelStencil stencil = make_stencil(grid, {VoxelScheme::nearest}, false);
  const std::int64_t n = cell.size(), voxels = grid.shape[0] * grid.shape[1] * grid.shape[2];
  check_triples("offset", offset, n);
  check_triples("image", image, n);
  if (ulps.data) check_triples("ulps", ulps, n);
  check_triples("out", x, n);
  const Device ulps_device = ulps.data ? ulps.device : x.device;
  if (on_gpu({x.device, cell.device, offset.device, image.device, ulps_device})) {
    return cuda::unbin_atoms(context, stencil, grid.cell.rows, cell, offset, image, ulps, x);
  }
  for (std::int64_t p = 0; p < n; ++p) {
    MLCORE_CHECK(cell(p) >= 0 && cell(p) < voxels, "cell must lie in 0 .. ", voxels - 1,
                 ", but entry ", p, " is ", cell(p));
  }
  detail::parallel_for(context, n, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
    MLCORE_DISPATCH(voxel_unbin)
    (stencil, grid.cell.rows.data(), begin, end, cell.data, offset.data, image.data, ulps.data,
     x.data);
  });
}

}  // namespace mlcore
