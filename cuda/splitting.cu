// Mirrors cpp/src/splitting.cpp, all pairs, for up to 1024 particles: one block per replica stays
// for the whole call, one thread per particle.

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>

#include "device.cuh"
#include "finite.cuh"
#include "sphere.cuh"
#include "splitting_cuda.hpp"

namespace mlcore::cuda {
namespace {

constexpr int kMostParticles = 1024;
constexpr double kLeastSquare = 1e-70;
constexpr int kRunning = 0, kTooClose = 1, kNotFinite = 2;  // SplittingStatus

/// What a call does, by value.
struct Call {
  kernels::SplittingPlan plan;
  kernels::SplittingSpace space;
  std::int64_t replicas, frames, n, every, first, last;
  const std::int32_t* species;  // null: all 0
  double *x, *v, *closest;
  std::int64_t* done;
  std::int32_t* status;
  double *frames_x, *frames_v;  // null: not wanted
};

__device__ Vec nearest_image(const kernels::SplittingSpace& space, Vec d) {
  if (space.images == kernels::ImageKind::open) return d;
  const double* w = space.inverse_cell;
  const double* c = space.cell;
  const double p = nearbyint(d.x * w[0] + d.y * w[3] + d.z * w[6]);
  const double q = nearbyint(d.x * w[1] + d.y * w[4] + d.z * w[7]);
  const double s = nearbyint(d.x * w[2] + d.y * w[5] + d.z * w[8]);
  return d - Vec{p * c[0] + q * c[3] + s * c[6], p * c[1] + q * c[4] + s * c[7],
                 p * c[2] + q * c[5] + s * c[8]};
}

/// G at a square distance below the cutoff, from the pair's rows of a table.
__device__ double pair_push(const kernels::SplittingPlan& plan, const double* rows, double square) {
  const double u = rsqrt(fmax(square, kLeastSquare));
  const double s = (fmin(u, plan.u_hi) - plan.u_lo) * plan.per_u;
  const double last = static_cast<double>(plan.intervals - 1), k = fmin(fmax(floor(s), 0.0), last);
  const double t = s - k;
  const double* c = rows + 4 * static_cast<std::int64_t>(k);
  const double u2 = u * u, u4 = u2 * u2;
  return (((c[3] * t + c[2]) * t + c[1]) * t + c[0]) * (u4 * u4);
}

/// Sum over the others of G (x - x_j); lowers the square of the smallest distance.
__device__ Vec push_of(const Call& call, int stage, const Vec* places, const std::int32_t* species,
                       int i, Vec x, double& closest_square) {
  const kernels::SplittingPlan& plan = call.plan;
  const double* table = plan.rows + 4 * plan.table[stage];
  const std::int64_t* starts = plan.start + plan.stride * species[i];
  Vec sum{0, 0, 0};
  for (int j = 0; j < call.n; ++j) {
    if (j == i) continue;
    const Vec d = nearest_image(call.space, x - places[j]);
    const double square = dot(d, d);
    if (!(square < plan.cutoff_square)) continue;
    closest_square = fmin(closest_square, square);
    sum = sum + pair_push(plan, table + 4 * starts[species[j]], square) * d;
  }
  return sum;
}

__device__ void drift(const Call& call, int k, Vec& x, Vec& v) {
  if (call.space.wall > 0) {
    fly(call.space.wall, x, v, call.plan.drift[k]);
  } else {
    x = x + call.plan.drift[k] * v;
  }
}

__device__ bool sensible(const Call& call, Vec x, Vec v) {
  const double far = call.space.farthest;
  return fabs(x.x) < far && fabs(x.y) < far && fabs(x.z) < far && isfinite(v.x + v.y + v.z);
}

/// One step of the block's replica; the same answer to every thread.
__device__ int step(const Call& call, Vec* places, const std::int32_t* species, bool here, int i,
                    Vec& x, Vec& v, double& closest_square) {
  if (here) drift(call, 0, x, v);
  for (int k = 0; k < call.plan.kicks; ++k) {
    __syncthreads();
    places[i] = x;
    __syncthreads();
    if (here) {
      const Vec sum = push_of(call, k, places, species, i, x, closest_square);
      v = v + call.plan.push[species[i]] * sum;
    }
    if (__syncthreads_or(closest_square < call.plan.closest_square)) return kTooClose;
    if (here) drift(call, k + 1, x, v);
  }
  return __syncthreads_or(here && !sensible(call, x, v)) ? kNotFinite : kRunning;
}

/// Smallest value of the block, on thread 0.
__device__ double block_least(double value, double* room) {
  __syncthreads();
  room[threadIdx.x] = value;
  for (int half = kMostParticles / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half && threadIdx.x + half < blockDim.x) {
      room[threadIdx.x] = fmin(room[threadIdx.x], room[threadIdx.x + half]);
    }
  }
  __syncthreads();
  return room[0];
}

__device__ Vec read(const double* values) { return {values[0], values[1], values[2]}; }
__device__ void write(double* values, Vec x) {
  values[0] = x.x;
  values[1] = x.y;
  values[2] = x.z;
}

__device__ void write_frame(const Call& call, std::int64_t r, std::int64_t t, int i, bool good,
                            Vec x, Vec v) {
  if (!call.frames_x) return;
  const std::int64_t at = 3 * ((r * call.frames + t) * call.n + i);
  const Vec none{nan(""), nan(""), nan("")};
  write(call.frames_x + at, good ? x : none);
  write(call.frames_v + at, good ? v : none);
}

__global__ void __launch_bounds__(kMostParticles) run_replicas(Call call) {
  __shared__ Vec places[kMostParticles];
  __shared__ std::int32_t species[kMostParticles];
  __shared__ double room[kMostParticles];
  const int i = threadIdx.x;
  const bool here = i < call.n;
  species[i] = here && call.species ? call.species[i] : 0;
  for (std::int64_t r = blockIdx.x; r < call.replicas; r += gridDim.x) {
    __syncthreads();
    const std::int64_t at = 3 * (r * call.n + i);
    Vec x{0, 0, 0}, v{0, 0, 0};
    if (here) {
      x = read(call.x + at);
      v = read(call.v + at);
    }
    int status = call.status[r];
    std::int64_t done = 0;
    double closest_square = INFINITY;
    for (std::int64_t t = call.first; t < call.last; ++t) {
      for (std::int64_t s = 0; s < call.every && status == kRunning; ++s) {
        const Vec good_x = x, good_v = v;
        status = step(call, places, species, here, i, x, v, closest_square);
        if (status == kRunning) {
          ++done;
        } else {
          x = good_x;
          v = good_v;
        }
      }
      if (here) write_frame(call, r, t + 1, i, status == kRunning, x, v);
    }
    const double least = block_least(closest_square, room);
    if (here) {
      write(call.x + at, x);
      write(call.v + at, v);
    }
    if (i > 0) continue;
    call.done[r] += done;
    call.closest[r] = fmin(call.closest[r], sqrt(least));
    call.status[r] = status;
  }
}

class Copies : public SplittingOnDevice {
 public:
  ~Copies() override {
    for (const auto& [device, plan] : copies_) {
      for (const double* array : {plan.drift, plan.rows, plan.push}) {
        cudaFree(const_cast<double*>(array));
      }
      for (const std::int64_t* array : {plan.table, plan.start}) {
        cudaFree(const_cast<std::int64_t*>(array));
      }
    }
  }

  kernels::SplittingPlan on(int device, const SplittingModel& model) {
    const auto known = copies_.find(device);
    if (known != copies_.end()) return known->second;
    kernels::SplittingPlan plan = model.plan;
    plan.drift = copy(model.plan.drift, plan.kicks + 1);
    plan.table = copy(model.plan.table, plan.kicks);
    plan.rows = copy(model.plan.rows, model.rows);
    plan.start = copy(model.plan.start, model.starts);
    plan.push = copy(model.plan.push, plan.species);
    return copies_[device] = plan;
  }

 private:
  template <class T>
  static const T* copy(const T* values, std::int64_t count) {
    T* data = nullptr;
    check(cudaMalloc(reinterpret_cast<void**>(&data), count * sizeof(T)), "allocate memory");
    check(cudaMemcpy(data, values, count * sizeof(T), cudaMemcpyHostToDevice),
          "copy to the device");
    return data;
  }

  std::map<int, kernels::SplittingPlan> copies_;
};

}  // namespace

void splitting_run(const Context& context, const SplittingModel& model,
                   std::shared_ptr<SplittingOnDevice>& on_device,
                   const kernels::SplittingSpace& space, View<const std::int32_t, 1> species,
                   const SplittingState& state, std::int64_t every, std::int64_t first,
                   std::int64_t last, View<double, 4> x, View<double, 4> v) {
  const std::int64_t R = state.x.shape[0], n = state.x.shape[1];
  MLCORE_CHECK(n <= kMostParticles, "on the GPU a replica holds at most ", kMostParticles,
               " particles, got ", n, "; run it on the CPU");
  if (R == 0 || n == 0) return;
  const int device = device_of("x", state.x.data);
  const CurrentDevice current(device);
  const auto stream = static_cast<cudaStream_t>(context.stream);
  check_finite_there("x", state.x.data, state.x.size(), stream);
  check_finite_there("v", state.v.data, state.v.size(), stream);
  if (!on_device) on_device = std::make_shared<Copies>();
  const Scratch<std::int32_t> kinds(species.data, species.data ? n : 0, stream);
  const Call call{static_cast<Copies&>(*on_device).on(device, model),
                  space,
                  R,
                  x.shape[1],
                  n,
                  every,
                  first,
                  last,
                  species.data ? kinds.get() : nullptr,
                  state.x.data,
                  state.v.data,
                  state.closest.data,
                  state.done.data,
                  state.status.data,
                  x.data,
                  v.data};
  const int threads = static_cast<int>((n + 31) / 32 * 32);
  const int blocks = static_cast<int>(R < 65535 ? R : 65535);
  run_replicas<<<blocks, threads, 0, stream>>>(call);
  check(cudaGetLastError(), "start the splitting kernel");
  check(cudaStreamSynchronize(stream), "run the splitting kernel");
}

}  // namespace mlcore::cuda
