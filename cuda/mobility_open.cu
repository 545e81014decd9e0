// One thread per pair (matrix) or one warp per few particles (apply), in the precision of the
// arrays.

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "device.cuh"
#include "finite.cuh"
#include "kernels/mobility_radial.hpp"
#include "mobility_open.cuh"
#include "mobility_open.hpp"

namespace mlcore::cuda {
namespace {

using kernels::OpenKind;
using kernels::OpenParameters;

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 4;
constexpr int kTargets = 4;  // particles per warp
constexpr unsigned kAllLanes = 0xffffffffu;

template <class Real>
struct Vec {
  Real x, y, z;
};

template <class Real>
__device__ Vec<Real> load(const Real* v, std::int64_t i) {
  return {v[3 * i], v[3 * i + 1], v[3 * i + 2]};
}

template <class Real>
struct Functions {
  Real f, g;
};

/// Pair functions over 1 / (8 pi eta); any finite number for the direction at r = 0.
template <class Real, OpenKind kind>
__device__ Functions<Real> pair_of(const OpenParameters<Real>& p, Real r2, Real a, Real b) {
  if constexpr (kind == OpenKind::regularized) {
    const Real i = rsqrt(r2 + p.epsilon2), g = i * i * i;
    return {i + p.epsilon2 * g, g};
  } else {
    constexpr Real tiny = kernels::kCoincide2<Real>;
    const Real i = rsqrt(r2 > tiny ? r2 : tiny), i2 = i * i, i3 = i * i2, r = r2 * i;
    if constexpr (kind == OpenKind::oseen) return {i, i3};
    if constexpr (kind == OpenKind::rpy_unequal) {
      const Real sum = a + b, gap = a - b, gap2 = gap * gap;
      if (r2 > sum * sum) {
        const Real far = (sum * sum + gap2) / 6;
        return {i + far * i3, i3 * (1 - 3 * far * i2)};
      }
      if (r2 <= gap2) return {4 / (3 * (a > b ? a : b)), 0};
      const Real over = 1 / (24 * (a * b)), q = gap2 * i;
      return {over * (16 * sum - q * q * i - 6 * q - 9 * r), 3 * over * (q - r) * (q - r) * i3};
    }
    if (r2 < p.reach2) return {p.near - p.near_slope * r, p.near_g * i};
    return {i + p.far * i3, i3 * (1 - 3 * p.far * i2)};
  }
}

/// Symmetric but for xz, yz against zx, zy.
template <class Real>
struct Block {
  Real xx, xy, yy, zz, xz, yz, zx, zy;
};

template <class Real, OpenKind kind>
__device__ Block<Real> block_of(const OpenParameters<Real>& p, Vec<Real> xi, Vec<Real> xj, Real a,
                                Real b) {
  const Vec<Real> d = {xi.x - xj.x, xi.y - xj.y, xi.z - xj.z};
  const auto q = pair_of<Real, kind>(p, d.x * d.x + d.y * d.y + d.z * d.z, a, b);
  const Real xz = q.g * d.x * d.z, yz = q.g * d.y * d.z;
  Block<Real> t = {q.f + q.g * d.x * d.x,
                   q.g * d.x * d.y,
                   q.f + q.g * d.y * d.y,
                   q.f + q.g * d.z * d.z,
                   xz,
                   yz,
                   xz,
                   yz};
  if constexpr (kind == OpenKind::rpy_wall) {
    const Real rz = xi.z + xj.z, inverse = rsqrt(d.x * d.x + d.y * d.y + rz * rz);
    const auto w =
        kernels::wall_block<Real>(d.x, d.y, xi.z, xj.z, inverse, 1 / rz, p.radius * p.radius);
    t.xx += w.xx, t.xy += w.xy, t.yy += w.yy, t.zz += w.zz;
    t.xz += w.xz, t.yz += w.yz, t.zx += w.zx, t.zy += w.zy;
  }
  return t;
}

/// The self part of a particle: along the wall and towards it (or the same).
struct Own {
  double mobility;  // 1 / (6 pi eta)
  double self;      // extra diagonal
  bool wall;

  template <class Real>
  __device__ void blocks(Real a, Real z, Real& along, Real& up) const {
    const double m = mobility / a, s = wall ? static_cast<double>(a) / z : 0.0, s2 = s * s;
    along = static_cast<Real>(m * (1 - s * (9.0 / 16 - s2 * (1.0 / 8 - s2 / 16))) + self);
    up = static_cast<Real>(m * (1 - s * (9.0 / 8 - s2 * (1.0 / 2 - s2 / 8))) + self);
  }
};

template <class Real>
__device__ Real radius_of(const OpenParameters<Real>& p, const Real* radii, std::int64_t i) {
  return radii ? radii[i] : p.radius;
}

template <class Real>
__device__ bool coincide(Vec<Real> a, Vec<Real> b) {
  const Vec<Real> d = {a.x - b.x, a.y - b.y, a.z - b.z};
  return d.x * d.x + d.y * d.y + d.z * d.z < kernels::kCoincide2<Real>;
}

template <class Real>
__global__ void find_low(const Real* x, std::int64_t count, Real radius,
                         unsigned long long* first) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i < count && x[3 * i + 2] < radius) atomicMin(first, static_cast<unsigned long long>(i));
}

/// One configuration. Both blocks of a pair come from the same numbers, so M is exactly symmetric.
template <class Real, OpenKind kind>
__global__ void fill_matrix(const OpenParameters<Real> p, const Own own, const Real* x,
                            const Real* radii, std::int64_t n, Real* M, bool add, Faults* faults) {
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (j >= n) return;
  for (std::int64_t i = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; i < n;
       i += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
    const std::int64_t high = i > j ? i : j, low = i > j ? j : i;
    const Vec<Real> xh = load(x, high), xl = load(x, low);
    Block<Real> t{};
    if (i == j) {
      Real along, up;
      own.blocks(radius_of(p, radii, i), xh.z, along, up);
      t.xx = t.yy = along;
      t.zz = up;
    } else {
      if (kind == OpenKind::oseen && coincide(xh, xl)) {
        atomicMin(&faults->coincidence, static_cast<unsigned long long>(low * n + high));
      }
      t = block_of<Real, kind>(p, xh, xl, radius_of(p, radii, high), radius_of(p, radii, low));
      const Real s = p.stokeslet;
      t = {s * t.xx, s * t.xy, s * t.yy, s * t.zz, s * t.xz, s * t.yz, s * t.zx, s * t.zy};
      if (i < j) t = {t.xx, t.xy, t.yy, t.zz, t.zx, t.zy, t.xz, t.yz};
    }
    Real* row = M + 9 * i * n + 3 * j;
    const Real values[9] = {t.xx, t.xy, t.xz, t.xy, t.yy, t.yz, t.zx, t.zy, t.zz};
    for (int k = 0; k < 9; ++k) {
      Real& entry = row[(k / 3) * 3 * n + k % 3];
      entry = values[k] + (add ? entry : Real(0));
    }
  }
}

template <class Real>
__device__ Real warp_sum(Real v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_down_sync(kAllLanes, v, offset);
  return v;
}

/// A warp per kTargets particles, one configuration per blockIdx.y.
template <class Real, OpenKind kind>
__global__ void fill_velocities(const OpenParameters<Real> p, const Own own, const Real* all_x,
                                const Real* radii, const Real* all_F, std::int64_t n, Real* all_V,
                                bool add, Faults* faults) {
  const std::int64_t offset = 3 * n * blockIdx.y;
  const Real *x = all_x + offset, *F = all_F + offset;
  const std::int64_t warp =
      blockIdx.x * static_cast<std::int64_t>(kWarpsPerBlock) + threadIdx.x / kWarp;
  const std::int64_t first = warp * kTargets;
  const int lane = threadIdx.x % kWarp;
  Vec<Real> target[kTargets], velocity[kTargets] = {};
  Real radius[kTargets];
  for (int t = 0; t < kTargets; ++t) {
    const std::int64_t i = first + t < n ? first + t : n - 1;
    target[t] = load(x, i);
    radius[t] = radius_of(p, radii, i);
  }
  for (std::int64_t j = lane; j < n; j += kWarp) {
    const Vec<Real> xj = load(x, j), f = load(F, j);
    const Real b = radius_of(p, radii, j);
    for (int t = 0; t < kTargets; ++t) {
      const std::int64_t i = first + t;
      if (i >= n || i == j) continue;
      if (kind == OpenKind::oseen && coincide(target[t], xj)) {
        atomicMin(&faults->coincidence,
                  static_cast<unsigned long long>(i < j ? i * n + j : j * n + i));
      }
      const Block<Real> m = block_of<Real, kind>(p, target[t], xj, radius[t], b);
      velocity[t].x += m.xx * f.x + m.xy * f.y + m.xz * f.z;
      velocity[t].y += m.xy * f.x + m.yy * f.y + m.yz * f.z;
      velocity[t].z += m.zx * f.x + m.zy * f.y + m.zz * f.z;
    }
  }
  for (int t = 0; t < kTargets; ++t) {
    const Vec<Real> sum = {warp_sum(velocity[t].x), warp_sum(velocity[t].y),
                           warp_sum(velocity[t].z)};
    const std::int64_t i = first + t;
    if (lane != 0 || i >= n) continue;
    Real along, up;
    own.blocks(radius[t], target[t].z, along, up);
    const Vec<Real> f = load(F, i);
    Real* V = all_V + offset + 3 * i;
    V[0] = p.stokeslet * sum.x + along * f.x + (add ? V[0] : Real(0));
    V[1] = p.stokeslet * sum.y + along * f.y + (add ? V[1] : Real(0));
    V[2] = p.stokeslet * sum.z + up * f.z + (add ? V[2] : Real(0));
  }
}

/// The slope of the self part towards the wall.
template <class Real>
__global__ void add_wall_divergence(const Real* x, std::int64_t count, double mobility, double a,
                                    Real* D) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const double s = a / x[3 * i + 2], s2 = s * s;
  D[3 * i + 2] +=
      static_cast<Real>(mobility / (a * a) * s2 * (9.0 / 8 - s2 * (3.0 / 2 - s2 * 5.0 / 8)));
}

unsigned blocks(std::int64_t items, std::int64_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

/// Everything one call needs.
template <class Real>
class Call {
 public:
  Call(const Context& context, const MobilityModel& model, View<const Real, 3> x, bool add,
       int device)
      : stream(static_cast<cudaStream_t>(context.stream)),
        n(x.shape[1]),
        batch(x.shape[0]),
        parameters(detail::open_parameters<Real>(model)),
        own{1.0 / (6.0 * std::numbers::pi * model.viscosity), add ? 0.0 : model.self,
            model.kernel == Kernel::rpy_wall},
        model_(model),
        current_(device),
        radii_(std::vector<Real>(model.radii.begin(), model.radii.end()), stream),
        faults_(&kNoFaults, 1, stream) {
    MLCORE_CHECK(batch <= 65535, "a batch on the GPU may hold at most 65535 configurations, got ",
                 batch);
    look_beyond(x.data, x.size(), kLargestPosition<Real>, &faults_.get()->position, stream);
    if (own.wall) {
      find_low<<<blocks(batch * n, 256), 256, 0, stream>>>(
          x.data, batch * n, static_cast<Real>(model.radius), &faults_.get()->height);
    }
    check(cudaGetLastError(), "check numbers");
  }

  const Real* radii() const { return radii_.get(); }
  Faults* faults() const { return faults_.get(); }

  void check_forces(View<const Real, 3> F) {
    look_for_not_finite(F.data, F.size(), &faults_.get()->force, stream);
  }

  void finish() const { cuda::finish(faults_.get(), model_, n, stream); }

  const cudaStream_t stream;
  const std::int64_t n, batch;
  const OpenParameters<Real> parameters;
  const Own own;

 private:
  const MobilityModel& model_;
  CurrentDevice current_;
  Scratch<Real> radii_;
  Scratch<Faults> faults_;
};

template <class Real, OpenKind kind>
void run_matrix(const Call<Real>& call, View<const Real, 3> x, View<Real, 3> M, bool add) {
  const dim3 threads(32, 4), grid(blocks(call.n, 32), std::min(blocks(call.n, 4), 65535u));
  for (std::int64_t b = 0; b < call.batch; ++b) {
    fill_matrix<Real, kind><<<grid, threads, 0, call.stream>>>(
        call.parameters, call.own, x[b].data, call.radii(), call.n, M[b].data, add, call.faults());
  }
}

template <class Real, OpenKind kind>
void run_apply(const Call<Real>& call, View<const Real, 3> x, View<const Real, 3> F,
               View<Real, 3> V, bool add) {
  const dim3 grid(blocks(call.n, kWarpsPerBlock * kTargets), static_cast<unsigned>(call.batch));
  fill_velocities<Real, kind><<<grid, kWarp * kWarpsPerBlock, 0, call.stream>>>(
      call.parameters, call.own, x.data, call.radii(), F.data, call.n, V.data, add, call.faults());
}

#define MLCORE_FOR_OPEN_KIND(call)    \
  switch (detail::open_kind(model)) { \
    case OpenKind::oseen:             \
      call(OpenKind::oseen);          \
      break;                          \
    case OpenKind::rpy:               \
      call(OpenKind::rpy);            \
      break;                          \
    case OpenKind::rpy_unequal:       \
      call(OpenKind::rpy_unequal);    \
      break;                          \
    case OpenKind::regularized:       \
      call(OpenKind::regularized);    \
      break;                          \
    case OpenKind::rpy_wall:          \
      call(OpenKind::rpy_wall);       \
      break;                          \
  }

}  // namespace

void finish(const Faults* faults, const MobilityModel& model, std::int64_t n, void* on_stream) {
  const auto stream = static_cast<cudaStream_t>(on_stream);
  check(cudaGetLastError(), "launch a kernel");
  Faults found;
  check(cudaMemcpyAsync(&found, faults, sizeof(Faults), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "run a kernel");
  MLCORE_CHECK(found.position == kNone,
               "x must be finite and at most 1e100 (1e15 in single precision), but entry ",
               found.position, " (counted along the flattened array) is not");
  MLCORE_CHECK(found.force == kNone, "forces must be finite, but entry ", found.force,
               " (counted along the flattened array) is not");
  MLCORE_CHECK(found.height == kNone, "particle ", found.height % n,
               " lies closer to the wall z = 0 than its radius ", model.radius);
  MLCORE_CHECK(found.coincidence == kNone, "particles ", found.coincidence / n, " and ",
               found.coincidence % n,
               " coincide; the Oseen tensor is singular there (the RPY tensor is not)");
}

template <class Real>
void open_matrix(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                 View<Real, 3> M, bool add, int device) {
  const Call<Real> call(context, model, x, add, device);
#define MLCORE_CALL(kind) run_matrix<Real, kind>(call, x, M, add)
  MLCORE_FOR_OPEN_KIND(MLCORE_CALL)
#undef MLCORE_CALL
  call.finish();
}

template <class Real>
void open_apply(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                View<const Real, 3> F, View<Real, 3> V, bool add, int device) {
  Call<Real> call(context, model, x, add, device);
  call.check_forces(F);
#define MLCORE_CALL(kind) run_apply<Real, kind>(call, x, F, V, add)
  MLCORE_FOR_OPEN_KIND(MLCORE_CALL)
#undef MLCORE_CALL
  call.finish();
}

template <class Real>
void add_open_divergence(const Context& context, const MobilityModel& model, View<const Real, 3> x,
                         View<Real, 3> D, int device) {
  const Call<Real> call(context, model, x, false, device);
  if (call.own.wall) {
    add_wall_divergence<<<blocks(call.batch * call.n, 256), 256, 0, call.stream>>>(
        x.data, call.batch * call.n, call.own.mobility, model.radius, D.data);
  }
  call.finish();
}

#define MLCORE_INSTANTIATE(Real)                                                               \
  template void open_matrix(const Context&, const MobilityModel&, View<const Real, 3>,         \
                            View<Real, 3>, bool, int);                                         \
  template void open_apply(const Context&, const MobilityModel&, View<const Real, 3>,          \
                           View<const Real, 3>, View<Real, 3>, bool, int);                     \
  template void add_open_divergence(const Context&, const MobilityModel&, View<const Real, 3>, \
                                    View<Real, 3>, int);
MLCORE_INSTANTIATE(double)
MLCORE_INSTANTIATE(float)

}  // namespace mlcore::cuda
