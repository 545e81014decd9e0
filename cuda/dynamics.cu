// Mirrors cpp/src/dynamics_verlet.cpp, all pairs. Verlet for up to 1024 particles: one block per
// replica stays for the whole call, one thread per particle. Forces alone for any number: one
// thread per particle.

#include <cmath>
#include <cstdint>
#include <limits>

#include "device.cuh"
#include "dynamics_cuda.hpp"
#include "finite.cuh"
#include "sphere.cuh"

namespace mlcore::cuda {
namespace {

constexpr int kMostParticles = 1024;

/// What a call does, by value.
struct Plan {
  ParticleSystem system;
  VerletStages stages;
  double dt, cutoff2, shift, wall_reach;  // pair energy at the cutoff; 2^(1/6) sigma of the wall
  std::int64_t replicas, frames, n, every, first, last;
  int d;
  bool shared_masses;
  const double* masses;
  double *x, *v, *energies;
};

/// Sum over the block, for every thread.
__device__ double block_sum(double value, double* room) {
  __syncthreads();
  room[threadIdx.x] = value;
  for (int half = kMostParticles / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half && threadIdx.x + half < blockDim.x) {
      room[threadIdx.x] += room[threadIdx.x + half];
    }
  }
  __syncthreads();
  return room[0];
}

/// -(dU/dr) / r and U of 4 eps ((sigma / r)^12 - (sigma / r)^6).
__device__ double lennard_jones(double epsilon, double sigma, double square, double& energy) {
  const double s2 = sigma * sigma / square, s6 = s2 * s2 * s2;
  energy += 4 * epsilon * s6 * (s6 - 1);
  return 24 * epsilon * s6 * (2 * s6 - 1) / square;
}

__device__ Vec landscape(const Landscape& landscape, double x, double& energy) {
  switch (landscape.kind) {
    case Landscape::Kind::none:
      break;
    case Landscape::Kind::lennard_jones:
      return {lennard_jones(landscape.epsilon, landscape.sigma, x * x, energy) * x, 0, 0};
    case Landscape::Kind::double_well:
      energy += 0.25 * x * x * x * x - 0.5 * x * x;
      return {x - x * x * x, 0, 0};
    case Landscape::Kind::rugged:
      energy += ((((x - 1) * x - 16) * x + 4) * x + 48) / 50 + sin(30 * (x + 5)) / 5;
      return {(((-4 * x + 3) * x + 32) * x - 4) / 50 - 6 * cos(30 * (x + 5)), 0, 0};
  }
  return {0, 0, 0};
}

__device__ Vec wall(const Plan& plan, Vec x, double& energy) {
  const SphericalWall& wall = plan.system.wall;
  const double r = sqrt(dot(x, x)), gap = wall.radius - r;
  if (wall.kind != SphericalWall::Kind::wca || gap >= plan.wall_reach || r == 0) return {0, 0, 0};
  energy += wall.epsilon;
  const double push = lennard_jones(wall.epsilon, wall.sigma, gap * gap, energy) * gap;
  return (-push / r) * x;
}

__device__ double wrapped(const Plan& plan, double distance) {
  const double box = plan.system.box;
  return box > 0 ? distance - box * nearbyint(distance / box) : distance;
}

/// Positions as Verlet's blocks share them, and as they lie in the caller's array.
struct SharedPlaces {
  const Vec* places;
  __device__ Vec operator()(std::int64_t j) const { return places[j]; }
};

/// Force on particle i at x, and its share of the energy; places(j): position of particle j.
template <class Places>
__device__ Vec force(const Plan& plan, const Places& places, std::int64_t i, Vec x,
                     double& energy) {
  energy = 0.5 * plan.system.trap * dot(x, x);
  Vec F = -plan.system.trap * x + landscape(plan.system.landscape, x.x, energy);
  F = F + wall(plan, x, energy);
  if (plan.system.epsilon == 0) return F;
  for (std::int64_t j = 0; j < plan.n; ++j) {
    if (j == i) continue;
    Vec d = x - places(j);
    d = {wrapped(plan, d.x), wrapped(plan, d.y), wrapped(plan, d.z)};
    const double square = dot(d, d);
    if (!(square < plan.cutoff2)) continue;
    double pair = 0;
    F = F + lennard_jones(plan.system.epsilon, plan.system.sigma, square, pair) * d;
    energy += 0.5 * (pair - plan.shift);
  }
  return F;
}

__device__ Vec read(const double* values, int d) {
  return {values[0], d > 1 ? values[1] : 0, d > 2 ? values[2] : 0};
}
__device__ void write(double* values, int d, Vec x) {
  values[0] = x.x;
  if (d > 1) values[1] = x.y;
  if (d > 2) values[2] = x.z;
}

/// Writes a frame and its energies; notes the first one that is not finite.
__device__ void record(const Plan& plan, std::int64_t r, std::int64_t t, Vec x, Vec v, double mass,
                       double potential, double* room, unsigned long long* fault) {
  const bool here = threadIdx.x < plan.n;
  const std::int64_t at = ((r * plan.frames + t) * plan.n + threadIdx.x) * plan.d;
  if (here) {
    write(plan.x + at, plan.d, x);
    write(plan.v + at, plan.d, v);
  }
  const double sum = block_sum(here ? dot(x, x) + dot(v, v) : 0, room);
  if (threadIdx.x == 0 && !isfinite(sum)) {
    atomicMin(fault, static_cast<unsigned long long>(r * plan.frames + t));
  }
  if (!plan.energies) return;
  const double U = block_sum(here ? potential : 0, room);
  const double K = block_sum(here ? 0.5 * mass * dot(v, v) : 0, room);
  if (threadIdx.x > 0) return;
  plan.energies[2 * (r * plan.frames + t)] = U;
  plan.energies[2 * (r * plan.frames + t) + 1] = K;
}

__global__ void __launch_bounds__(kMostParticles)
    run_replicas(Plan plan, unsigned long long* fault) {
  __shared__ Vec places[kMostParticles];
  __shared__ double room[kMostParticles];
  const int i = threadIdx.x;
  const bool here = i < plan.n;
  for (std::int64_t r = blockIdx.x; r < plan.replicas; r += gridDim.x) {
    const std::int64_t at = ((r * plan.frames + plan.first) * plan.n + i) * plan.d;
    Vec x{0, 0, 0}, v{0, 0, 0}, F{0, 0, 0};
    double mass = 1, potential = 0;
    if (here) {
      x = read(plan.x + at, plan.d);
      v = read(plan.v + at, plan.d);
      mass = plan.masses[(plan.shared_masses ? 0 : r * plan.n) + i];
    }
    __syncthreads();
    places[i] = x;
    __syncthreads();
    if (here) F = force(plan, SharedPlaces{places}, i, x, potential);
    record(plan, r, plan.first, x, v, mass, potential, room, fault);
    for (std::int64_t t = plan.first; t < plan.last; ++t) {
      for (std::int64_t step = 0; step < plan.every; ++step) {
        for (int s = 0; s < plan.stages.count; ++s) {
          v = v + (plan.stages.kick[s] * plan.dt / mass) * F;
          const double drift = plan.stages.drift[s] * plan.dt;
          if (here && plan.system.wall.kind == SphericalWall::Kind::specular) {
            fly(plan.system.wall.radius, x, v, drift);
          } else {
            x = x + drift * v;
          }
          __syncthreads();
          places[i] = x;
          __syncthreads();
          if (here) F = force(plan, SharedPlaces{places}, i, x, potential);
        }
        v = v + (plan.stages.kick[plan.stages.count] * plan.dt / mass) * F;
      }
      record(plan, r, t + 1, x, v, mass, potential, room, fault);
    }
  }
}

/// The caller's positions of one replica.
struct Rows {
  const double* x;
  int d;
  __device__ Vec operator()(std::int64_t j) const { return read(x + j * d, d); }
};

/// F and shares (replicas, n) of the energies, either null where it is not wanted.
__global__ void fill_forces(const Plan plan, const double* x, double* F, double* shares) {
  const std::int64_t t = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (t >= plan.replicas * plan.n) return;
  const Rows rows{x + t / plan.n * plan.n * plan.d, plan.d};
  double energy = 0;
  const Vec push = force(plan, rows, t % plan.n, rows(t % plan.n), energy);
  if (F) write(F + t * plan.d, plan.d, push);
  if (shares) shares[t] = energy;
}

/// One replica per thread: few of them are long.
__global__ void sum_shares(const double* shares, std::int64_t replicas, std::int64_t n,
                           double* energies) {
  const std::int64_t r = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (r >= replicas) return;
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += shares[r * n + i];
  energies[r] = sum;
}

/// product = dF/dx g of a trap and pairs; see force_gradient in cpp/src/dynamics_verlet.cpp.
__global__ void fill_gradient(const Plan plan, const double* x, const double* g, double* product) {
  const std::int64_t t = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (t >= plan.replicas * plan.n) return;
  const std::int64_t first = t / plan.n * plan.n * plan.d, i = t % plan.n;
  const Rows places{x + first, plan.d}, motion{g + first, plan.d};
  const Vec xi = places(i), gi = motion(i);
  Vec sum = -plan.system.trap * gi;
  for (std::int64_t j = 0; j < plan.n && plan.system.epsilon != 0; ++j) {
    if (j == i) continue;
    Vec d = xi - places(j);
    d = {wrapped(plan, d.x), wrapped(plan, d.y), wrapped(plan, d.z)};
    const double square = dot(d, d);
    if (!(square < plan.cutoff2)) continue;
    const Vec w = gi - motion(j);
    const double s2 = plan.system.sigma * plan.system.sigma / square, s6 = s2 * s2 * s2;
    const double push = 24 * plan.system.epsilon * s6 * (2 * s6 - 1) / square;
    const double slope = -24 * plan.system.epsilon * s6 * (14 * s6 - 4) / (square * square);
    sum = sum + push * w + (2 * slope * dot(d, w)) * d;
  }
  write(product + t * plan.d, plan.d, sum);
}

/// What all kernels need of a system.
Plan plan_of(const ParticleSystem& system, std::int64_t replicas, std::int64_t n, std::int64_t d) {
  MLCORE_CHECK(system.box == 0 || system.epsilon == 0 || system.cutoff <= 0.5 * system.box,
               "on the GPU the cutoff must not exceed half the box, got ", system.cutoff, " and ",
               system.box, "; run it on the CPU");
  Plan plan{};
  plan.system = system;
  plan.cutoff2 =
      system.cutoff > 0 ? system.cutoff * system.cutoff : std::numeric_limits<double>::infinity();
  if (system.cutoff > 0) {
    const double s6 = std::pow(system.sigma / system.cutoff, 6);
    plan.shift = 4 * system.epsilon * s6 * (s6 - 1);
  }
  plan.wall_reach = std::pow(2, 1.0 / 6) * system.wall.sigma;
  plan.replicas = replicas;
  plan.n = n;
  plan.d = static_cast<int>(d);
  return plan;
}

unsigned blocks(std::int64_t items) { return static_cast<unsigned>((items + 127) / 128); }

}  // namespace

void system_forces(const Context& context, const ParticleSystem& system, View<const double, 3> x,
                   View<double, 3> F, View<double, 1> energies) {
  const std::int64_t replicas = x.shape[0], n = x.shape[1];
  const Plan plan = plan_of(system, replicas, n, x.shape[2]);
  if (F.empty() && energies.empty()) return;
  const CurrentDevice current(device_of("x or energies", n > 0 ? x.data : energies.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  check_finite_there("x", x.data, x.size(), stream);
  const bool wanted = !energies.empty();
  const Scratch<double> shares(wanted ? replicas * n : 0, stream);
  if (n > 0) {
    fill_forces<<<blocks(replicas * n), 128, 0, stream>>>(
        plan, x.data, F.empty() ? nullptr : F.data, shares.get());
  }
  if (wanted) {
    sum_shares<<<blocks(replicas), 128, 0, stream>>>(shares.get(), replicas, n, energies.data);
  }
  check(cudaGetLastError(), "start the kernels of the forces");
}

void system_force_gradient(const Context& context, const ParticleSystem& system,
                           View<const double, 3> x, View<const double, 3> g,
                           View<double, 3> product) {
  const Plan plan = plan_of(system, x.shape[0], x.shape[1], x.shape[2]);
  if (x.empty()) return;
  const CurrentDevice current(device_of("x", x.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  check_finite_there("x", x.data, x.size(), stream);
  check_finite_there("g", g.data, g.size(), stream);
  fill_gradient<<<blocks(plan.replicas * plan.n), 128, 0, stream>>>(plan, x.data, g.data,
                                                                    product.data);
  check(cudaGetLastError(), "start the kernel of the gradient");
}

void verlet(const Context& context, const ParticleSystem& system, const VerletOptions& options,
            const VerletStages& stages, View<const double, 2> masses, View<double, 4> positions,
            View<double, 4> velocities, View<double, 3> energies, std::int64_t first,
            std::int64_t last) {
  const std::int64_t n = positions.shape[2];
  MLCORE_CHECK(n <= kMostParticles, "on the GPU a replica holds at most ", kMostParticles,
               " particles, got ", n, "; run it on the CPU");
  const CurrentDevice current(device_of("positions", positions.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  Plan plan = plan_of(system, positions.shape[0], n, positions.shape[3]);
  plan.stages = stages;
  plan.dt = options.dt;
  plan.frames = positions.shape[1];
  plan.every = options.every;
  plan.first = first;
  plan.last = last;
  plan.shared_masses = masses.shape[0] == 1;
  plan.masses = masses.data;
  plan.x = positions.data;
  plan.v = velocities.data;
  plan.energies = energies.empty() ? nullptr : energies.data;
  unsigned long long none = ~0ull, fault = none;
  const Scratch<unsigned long long> first_fault(&none, 1, stream);
  const int threads = static_cast<int>((n + 31) / 32 * 32);
  const int blocks = static_cast<int>(plan.replicas < 65535 ? plan.replicas : 65535);
  run_replicas<<<blocks, threads, 0, stream>>>(plan, first_fault.get());
  check(cudaGetLastError(), "start the Verlet kernel");
  check(cudaMemcpyAsync(&fault, first_fault.get(), sizeof(fault), cudaMemcpyDeviceToHost, stream),
        "copy to the host");
  check(cudaStreamSynchronize(stream), "run the Verlet kernel");
  if (fault == none) return;
  const auto frames = static_cast<unsigned long long>(plan.frames);
  detail::raise<Error>("at frame ", fault % frames, " of replica ", fault / frames,
                       ": a position or velocity is not finite or sensible; the run has blown up: "
                       "take a smaller dt (now ",
                       options.dt, ") or a start without overlaps");
}

}  // namespace mlcore::cuda
