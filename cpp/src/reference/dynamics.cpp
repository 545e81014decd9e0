#include "mlcore/reference/dynamics.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mlcore/reference/linalg.hpp"
#include "mlcore/reference/mobility.hpp"
#include "mlcore/reference/random.hpp"

namespace mlcore::reference {
namespace {

double pair_energy(const PairForce& pair, double r) {
  if (pair.kind == PairForce::Kind::yukawa) return pair.strength * std::exp(-r / pair.length) / r;
  const double s6 = std::pow(pair.length / r, 6);
  return 4 * pair.strength * (s6 * s6 - s6);
}

/// -dU/dr.
double pair_strength(const PairForce& pair, double r) {
  if (pair.kind == PairForce::Kind::yukawa) {
    return pair.strength * std::exp(-r / pair.length) * (1 / pair.length + 1 / r) / r;
  }
  const double s6 = std::pow(pair.length / r, 6);
  return 24 * pair.strength * (2 * s6 * s6 - s6) / r;
}

double add_pair(const PairForce& pair, const Cell& full, View<const double, 2> x, std::int64_t i,
                std::int64_t j, View<double, 2> F) {
  double wrapped[3], energy = 0;
  for (int k = 0; k < 3; ++k) wrapped[k] = x(i, k) - x(j, k);
  wrap_displacement(full, inverse(full.rows), wrapped);
  int reach[3];
  for (int k = 0; k < 3; ++k) {
    reach[k] = full.pbc[k] ? static_cast<int>(std::ceil(pair.cutoff / heights(full)[k])) + 1 : 0;
  }
  for (int a = -reach[0]; a <= reach[0]; ++a) {
    for (int b = -reach[1]; b <= reach[1]; ++b) {
      for (int c = -reach[2]; c <= reach[2]; ++c) {
        double d[3];
        for (int k = 0; k < 3; ++k) {
          d[k] = wrapped[k] + a * full.rows[k] + b * full.rows[3 + k] + c * full.rows[6 + k];
        }
        const double r = std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
        if (r >= pair.cutoff || (i == j && r == 0)) continue;
        energy += pair_energy(pair, r) - pair_energy(pair, pair.cutoff);
        for (int k = 0; k < 3; ++k) F(i, k) += pair_strength(pair, r) * d[k] / r;
      }
    }
  }
  return energy;
}

struct Buffers {
  explicit Buffers(std::int64_t n)
      : M(9 * n * n), L(9 * n * n), F(3 * n), V(3 * n), D(3 * n), xi(3 * n), g(3 * n), tags(n) {}
  std::vector<double> M, L, F, V, D, xi, g;
  std::vector<std::uint32_t> tags;
};

/// x = L^-T x.
void transpose_solve(View<const double, 2> L, std::vector<double>& x) {
  for (std::int64_t i = L.shape[0] - 1; i >= 0; --i) {
    for (std::int64_t j = i + 1; j < L.shape[0]; ++j) x[i] -= L(j, i) * x[j];
    x[i] /= L(i, i);
  }
}

}  // namespace

double force_field(const ForceField& field, const Cell& cell, View<const double, 2> x,
                   View<double, 2> F) {
  const Cell full = completed(cell);
  double energy = 0;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (int k = 0; k < 3; ++k) {
      const double push = field.constant.empty() ? 0 : field.constant(i, k);
      const double centre =
          field.centres.empty() ? 0 : field.centres(field.centres.shape[0] == 1 ? 0 : i, k);
      F(i, k) = push - field.stiffness * (x(i, k) - centre);
      energy += 0.5 * field.stiffness * (x(i, k) - centre) * (x(i, k) - centre) - push * x(i, k);
    }
  }
  for (const PairForce& pair : field.pairs) {
    for (std::int64_t i = 0; i < x.shape[0]; ++i) {
      for (std::int64_t j = 0; j < x.shape[0]; ++j) {
        energy += 0.5 * add_pair(pair, full, x, i, j, F);  // each pair comes twice
      }
    }
  }
  return energy;
}

void brownian(const MobilityModel& model, const Cell& cell, const ForceField& field,
              const BrownianOptions& options, View<double, 3> frames) {
  const std::int64_t n = frames.shape[1], m = 3 * n;
  Buffers b(n);
  for (std::int64_t i = 0; i < n; ++i) b.tags[i] = static_cast<std::uint32_t>(i);
  const View<double, 2> M(b.M.data(), {m, m}), L(b.L.data(), {m, m}), F(b.F.data(), {n, 3}),
      V(b.V.data(), {n, 3}), D(b.D.data(), {n, 3}), xi(b.xi.data(), {n, 3});
  std::vector<double> now(frames.begin(), frames.begin() + m), middle(m);
  const View<double, 2> x(now.data(), {n, 3}), half(middle.data(), {n, 3});
  const double amplitude = std::sqrt(2 * options.kT * options.dt);
  const std::int64_t steps = (frames.shape[0] - 1) * options.every;
  for (std::int64_t step = 0; step < steps; ++step) {
    random_normal(options.seed, options.stream, step, {b.tags.data(), {n}}, xi);
    mobility_matrix(model, cell, x, M);
    mobility_divergence(model, cell, x, D);
    force_field(field, cell, x, F);
    mobility_apply(model, cell, x, F, V);
    b.L = b.M;
    cholesky({b.L.data(), {m, m}});
    lower_multiply(L, {b.xi.data(), {1, m}}, {b.g.data(), {1, m}});
    if (options.scheme == Scheme::euler_maruyama) {
      const double drift = options.drift ? options.kT : 0;
      for (std::int64_t k = 0; k < m; ++k) {
        now[k] += options.dt * (b.V[k] + drift * b.D[k]) + amplitude * b.g[k];
      }
    } else {
      for (std::int64_t k = 0; k < m; ++k) {
        middle[k] = now[k] + 0.5 * (options.dt * b.V[k] + amplitude * b.g[k]);
      }
      force_field(field, cell, half, F);
      transpose_solve(L, b.xi);
      for (std::int64_t k = 0; k < m; ++k) b.F[k] += amplitude / options.dt * b.xi[k];
      mobility_apply(model, cell, half, F, V);
      for (std::int64_t k = 0; k < m; ++k) now[k] += options.dt * b.V[k];
    }
    if ((step + 1) % options.every == 0) {
      std::copy(now.begin(), now.end(), frames[(step + 1) / options.every].data);
    }
  }
}

namespace {

/// -dU/dr and U of 4 epsilon ((sigma / r)^12 - (sigma / r)^6).
double lennard_jones(double epsilon, double sigma, double r, double& energy) {
  const double s6 = std::pow(sigma / r, 6);
  energy += 4 * epsilon * (s6 * s6 - s6);
  return 24 * epsilon * (2 * s6 * s6 - s6) / r;
}

double landscape_force(const Landscape& landscape, double x, double& energy) {
  switch (landscape.kind) {
    case Landscape::Kind::none:
      return 0;
    case Landscape::Kind::lennard_jones:
      return lennard_jones(landscape.epsilon, landscape.sigma, x, energy);
    case Landscape::Kind::double_well:
      energy += std::pow(x, 4) / 4 - x * x / 2;
      return x - x * x * x;
    case Landscape::Kind::rugged:
      energy += (std::pow(x, 4) - std::pow(x, 3) - 16 * x * x + 4 * x + 48) / 50 +
                std::sin(30 * (x + 5)) / 5;
      return (-4 * std::pow(x, 3) + 3 * x * x + 32 * x - 4) / 50 - 6 * std::cos(30 * (x + 5));
  }
  return 0;
}

double length(View<const double, 1> x) {
  double square = 0;
  for (double value : x) square += value * value;
  return std::sqrt(square);
}

void add_wall(const SphericalWall& wall, View<const double, 1> x, View<double, 1> F,
              double& energy) {
  const double r = length(x), gap = wall.radius - r;
  if (wall.kind != SphericalWall::Kind::wca || r == 0) return;
  if (gap >= std::pow(2, 1.0 / 6) * wall.sigma) return;
  energy += wall.epsilon;
  const double push = lennard_jones(wall.epsilon, wall.sigma, gap, energy);
  for (std::int64_t k = 0; k < x.shape[0]; ++k) F(k) -= push * x(k) / r;
}

/// Force of one image of j on i; returns its energy.
double add_image(const ParticleSystem& system, const std::vector<double>& d, View<double, 1> F) {
  double square = 0, energy = 0, at_cutoff = 0;
  for (double value : d) square += value * value;
  const double r = std::sqrt(square);
  if (r == 0 || (system.cutoff > 0 && r >= system.cutoff)) return 0;
  const double push = lennard_jones(system.epsilon, system.sigma, r, energy);
  if (system.cutoff > 0) lennard_jones(system.epsilon, system.sigma, system.cutoff, at_cutoff);
  for (std::size_t k = 0; k < d.size(); ++k) F(k) += push * d[k] / r;
  return energy - at_cutoff;
}

double add_images(const ParticleSystem& system, View<const double, 1> xi, View<const double, 1> xj,
                  View<double, 1> F) {
  const std::int64_t dim = xi.shape[0];
  const int reach = system.box > 0 ? static_cast<int>(system.cutoff / system.box) + 2 : 0;
  std::vector<double> d(dim), image(dim);
  for (std::int64_t k = 0; k < dim; ++k) {
    d[k] = xi(k) - xj(k);
    if (system.box > 0) d[k] -= system.box * std::round(d[k] / system.box);
  }
  double energy = 0;
  const int count = 2 * reach + 1, images = static_cast<int>(std::pow(count, dim));
  for (int n = 0; n < images; ++n) {
    for (int k = 0, rest = n; k < dim; ++k, rest /= count) {
      image[k] = d[k] + (rest % count - reach) * system.box;
    }
    energy += add_image(system, image, F);
  }
  return energy;
}

/// Straight flight within a specular sphere.
void fly(double radius, View<double, 1> x, View<double, 1> v, double time) {
  while (true) {
    double a = 0, b = 0, c = -radius * radius;
    for (std::int64_t k = 0; k < x.shape[0]; ++k) {
      a += v(k) * v(k);
      b += x(k) * v(k);
      c += x(k) * x(k);
    }
    const double hit = (-b + std::sqrt(std::max(b * b - a * c, 0.0))) / a;
    const bool free = a == 0 || hit >= time;
    for (std::int64_t k = 0; k < x.shape[0]; ++k) x(k) += v(k) * (free ? time : hit);
    if (free) return;
    time -= hit;
    double along = 0;
    for (std::int64_t k = 0; k < x.shape[0]; ++k) along += x(k) * v(k) / (radius * radius);
    for (std::int64_t k = 0; k < x.shape[0]; ++k) {
      v(k) -= 2 * along * x(k);
      x(k) *= 1 - 1e-15;
    }
  }
}

}  // namespace

double system_forces(const ParticleSystem& system, View<const double, 2> x, View<double, 2> F) {
  double energy = 0;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t k = 0; k < x.shape[1]; ++k) {
      F(i, k) = -system.trap * x(i, k) + landscape_force(system.landscape, x(i, k), energy);
      energy += system.trap * x(i, k) * x(i, k) / 2;
    }
    add_wall(system.wall, View<const double, 1>(x[i]), F[i], energy);
    for (std::int64_t j = 0; j < x.shape[0] && system.epsilon != 0; ++j) {
      if (i == j && system.box == 0) continue;
      energy +=
          0.5 * add_images(system, View<const double, 1>(x[i]), View<const double, 1>(x[j]), F[i]);
    }
  }
  return energy;
}

void verlet(const ParticleSystem& system, const VerletOptions& options,
            View<const double, 1> masses, View<double, 3> positions, View<double, 3> velocities,
            View<double, 2> energies) {
  const std::int64_t n = positions.shape[1], d = positions.shape[2];
  std::vector<double> xs(positions.data, positions.data + n * d),
      vs(velocities.data, velocities.data + n * d), Fs(n * d);
  const View<double, 2> x(xs.data(), {n, d}), v(vs.data(), {n, d}), F(Fs.data(), {n, d});
  double potential = system_forces(system, x, F);
  const auto kick = [&] {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t k = 0; k < d; ++k) v(i, k) += options.dt / (2 * masses(i)) * F(i, k);
    }
  };
  const auto record = [&](std::int64_t t) {
    std::copy(xs.begin(), xs.end(), positions[t].data);
    std::copy(vs.begin(), vs.end(), velocities[t].data);
    energies(t, 0) = potential;
    energies(t, 1) = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      energies(t, 1) += masses(i) * std::pow(length(View<const double, 1>(v[i])), 2) / 2;
    }
  };
  record(0);
  for (std::int64_t t = 1; t < positions.shape[0]; ++t) {
    for (std::int64_t step = 0; step < options.every; ++step) {
      kick();
      for (std::int64_t i = 0; i < n; ++i) {
        if (system.wall.kind == SphericalWall::Kind::specular) {
          fly(system.wall.radius, x[i], v[i], options.dt);
        } else {
          for (std::int64_t k = 0; k < d; ++k) x(i, k) += options.dt * v(i, k);
        }
      }
      potential = system_forces(system, x, F);
      kick();
    }
    record(t);
  }
}

}  // namespace mlcore::reference
