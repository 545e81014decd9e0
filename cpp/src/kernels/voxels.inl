// Compiled once per instruction set; see simd.hpp.

#include "kernels/voxel_places.hpp"
#include "kernels/voxels.hpp"

#pragma GCC diagnostic ignored "-Wpsabi"  // wide vectors are passed inside this file alone
#define MLCORE_INLINE inline __attribute__((always_inline))

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr int kBlock = kVoxelBlock;
constexpr int kSelected = 512;  // points looked at before those selected are dealt with
constexpr int kAhead = 8;       // points whose voxels are fetched before they are needed

/// L channels; one is a plain number.
template <class T, int L>
struct Lanes {
  typedef T Vector __attribute__((vector_size(sizeof(T) * L), aligned(sizeof(T)), may_alias));
};
template <class T>
struct Lanes<T, 1> {
  typedef T Vector;
};
template <class T, int L>
using Vector = typename Lanes<T, L>::Vector;

template <class T, int L>
MLCORE_INLINE Vector<T, L> load(const T* from) {
  return *reinterpret_cast<const Vector<T, L>*>(from);
}
template <class T, int L>
MLCORE_INLINE void store(T* to, Vector<T, L> value) {
  *reinterpret_cast<Vector<T, L>*>(to) = value;
}
template <class T, int L>
MLCORE_INLINE void add(T* to, T weight, Vector<T, L> value) {
  store<T, L>(to, load<T, L>(to) + weight * value);
}

template <class T, int L>
MLCORE_INLINE double sum(Vector<T, L> v) {
  if constexpr (L == 1) {
    return v;
  } else {
    double total = 0;
    for (int l = 0; l < L; ++l) total += v[l];
    return total;
  }
}

/// Calls work.run<L>(first channel) for pieces of 16, 8, 4, 2 and 1 channels.
template <class Work>
MLCORE_INLINE void for_channels(int channels, const Work& work) {
  int c = 0;
  for (; channels - c >= 16; c += 16) work.template run<16>(c);
  if (channels - c >= 8) work.template run<8>(c), c += 8;
  if (channels - c >= 4) work.template run<4>(c), c += 4;
  if (channels - c >= 2) work.template run<2>(c), c += 2;
  if (channels - c >= 1) work.template run<1>(c);
}

template <class T>
MLCORE_INLINE std::int64_t point_of(const VoxelJob<T>& job, std::int64_t k) {
  return job.list ? job.list[k] : k;
}

// ---------------------------------------------------------- nearest, CIC, TSC: O taps along an
// axis

/// A block of points: the O * O rows of voxels each takes, the places in a row, the weights.
template <class T, int O>
struct Taps {
  alignas(64) T row_weight[O * O][kBlock];
  alignas(64) T z_weight[O][kBlock];
  alignas(64) std::int64_t row[O * O][kBlock];  // distance from job.field
  alignas(64) std::int64_t z[O][kBlock];        // distance from the row's begin
  std::int32_t index[3][O][kBlock];             // along open axes perhaps outside
  bool whole[kBlock];                           // every tap lies in the job's planes
  bool lines[kBlock];                           // every tap lies inside along the other axes
};

template <class T, int O>
void fill_taps(const VoxelJob<T>& job, const VoxelPlaces& places, int count, Taps<T, O>& taps) {
  const VoxelStencil& s = *job.stencil;
  alignas(64) T weight[3][O][kBlock];
  alignas(64) std::int32_t outside[2][kBlock];  // negative: along the first axis, the others
  for (int p = 0; p < count; ++p) outside[0][p] = outside[1][p] = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const double* fraction = places.fraction[axis];
    const double scale = axis == 2 ? s.scale : 1.0;
    for (int p = 0; p < count; ++p) {
      double w[3], w1[3], w2[3];
      voxel_spline(O, fraction[p], w, w1, w2);
      for (int j = 0; j < O; ++j) weight[axis][j][p] = static_cast<T>(w[j] * scale);
    }
    const std::int32_t n = s.n[axis], wrap = s.periodic[axis] ? n : 0;
    const std::int32_t low = axis == 0 ? job.plane_begin : 0;
    const std::int32_t high = axis == 0 ? job.plane_end : n;
    const std::int32_t* __restrict first = places.first[axis];
    std::int32_t* __restrict out = outside[axis > 0];
    for (int j = 0; j < O; ++j) {
      std::int32_t* __restrict index = taps.index[axis][j];
      for (int p = 0; p < count; ++p) {
        std::int32_t i = first[p] + j;
        for (int turn = 0; turn < O - 1; ++turn) i -= i >= n ? wrap : 0;
        index[p] = i;
        out[p] |= (i - low) | (high - 1 - i);
      }
    }
  }
  const std::int64_t voxel = job.channels, row = voxel * s.n[2], plane = row * s.n[1];
  const std::int32_t planes = job.plane_end - job.plane_begin;
  for (int a = 0; a < O; ++a) {
    for (int b = 0; b < O; ++b) {
      for (int p = 0; p < count; ++p) {
        taps.row_weight[O * a + b][p] = weight[0][a][p] * weight[1][b][p];
        // Taps in planes of others are not for us to fetch: another thread may be writing there.
        const std::int32_t x = taps.index[0][a][p] - job.plane_begin;
        const std::int32_t here = x < 0 || x >= planes ? 0 : x;
        taps.row[O * a + b][p] = here * plane + taps.index[1][b][p] * row;
      }
    }
    for (int p = 0; p < count; ++p) {
      taps.z_weight[a][p] = weight[2][a][p];
      taps.z[a][p] = taps.index[2][a][p] * voxel;
    }
  }
  for (int p = 0; p < count; ++p) {
    taps.whole[p] = (outside[0][p] | outside[1][p]) >= 0;
    taps.lines[p] = outside[1][p] >= 0;
  }
}

/// Calls visit(row, z) for the taps of a point that lie in the job's planes.
template <class T, int O, class Visit>
MLCORE_INLINE void for_taps_inside(const VoxelJob<T>& job, const Taps<T, O>& taps, int p,
                                   const Visit& visit) {
  const VoxelStencil& s = *job.stencil;
  for (int a = 0; a < O; ++a) {
    const std::int32_t x = taps.index[0][a][p];
    if (x < job.plane_begin || x >= job.plane_end) continue;
    if (taps.lines[p]) {
      for (int b = 0; b < O; ++b) {
        for (int c = 0; c < O; ++c) visit(O * a + b, c);
      }
      continue;
    }
    for (int b = 0; b < O; ++b) {
      const std::int32_t y = taps.index[1][b][p];
      if (y < 0 || y >= s.n[1]) continue;
      for (int c = 0; c < O; ++c) {
        const std::int32_t z = taps.index[2][c][p];
        if (z >= 0 && z < s.n[2]) visit(O * a + b, c);
      }
    }
  }
}

template <class T, int O>
MLCORE_INLINE void prefetch(const VoxelJob<T>& job, const Taps<T, O>& taps, int p) {
  for (int r = 0; r < O * O; ++r) {
    __builtin_prefetch(job.field + taps.row[r][p] + taps.z[0][p], 1);
    if constexpr (O > 1) __builtin_prefetch(job.field + taps.row[r][p] + taps.z[O - 1][p], 1);
  }
}

/// A point of the next block: the processor foresees a row of points, but not a list.
template <class T>
MLCORE_INLINE void prefetch_listed(const VoxelJob<T>& job, std::int64_t k) {
  if (!job.list || k >= job.end) return;
  const std::int64_t p = job.list[k];
  __builtin_prefetch(job.x + 3 * p);
  __builtin_prefetch(job.x + 3 * p + 2);
  __builtin_prefetch(job.features + p * job.feature_stride);
}

template <class T, int O>
struct SpreadBlock {
  const VoxelJob<T> job;  // not a reference: what is stored might alias it
  const Taps<T, O>& taps;
  std::int64_t begin;
  int count;

  template <int L>
  MLCORE_INLINE void run(int channel) const {
    T* field = job.field + channel;
    for (int p = 0; p < count; ++p) {
      if (p + kAhead < count) prefetch(job, taps, p + kAhead);
      prefetch_listed(job, begin + p + kBlock);
      const auto f =
          load<T, L>(job.features + point_of(job, begin + p) * job.feature_stride + channel);
      Vector<T, L> value[O];
      for (int c = 0; c < O; ++c) value[c] = taps.z_weight[c][p] * f;
      if (taps.whole[p]) {
        for (int r = 0; r < O * O; ++r) {
          T* row = field + taps.row[r][p];
          for (int c = 0; c < O; ++c) {
            add<T, L>(row + taps.z[c][p], taps.row_weight[r][p], value[c]);
          }
        }
      } else {
        for_taps_inside(job, taps, p, [&](int r, int c) {
          add<T, L>(field + taps.row[r][p] + taps.z[c][p], taps.row_weight[r][p], value[c]);
        });
      }
    }
  }
};

template <class T, int O>
struct GatherBlock {
  const VoxelJob<T>& job;
  const Taps<T, O>& taps;
  std::int64_t begin;
  int count;

  template <int L>
  MLCORE_INLINE void run(int channel) const {
    const T* field = job.field + channel;
    for (int p = 0; p < count; ++p) {
      if (p + kAhead < count) prefetch(job, taps, p + kAhead);
      Vector<T, L> line[O] = {};
      if (taps.whole[p]) {
        for (int r = 0; r < O * O; ++r) {
          const T* row = field + taps.row[r][p];
          for (int c = 0; c < O; ++c) {
            line[c] += taps.row_weight[r][p] * load<T, L>(row + taps.z[c][p]);
          }
        }
      } else {
        for_taps_inside(job, taps, p, [&](int r, int c) {
          line[c] += taps.row_weight[r][p] * load<T, L>(field + taps.row[r][p] + taps.z[c][p]);
        });
      }
      Vector<T, L> total = taps.z_weight[0][p] * line[0];
      for (int c = 1; c < O; ++c) total += taps.z_weight[c][p] * line[c];
      store<T, L>(job.features + point_of(job, begin + p) * job.feature_stride + channel, total);
    }
  }
};

/// Runs Block<T, O> on up to kBlock points.
template <template <class, int> class Block, class T, int O>
__attribute__((noinline)) bool run_block(const VoxelJob<T>& job, std::int64_t begin, int count) {
  VoxelPlaces places;
  Taps<T, O> taps;
  const bool good = voxel_places(*job.stencil, job.x, job.list, begin, count, &places);
  fill_taps(job, places, count, taps);
  for_channels(job.channels, Block<T, O>{job, taps, begin, count});
  return good;
}

/// Those of begin .. end - 1 with taps in the job's planes; all are less than 2^31. Returns their
/// number.
template <class T, int O>
int select_points(const VoxelJob<T>& job, std::int64_t begin, std::int64_t end,
                  std::int32_t* list) {
  const VoxelStencil& s = *job.stencil;
  const std::int32_t* __restrict first = job.planes + (begin - job.begin);
  alignas(64) std::int32_t taken[kSelected];
  const int count = static_cast<int>(end - begin);
  const std::int32_t wrap = s.periodic[0] ? s.n[0] : 0;
  const std::int32_t low = job.plane_begin - (O - 1), extent = job.plane_end - low;
  for (int p = 0; p < count; ++p) {
    const std::int32_t t = first[p] - low;
    const std::int32_t turned = t < 0 ? t + wrap : t >= wrap && wrap > 0 ? t - wrap : t;
    const bool here = t >= 0 && t < extent, there = turned >= 0 && turned < extent;
    taken[p] = here || there;
  }
  int found = 0;
  for (int p = 0; p < count; ++p) {
    list[found] = static_cast<std::int32_t>(begin) + p;
    found += taken[p];
  }
  return found;
}

/// Runs Block<T, O> on all points of the job.
template <template <class, int> class Block, class T, int O>
bool run_spline(const VoxelJob<T>& job) {
  bool good = true;
  if (!job.planes) {
    for (std::int64_t b = job.begin; b < job.end; b += kBlock) {
      const int count = job.end - b < kBlock ? static_cast<int>(job.end - b) : kBlock;
      good = run_block<Block, T, O>(job, b, count) && good;
    }
    return good;
  }
  std::int32_t list[kSelected + kBlock];
  VoxelJob<T> part = job;
  part.list = list;
  int held = 0;
  for (std::int64_t b = job.begin; b < job.end; b += kSelected) {
    const std::int64_t end = job.end - b < kSelected ? job.end : b + kSelected;
    held += select_points<T, O>(job, b, end, list + held);
    int done = 0;
    part.end = held;
    for (; held - done >= kBlock; done += kBlock) {
      good = run_block<Block, T, O>(part, done, kBlock) && good;
    }
    for (int p = done; p < held; ++p) list[p - done] = list[p];
    held -= done;
  }
  if (held > 0) good = run_block<Block, T, O>(part, 0, held) && good;
  return good;
}

// ------------------------------------------------------------------ any kernel: a table of weights

/// The window of one point, in the job's scratch memory.
struct Window {
  const VoxelStencil& s;
  int size[3];
  double* axis[3][3];     // weight and derivatives along each axis of a separable kernel
  std::int64_t* step[3];  // distance of each plane, row, voxel from the field's begin; -1: outside
  double* table[3];       // weights of all taps, or their three derivatives
  double* dots;
  double fraction[3];
  double direction[3];  // in voxels
  bool directional;

  Window(const VoxelStencil& stencil, void* scratch) : s(stencil) {
    double* free = static_cast<double*>(scratch);
    std::int64_t taps = 1;
    for (int a = 0; a < 3; ++a) {
      size[a] = s.taps[a];
      taps *= size[a];
      for (int k = 0; k < 3; ++k) axis[a][k] = free, free += size[a];
      step[a] = reinterpret_cast<std::int64_t*>(free), free += size[a];
    }
    for (int k = 0; k < 3; ++k) table[k] = free, free += taps;
    dots = free;
  }
};

template <class T>
void set_window(const VoxelJob<T>& job, const VoxelPlaces& places, int p, std::int64_t point,
                Window& w) {
  const VoxelStencil& s = w.s;
  std::int64_t stride = job.channels;
  for (int a = 2; a >= 0; --a) {
    w.fraction[a] = places.fraction[a][p];
    const std::int32_t n = s.n[a];
    const std::int32_t low = a == 0 ? job.plane_begin : 0, high = a == 0 ? job.plane_end : n;
    std::int32_t i = places.first[a][p];
    for (int j = 0; j < w.size[a]; ++j, ++i) {
      if (s.periodic[a] && i >= n) i -= n;
      w.step[a][j] = i >= low && i < high ? (i - low) * stride : -1;
    }
    stride *= n;
  }
  w.directional = job.direction != nullptr;
  if (!w.directional) return;
  const double* d = job.direction + 3 * point;
  for (int a = 0; a < 3; ++a) {
    w.direction[a] = d[0] * s.to_grid[a] + d[1] * s.to_grid[3 + a] + d[2] * s.to_grid[6 + a];
  }
}

void fill_axes(Window& w) {
  for (int a = 0; a < 3; ++a) {
    voxel_axis(w.s, a, w.fraction[a], w.axis[a][0], w.axis[a][1], w.axis[a][2]);
  }
}

/// table[0]: weights, or derivatives along the direction, of a separable kernel.
void separable_weights(Window& w) {
  fill_axes(w);
  const double *z0 = w.axis[2][0], *z1 = w.axis[2][1];
  const double *k = w.direction, scale = w.s.scale;
  double* out = w.table[0];
  for (int i = 0; i < w.size[0]; ++i) {
    const double x0 = w.axis[0][0][i] * scale, x1 = w.axis[0][1][i] * scale;
    if (w.step[0][i] < 0) {
      out += std::int64_t{w.size[1]} * w.size[2];
      continue;
    }
    for (int j = 0; j < w.size[1]; ++j, out += w.size[2]) {
      const double y0 = w.axis[1][0][j], y1 = w.axis[1][1][j];
      if (w.directional) {
        const double a = k[0] * x1 * y0 + k[1] * x0 * y1, b = k[2] * x0 * y0;
        for (int l = 0; l < w.size[2]; ++l) out[l] = a * z0[l] + b * z1[l];
      } else {
        for (int l = 0; l < w.size[2]; ++l) out[l] = x0 * y0 * z0[l];
      }
    }
  }
}

/// table[a]: derivatives by u_a of the weights, or of their derivatives along the direction.
void separable_gradients(Window& w) {
  fill_axes(w);
  const double *z0 = w.axis[2][0], *z1 = w.axis[2][1], *z2 = w.axis[2][2];
  const double *k = w.direction, scale = w.s.scale;
  std::int64_t t = 0;
  for (int i = 0; i < w.size[0]; ++i) {
    const double x0 = w.axis[0][0][i] * scale, x1 = w.axis[0][1][i] * scale;
    const double x2 = w.axis[0][2][i] * scale;
    for (int j = 0; j < w.size[1]; ++j) {
      const double y0 = w.axis[1][0][j], y1 = w.axis[1][1][j], y2 = w.axis[1][2][j];
      for (int l = 0; l < w.size[2]; ++l, ++t) {
        if (w.directional) {
          w.table[0][t] = k[0] * x2 * y0 * z0[l] + k[1] * x1 * y1 * z0[l] + k[2] * x1 * y0 * z1[l];
          w.table[1][t] = k[0] * x1 * y1 * z0[l] + k[1] * x0 * y2 * z0[l] + k[2] * x0 * y1 * z1[l];
          w.table[2][t] = k[0] * x1 * y0 * z1[l] + k[1] * x0 * y1 * z1[l] + k[2] * x0 * y0 * z2[l];
        } else {
          w.table[0][t] = x1 * y0 * z0[l];
          w.table[1][t] = x0 * y1 * z0[l];
          w.table[2][t] = x0 * y0 * z1[l];
        }
      }
    }
  }
}

/// Calls visit(tap, d, G d) with d the vector in voxels from the point to a sample point; perhaps
/// only in the job's planes.
template <class Visit>
MLCORE_INLINE void for_samples(const Window& w, bool all, const Visit& visit) {
  const double* g = w.s.metric;
  std::int64_t t = 0;
  double d[3], e[3];
  for (int i = 0; i < w.size[0]; ++i) {
    d[0] = i + (0.5 - w.fraction[0] - w.s.offset[0]);
    if (!all && w.step[0][i] < 0) {
      t += std::int64_t{w.size[1]} * w.size[2];
      continue;
    }
    for (int j = 0; j < w.size[1]; ++j) {
      d[1] = j + (0.5 - w.fraction[1] - w.s.offset[1]);
      for (int l = 0; l < w.size[2]; ++l, ++t) {
        d[2] = l + (0.5 - w.fraction[2] - w.s.offset[2]);
        e[0] = g[0] * d[0] + g[1] * d[1] + g[2] * d[2];
        e[1] = g[1] * d[0] + g[3] * d[1] + g[4] * d[2];
        e[2] = g[2] * d[0] + g[4] * d[1] + g[5] * d[2];
        visit(t, d, e);
      }
    }
  }
}

MLCORE_INLINE double dot(const double* a, const double* b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/// A radial weight p(q) before normalisation and its derivatives by u; k is the direction.
struct Share {
  double value = 0, along = 0, by[3] = {}, along_by[3] = {};

  Share() = default;
  MLCORE_INLINE Share(const Window& w, const VoxelJet& jet, const double* e) : value(jet.p) {
    for (int a = 0; a < 3; ++a) by[a] = -2.0 * jet.p1 * e[a];
    if (!w.directional) return;
    const double *k = w.direction, *g = w.s.metric, ke = dot(k, e);
    along = -2.0 * jet.p1 * ke;
    const double Gk[3] = {g[0] * k[0] + g[1] * k[1] + g[2] * k[2],
                          g[1] * k[0] + g[3] * k[1] + g[4] * k[2],
                          g[2] * k[0] + g[4] * k[1] + g[5] * k[2]};
    for (int a = 0; a < 3; ++a) along_by[a] = 4.0 * jet.p2 * e[a] * ke + 2.0 * jet.p1 * Gk[a];
  }
};

/// Whole weight for the voxel that holds the point: a sphere without a sample point.
void set_nearest(Window& w, int tables) {
  std::int64_t t = 0;
  for (int a = 0; a < 3; ++a) {
    const int j = static_cast<int>(w.fraction[a] + w.s.offset[a]);
    t = t * w.size[a] + (j < w.size[a] ? j : w.size[a] - 1);
  }
  for (int k = 0; k < tables; ++k) {
    for (std::int64_t i = 0; i < w.size[0] * std::int64_t{w.size[1]} * w.size[2]; ++i) {
      w.table[k][i] = 0.0;
    }
  }
  if (tables == 1 && !w.directional) w.table[0][t] = w.s.scale;
}

/// Least squared distance of a sample point, where it matters.
double least_distance(const Window& w) {
  double least = 1e300;
  if (!w.s.narrow) return 0.0;
  for_samples(w, true, [&](std::int64_t, const double* d, const double* e) {
    const double q = dot(d, e);
    least = q < least ? q : least;
  });
  return least;
}

/// table[0]: weights before normalisation of a kernel of the distance. Returns their sum.
double radial_values(Window& w, double nearest, bool all) {
  const double* g = w.s.metric;
  const int nz = w.size[2];
  const double z0 = 0.5 - w.fraction[2] - w.s.offset[2];
  double total = 0.0, *out = w.table[0];
  for (int i = 0; i < w.size[0]; ++i) {
    const double x = i + (0.5 - w.fraction[0] - w.s.offset[0]);
    if (!all && w.step[0][i] < 0) {
      out += std::int64_t{w.size[1]} * nz;
      continue;
    }
    for (int j = 0; j < w.size[1]; ++j, out += nz) {
      const double y = j + (0.5 - w.fraction[1] - w.s.offset[1]);
      const double constant = g[0] * x * x + 2.0 * g[1] * x * y + g[3] * y * y;
      const double linear = 2.0 * (g[2] * x + g[4] * y), square = g[5];
      for (int l = 0; l < nz; ++l) {
        const double z = l + z0;
        out[l] = voxel_radial_value(w.s, constant + z * (linear + z * square), nearest);
      }
      double row = 0.0;
      for (int l = 0; l < nz; ++l) row += out[l];
      total += row;
    }
  }
  return total;
}

/// Sums of the shares of a window.
Share radial_sums(Window& w, double nearest) {
  Share z;
  for_samples(w, true, [&](std::int64_t, const double* d, const double* e) {
    const Share p(w, voxel_radial(w.s, dot(d, e), nearest), e);
    z.value += p.value;
    for (int a = 0; a < 3; ++a) z.by[a] += p.by[a];
    if (!w.directional) return;
    z.along += p.along;
    for (int a = 0; a < 3; ++a) z.along_by[a] += p.along_by[a];
  });
  return z;
}

/// table[0]: weights of a kernel of the distance, or their derivatives along the direction. With
/// the norms of the point at hand the planes outside the job are left out.
void radial_weights(Window& w, const double* norms) {
  const double nearest = norms ? norms[0] : least_distance(w);
  double value = norms ? norms[1] : 0.0, along = norms ? norms[2] : 0.0;
  if (!w.directional) {
    const double total = radial_values(w, nearest, !norms);
    if (!norms) value = total;
  } else if (!norms) {
    const Share z = radial_sums(w, nearest);
    value = z.value, along = z.along;
  }
  if (value == 0.0) return set_nearest(w, 1);
  const double inverse = 1.0 / value, scale = w.s.scale * inverse;
  if (!w.directional) {
    const std::int64_t plane = std::int64_t{w.size[1]} * w.size[2];
    for (int i = 0; i < w.size[0]; ++i) {
      if (w.step[0][i] < 0) continue;
      double* weights = w.table[0] + i * plane;
      for (std::int64_t t = 0; t < plane; ++t) weights[t] *= scale;
    }
    return;
  }
  for_samples(w, !norms, [&](std::int64_t t, const double* d, const double* e) {
    const Share p(w, voxel_radial(w.s, dot(d, e), nearest), e);
    w.table[0][t] = (p.along - p.value * inverse * along) * scale;
  });
}

/// table[a]: derivatives by u_a of what radial_weights gives.
void radial_gradients(Window& w) {
  const double nearest = least_distance(w);
  const Share z = radial_sums(w, nearest);
  if (z.value == 0.0) return set_nearest(w, 3);
  const double inverse = 1.0 / z.value, scale = w.s.scale * inverse;
  for_samples(w, true, [&](std::int64_t t, const double* d, const double* e) {
    const Share p(w, voxel_radial(w.s, dot(d, e), nearest), e);
    const double weight = p.value * inverse;
    for (int a = 0; a < 3; ++a) {
      if (w.directional) {
        w.table[a][t] = (p.along_by[a] - weight * z.along_by[a] -
                         (p.along * z.by[a] + p.by[a] * z.along) * inverse +
                         2.0 * weight * z.along * z.by[a] * inverse) *
                        scale;
      } else {
        w.table[a][t] = (p.by[a] - weight * z.by[a]) * scale;
      }
    }
  });
}

void fill_norms(Window& w, double* norms) {
  norms[0] = least_distance(w);
  norms[2] = 0.0;
  if (w.directional) {
    const Share z = radial_sums(w, norms[0]);
    norms[1] = z.value, norms[2] = z.along;
  } else {
    norms[1] = radial_values(w, norms[0], true);
  }
}

void fill_weights(Window& w, const double* norms) {
  w.s.separable ? separable_weights(w) : radial_weights(w, norms);
}
void fill_gradients(Window& w) { w.s.separable ? separable_gradients(w) : radial_gradients(w); }

/// Calls visit(tap, distance of the voxel from the field's begin) for the taps inside.
template <class Visit>
MLCORE_INLINE void for_window(const Window& w, const Visit& visit) {
  const int nz = w.size[2];
  std::int64_t t = 0;
  for (int i = 0; i < w.size[0]; ++i) {
    for (int j = 0; j < w.size[1]; ++j, t += nz) {
      if (w.step[0][i] < 0 || w.step[1][j] < 0) continue;
      const std::int64_t row = w.step[0][i] + w.step[1][j];
      for (int l = 0; l < nz; ++l) {
        if (w.step[2][l] >= 0) visit(t + l, row + w.step[2][l]);
      }
    }
  }
}

template <class T>
struct SpreadWindow {
  const VoxelJob<T>& job;
  const Window& window;
  std::int64_t point;

  template <int L>
  void run(int channel) const {
    T* field = job.field + channel;
    const auto f = load<T, L>(job.features + point * job.feature_stride + channel);
    for_window(window, [&](std::int64_t t, std::int64_t voxel) {
      add<T, L>(field + voxel, static_cast<T>(window.table[0][t]), f);
    });
  }
};

template <class T>
struct GatherWindow {
  const VoxelJob<T>& job;
  const Window& window;
  std::int64_t point;

  template <int L>
  void run(int channel) const {
    const T* field = job.field + channel;
    Vector<T, L> total = {};
    for_window(window, [&](std::int64_t t, std::int64_t voxel) {
      total += static_cast<T>(window.table[0][t]) * load<T, L>(field + voxel);
    });
    store<T, L>(job.features + point * job.feature_stride + channel, total);
  }
};

template <class T>
struct DotWindow {
  const VoxelJob<T>& job;
  const Window& window;
  std::int64_t point;

  template <int L>
  void run(int channel) const {
    const T* field = job.field + channel;
    const auto f = load<T, L>(job.features + point * job.feature_stride + channel);
    for_window(window, [&](std::int64_t t, std::int64_t voxel) {
      window.dots[t] += sum<T, L>(f * load<T, L>(field + voxel));
    });
  }
};

template <class T>
void window_gradient(const VoxelJob<T>& job, const Window& w, std::int64_t point) {
  const std::int64_t taps = std::int64_t{w.size[0]} * w.size[1] * w.size[2];
  for (std::int64_t t = 0; t < taps; ++t) w.dots[t] = 0.0;
  for_channels(job.channels, DotWindow<T>{job, w, point});
  double by[3] = {};
  for (std::int64_t t = 0; t < taps; ++t) {
    for (int a = 0; a < 3; ++a) by[a] += w.table[a][t] * w.dots[t];
  }
  double* out = job.gradient + 3 * point;
  for (int k = 0; k < 3; ++k) {
    const double* row = w.s.to_grid + 3 * k;
    out[k] = row[0] * by[0] + row[1] * by[1] + row[2] * by[2];
  }
}

/// Calls visit(window, point) for every point of the job.
template <class T, class Visit>
bool for_windows(const VoxelJob<T>& job, const Visit& visit) {
  VoxelPlaces places;
  Window window(*job.stencil, job.scratch);
  bool good = true;
  for (std::int64_t b = job.begin; b < job.end; b += kBlock) {
    const int count = job.end - b < kBlock ? static_cast<int>(job.end - b) : kBlock;
    good = voxel_places(*job.stencil, job.x, job.list, b, count, &places) && good;
    for (int p = 0; p < count; ++p) {
      const std::int64_t point = point_of(job, b + p);
      set_window(job, places, p, point, window);
      visit(window, point);
    }
  }
  return good;
}

template <class T>
bool spread(const VoxelJob<T>& job) {
  if (!job.direction) {
    switch (job.stencil->scheme) {
      case 0:
        return run_spline<SpreadBlock, T, 1>(job);
      case 1:
        return run_spline<SpreadBlock, T, 2>(job);
      case 2:
        return run_spline<SpreadBlock, T, 3>(job);
    }
  }
  return for_windows(job, [&](Window& window, std::int64_t point) {
    fill_weights(window, job.norms ? job.norms + 3 * point : nullptr);
    for_channels(job.channels, SpreadWindow<T>{job, window, point});
  });
}

template <class T>
bool gather(const VoxelJob<T>& job) {
  if (!job.direction) {
    switch (job.stencil->scheme) {
      case 0:
        return run_spline<GatherBlock, T, 1>(job);
      case 1:
        return run_spline<GatherBlock, T, 2>(job);
      case 2:
        return run_spline<GatherBlock, T, 3>(job);
    }
  }
  return for_windows(job, [&](Window& window, std::int64_t point) {
    fill_weights(window, job.norms ? job.norms + 3 * point : nullptr);
    for_channels(job.channels, GatherWindow<T>{job, window, point});
  });
}

template <class T>
bool gradient(const VoxelJob<T>& job) {
  return for_windows(job, [&](Window& window, std::int64_t point) {
    fill_gradients(window);
    window_gradient(job, window, point);
  });
}

// --------------------------------------------------------------------------------------- layouts

/// 8 x 8 numbers, rows `step` apart, to columns: three rounds of zipping row i with row i + 4.
template <class T>
MLCORE_INLINE void turn_block(const T* from, std::int64_t step, T* to, std::int64_t to_step) {
  Vector<T, 8> a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = load<T, 8>(from + i * step);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      b[2 * i] = __builtin_shufflevector(a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; ++i) a[i] = b[i];
  }
  for (int i = 0; i < 8; ++i) store<T, 8>(to + i * to_step, a[i]);
}

/// to[c * to_step + r] = from[r * step + c] for rows x columns numbers.
template <class T>
void turn(const T* from, std::int64_t step, std::int64_t rows, std::int64_t columns, T* to,
          std::int64_t to_step) {
  const std::int64_t whole_rows = rows & ~std::int64_t{7}, whole = columns & ~std::int64_t{7};
  for (std::int64_t r = 0; r < whole_rows; r += 8) {
    for (std::int64_t c = 0; c < whole; c += 8) {
      turn_block(from + r * step + c, step, to + c * to_step + r, to_step);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = r < whole_rows ? whole : 0; c < columns; ++c) {
      to[c * to_step + r] = from[r * step + c];
    }
  }
}

/// The voxels turned at a time: what is read in steps stays in the nearest cache.
constexpr std::int64_t kStrip = 16;

template <class T>
void transpose(const T* from, std::int64_t count, std::int64_t channels, T* to,
               std::int64_t stride) {
  for (std::int64_t v = 0; v < count; v += kStrip) {
    const std::int64_t some = count - v < kStrip ? count - v : kStrip;
    turn(from + v * channels, channels, some, channels, to + v, stride);
  }
}

template <class T>
void untranspose(const T* from, std::int64_t stride, std::int64_t count, std::int64_t channels,
                 T* to) {
  for (std::int64_t v = 0; v < count; v += kStrip) {
    const std::int64_t some = count - v < kStrip ? count - v : kStrip;
    turn(from + v, stride, channels, some, to + v * channels, channels);
  }
}

}  // namespace

bool voxel_spread_f32(const VoxelJob<float>& job) { return spread(job); }
bool voxel_spread_f64(const VoxelJob<double>& job) { return spread(job); }
bool voxel_norms(const VoxelJob<float>& job) {
  return for_windows(
      job, [&](Window& window, std::int64_t point) { fill_norms(window, job.norms + 3 * point); });
}
bool voxel_gather_f32(const VoxelJob<float>& job) { return gather(job); }
bool voxel_gather_f64(const VoxelJob<double>& job) { return gather(job); }
bool voxel_gradient_f32(const VoxelJob<float>& job) { return gradient(job); }
bool voxel_gradient_f64(const VoxelJob<double>& job) { return gradient(job); }

void voxel_transpose_f32(const float* from, std::int64_t count, std::int64_t channels, float* to,
                         std::int64_t stride) {
  transpose(from, count, channels, to, stride);
}
void voxel_transpose_f64(const double* from, std::int64_t count, std::int64_t channels, double* to,
                         std::int64_t stride) {
  transpose(from, count, channels, to, stride);
}
void voxel_untranspose_f32(const float* from, std::int64_t stride, std::int64_t count,
                           std::int64_t channels, float* to) {
  untranspose(from, stride, count, channels, to);
}
void voxel_untranspose_f64(const double* from, std::int64_t stride, std::int64_t count,
                           std::int64_t channels, double* to) {
  untranspose(from, stride, count, channels, to);
}

}  // namespace mlcore::kernels::MLCORE_ISA
