#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dynamics_cuda.hpp"
#include "kernels/dynamics.hpp"
#include "mlcore/dynamics.hpp"
#include "mlcore/neighbors.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::int64_t kAllPairs = 128;         // particles up to which no list is made
constexpr std::int64_t kReplicaParticles = 64;  // up to which lanes may be replicas
constexpr std::int64_t kSmallest = 3;           // up to which they always are
constexpr std::int64_t kGrain = 512;            // particles of a lone replica per thread
constexpr double kDefaultSkin = 0.4;
constexpr double kPaddingDistance = 1e8;

/// Half of the symmetric weights of Kahan and Li's s17odr8a, the middle one last.
constexpr double kOrder8[] = {
    0.13020248308889008087881763, 0.56116298177510838456196441,  -0.38947496264484728640807860,
    0.15884190655515560089621075, -0.39590389413323757733623154, 0.18453964097831570709183254,
    0.25837438768632204729397911, 0.29501172360931029887096624,  -0.60550853383003451169892108};

cuda::VerletStages stages_of(Integrator integrator) {
  cuda::VerletStages stages{};
  stages.count = integrator == Integrator::velocity_verlet ? 1 : cuda::kMostStages;
  for (int s = 0; s < stages.count; ++s) {
    stages.drift[s] = stages.count == 1 ? 1 : kOrder8[std::min(s, stages.count - 1 - s)];
  }
  for (int s = 0; s <= stages.count; ++s) {
    const double before = s > 0 ? stages.drift[s - 1] : 0;
    stages.kick[s] = 0.5 * (before + (s < stages.count ? stages.drift[s] : 0));
  }
  return stages;
}

/// Where a cache line starts in memory with kLine elements to spare, so that no vector spans two.
constexpr std::int64_t kLine = 8;
double* at_line(std::vector<double>& memory) {
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (64 - address % 64) % 64 / sizeof(double);
}

bool has_cutoff(const ParticleSystem& system) { return system.cutoff > 0; }

// ------------------------------------------------------------------ energy
double lennard_jones(double epsilon, double sigma, double square) {
  const double s2 = sigma * sigma / square, s6 = s2 * s2 * s2;
  return 4 * epsilon * s6 * (s6 - 1);
}

double landscape_energy(const Landscape& landscape, double x) {
  switch (landscape.kind) {
    case Landscape::Kind::none:
      return 0;
    case Landscape::Kind::lennard_jones:
      return lennard_jones(landscape.epsilon, landscape.sigma, x * x);
    case Landscape::Kind::double_well:
      return 0.25 * x * x * x * x - 0.5 * x * x;
    case Landscape::Kind::rugged:
      return ((((x - 1) * x - 16) * x + 4) * x + 48) / 50 + std::sin(30 * (x + 5)) / 5;
  }
  return 0;
}

double wall_energy(const SphericalWall& wall, double square) {
  if (wall.kind != SphericalWall::Kind::wca) return 0;
  const double gap = wall.radius - std::sqrt(square);
  if (gap >= std::pow(2, 1.0 / 6) * wall.sigma) return 0;
  return lennard_jones(wall.epsilon, wall.sigma, gap * gap) + wall.epsilon;
}

/// (n, d) as (n, 3).
std::vector<double> in_three(View<const double, 2> x) {
  std::vector<double> padded(3 * x.shape[0]);
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t k = 0; k < x.shape[1]; ++k) padded[3 * i + k] = x(i, k);
  }
  return padded;
}

bool needs_list(const ParticleSystem& system, std::int64_t n) {
  if (system.epsilon == 0 || !has_cutoff(system)) return false;
  return n > kAllPairs || (system.box > 0 && system.cutoff > 0.5 * system.box);
}

/// Periodic along the d axes there are.
Cell cell_of(const ParticleSystem& system, std::int64_t d) {
  if (system.box == 0) return Cell::open();
  Cell cell = Cell::cubic(system.box);
  for (std::int64_t axis = d; axis < 3; ++axis) cell.pbc[axis] = false;
  return cell;
}

double all_pairs_energy(const ParticleSystem& system, View<const double, 2> x) {
  const double cut2 = has_cutoff(system) ? system.cutoff * system.cutoff : kInfinity;
  const double shift = has_cutoff(system) ? lennard_jones(system.epsilon, system.sigma, cut2) : 0;
  double energy = 0;
  for (std::int64_t i = 1; i < x.shape[0]; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      double square = 0;
      for (std::int64_t k = 0; k < x.shape[1]; ++k) {
        double d = x(i, k) - x(j, k);
        if (system.box > 0) d -= system.box * std::nearbyint(d / system.box);
        square += d * d;
      }
      if (square < cut2) energy += lennard_jones(system.epsilon, system.sigma, square) - shift;
    }
  }
  return energy;
}

double listed_energy(const ParticleSystem& system, View<const double, 2> x) {
  const auto padded = in_three(x);
  NeighborOptions options;
  options.half = true;
  options.sorted = false;
  NeighborCutoff cutoff;
  cutoff.cutoff = system.cutoff;
  const NeighborSearch search(Context{1}, {padded.data(), {x.shape[0], 3}},
                              cell_of(system, x.shape[1]), cutoff, options);
  std::vector<double> distances(search.count());
  NeighborArrays<std::int32_t> arrays;
  arrays.d = {distances.data(), {search.count()}};
  search.fill(Context{1}, arrays);
  const double shift = lennard_jones(system.epsilon, system.sigma, system.cutoff * system.cutoff);
  double energy = 0;
  for (double r : distances) energy += lennard_jones(system.epsilon, system.sigma, r * r) - shift;
  return energy;
}

double potential_energy(const ParticleSystem& system, View<const double, 2> x) {
  double energy = 0;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    double square = 0;
    for (std::int64_t k = 0; k < x.shape[1]; ++k) square += x(i, k) * x(i, k);
    energy += 0.5 * system.trap * square + wall_energy(system.wall, square);
    if (system.landscape.kind != Landscape::Kind::none) {
      energy += landscape_energy(system.landscape, x(i, 0));
    }
  }
  if (system.epsilon == 0) return energy;
  return energy +
         (needs_list(system, x.shape[0]) ? listed_energy(system, x) : all_pairs_energy(system, x));
}

double kinetic_energy(const double* masses, View<const double, 2> v) {
  double energy = 0;
  for (std::int64_t i = 0; i < v.shape[0]; ++i) {
    double square = 0;
    for (std::int64_t k = 0; k < v.shape[1]; ++k) square += v(i, k) * v(i, k);
    energy += 0.5 * masses[i] * square;
  }
  return energy;
}

// ------------------------------------------------------------------ one call
/// Everything that does not change on the way, and the frames.
class Run {
 public:
  Run(const ParticleSystem& system, const VerletOptions& options, View<const double, 2> masses,
      View<double, 4> positions, View<double, 4> velocities, View<double, 3> energies,
      std::int64_t first, std::int64_t last)
      : system_(system),
        options_(options),
        masses_(masses),
        x_(positions),
        v_(velocities),
        energies_(energies),
        first_(first),
        last_(last),
        stages_(stages_of(options.integrator)),
        lanes_(MLCORE_DISPATCH(dynamics_lanes)()) {
    for (int s = 0; s < stages_.count; ++s) drift_.push_back(stages_.drift[s] * options.dt);
    plan_.stages = stages_.count;
    plan_.drift = drift_.data();
    plan_.trap = system.trap;
    plan_.landscape = static_cast<kernels::Landscape>(system.landscape.kind);
    std::tie(plan_.landscape12, plan_.landscape6) =
        coefficients(system.landscape.epsilon, system.landscape.sigma);
    plan_.pairs = system.epsilon != 0;
    std::tie(plan_.pair12, plan_.pair6) = coefficients(system.epsilon, system.sigma);
    plan_.cutoff2 = has_cutoff(system) ? system.cutoff * system.cutoff : kInfinity;
    plan_.box = system.box;
    plan_.inverse_box = system.box > 0 ? 1 / system.box : 0;
    plan_.wall = static_cast<kernels::WallKind>(system.wall.kind);
    plan_.wall_radius = system.wall.radius;
    plan_.wall_sigma = system.wall.sigma;
    plan_.wall_reach = std::pow(2, 1.0 / 6) * system.wall.sigma;
    plan_.wall_strength = 24 * system.wall.epsilon;
  }

  /// Forces on the first frame of a replica, by the way its size would take.
  void forces(std::int64_t r, View<double, 2> F) const {
    const Arrays a = load(r, false);
    if (needs_list(system_, a.n)) {
      List list = empty_list();
      rebuild(Context{1}, a, list);
      list_forces(Context{1}, a, list);
    } else {
      std::vector<double> eye(a.n + a.padded);
      eye[a.n] = 1e30;
      MLCORE_DISPATCH(forces_particles)(plan_, a.n, a.padded, a.d, a.x, a.f, eye.data());
    }
    for (std::int64_t i = 0; i < a.n; ++i) {
      for (std::int64_t k = 0; k < a.d; ++k) F(i, k) = a.f[k * a.padded + i];
    }
  }

  void all(const Context& context) {
    const std::int64_t n = x_.shape[2], R = x_.shape[0];
    if (needs_list(system_, n))
      return each(context, [this](const Context& inner, std::int64_t r) { listed(inner, r); });
    const bool many = lanes_are_replicas(n, R);
    if (!many) return each(context, [this](const Context&, std::int64_t r) { particles(r); });
    const std::int64_t groups = (R + lanes_ - 1) / lanes_;
    detail::parallel_for(context, groups, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t g = begin; g < end; ++g) {
        replicas(g * lanes_, std::min<std::int64_t>(R, (g + 1) * lanes_));
      }
    });
  }

 private:
  /// Lanes are replicas or particles; both sum alike, but for two blocks of particles, whose kernel
  /// sees every pair once.
  bool lanes_are_replicas(std::int64_t n, std::int64_t R) const {
    if (n <= kSmallest) return true;
    const bool two_blocks = lanes_ == 8 && n > 8 && n <= 16;
    return !two_blocks && n <= kReplicaParticles && R >= lanes_ / 2;
  }

  static std::pair<double, double> coefficients(double epsilon, double sigma) {
    const double s6 = std::pow(sigma, 6);
    return {48 * epsilon * s6 * s6, 24 * epsilon * s6};
  }

  template <class Body>
  void each(const Context& context, const Body& body) {
    const std::int64_t R = x_.shape[0];
    if (R < detail::resolve_threads(context)) {
      for (std::int64_t r = 0; r < R; ++r) body(context, r);
      return;
    }
    detail::parallel_for(context, R, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t r = begin; r < end; ++r) body(Context{1}, r);
    });
  }

  const double* masses(std::int64_t r) const {
    return masses_.data + (masses_.shape[0] == 1 ? 0 : r * masses_.shape[1]);
  }
  double kick_of(int stage, std::int64_t r, std::int64_t i) const {
    return stages_.kick[stage] * options_.dt / masses(r)[i];
  }
  View<double, 2> frame_x(std::int64_t r, std::int64_t t) const { return x_[r][t]; }
  View<double, 2> frame_v(std::int64_t r, std::int64_t t) const { return v_[r][t]; }

  /// Energies of a frame; raises where it is not finite.
  void finish(std::int64_t r, std::int64_t t) const {
    double sum = 0;
    for (const auto& frame : {frame_x(r, t), frame_v(r, t)}) {
      for (double value : frame) sum += value * 0;
    }
    if (sum != 0) raise_blow_up(r, t);
    if (energies_.empty()) return;
    double* energy = energies_.data + (r * energies_.shape[1] + t) * 2;
    energy[0] = potential_energy(system_, View<const double, 2>(frame_x(r, t)));
    energy[1] = kinetic_energy(masses(r), View<const double, 2>(frame_v(r, t)));
  }

  [[noreturn]] void raise_blow_up(std::int64_t r, std::int64_t t) const {
    detail::raise<Error>("at frame ", t, " of replica ", r, ": a position or velocity is not ",
                         "finite or sensible; the run has blown up: take a smaller dt (now ",
                         options_.dt, ") or a start without overlaps");
  }

  /// Replicas begin..end-1, at most as many as there are lanes, which the last one fills up.
  void replicas(std::int64_t begin, std::int64_t end) const {
    const std::int64_t n = x_.shape[2], d = x_.shape[3], size = n * d * lanes_;
    std::vector<double> memory(3 * size + (stages_.count + 1) * n * lanes_ + kLine);
    double *x = at_line(memory), *v = x + size, *f = v + size, *kick = f + size;
    const auto replica = [&](int lane) { return std::min<std::int64_t>(begin + lane, end - 1); };
    for (int lane = 0; lane < lanes_; ++lane) {
      const std::int64_t r = replica(lane);
      for (std::int64_t c = 0; c < n * d; ++c) {
        x[c * lanes_ + lane] = frame_x(r, first_).data[c];
        v[c * lanes_ + lane] = frame_v(r, first_).data[c];
      }
      for (int s = 0; s <= stages_.count; ++s) {
        for (std::int64_t i = 0; i < n; ++i) kick[(s * n + i) * lanes_ + lane] = kick_of(s, r, i);
      }
    }
    const auto store = [&](std::int64_t t) {
      for (std::int64_t r = begin; r < end; ++r) {
        for (std::int64_t c = 0; c < n * d; ++c) {
          frame_x(r, t).data[c] = x[c * lanes_ + r - begin];
          frame_v(r, t).data[c] = v[c * lanes_ + r - begin];
        }
        finish(r, t);
      }
    };
    for (std::int64_t r = begin; r < end; ++r) finish(r, first_);
    MLCORE_DISPATCH(forces_replicas)(plan_, n, d, x, f);
    for (std::int64_t t = first_; t < last_; ++t) {
      MLCORE_DISPATCH(verlet_replicas)(plan_, n, d, options_.every, x, v, f, kick);
      store(t + 1);
    }
  }

  /// One replica as structure of arrays.
  struct Arrays {
    std::int64_t n, d, padded;
    std::vector<double> memory;
    double *x, *v, *f, *kick;

    void write(View<double, 2> positions, View<double, 2> velocities) const {
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t k = 0; k < d; ++k) {
          positions(i, k) = x[k * padded + i];
          velocities(i, k) = v[k * padded + i];
        }
      }
    }
  };

  /// A replica at the first frame; without `moving` its places alone.
  Arrays load(std::int64_t r, bool moving = true) const {
    Arrays a;
    a.n = x_.shape[2];
    a.d = x_.shape[3];
    a.padded = (a.n + lanes_ - 1) / lanes_ * lanes_;
    a.memory.resize((3 * a.d + stages_.count + 1) * a.padded + kLine);
    a.x = at_line(a.memory);
    a.v = a.x + a.d * a.padded;
    a.f = a.v + a.d * a.padded;
    a.kick = a.f + a.d * a.padded;
    const double apart = system_.wall.kind == SphericalWall::Kind::none ? kPaddingDistance : 0;
    for (std::int64_t i = 0; i < a.padded; ++i) {
      for (std::int64_t k = 0; k < a.d; ++k) {
        a.x[k * a.padded + i] = i < a.n ? frame_x(r, first_)(i, k) : apart * (i - a.n + 1);
        a.v[k * a.padded + i] = moving && i < a.n ? frame_v(r, first_)(i, k) : 0;
      }
      for (int s = 0; s <= stages_.count && moving && i < a.n; ++s) {
        a.kick[s * a.padded + i] = kick_of(s, r, i);
      }
    }
    return a;
  }

  /// One replica, all pairs, lanes are particles.
  void particles(std::int64_t r) const {
    const Arrays a = load(r);
    std::vector<double> eye(a.n + a.padded);
    eye[a.n] = 1e30;
    finish(r, first_);
    MLCORE_DISPATCH(forces_particles)(plan_, a.n, a.padded, a.d, a.x, a.f, eye.data());
    for (std::int64_t t = first_; t < last_; ++t) {
      MLCORE_DISPATCH(verlet_particles)
      (plan_, a.n, a.padded, a.d, options_.every, a.x, a.v, a.f, a.kick, eye.data());
      a.write(frame_x(r, t + 1), frame_v(r, t + 1));
      finish(r, t + 1);
    }
  }

  /// Pairs within cutoff + skin of a place the particles have left by less than skin / 2.
  struct List {
    double skin;
    bool nearest;  // image: shifts are not needed
    std::vector<double> start, shift;
    std::vector<std::int32_t> j;
    std::vector<std::int64_t> offsets;
  };

  List empty_list() const {
    List list;
    list.skin = options_.skin > 0 ? options_.skin : kDefaultSkin * system_.sigma;
    list.nearest = system_.cutoff + list.skin < 0.5 * system_.box;
    return list;
  }

  void rebuild(const Context& context, const Arrays& a, List& list) const {
    std::vector<double> x(3 * a.n);
    for (std::int64_t i = 0; i < a.n; ++i) {
      for (std::int64_t k = 0; k < a.d; ++k) x[3 * i + k] = a.x[k * a.padded + i];
    }
    NeighborOptions options;
    options.sorted = false;
    NeighborCutoff cutoff;
    cutoff.cutoff = system_.cutoff + list.skin;
    const NeighborSearch search(context, {x.data(), {a.n, 3}}, cell_of(system_, a.d), cutoff,
                                options);
    const std::int64_t count = search.count();
    list.j.assign(count + 16, 0);
    NeighborArrays<std::int32_t> arrays;
    arrays.j = {list.j.data(), {count}};
    std::vector<std::int32_t> S;
    const bool shifts = system_.box > 0 && !list.nearest;
    if (shifts) {
      S.resize(3 * count);
      arrays.S = {S.data(), {count, 3}};
    }
    search.fill(context, arrays);
    list.shift.resize(S.size());
    for (std::size_t k = 0; k < S.size(); ++k) list.shift[k] = system_.box * S[k];
    list.offsets.assign(search.offsets().begin(), search.offsets().end());
    list.start.assign(a.x, a.x + a.d * a.padded);
  }

  /// Raises where particles are too far off to be searched.
  void check_places(const Arrays& a, std::int64_t r, std::int64_t t) const {
    const double farthest = 1e8 * (system_.cutoff + system_.box);
    for (std::int64_t k = 0; k < a.d; ++k) {
      for (std::int64_t i = 0; i < a.n; ++i) {
        if (!(std::fabs(a.x[k * a.padded + i]) < farthest)) raise_blow_up(r, t);
      }
    }
  }

  void list_forces(const Context& context, const Arrays& a, const List& list) const {
    const double* shift = list.shift.empty() ? nullptr : list.shift.data();
    const auto kernel = MLCORE_DISPATCH(forces_listed);
    detail::parallel_for(context, a.n, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
      kernel(plan_, a.padded, a.d, begin, end, a.x, list.offsets.data(), list.j.data(), shift, a.f);
    });
  }

  /// Drift after a kick; true where the list has to be made anew.
  bool drift(const Context& context, const Arrays& a, const List& list, int stage) const {
    const auto kernel = MLCORE_DISPATCH(kick_and_drift);
    std::vector<double> longest(detail::resolve_threads(context), 0.0);
    detail::parallel_for(context, a.n, kGrain, [&](std::int64_t begin, std::int64_t end, int c) {
      longest[c] = kernel(plan_, a.padded, a.d, begin, end, drift_[stage], a.x, a.v, a.f,
                          a.kick + stage * a.padded, list.start.data());
    });
    double most = 0;
    for (double square : longest) {
      if (!(square <= most)) most = square;
    }
    return !(most <= 0.25 * list.skin * list.skin);
  }

  void listed(const Context& context, std::int64_t r) const {
    const Arrays a = load(r);
    List list = empty_list();
    finish(r, first_);
    rebuild(context, a, list);
    list_forces(context, a, list);
    const auto last_kick = MLCORE_DISPATCH(kick);
    for (std::int64_t t = first_; t < last_; ++t) {
      for (std::int64_t step = 0; step < options_.every; ++step) {
        for (int s = 0; s < stages_.count; ++s) {
          if (drift(context, a, list, s)) {
            check_places(a, r, t + 1);
            rebuild(context, a, list);
          }
          list_forces(context, a, list);
        }
        last_kick(a.padded, a.d, 0, a.n, a.v, a.f, a.kick + stages_.count * a.padded);
      }
      a.write(frame_x(r, t + 1), frame_v(r, t + 1));
      finish(r, t + 1);
    }
  }

  const ParticleSystem& system_;
  const VerletOptions& options_;
  View<const double, 2> masses_;
  View<double, 4> x_, v_;
  View<double, 3> energies_;
  std::int64_t first_, last_;
  cuda::VerletStages stages_;
  std::vector<double> drift_;
  kernels::VerletPlan plan_{};
  int lanes_;
};

// ------------------------------------------------------------------ checks
void check_number(const char* name, double value, bool positive) {
  MLCORE_CHECK(std::isfinite(value) && (!positive || value > 0), name, " must be ",
               positive ? "positive and finite" : "finite", ", got ", value);
}

void check_system(const ParticleSystem& system, std::int64_t d) {
  check_number("the trap's stiffness", system.trap, false);
  check_number("epsilon", system.epsilon, false);
  check_number("sigma", system.sigma, true);
  MLCORE_CHECK(system.cutoff >= 0 && std::isfinite(system.cutoff),
               "cutoff must be positive, or 0 for none, got ", system.cutoff);
  MLCORE_CHECK(system.box >= 0 && std::isfinite(system.box),
               "box must be positive, or 0 for open space, got ", system.box);
  MLCORE_CHECK(system.box == 0 || system.epsilon == 0 || has_cutoff(system),
               "pairs in a periodic box need a cutoff");
  MLCORE_CHECK(system.landscape.kind == Landscape::Kind::none || d == 1,
               "a landscape needs a system in one dimension, got ", d);
  check_number("epsilon of the landscape", system.landscape.epsilon, false);
  check_number("sigma of the landscape", system.landscape.sigma, true);
  if (system.wall.kind == SphericalWall::Kind::none) return;
  MLCORE_CHECK(system.box == 0, "a spherical wall needs open space, not a periodic box");
  check_number("the wall's radius", system.wall.radius, true);
  check_number("the wall's epsilon", system.wall.epsilon, false);
  check_number("the wall's sigma", system.wall.sigma, true);
}

void check_start(const ParticleSystem& system, View<const double, 2> x, std::int64_t r) {
  if (system.wall.kind == SphericalWall::Kind::none) return;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    double square = 0;
    for (std::int64_t k = 0; k < x.shape[1]; ++k) square += x(i, k) * x(i, k);
    MLCORE_CHECK(square < system.wall.radius * system.wall.radius, "particle ", i, " of replica ",
                 r, " lies outside the wall: at the distance ", std::sqrt(square),
                 " from the centre, the radius is ", system.wall.radius);
  }
}

void check(const ParticleSystem& system, const VerletOptions& options, View<const double, 2> masses,
           View<double, 4> x, View<double, 4> v, View<double, 3> energies, std::int64_t first,
           std::int64_t last) {
  check_number("dt", options.dt, true);
  MLCORE_CHECK(options.every >= 1, "every must be at least 1, got ", options.every);
  MLCORE_CHECK(std::isfinite(options.skin) && options.skin >= 0, "skin must not be negative, got ",
               options.skin);
  const std::int64_t R = x.shape[0], T = x.shape[1], n = x.shape[2], d = x.shape[3];
  MLCORE_CHECK(d >= 1 && d <= 3, "positions must have 1, 2 or 3 coordinates, got ", d);
  check_system(system, d);
  MLCORE_CHECK(v.shape == x.shape, "velocities must have the shape of positions");
  MLCORE_CHECK(energies.size() == 0 || energies.shape == (std::array<std::int64_t, 3>{R, T, 2}),
               "energies must have the shape (R, T, 2)");
  MLCORE_CHECK((masses.shape[0] == 1 || masses.shape[0] == R) && masses.shape[1] == n,
               "masses must have the shape (1, n) or (R, n) with n = ", n, ", R = ", R, ", got (",
               masses.shape[0], ", ", masses.shape[1], ")");
  MLCORE_CHECK(0 <= first && first <= last && last < std::max<std::int64_t>(T, 1), "frames ", first,
               " to ", last, " do not lie within the ", T, " given");
  MLCORE_CHECK(v.device == x.device && masses.device == x.device &&
                   (energies.size() == 0 || energies.device == x.device),
               "all arrays must live on the same device");
  if (x.device == Device::cuda) return;
  for (double mass : masses) check_number("mass", mass, true);
  for (std::int64_t r = 0; r < R && x.size() > 0; ++r) {
    check_finite("the first positions", View<const double, 2>(x[r][first]));
    for (double coordinate : x[r][first]) {
      MLCORE_CHECK(std::abs(coordinate) <= 1e100, "the first positions of replica ", r,
                   " must lie within -1e100 .. 1e100, got ", coordinate);
    }
    check_finite("the first velocities", View<const double, 2>(v[r][first]));
    check_start(system, View<const double, 2>(x[r][first]), r);
  }
}

/// Calls body(i, j, d) for pairs i >= j (i = j: images) whose distance vector d = x_i - x_j lies
/// within the cutoff.
template <class Body>
void each_pair(const ParticleSystem& system, View<const double, 2> x, const Body& body) {
  const std::int64_t n = x.shape[0], dim = x.shape[1];
  double d[3] = {};
  if (needs_list(system, n)) {
    const auto padded = in_three(x);
    NeighborOptions options;
    options.half = true;
    NeighborCutoff cutoff;
    cutoff.cutoff = system.cutoff;
    const NeighborSearch search(Context{1}, {padded.data(), {n, 3}}, cell_of(system, dim), cutoff,
                                options);
    const std::int64_t count = search.count();
    std::vector<std::int32_t> i(count), j(count);
    std::vector<double> D(3 * count);
    NeighborArrays<std::int32_t> arrays;
    arrays.i = {i.data(), {count}};
    arrays.j = {j.data(), {count}};
    arrays.D = {D.data(), {count, 3}};
    search.fill(Context{1}, arrays);
    for (std::int64_t p = 0; p < count; ++p) {
      for (int k = 0; k < 3; ++k) d[k] = D[3 * p + k];
      body(j[p], i[p], d);
    }
    return;
  }
  const double cut2 = has_cutoff(system) ? system.cutoff * system.cutoff : kInfinity;
  for (std::int64_t i = 1; i < n; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      double square = 0;
      for (std::int64_t k = 0; k < dim; ++k) {
        d[k] = x(i, k) - x(j, k);
        if (system.box > 0) d[k] -= system.box * std::nearbyint(d[k] / system.box);
        square += d[k] * d[k];
      }
      if (square < cut2) body(i, j, d);
    }
  }
}

/// product = dF/dx g: a pair pushes by q(r^2) d, which changes by q w + 2 q' (d.w) d with w.
void force_gradient(const ParticleSystem& system, View<const double, 2> x, View<const double, 2> g,
                    View<double, 2> product) {
  const std::int64_t dim = x.shape[1];
  for (std::int64_t k = 0; k < x.size(); ++k) product.data[k] = -system.trap * g.data[k];
  if (system.epsilon == 0) return;
  each_pair(system, x, [&](std::int64_t i, std::int64_t j, const double* d) {
    double w[3] = {}, along = 0, square = 0;
    for (std::int64_t k = 0; k < dim; ++k) {
      w[k] = g(i, k) - g(j, k);
      along += d[k] * w[k];
      square += d[k] * d[k];
    }
    const double s2 = system.sigma * system.sigma / square, s6 = s2 * s2 * s2;
    const double push = 24 * system.epsilon * s6 * (2 * s6 - 1) / square;
    const double slope = -24 * system.epsilon * s6 * (14 * s6 - 4) / (square * square);
    for (std::int64_t k = 0; k < dim; ++k) {
      const double change = push * w[k] + 2 * slope * along * d[k];
      product(i, k) += change;
      product(j, k) -= change;
    }
  });
}

void check_forces(const ParticleSystem& system, View<const double, 3> x) {
  MLCORE_CHECK(x.shape[2] >= 1 && x.shape[2] <= 3, "x must have 1, 2 or 3 coordinates, got ",
               x.shape[2]);
  check_system(system, x.shape[2]);
  if (x.device == Device::cpu) check_finite("x", x);
}

}  // namespace

void system_forces(const Context& context, const ParticleSystem& system, View<const double, 3> x,
                   View<double, 3> F, View<double, 1> energies) {
  check_forces(system, x);
  MLCORE_CHECK(F.size() == 0 || F.shape == x.shape, "F must have the shape of x");
  MLCORE_CHECK(energies.size() == 0 || energies.shape[0] == x.shape[0],
               "energies must have the shape (R,)");
  MLCORE_CHECK((F.size() == 0 || F.device == x.device) &&
                   (energies.size() == 0 || energies.device == x.device),
               "all arrays must live on the same device");
  if (x.device == Device::cuda) return cuda::system_forces(context, system, x, F, energies);
  const View<double, 4> frames(const_cast<double*>(x.data),
                               {x.shape[0], 1, x.shape[1], x.shape[2]});
  const VerletOptions options;
  const Run run(system, options, {}, frames, {}, {}, 0, 0);
  detail::parallel_for(context, x.shape[0], 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) {
      if (F.size() > 0) run.forces(r, F[r]);
      if (energies.size() > 0) energies(r) = potential_energy(system, x[r]);
    }
  });
}

void system_force_gradient(const Context& context, const ParticleSystem& system,
                           View<const double, 3> x, View<const double, 3> g,
                           View<double, 3> product) {
  check_forces(system, x);
  MLCORE_CHECK(g.shape == x.shape && product.shape == x.shape,
               "g and the product must have the shape of x");
  MLCORE_CHECK(system.landscape.kind == Landscape::Kind::none &&
                   system.wall.kind == SphericalWall::Kind::none,
               "the gradient of forces knows a trap and pairs, no landscape and no wall");
  MLCORE_CHECK(g.device == x.device && product.device == x.device,
               "all arrays must live on the same device");
  if (x.device == Device::cuda) {
    return cuda::system_force_gradient(context, system, x, g, product);
  }
  check_finite("g", g);
  detail::parallel_for(context, x.shape[0], 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t r = begin; r < end; ++r) force_gradient(system, x[r], g[r], product[r]);
  });
}

void verlet(const Context& context, const ParticleSystem& system, const VerletOptions& options,
            View<const double, 2> masses, View<double, 4> positions, View<double, 4> velocities,
            View<double, 3> energies, std::int64_t first, std::int64_t last) {
  check(system, options, masses, positions, velocities, energies, first, last);
  if (positions.empty()) {
    if (energies.device == Device::cpu) std::fill(energies.begin(), energies.end(), 0.0);
    return;
  }
  if (positions.device == Device::cuda) {
    return cuda::verlet(context, system, options, stages_of(options.integrator), masses, positions,
                        velocities, energies, first, last);
  }
  Run(system, options, masses, positions, velocities, energies, first, last).all(context);
}

}  // namespace mlcore
