// Mirrors the forces and the Brownian steps of cpp/src/dynamics.cpp: positions and vectors stay on
// the GPU; mobility, noise, random numbers and the factor of M are those of their own operations
// there.

#include <cmath>
#include <cstdint>
#include <vector>

#include "device.cuh"
#include "dynamics_cuda.hpp"
#include "dynamics_steps.hpp"
#include "finite.cuh"
#include "mlcore/linalg.hpp"
#include "mlcore/random.hpp"
#include "sums.cuh"

namespace mlcore::cuda {
namespace {

constexpr int kThreads = 128;
constexpr unsigned long long kNobody = ~0ull;

unsigned blocks(std::int64_t items) {
  return static_cast<unsigned>((items + kThreads - 1) / kThreads);
}

__device__ std::int64_t thread_index() {
  return blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
}

/// A ForcePlan, by value.
struct Field {
  const PairPlan* pairs;
  int pair_count;
  const double* constant;  // (n, 3), null: none
  const double* centres;   // (centre_count, 3), null: the origin
  std::int64_t centre_count;
  double stiffness;
  double rows[9], inverse[9];
  bool pbc[3];
};

__device__ void wrap(const Field& field, double d[3]) {
  for (int axis = 0; axis < 3; ++axis) {
    if (!field.pbc[axis]) continue;
    const double fraction = d[0] * field.inverse[axis] + d[1] * field.inverse[3 + axis] +
                            d[2] * field.inverse[6 + axis];
    const double shift = floor(fraction + 0.5);
    for (int k = 0; k < 3; ++k) d[k] -= shift * field.rows[3 * axis + k];
  }
}

/// Adds force and half the energy of a pair at the distance d.
__device__ void add_pair(const PairPlan& pair, const double d[3], double sum[4]) {
  const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
  if (!(square < pair.force.cutoff * pair.force.cutoff)) return;
  double energy, push;
  if (pair.force.kind == PairForce::Kind::yukawa) {
    const double r = sqrt(square);
    energy = pair.force.strength * exp(-r / pair.force.length) / r;
    push = energy * (1 / pair.force.length + 1 / r) / r;
  } else {
    const double s2 = pair.force.length * pair.force.length / square, s6 = s2 * s2 * s2;
    energy = 4 * pair.force.strength * s6 * (s6 - 1);
    push = 24 * pair.force.strength * s6 * (2 * s6 - 1) / square;
  }
  for (int k = 0; k < 3; ++k) sum[k] += push * d[k];
  sum[3] += 0.5 * (energy - pair.energy_at_cutoff);
}

/// All images of j within reach of i.
__device__ void add_images(const Field& field, const PairPlan& pair, const double* x,
                           std::int64_t i, std::int64_t j, double sum[4]) {
  double d[3];
  for (int k = 0; k < 3; ++k) d[k] = x[3 * i + k] - x[3 * j + k];
  wrap(field, d);
  const int reach[3] = {pair.reach[0], pair.reach[1], pair.reach[2]};
  for (int a = -reach[0]; a <= reach[0]; ++a) {
    for (int b = -reach[1]; b <= reach[1]; ++b) {
      for (int c = -reach[2]; c <= reach[2]; ++c) {
        if (i == j && a == 0 && b == 0 && c == 0) continue;
        double e[3];
        for (int k = 0; k < 3; ++k) {
          e[k] = d[k] + a * field.rows[k] + b * field.rows[3 + k] + c * field.rows[6 + k];
        }
        add_pair(pair, e, sum);
      }
    }
  }
}

/// parts (chunks, n, 4): force and share of the energy of particle i from the partners of a chunk.
__global__ void pair_parts(const Field field, const double* x, std::int64_t n, Chunks chunks,
                           double* parts) {
  const std::int64_t t = thread_index();
  if (t >= chunks.count * n) return;
  const std::int64_t i = t % n, first = t / n * chunks.size;
  const std::int64_t last = first + chunks.size < n ? first + chunks.size : n;
  double sum[4] = {};
  for (int p = 0; p < field.pair_count; ++p) {
    for (std::int64_t j = first; j < last; ++j) add_images(field, field.pairs[p], x, i, j, sum);
  }
  for (int m = 0; m < 4; ++m) parts[4 * t + m] = sum[m];
}

/// F and energies (null: not wanted): external part plus the sums (n, 4) of the pairs (null: none).
__global__ void finish_forces(const Field field, const double* x, std::int64_t n,
                              const double* sums, double* F, double* energies) {
  const std::int64_t i = thread_index();
  if (i >= n) return;
  double energy = sums ? sums[4 * i + 3] : 0.0;
  for (int k = 0; k < 3; ++k) {
    const double push = field.constant ? field.constant[3 * i + k] : 0.0;
    const double centre =
        field.centres ? field.centres[3 * (field.centre_count == 1 ? 0 : i) + k] : 0.0;
    const double offset = x[3 * i + k] - centre;
    F[3 * i + k] = push - field.stiffness * offset + (sums ? sums[4 * i + k] : 0.0);
    energy += 0.5 * field.stiffness * offset * offset - push * x[3 * i + k];
  }
  if (energies) energies[i] = energy;
}

/// A field with its arrays on the GPU.
class Forces {
 public:
  Forces(const ForcePlan& plan, std::int64_t n, cudaStream_t stream)
      : stream_(stream),
        n_(n),
        chunks_(n, n),
        pairs_(plan.pairs, stream),
        constant_(plan.field.constant.data, plan.field.constant.size(), stream),
        centres_(plan.field.centres.data, plan.field.centres.size(), stream),
        parts_(plan.pairs.empty() ? 0 : 4 * chunks_.count * n, stream),
        sums_(plan.pairs.empty() ? 0 : 4 * n, stream) {
    field_.pairs = pairs_.get();
    field_.pair_count = static_cast<int>(plan.pairs.size());
    field_.constant = constant_.get();
    field_.centres = centres_.get();
    field_.centre_count = plan.field.centres.shape[0];
    field_.stiffness = plan.field.stiffness;
    for (int k = 0; k < 9; ++k) {
      field_.rows[k] = plan.cell.rows[k];
      field_.inverse[k] = plan.inverse_rows[k];
    }
    for (int k = 0; k < 3; ++k) field_.pbc[k] = plan.cell.pbc[k];
  }

  /// energies (n,): every particle's share, or null.
  void evaluate(const double* x, double* F, double* energies) const {
    if (field_.pair_count > 0) {
      pair_parts<<<blocks(chunks_.count * n_), kThreads, 0, stream_>>>(field_, x, n_, chunks_,
                                                                       parts_.get());
      check(cudaGetLastError(), "add pair forces");
      sum_rows(parts_.get(), chunks_.count, 4 * n_, false, sums_.get(), stream_);
    }
    finish_forces<<<blocks(n_), kThreads, 0, stream_>>>(field_, x, n_, sums_.get(), F, energies);
    check(cudaGetLastError(), "add forces");
  }

 private:
  cudaStream_t stream_;
  std::int64_t n_;
  Chunks chunks_;
  Scratch<PairPlan> pairs_;
  Scratch<double> constant_, centres_, parts_, sums_;
  Field field_{};
};

// -- steps ----------------------------------------------------------------------------------------

/// out[k] = a x[k] + b y[k]
__global__ void combine(std::int64_t count, double a, const double* x, double b, const double* y,
                        double* out) {
  const std::int64_t k = thread_index();
  if (k < count) out[k] = a * x[k] + b * y[k];
}

/// middle = x + (dt velocity + amplitude noise) / 2, without noise where that is null.
__global__ void go_half(std::int64_t count, double dt, double amplitude, const double* x,
                        const double* velocity, const double* noise, double* middle) {
  const std::int64_t k = thread_index();
  if (k >= count) return;
  middle[k] = x[k] + 0.5 * (dt * velocity[k] + (noise ? amplitude * noise[k] : 0.0));
}

/// x += dt (velocity + kT divergence) + amplitude noise, terms of null arrays left out; squared
/// lengths of the steps, and the first particle whose step is too long or no number.
__global__ void advance(std::int64_t n, double dt, double kT, double amplitude,
                        const double* velocity, const double* divergence, const double* noise,
                        double limit2, double* x, double* squares, unsigned long long* first) {
  const std::int64_t i = thread_index();
  if (i >= n) return;
  double square = 0;
  for (std::int64_t k = 3 * i; k < 3 * i + 3; ++k) {
    const double drift = divergence ? kT * divergence[k] : 0.0;
    const double move = dt * (velocity[k] + drift) + (noise ? amplitude * noise[k] : 0.0);
    square += move * move;
    x[k] += move;
  }
  squares[i] = square;
  if (!(square <= limit2) || !isfinite(square)) {
    atomicMin(first, static_cast<unsigned long long>(i));
  }
}

/// One replica after the other on its way; see Walker in cpp/src/dynamics.cpp.
class Walker {
 public:
  Walker(const Context& context, const MobilityModel& model, const Cell& cell,
         const ForcePlan& plan, const BrownianOptions& options, double limit, std::int64_t n)
      : context_(context),
        stream_(static_cast<cudaStream_t>(context.stream)),
        model_(model),
        cell_(cell),
        options_(options),
        limit_(limit),
        n_(n),
        m_(3 * n),
        forces_(plan, n, stream_),
        matrix_(factors(options) ? m_ * m_ : 0, stream_),
        memory_(8 * m_, stream_),
        squares_(n, stream_),
        tags_(counted(n), stream_),
        first_(1, stream_) {
    check(cudaMemsetAsync(first_.get(), 0xff, sizeof(kNobody), stream_), "clear a flag");
  }

  double* positions() const { return vector(7); }

  /// Moves the positions by the steps first..last-1 of `replica`.
  void run(std::int64_t replica, std::int64_t first, std::int64_t last) const {
    for (std::int64_t step = first; step < last; ++step) {
      try {
        if (options_.scheme == Scheme::midpoint) {
          step_midpoint(replica, step);
        } else {
          step_euler(replica, step);
        }
      } catch (const NotPositiveDefinite& error) {
        throw NotPositiveDefinite(detail::step_name(replica, step) + error.what(),
                                  error.smallest_eigenvalue, error.first, error.second);
      }
      check_step(replica, step);
    }
  }

 private:
  static std::vector<std::uint32_t> counted(std::int64_t n) {
    std::vector<std::uint32_t> tags(n);
    for (std::int64_t i = 0; i < n; ++i) tags[i] = static_cast<std::uint32_t>(i);
    return tags;
  }

  /// Whether M and its factor are held here; elsewhere the noise is that of sqrt_apply.
  static bool factors(const BrownianOptions& options) {
    return options.scheme == Scheme::midpoint && options.kT > 0;
  }

  View<double, 2> matrix() const { return {matrix_.get(), {m_, m_}, Device::cuda}; }
  double* vector(int slot) const { return memory_.get() + slot * m_; }
  View<double, 2> rows(int slot) const { return {vector(slot), {n_, 3}, Device::cuda}; }
  View<const double, 2> x() const { return rows(7); }
  View<double, 2> force() const { return rows(0); }
  View<double, 2> velocity() const { return rows(1); }
  View<double, 2> divergence() const { return rows(2); }
  View<double, 2> random() const { return rows(3); }
  View<double, 2> noise() const { return rows(4); }
  View<double, 2> middle() const { return rows(5); }
  View<double, 2> other() const { return rows(6); }

  void mix(double a, const double* x, double b, const double* y, double* out) const {
    combine<<<blocks(m_), kThreads, 0, stream_>>>(m_, a, x, b, y, out);
    check(cudaGetLastError(), "combine vectors");
  }

  void draw(std::uint64_t seed, std::int64_t replica, std::int64_t step) const {
    random_normal(context_, seed, options_.stream + static_cast<std::uint32_t>(replica),
                  static_cast<std::uint64_t>(step), {tags_.get(), {n_}, Device::cuda}, random());
  }

  /// velocity = M F
  void drive(View<const double, 2> x) const {
    mobility_apply(context_, model_, cell_, x, View<const double, 2>(force()), velocity());
  }

  /// Where M has to be repaired, the whole step is made with M + shift I.
  void add_shift(double shift) const {
    if (shift > 0) mix(1.0, velocity().data, shift, force().data, velocity().data);
  }

  double amplitude() const { return std::sqrt(2 * options_.kT * options_.dt); }

  /// Null: none.
  void move(const double* divergence, const double* noise) const {
    advance<<<blocks(n_), kThreads, 0, stream_>>>(
        n_, options_.dt, options_.kT, amplitude(), velocity().data, divergence, noise,
        limit_ * limit_, positions(), squares_.get(), first_.get());
    check(cudaGetLastError(), "move particles");
  }

  void step_euler(std::int64_t replica, std::int64_t step) const {
    forces_.evaluate(x().data, force().data, nullptr);
    drive(x());
    const bool warm = options_.kT > 0, drift = options_.drift && warm;
    if (warm) add_noise(replica, step);
    if (drift && options_.random_finite_difference > 0) {
      difference(replica, step);
    } else if (drift) {
      mobility_divergence(context_, model_, cell_, x(), divergence());
    }
    move(drift ? divergence().data : nullptr, warm ? noise().data : nullptr);
  }

  void step_midpoint(std::int64_t replica, std::int64_t step) const {
    forces_.evaluate(x().data, force().data, nullptr);
    drive(x());
    const bool warm = options_.kT > 0;
    const double shift = warm ? add_factored_noise(replica, step) : 0.0;
    add_shift(shift);
    go_half<<<blocks(m_), kThreads, 0, stream_>>>(m_, options_.dt, amplitude(), x().data,
                                                  velocity().data, warm ? noise().data : nullptr,
                                                  middle().data);
    check(cudaGetLastError(), "make half a step");
    check_middle(replica, step);
    forces_.evaluate(middle().data, force().data, nullptr);
    if (warm) {
      lower_transpose_solve(context_, View<const double, 2>(matrix()),
                            {vector(3), {m_}, Device::cuda});
      mix(1.0, force().data, amplitude() / options_.dt, random().data, force().data);
    }
    drive(middle());
    add_shift(shift);
    move(nullptr, nullptr);
  }

  /// noise = L xi, with L left in the matrix; returns the shift of a repair.
  double add_factored_noise(std::int64_t replica, std::int64_t step) const {
    draw(options_.seed, replica, step);
    mobility_matrix(context_, model_, cell_, x(), matrix());
    const double shift = noise_factor(context_, cell_, x(), matrix(), options_.psd).shift;
    lower_multiply(context_, View<const double, 2>(matrix()), {vector(3), {1, m_}, Device::cuda},
                   {vector(4), {1, m_}, Device::cuda});
    return shift;
  }

  void check_middle(std::int64_t replica, std::int64_t step) const {
    look_for_not_finite(middle().data, m_, first_.get(), stream_);
    unsigned long long found = kNobody;
    to_host(first_.get(), 1, &found);
    if (found == kNobody) return;
    double coordinate = 0;
    to_host(middle().data + found, 1, &coordinate);
    detail::raise_blow_up(replica, step, static_cast<std::int64_t>(found / 3), coordinate, limit_,
                          options_.dt);
  }

  /// noise = M^(1/2) xi.
  void add_noise(std::int64_t replica, std::int64_t step) const {
    draw(options_.seed, replica, step);
    SqrtOptions root;
    root.method = options_.noise;
    root.tolerance = options_.noise_tolerance;
    root.psd = options_.psd;
    const double shift = sqrt_apply(context_, model_, cell_, x(),
                                    View<const double, 3>(random().data, {1, n_, 3}, Device::cuda),
                                    View<double, 3>(noise().data, {1, n_, 3}, Device::cuda), root)
                             .shift;
    add_shift(shift);
  }

  /// [M(x + d w / 2) - M(x - d w / 2)] w / d, whose mean is the divergence of M.
  void difference(std::int64_t replica, std::int64_t step) const {
    const double length = options_.random_finite_difference;
    draw(options_.seed ^ detail::kOtherNumbers, replica, step);
    const View<const double, 2> w = random();
    for (const double sign : {1.0, -1.0}) {
      mix(1.0, x().data, sign * 0.5 * length, w.data, middle().data);
      mobility_apply(context_, model_, cell_, View<const double, 2>(middle()), w,
                     sign > 0 ? divergence() : other());
    }
    mix(1 / length, divergence().data, -1 / length, other().data, divergence().data);
  }

  void check_step(std::int64_t replica, std::int64_t step) const {
    unsigned long long found = kNobody;
    to_host(first_.get(), 1, &found);
    if (found == kNobody) return;
    std::vector<double> squares(n_);
    to_host(squares_.get(), n_, squares.data());
    detail::LongestStep longest;
    for (std::int64_t i = 0; i < n_; ++i) longest.see(i, squares[i]);
    detail::raise_blow_up(replica, step, longest.particle, std::sqrt(longest.square), limit_,
                          options_.dt);
  }

  template <class T>
  void to_host(const T* from, std::int64_t count, T* to) const {
    check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream_),
          "copy from the device");
    check(cudaStreamSynchronize(stream_), "make a step");
  }

  const Context context_;
  cudaStream_t stream_;
  const MobilityModel& model_;
  const Cell& cell_;
  const BrownianOptions& options_;
  double limit_;
  std::int64_t n_, m_;
  Forces forces_;
  Scratch<double> matrix_;  // empty where it is not held
  Scratch<double> memory_, squares_;
  Scratch<std::uint32_t> tags_;
  Scratch<unsigned long long> first_;
};

}  // namespace

double force_field(const Context& context, const ForcePlan& plan, const Cell& cell,
                   View<const double, 2> x, View<double, 2> F) {
  if (x.empty()) return 0;
  const CurrentDevice current(device_of("x", x.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const std::int64_t n = x.shape[0];
  check_finite_there("x", x.data, x.size(), stream);
  const Scratch<double> energies(n, stream), total(1, stream);
  Forces(plan, n, stream).evaluate(x.data, F.data, energies.get());
  sum_many_rows(energies.get(), n, 1, total.get(), stream);
  double energy = 0;
  check(cudaMemcpyAsync(&energy, total.get(), sizeof(energy), cudaMemcpyDeviceToHost, stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "add forces");
  if (std::isfinite(energy)) return energy;
  std::vector<double> host(x.size());
  check(cudaMemcpyAsync(host.data(), x.data, host.size() * sizeof(double), cudaMemcpyDeviceToHost,
                        stream),
        "copy from the device");
  check(cudaStreamSynchronize(stream), "copy from the device");
  const ClosestPair pair = closest_pair(cell, {host.data(), {n, 3}});
  detail::raise<InvalidArgument>("the energy is not finite: particles ", pair.first, " and ",
                                 pair.second, " are at the distance ", pair.distance);
}

void brownian(const Context& context, const MobilityModel& model, const Cell& cell,
              const ForcePlan& plan, const BrownianOptions& options, double limit,
              View<double, 4> frames, std::int64_t first, std::int64_t last) {
  const CurrentDevice current(device_of("frames", frames.data));
  const auto stream = static_cast<cudaStream_t>(context.stream);
  const std::int64_t n = frames.shape[2];
  const Walker walker(context, model, cell, plan, options, limit, n);
  const auto copy = [&](const double* from, double* to) {
    check(cudaMemcpyAsync(to, from, 3 * n * sizeof(double), cudaMemcpyDeviceToDevice, stream),
          "copy a frame");
  };
  for (std::int64_t r = 0; r < frames.shape[0]; ++r) {
    check_finite_there("the first frame", frames[r][first].data, 3 * n, stream);
    copy(frames[r][first].data, walker.positions());
    for (std::int64_t frame = first; frame < last; ++frame) {
      walker.run(r, frame * options.every, (frame + 1) * options.every);
      copy(walker.positions(), frames[r][frame + 1].data);
    }
  }
}

}  // namespace mlcore::cuda
