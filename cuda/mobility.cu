// Mirrors cpp/src/mobility.cpp. One thread per pair (matrix) or one warp per few particles (apply,
// divergence); the plan, made on the CPU, is copied over.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "device.cuh"
#include "mobility_cuda.hpp"
#include "mobility_open.cuh"
#include "mobility_open.hpp"
#include "mobility_particles.hpp"
#include "mobility_plan.cuh"

namespace mlcore::cuda {
namespace {

using kernels::Pair;

constexpr int kWarp = 32;
constexpr int kWarpsPerBlock = 4;
constexpr int kTargets = 4;  // particles per warp
constexpr unsigned kAllLanes = 0xffffffffu;

struct Tensor {
  double xx = 0, xy = 0, xz = 0, yy = 0, yz = 0, zz = 0;
};

__device__ Pair functions_of(const PairTerm& term, double r2) {
  const double inverse = kernels::inverse_root(r2);
  switch (term.kind) {
    case PairKind::oseen:
      return kernels::pair_functions<PairKind::oseen>(term.radial, term.table, r2, inverse);
    case PairKind::rpy:
      return kernels::pair_functions<PairKind::rpy>(term.radial, term.table, r2, inverse);
    case PairKind::periodic_oseen:
      return kernels::pair_functions<PairKind::periodic_oseen>(term.radial, term.table, r2,
                                                               inverse);
    case PairKind::periodic_rpy:
      return kernels::pair_functions<PairKind::periodic_rpy>(term.radial, term.table, r2, inverse);
    case PairKind::regularized:
      return kernels::pair_functions<PairKind::regularized>(term.radial, term.table, r2, inverse);
    default:
      return kernels::pair_functions<PairKind::table>(term.radial, term.table, r2, inverse);
  }
}

/// Calls f(image, pair functions) for all terms and images of a pair.
template <class F>
__device__ void for_each_image(const Parameters& p, Vec d, const F& f) {
  const Wrapped w = wrapped(p, d);
  for (int t = 0; t < p.term_count; ++t) {
    const PairTerm& term = p.terms[t];
    for (std::int64_t s = 0; s < term.image_count; ++s) {
      const Vec v = image(p, w, term.images + 3 * s);
      f(v, functions_of(term, v.x * v.x + v.y * v.y + v.z * v.z));
    }
  }
}

__device__ void store(const Tensor& t, std::int64_t i, std::int64_t j, std::int64_t n, double* M) {
  double* row = M + 9 * i * n + 3 * j;
  row[0] = t.xx, row[1] = t.xy, row[2] = t.xz;
  row += 3 * n;
  row[0] = t.xy, row[1] = t.yy, row[2] = t.yz;
  row += 3 * n;
  row[0] = t.xz, row[1] = t.yz, row[2] = t.zz;
}

__device__ void add_wave_part(const Parameters& p, const double2* phases, std::int64_t i,
                              std::int64_t j, std::int64_t n, Tensor& t) {
  for (std::int64_t k = 0; k < p.wave_count; ++k) {
    const double2 a = phases[k * n + i], b = phases[k * n + j];
    const double wave = a.x * b.x + a.y * b.y;
    const double* w = p.weights + 6 * k;
    t.xx += w[0] * wave;
    t.xy += w[1] * wave;
    t.xz += w[2] * wave;
    t.yy += w[3] * wave;
    t.yz += w[4] * wave;
    t.zz += w[5] * wave;
  }
}

__global__ void fill_matrix(const Parameters p, const double* x, std::int64_t n,
                            const double2* phases, double* M, Faults* faults) {
  const std::int64_t j = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (j >= n) return;
  for (std::int64_t i = blockIdx.y * static_cast<std::int64_t>(blockDim.y) + threadIdx.y; i < n;
       i += static_cast<std::int64_t>(gridDim.y) * blockDim.y) {
    Tensor t{p.self[0], p.self[1], p.self[2], p.self[3], p.self[4], p.self[5]};
    if (i != j) {
      // Both blocks of a pair come from the same distance, so that M is exactly symmetric.
      const std::int64_t high = i > j ? i : j, low = i > j ? j : i;
      const Vec d = load(x, high) - load(x, low);
      if (singular(p, d)) atomicMin(&faults->coincidence, low * n + high);
      t = Tensor{};
      for_each_image(p, d, [&](Vec v, Pair q) {
        t.xx += q.f + q.g * v.x * v.x;
        t.xy += q.g * v.x * v.y;
        t.xz += q.g * v.x * v.z;
        t.yy += q.f + q.g * v.y * v.y;
        t.yz += q.g * v.y * v.z;
        t.zz += q.f + q.g * v.z * v.z;
      });
      add_wave_part(p, phases, high, low, n, t);
    }
    store(t, i, j, n, M);
  }
}

__device__ double warp_sum(double v) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) v += __shfl_down_sync(kAllLanes, v, offset);
  return v;
}

__device__ Vec warp_sum(Vec v) { return {warp_sum(v.x), warp_sum(v.y), warp_sum(v.z)}; }

/// First of the particles this warp is for.
__device__ std::int64_t first_target() {
  const std::int64_t warp =
      blockIdx.x * static_cast<std::int64_t>(kWarpsPerBlock) + threadIdx.x / kWarp;
  return warp * kTargets;
}

/// V_i = (self - wave_self) F_i + sum over the others without the wave part; one configuration per
/// blockIdx.y.
__global__ void pair_velocities(const Parameters p, const double* all_x, const double* all_F,
                                std::int64_t n, double* all_V, Faults* faults) {
  const std::int64_t offset = 3 * n * blockIdx.y;
  const double *x = all_x + offset, *F = all_F + offset;
  const std::int64_t first = first_target();
  const int lane = threadIdx.x % kWarp;
  Vec velocity[kTargets] = {};
  for (std::int64_t j = lane; j < n; j += kWarp) {
    const Vec xj = load(x, j), f = load(F, j);
    for (int t = 0; t < kTargets; ++t) {
      const std::int64_t i = first + t;
      if (i >= n || i == j) continue;
      const Vec d = load(x, i) - xj;
      if (singular(p, d)) atomicMin(&faults->coincidence, i < j ? i * n + j : j * n + i);
      for_each_image(p, d, [&](Vec v, Pair q) {
        const double s = q.g * (v.x * f.x + v.y * f.y + v.z * f.z);
        velocity[t].x += q.f * f.x + s * v.x;
        velocity[t].y += q.f * f.y + s * v.y;
        velocity[t].z += q.f * f.z + s * v.z;
      });
    }
  }
  for (int t = 0; t < kTargets; ++t) {
    const Vec sum = warp_sum(velocity[t]);
    const std::int64_t i = first + t;
    if (lane != 0 || i >= n) continue;
    double s[6];
    for (int m = 0; m < 6; ++m) s[m] = p.self[m] - p.wave_self[m];
    const Vec f = load(F, i);
    double* V = all_V + offset + 3 * i;
    V[0] = sum.x + s[0] * f.x + s[1] * f.y + s[2] * f.z;
    V[1] = sum.y + s[1] * f.x + s[3] * f.y + s[4] * f.z;
    V[2] = sum.z + s[2] * f.x + s[4] * f.y + s[5] * f.z;
  }
}

/// sums (wave_count, 6): weights times sum_j F_j cos k.x_j and F_j sin k.x_j; a warp per wave
/// vector, one configuration per blockIdx.y.
__global__ void structure_sums(const Parameters p, const double* all_x, const double* all_F,
                               std::int64_t n, double* all_sums) {
  const std::int64_t k =
      blockIdx.x * static_cast<std::int64_t>(kWarpsPerBlock) + threadIdx.x / kWarp;
  if (k >= p.wave_count) return;
  const std::int64_t offset = 3 * n * blockIdx.y;
  Vec c{}, s{};
  for (std::int64_t j = threadIdx.x % kWarp; j < n; j += kWarp) {
    const double2 e = phase(p, load(all_x + offset, j), k);
    const Vec f = load(all_F + offset, j);
    c.x += f.x * e.x, c.y += f.y * e.x, c.z += f.z * e.x;
    s.x += f.x * e.y, s.y += f.y * e.y, s.z += f.z * e.y;
  }
  c = warp_sum(c);
  s = warp_sum(s);
  if (threadIdx.x % kWarp != 0) return;
  const double* w = p.weights + 6 * k;
  double* out = all_sums + 6 * (p.wave_count * blockIdx.y + k);
  out[0] = w[0] * c.x + w[1] * c.y + w[2] * c.z;
  out[1] = w[1] * c.x + w[3] * c.y + w[4] * c.z;
  out[2] = w[2] * c.x + w[4] * c.y + w[5] * c.z;
  out[3] = w[0] * s.x + w[1] * s.y + w[2] * s.z;
  out[4] = w[1] * s.x + w[3] * s.y + w[4] * s.z;
  out[5] = w[2] * s.x + w[4] * s.y + w[5] * s.z;
}

/// Adds the wave part to the velocities; a warp per particle, one configuration per blockIdx.y.
__global__ void add_wave_velocities(const Parameters p, const double* all_x, const double* all_sums,
                                    std::int64_t n, double* all_V) {
  const std::int64_t i =
      blockIdx.x * static_cast<std::int64_t>(kWarpsPerBlock) + threadIdx.x / kWarp;
  if (i >= n) return;
  const std::int64_t offset = 3 * n * blockIdx.y;
  const Vec x = load(all_x + offset, i);
  const double* sums = all_sums + 6 * p.wave_count * blockIdx.y;
  Vec v{};
  for (std::int64_t k = threadIdx.x % kWarp; k < p.wave_count; k += kWarp) {
    const double2 e = phase(p, x, k);
    const double* s = sums + 6 * k;
    v.x += s[0] * e.x + s[3] * e.y;
    v.y += s[1] * e.x + s[4] * e.y;
    v.z += s[2] * e.x + s[5] * e.y;
  }
  v = warp_sum(v);
  if (threadIdx.x % kWarp != 0) return;
  double* V = all_V + offset + 3 * i;
  V[0] += v.x, V[1] += v.y, V[2] += v.z;
}

__global__ void fill_divergence(const Parameters p, const double* all_x, std::int64_t n,
                                double* all_D) {
  const std::int64_t offset = 3 * n * blockIdx.y;
  const double* x = all_x + offset;
  const std::int64_t first = first_target();
  const int lane = threadIdx.x % kWarp;
  const PairTerm& term = p.terms[p.table_term];
  Vec sum[kTargets] = {};
  for (std::int64_t j = lane; j < n; j += kWarp) {
    const Vec xj = load(x, j);
    for (int t = 0; t < kTargets; ++t) {
      const std::int64_t i = first + t;
      if (i >= n || i == j) continue;
      const Wrapped w = wrapped(p, load(x, i) - xj);
      for (std::int64_t s = 0; s < term.image_count; ++s) {
        const Vec v = image(p, w, term.images + 3 * s);
        const double r2 = v.x * v.x + v.y * v.y + v.z * v.z;
        const double q = kernels::table_divergence(term.table, r2, kernels::inverse_root(r2));
        sum[t].x -= q * v.x;
        sum[t].y -= q * v.y;
        sum[t].z -= q * v.z;
      }
    }
  }
  for (int t = 0; t < kTargets; ++t) {
    const Vec d = warp_sum(sum[t]);
    const std::int64_t i = first + t;
    if (lane != 0 || i >= n) continue;
    double* D = all_D + offset + 3 * i;
    D[0] = d.x, D[1] = d.y, D[2] = d.z;
  }
}

/// Everything one call needs: device, stream, plan, wrapped positions, faults.
class Call {
 public:
  Call(const Context& context, const MobilityModel& model, const detail::MobilityPlan& plan,
       View<const double, 3> x, int device)
      : stream(static_cast<cudaStream_t>(context.stream)),
        n(x.shape[1]),
        batch(x.shape[0]),
        current_(device),
        plan_(model, plan, stream),
        x_(x.size(), stream),
        faults_(&kNoFaults, 1, stream) {
    MLCORE_CHECK(batch <= 65535, "a batch on the GPU may hold at most 65535 configurations, got ",
                 batch);
    look_beyond(x.data, x.size(), kLargestPosition<double>, &faults_.get()->position, stream);
    wrap_positions<<<blocks(batch * n, 256), 256, 0, stream>>>(parameters(), x.data, batch * n,
                                                               x_.get());
    check(cudaGetLastError(), "wrap positions");
  }

  const Parameters& parameters() const { return plan_.parameters; }
  const double* x() const { return x_.get(); }
  Faults* faults() const { return faults_.get(); }

  void check_forces(View<const double, 3> F) {
    look_for_not_finite(F.data, F.size(), &faults_.get()->force, stream);
  }

  void finish() const { cuda::finish(faults_.get(), {}, n, stream); }

  const cudaStream_t stream;
  const std::int64_t n, batch;

 private:
  CurrentDevice current_;
  DevicePlan plan_;
  Scratch<double> x_;
  Scratch<Faults> faults_;
};

void planned_matrix(const Context& context, const MobilityModel& model,
                    const detail::MobilityPlan& plan, View<const double, 3> x, View<double, 3> M) {
  if (x.empty()) return;
  Call call(context, model, plan, x, common_device(x, M));
  const Parameters& p = call.parameters();
  const std::int64_t n = call.n;
  const Scratch<double2> phases(n * p.wave_count, call.stream);
  const dim3 threads(32, 4), grid(blocks(n, 32), std::min(blocks(n, 4), 65535u));
  for (std::int64_t b = 0; b < call.batch; ++b) {
    const double* xb = call.x() + 3 * n * b;
    if (p.wave_count > 0) {
      const dim3 per_wave(blocks(n, 128),
                          static_cast<unsigned>(std::min<std::int64_t>(p.wave_count, 65535)));
      fill_phases<<<per_wave, 128, 0, call.stream>>>(p, xb, n, phases.get());
    }
    fill_matrix<<<grid, threads, 0, call.stream>>>(p, xb, n, phases.get(), M[b].data,
                                                   call.faults());
  }
  call.finish();
}

void planned_apply(const Context& context, const MobilityModel& model,
                   const detail::MobilityPlan& plan, View<const double, 3> x,
                   View<const double, 3> F, View<double, 3> V) {
  if (x.empty()) return;
  Call call(context, model, plan, x, common_device(x, F, V));
  call.check_forces(F);
  const Parameters& p = call.parameters();
  const std::int64_t n = call.n;
  const unsigned batch = static_cast<unsigned>(call.batch);
  constexpr int threads = kWarp * kWarpsPerBlock;
  pair_velocities<<<dim3(blocks(n, kWarpsPerBlock * kTargets), batch), threads, 0, call.stream>>>(
      p, call.x(), F.data, n, V.data, call.faults());
  const Scratch<double> sums(6 * p.wave_count * call.batch, call.stream);
  if (p.wave_count > 0) {
    structure_sums<<<dim3(blocks(p.wave_count, kWarpsPerBlock), batch), threads, 0, call.stream>>>(
        p, call.x(), F.data, n, sums.get());
    add_wave_velocities<<<dim3(blocks(n, kWarpsPerBlock), batch), threads, 0, call.stream>>>(
        p, call.x(), sums.get(), n, V.data);
  }
  call.finish();
}

void planned_divergence(const Context& context, const MobilityModel& model,
                        const detail::MobilityPlan& plan, View<const double, 3> x,
                        View<double, 3> D) {
  if (x.empty()) return;
  Call call(context, model, plan, x, common_device(x, D));
  const Parameters& p = call.parameters();
  if (p.table_term < 0) {
    check(cudaMemsetAsync(D.data, 0, D.size() * sizeof(double), call.stream), "clear an array");
  } else {
    const dim3 grid(blocks(call.n, kWarpsPerBlock * kTargets), static_cast<unsigned>(call.batch));
    fill_divergence<<<grid, kWarp * kWarpsPerBlock, 0, call.stream>>>(p, call.x(), call.n, D.data);
  }
  call.finish();
}

/// Copies between precisions.
template <class From, class To>
__global__ void convert(const From* from, std::int64_t count, To* to) {
  const std::int64_t k = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (k < count) to[k] = static_cast<To>(from[k]);
}

/// An array in double precision: itself, or a copy.
template <class Real>
class Wide {
 public:
  Wide(View<const Real, 3> v, cudaStream_t stream) : copy_(v.size(), stream), shape_(v.shape) {
    if (v.empty()) return;
    convert<<<blocks(v.size(), 256), 256, 0, stream>>>(v.data, v.size(), copy_.get());
  }
  View<const double, 3> view() const { return {copy_.get(), shape_, Device::cuda}; }

 private:
  Scratch<double> copy_;
  View<const Real, 3>::Shape shape_;
};

/// Room for a result in double precision, rounded when it is done.
class Rounded {
 public:
  Rounded(View<float, 3> out, cudaStream_t stream)
      : out_(out), values_(out.size(), stream), stream_(stream) {}
  View<double, 3> view() const { return {values_.get(), out_.shape, Device::cuda}; }
  void store() const {
    if (out_.empty()) return;
    convert<<<blocks(out_.size(), 256), 256, 0, stream_>>>(values_.get(), out_.size(), out_.data);
    check(cudaGetLastError(), "convert an array");
  }

 private:
  View<float, 3> out_;
  Scratch<double> values_;
  cudaStream_t stream_;
};

cudaStream_t stream_of(const Context& context) { return static_cast<cudaStream_t>(context.stream); }

/// Whether an open kernel in single precision does it all.
bool alone(const MobilityModel& model, const Cell& cell) {
  return detail::has_open_kernel(model, cell) && model.table.cutoff == 0;
}

/// Calls f with a copy of every configuration in CPU memory. The divergence has no sum over pairs
/// that would meet those that coincide: the CPU looks for them.
template <class Real, class F>
void for_each_on_host(const Context& context, View<const Real, 3> x, int device, const F& f) {
  const CurrentDevice current(device);
  std::vector<Real> copy(x.size());
  check(cudaMemcpyAsync(copy.data(), x.data, copy.size() * sizeof(Real), cudaMemcpyDeviceToHost,
                        stream_of(context)),
        "copy from the device");
  check(cudaStreamSynchronize(stream_of(context)), "copy from the device");
  const View<const Real, 3> all(copy.data(), x.shape);
  for (std::int64_t b = 0; b < x.shape[0]; ++b) f(all[b]);
}

}  // namespace

void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                     View<const double, 3> x, View<double, 3> M) {
  if (x.empty()) return;
  const bool open = detail::takes_open_path(model, cell), table = model.table.cutoff > 0;
  if (!open || table) {
    const MobilityModel planned = open ? detail::table_of(model) : model;
    planned_matrix(context, planned,
                   detail::mobility_plan(planned, cell, detail::EwaldUse::matrix, x.shape[1]), x,
                   M);
  }
  if (open) open_matrix<double>(context, model, x, M, table, common_device(x, M));
}

void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const double, 3> x, View<const double, 3> F, View<double, 3> V) {
  if (x.empty()) return;
  const bool open = detail::takes_open_path(model, cell), table = model.table.cutoff > 0;
  if (!open || table) {
    const MobilityModel planned = open ? detail::table_of(model) : model;
    planned_apply(context, planned,
                  detail::mobility_plan(planned, cell, detail::EwaldUse::apply, x.shape[1]), x, F,
                  V);
  }
  if (open) open_apply<double>(context, model, x, F, V, table, common_device(x, F, V));
}

void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const double, 3> x, View<double, 3> D) {
  if (x.empty()) return;
  const MobilityModel table = detail::table_of(model);
  const detail::MobilityPlan plan =
      detail::mobility_plan(table, cell, detail::EwaldUse::none, x.shape[1]);
  if (model.kernel == Kernel::oseen) {
    for_each_on_host(context, x, common_device(x, D), [&](View<const double, 2> one) {
      detail::prepared(model, plan, one);  // throws where two coincide
    });
  }
  planned_divergence(context, table, plan, x, D);
  if (detail::has_open_kernel(model, cell)) {
    add_open_divergence<double>(context, model, x, D, common_device(x, D));
  }
}

void mobility_matrix(const Context& context, const MobilityModel& model, const Cell& cell,
                     View<const float, 3> x, View<float, 3> M) {
  if (x.empty()) return;
  const int device = common_device(x, M);
  const CurrentDevice current(device);
  if (alone(model, cell)) return open_matrix<float>(context, model, x, M, false, device);
  const Wide<float> wide(x, stream_of(context));
  const Rounded out(M, stream_of(context));
  cuda::mobility_matrix(context, model, cell, wide.view(), out.view());
  out.store();
}

void mobility_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                    View<const float, 3> x, View<const float, 3> F, View<float, 3> V) {
  if (x.empty()) return;
  const int device = common_device(x, F, V);
  const CurrentDevice current(device);
  if (alone(model, cell)) return open_apply<float>(context, model, x, F, V, false, device);
  const Wide<float> wide(x, stream_of(context)), force(F, stream_of(context));
  const Rounded out(V, stream_of(context));
  cuda::mobility_apply(context, model, cell, wide.view(), force.view(), out.view());
  out.store();
}

void mobility_divergence(const Context& context, const MobilityModel& model, const Cell& cell,
                         View<const float, 3> x, View<float, 3> D) {
  if (x.empty()) return;
  const int device = common_device(x, D);
  const CurrentDevice current(device);
  if (model.kernel == Kernel::oseen && alone(model, cell)) {
    for_each_on_host(context, x, device, [](View<const float, 2> one) {
      detail::check_positions(one);
      detail::find_coincidence(one);
    });
  }
  const Wide<float> wide(x, stream_of(context));
  const Rounded out(D, stream_of(context));
  cuda::mobility_divergence(context, model, cell, wide.view(), out.view());
  out.store();
}

}  // namespace mlcore::cuda
