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

}  // namespace mlcore::reference
