#include "mlcore/dynamics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "dynamics_cuda.hpp"
#include "dynamics_steps.hpp"
#include "krylov.hpp"
#include "mlcore/linalg.hpp"
#include "mlcore/neighbors.hpp"
#include "mlcore/random.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

/// A validated field with its cell; what depends on neither positions nor time is done once.
class Forces {
 public:
  Forces(const ForceField& field, const Cell& cell, std::int64_t n)
      : field_(field), cell_(completed(cell)), inverse_rows_(inverse(cell_.rows)), n_(n) {
    MLCORE_CHECK(field.constant.empty() || field.constant.shape == (Shape{n, 3}),
                 "the constant force must have the shape (n, 3) with n = ", n, ", got (",
                 field.constant.shape[0], ", ", field.constant.shape[1], ")");
    MLCORE_CHECK(field.centres.empty() || field.centres.shape == (Shape{1, 3}) ||
                     field.centres.shape == (Shape{n, 3}),
                 "centres must have the shape (1, 3) or (n, 3) with n = ", n, ", got (",
                 field.centres.shape[0], ", ", field.centres.shape[1], ")");
    MLCORE_CHECK(std::isfinite(field.stiffness), "stiffness must be finite");
    check_finite("the constant force", field.constant);
    check_finite("centres", field.centres);
    for (const PairForce& pair : field.pairs) add_pair(pair);
  }

  /// What the GPU needs of it.
  cuda::ForcePlan plan() const { return {field_, cell_, inverse_rows_, pairs_}; }

  double longest_cutoff() const {
    double longest = 0;
    for (const PairPlan& pair : pairs_) longest = std::max(longest, pair.force.cutoff);
    return longest;
  }

  double evaluate(const Context& context, View<const double, 2> x, View<double, 2> F) const {
    std::vector<double> energies(n_);
    const bool listed = n_ >= kListed && !pairs_.empty();
    detail::parallel_for(context, n_, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) energies[i] = on_particle(i, x, F, !listed);
    });
    if (listed) add_listed(context, x, F, energies);
    double energy = 0;
    for (double share : energies) energy += share;
    return energy;
  }

 private:
  using Shape = std::array<std::int64_t, 2>;
  using PairPlan = cuda::PairPlan;
  static constexpr std::int64_t kGrain = 64;
  static constexpr std::int64_t kListed = 300;  // particles from which a neighbor list pays

  struct Radial {
    double energy, force_over_r;
  };

  static Radial radial(const PairForce& pair, double r) {
    if (pair.kind == PairForce::Kind::yukawa) {
      const double energy = pair.strength * std::exp(-r / pair.length) / r;
      return {energy, energy * (1 / pair.length + 1 / r) / r};
    }
    const double s2 = pair.length * pair.length / (r * r), s6 = s2 * s2 * s2;
    return {4 * pair.strength * s6 * (s6 - 1), 24 * pair.strength * s6 * (2 * s6 - 1) / (r * r)};
  }

  void add_pair(const PairForce& pair) {
    MLCORE_CHECK(std::isfinite(pair.strength), "the strength of a pair force must be finite, got ",
                 pair.strength);
    MLCORE_CHECK(std::isfinite(pair.length) && pair.length > 0,
                 "the length of a pair force must be positive, got ", pair.length);
    MLCORE_CHECK(std::isfinite(pair.cutoff) && pair.cutoff > 0,
                 "the cutoff of a pair force must be positive, got ", pair.cutoff);
    const auto faces = heights(cell_);
    PairPlan entry{pair, {}, radial(pair, pair.cutoff).energy};
    for (int axis = 0; axis < 3; ++axis) {
      const double reach = cell_.pbc[axis] ? std::floor(pair.cutoff / faces[axis] + 0.5) : 0;
      MLCORE_CHECK(reach < 100, "the cutoff ", pair.cutoff, " of a pair force spans more than 100 ",
                   "images of the cell along axis ", axis);
      entry.reach[axis] = static_cast<int>(reach);
    }
    pairs_.push_back(entry);
  }

  /// Adds the pair forces and energies of all particles.
  void add_listed(const Context& context, View<const double, 2> x, View<double, 2> F,
                  std::vector<double>& energies) const {
    NeighborOptions options;
    options.sorted = false;
    NeighborCutoff cutoff;
    cutoff.cutoff = longest_cutoff();
    const NeighborSearch search(context, x, cell_, cutoff, options);
    std::vector<double> displacements(3 * search.count());
    NeighborArrays<std::int32_t> arrays;
    arrays.D = {displacements.data(), {search.count(), 3}};
    search.fill(context, arrays);
    const auto offsets = search.offsets();
    detail::parallel_for(context, n_, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        double total[3] = {};
        for (std::int64_t p = offsets(i); p < offsets(i + 1); ++p) {
          const double* D = displacements.data() + 3 * p;
          const double d[3] = {-D[0], -D[1], -D[2]};
          for (const PairPlan& pair : pairs_) energies[i] += 0.5 * add_image(pair, d, total);
        }
        for (int k = 0; k < 3; ++k) F(i, k) += total[k];
      }
    });
  }

  /// Writes F(i); returns this particle's share of the energy.
  double on_particle(std::int64_t i, View<const double, 2> x, View<double, 2> F,
                     bool with_pairs) const {
    double total[3], energy = 0;
    for (int k = 0; k < 3; ++k) {
      const double push = field_.constant.empty() ? 0 : field_.constant(i, k);
      const double offset = x(i, k) - centre(i, k);
      total[k] = push - field_.stiffness * offset;
      energy += 0.5 * field_.stiffness * offset * offset - push * x(i, k);
    }
    for (const PairPlan& pair : pairs_) {
      for (std::int64_t j = 0; j < n_ && with_pairs; ++j) {
        energy += 0.5 * add_images(pair, x, i, j, total);
      }
    }
    for (int k = 0; k < 3; ++k) F(i, k) = total[k];
    return energy;
  }

  double centre(std::int64_t i, int k) const {
    if (field_.centres.empty()) return 0;
    return field_.centres(field_.centres.shape[0] == 1 ? 0 : i, k);
  }

  double add_images(const PairPlan& pair, View<const double, 2> x, std::int64_t i, std::int64_t j,
                    double total[3]) const {
    const auto& reach = pair.reach;
    const bool one_image = reach[0] == 0 && reach[1] == 0 && reach[2] == 0;
    if (i == j && one_image) return 0;
    double d[3] = {x(i, 0) - x(j, 0), x(i, 1) - x(j, 1), x(i, 2) - x(j, 2)};
    wrap_displacement(cell_, inverse_rows_, d);
    if (one_image) return add_image(pair, d, total);
    double energy = 0;
    for (int a = -reach[0]; a <= reach[0]; ++a) {
      for (int b = -reach[1]; b <= reach[1]; ++b) {
        for (int c = -reach[2]; c <= reach[2]; ++c) {
          if (i == j && a == 0 && b == 0 && c == 0) continue;
          double e[3];
          for (int k = 0; k < 3; ++k) {
            e[k] = d[k] + a * cell_.rows[k] + b * cell_.rows[3 + k] + c * cell_.rows[6 + k];
          }
          energy += add_image(pair, e, total);
        }
      }
    }
    return energy;
  }

  static double add_image(const PairPlan& pair, const double d[3], double total[3]) {
    const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    if (!(square < pair.force.cutoff * pair.force.cutoff)) return 0;
    const Radial value = radial(pair.force, std::sqrt(square));
    for (int k = 0; k < 3; ++k) total[k] += value.force_over_r * d[k];
    return value.energy - pair.energy_at_cutoff;
  }

  ForceField field_;
  Cell cell_;
  std::array<double, 9> inverse_rows_;
  std::int64_t n_;
  std::vector<PairPlan> pairs_;
};

/// The longest step a particle may take.
double step_limit(const BrownianOptions& options, const Forces& forces) {
  const double limit =
      options.max_displacement > 0 ? options.max_displacement : forces.longest_cutoff();
  constexpr double kNoLimit = 1e90;  // beyond, positions are too large for a mobility
  return limit > 0 ? limit : kNoLimit;
}

/// One replica on its way: positions and everything a step needs.
class Walker {
 public:
  Walker(const MobilityModel& model, const Cell& cell, const Forces& forces,
         const BrownianOptions& options, std::int64_t n)
      : model_(model),
        cell_(cell),
        forces_(forces),
        options_(options),
        n_(n),
        m_(3 * n),
        root_(root_options(options, m_)),
        matrix_size_(root_.method == SqrtMethod::cholesky ? m_ * m_ : 0),
        memory_(new double[matrix_size_ + 7 * m_]),
        tags_(n) {
    for (std::int64_t i = 0; i < n; ++i) tags_[i] = static_cast<std::uint32_t>(i);
    limit_ = step_limit(options, forces);
  }

  /// Moves `x` by the steps first..last-1 of `replica`.
  void run(const Context& context, View<double, 2> x, std::int64_t replica, std::int64_t first,
           std::int64_t last) {
    for (std::int64_t step = first; step < last; ++step) {
      try {
        if (options_.scheme == Scheme::midpoint) {
          step_midpoint(context, x, replica, step);
        } else {
          step_euler(context, x, replica, step);
        }
      } catch (const NotPositiveDefinite& error) {
        throw NotPositiveDefinite(detail::step_name(replica, step) + error.what(),
                                  error.smallest_eigenvalue, error.first, error.second);
      }
      advance(x, replica, step);
    }
  }

 private:
  static SqrtOptions root_options(const BrownianOptions& options, std::int64_t m) {
    SqrtOptions root;
    root.method = options.noise;
    root.tolerance = options.noise_tolerance;
    root.psd = options.psd;
    root.method = detail::chosen_method(root, m, 1);
    return root;
  }

  double* vector(int slot) const { return memory_.get() + matrix_size_ + slot * m_; }
  View<double, 2> rows(int slot) const { return {vector(slot), {n_, 3}}; }
  View<double, 2> matrix() const { return {memory_.get(), {m_, m_}}; }
  View<double, 2> force() const { return rows(0); }
  View<double, 2> velocity() const { return rows(1); }
  View<double, 2> divergence() const { return rows(2); }
  View<double, 2> random() const { return rows(3); }
  View<double, 2> noise() const { return rows(4); }
  View<double, 2> middle() const { return rows(5); }
  View<double, 2> displacement() const { return rows(6); }

  /// V = M F from the stored matrix (before it is factored).
  void multiply(const Context& context) const {
    const double* M = matrix().data;
    const double* F = force().data;
    double* V = velocity().data;
    detail::parallel_for(context, m_, 256, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < m_; ++j) sum += M[i * m_ + j] * F[j];
        V[i] = sum;
      }
    });
  }

  /// V = M F and noise = M^(1/2) xi at x; a Cholesky factor stays in the matrix. Returns the shift
  /// of a repair: the whole step is made with M + shift I then, so that noise and mobility stay in
  /// balance.
  double start(const Context& context, View<const double, 2> x, std::int64_t replica,
               std::int64_t step) const {
    forces_.evaluate(context, x, force());
    const bool factored = matrix_size_ > 0 && options_.kT > 0;
    if (!factored) {
      mobility_apply(context, model_, cell_, x, View<const double, 2>(force()), velocity());
    }
    if (options_.kT == 0) {
      std::fill(noise().begin(), noise().end(), 0.0);
      return 0;
    }
    random_normal(context, options_.seed, options_.stream + static_cast<std::uint32_t>(replica),
                  static_cast<std::uint64_t>(step), {tags_.data(), {n_}}, random());
    const double shift = factored ? factored_noise(context, x) : matrix_free_noise(context, x);
    if (shift > 0) add_shift(shift);
    return shift;
  }

  /// V = M F and noise = L xi; returns the shift.
  double factored_noise(const Context& context, View<const double, 2> x) const {
    mobility_matrix(context, model_, cell_, x, matrix());
    multiply(context);
    const double shift = noise_factor(context, cell_, x, matrix(), options_.psd).shift;
    lower_multiply(context, matrix(), {vector(3), {1, m_}}, {vector(4), {1, m_}});
    return shift;
  }

  double matrix_free_noise(const Context& context, View<const double, 2> x) const {
    const View<const double, 3> z(vector(3), {1, n_, 3});
    return sqrt_apply(context, model_, cell_, x, z, {vector(4), {1, n_, 3}}, root_).shift;
  }

  void add_shift(double shift) const {
    for (std::int64_t k = 0; k < m_; ++k) vector(1)[k] += shift * vector(0)[k];
  }

  double amplitude() const { return std::sqrt(2 * options_.kT * options_.dt); }

  void step_euler(const Context& context, View<const double, 2> x, std::int64_t replica,
                  std::int64_t step) const {
    start(context, x, replica, step);
    const bool drift = options_.drift && options_.kT > 0;
    if (drift && options_.random_finite_difference > 0) {
      difference(context, x, replica, step);
    } else if (drift) {
      mobility_divergence(context, model_, cell_, x, divergence());
    }
    for (std::int64_t k = 0; k < m_; ++k) {
      double velocity = vector(1)[k];
      if (drift) velocity += options_.kT * vector(2)[k];
      vector(6)[k] = options_.dt * velocity + amplitude() * vector(4)[k];
    }
  }

  /// [M(x + d w / 2) - M(x - d w / 2)] w / d, whose mean is the divergence of M.
  void difference(const Context& context, View<const double, 2> x, std::int64_t replica,
                  std::int64_t step) const {
    const double length = options_.random_finite_difference;
    random_normal(context, options_.seed ^ detail::kOtherNumbers,
                  options_.stream + static_cast<std::uint32_t>(replica),
                  static_cast<std::uint64_t>(step), {tags_.data(), {n_}}, random());
    for (const double sign : {1.0, -1.0}) {
      for (std::int64_t k = 0; k < m_; ++k) {
        vector(5)[k] = x.data[k] + sign * 0.5 * length * vector(3)[k];
      }
      mobility_apply(context, model_, cell_, View<const double, 2>(middle()),
                     View<const double, 2>(random()), sign > 0 ? divergence() : displacement());
    }
    for (std::int64_t k = 0; k < m_; ++k) {
      vector(2)[k] = (vector(2)[k] - vector(6)[k]) / length;
    }
  }

  void step_midpoint(const Context& context, View<const double, 2> x, std::int64_t replica,
                     std::int64_t step) const {
    const double shift = start(context, x, replica, step);
    for (std::int64_t k = 0; k < m_; ++k) {
      vector(5)[k] = x.data[k] + 0.5 * (options_.dt * vector(1)[k] + amplitude() * vector(4)[k]);
      if (!std::isfinite(vector(5)[k])) raise_blow_up(replica, step, k / 3, vector(5)[k]);
    }
    if (options_.kT > 0) lower_transpose_solve(context, matrix(), {vector(3), {m_}});
    forces_.evaluate(context, middle(), force());
    for (std::int64_t k = 0; k < m_ && options_.kT > 0; ++k) {
      vector(0)[k] += amplitude() / options_.dt * vector(3)[k];
    }
    mobility_apply(context, model_, cell_, View<const double, 2>(middle()),
                   View<const double, 2>(force()), velocity());
    add_shift(shift);
    for (std::int64_t k = 0; k < m_; ++k) vector(6)[k] = options_.dt * vector(1)[k];
  }

  void advance(View<double, 2> x, std::int64_t replica, std::int64_t step) const {
    detail::LongestStep longest;
    for (std::int64_t i = 0; i < n_; ++i) {
      double square = 0;
      for (int k = 0; k < 3; ++k) {
        const double move = vector(6)[3 * i + k];
        square += move * move;
        x(i, k) += move;
      }
      longest.see(i, square);
    }
    if (longest.within(limit_)) return;
    raise_blow_up(replica, step, longest.particle, std::sqrt(longest.square));
  }

  [[noreturn]] void raise_blow_up(std::int64_t replica, std::int64_t step, std::int64_t particle,
                                  double length) const {
    detail::raise_blow_up(replica, step, particle, length, limit_, options_.dt);
  }

  const MobilityModel& model_;
  const Cell& cell_;
  const Forces& forces_;
  const BrownianOptions& options_;
  std::int64_t n_, m_;
  SqrtOptions root_;
  std::int64_t matrix_size_;  // none where M is not formed here
  std::unique_ptr<double[]> memory_;
  std::vector<std::uint32_t> tags_;
  double limit_;
};

void check(const BrownianOptions& options, View<double, 4> frames, std::int64_t first,
           std::int64_t last) {
  MLCORE_CHECK(std::isfinite(options.dt) && options.dt > 0, "dt must be positive, got ",
               options.dt);
  MLCORE_CHECK(std::isfinite(options.kT) && options.kT >= 0, "kT must not be negative, got ",
               options.kT);
  MLCORE_CHECK(options.every >= 1, "every must be at least 1, got ", options.every);
  MLCORE_CHECK(options.max_displacement >= 0, "max_displacement must not be negative, got ",
               options.max_displacement);
  MLCORE_CHECK(options.drift || options.scheme == Scheme::euler_maruyama,
               "the midpoint scheme holds the drift by construction; drift = false needs "
               "euler_maruyama");
  MLCORE_CHECK(
      std::isfinite(options.random_finite_difference) && options.random_finite_difference >= 0,
      "the length of the random finite difference must not be negative, got ",
      options.random_finite_difference);
  MLCORE_CHECK(options.random_finite_difference == 0 ||
                   (options.drift && options.scheme == Scheme::euler_maruyama),
               "the random finite difference is a drift of euler_maruyama");
  MLCORE_CHECK(options.noise_tolerance >= 1e-14 && options.noise_tolerance <= 0.5,
               "tol must lie in 1e-14..0.5, got ", options.noise_tolerance);
  MLCORE_CHECK(options.noise == SqrtMethod::cholesky || options.scheme == Scheme::euler_maruyama,
               "the midpoint scheme needs noise = cholesky, whose factor it inverts");
  MLCORE_CHECK(frames.shape[3] == 3,
               "frames must have the shape (R, T, n, 3), got the last extent ", frames.shape[3]);
  MLCORE_CHECK(0 <= first && first <= last && last < std::max<std::int64_t>(frames.shape[1], 1),
               "frames ", first, " to ", last, " do not lie within the ", frames.shape[1],
               " given");
  MLCORE_CHECK(
      options.stream < (1u << 30) && frames.shape[0] <= (1 << 30) - std::int64_t{options.stream},
      "stream + replicas must be below 2^30, got ", options.stream, " + ", frames.shape[0]);
}

}  // namespace

double force_field(const Context& context, const ForceField& field, const Cell& cell,
                   View<const double, 2> x, View<double, 2> F) {
  MLCORE_CHECK(x.shape[1] == 3 && F.shape == x.shape, "x and F must have the shape (n, 3), got (",
               x.shape[0], ", ", x.shape[1], ") and (", F.shape[0], ", ", F.shape[1], ")");
  MLCORE_CHECK(x.device == F.device, "x and F must live on the same device");
  const Forces forces(field, cell, x.shape[0]);
  if (x.device == Device::cuda) return cuda::force_field(context, forces.plan(), cell, x, F);
  check_finite("x", x);
  const double energy = forces.evaluate(context, x, F);
  if (!std::isfinite(energy)) {
    const ClosestPair pair = closest_pair(cell, x);
    detail::raise<InvalidArgument>("the energy is not finite: particles ", pair.first, " and ",
                                   pair.second, " are at the distance ", pair.distance);
  }
  return energy;
}

void brownian(const Context& context, const MobilityModel& model, const Cell& cell,
              const ForceField& field, const BrownianOptions& options, View<double, 4> frames,
              std::int64_t first, std::int64_t last) {
  check(options, frames, first, last);
  const std::int64_t replicas = frames.shape[0], n = frames.shape[2], size = 3 * n;
  const Forces forces(field, cell, n);
  if (frames.empty() || first == last) return;
  if (frames.device == Device::cuda) {
    return cuda::brownian(context, model, cell, forces.plan(), options, step_limit(options, forces),
                          frames, first, last);
  }
  for (std::int64_t r = 0; r < replicas; ++r) {
    check_finite("the first frame", View<const double, 2>(frames[r][first]));
  }
  const auto run = [&](std::int64_t begin, std::int64_t end, const Context& inner) {
    Walker walker(model, cell, forces, options, n);
    std::vector<double> positions(size);
    for (std::int64_t r = begin; r < end; ++r) {
      std::copy_n(frames[r][first].data, size, positions.data());
      for (std::int64_t frame = first; frame < last; ++frame) {
        walker.run(inner, {positions.data(), {n, 3}}, r, frame * options.every,
                   (frame + 1) * options.every);
        std::copy_n(positions.data(), size, frames[r][frame + 1].data);
      }
    }
  };
  if (replicas < detail::resolve_threads(context)) {
    run(0, replicas, context);
    return;
  }
  detail::parallel_for(context, replicas, 1, [&](std::int64_t begin, std::int64_t end, int) {
    run(begin, end, Context{1});
  });
}

}  // namespace mlcore
