#include "mlcore/reference/splitting.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace mlcore::reference {
namespace {

/// G of table `half` for species a <= b.
double push_of(const SplittingTables& tables, std::int64_t half, std::int64_t a, std::int64_t b,
               double r) {
  const std::int64_t pair = a * tables.masses.shape[0] - a * (a - 1) / 2 + (b - a);
  const std::int64_t M = tables.coefficients.shape[2];
  const double u = 1 / r;
  if (u <= tables.u_lo) return 0;
  const double s = (std::min(u, tables.u_hi) - tables.u_lo) / (tables.u_hi - tables.u_lo) *
                   static_cast<double>(M);
  const auto k = std::clamp<std::int64_t>(static_cast<std::int64_t>(s), 0, M - 1);
  const double t = s - static_cast<double>(k);
  const double* c = tables.coefficients[half][pair].data + 4 * k;
  return std::pow(u, 8) * (c[0] + c[1] * t + c[2] * t * t + c[3] * t * t * t);
}

/// Calls body(d) with the vectors within the cutoff from an image of xj to xi.
template <class Body>
void each_image(const Cell& cell, double cutoff, View<double, 1> xi, View<double, 1> xj,
                bool itself, const Body& body) {
  const Cell full = completed(cell);
  const auto inverse_rows = inverse(full.rows);
  const auto apart = heights(full);
  double d[3];
  for (int k = 0; k < 3; ++k) d[k] = xi(k) - xj(k);
  wrap_displacement(full, inverse_rows, d);
  int reach[3];
  for (int a = 0; a < 3; ++a) {
    reach[a] = full.pbc[a] ? static_cast<int>(std::ceil(cutoff / apart[a])) : 0;
  }
  for (int p = -reach[0]; p <= reach[0]; ++p) {
    for (int q = -reach[1]; q <= reach[1]; ++q) {
      for (int s = -reach[2]; s <= reach[2]; ++s) {
        if (itself && p == 0 && q == 0 && s == 0) continue;
        double image[3], square = 0;
        for (int k = 0; k < 3; ++k) {
          image[k] = d[k] + p * full.rows[k] + q * full.rows[3 + k] + s * full.rows[6 + k];
          square += image[k] * image[k];
        }
        if (std::sqrt(square) < cutoff) body(image, std::sqrt(square));
      }
    }
  }
}

/// Straight flight, which a specular sphere (0: none) reflects; time may be negative.
void fly(double radius, View<double, 1> x, View<double, 1> v, double time) {
  const double sign = time < 0 ? -1 : 1;
  double left = sign * time;
  while (true) {
    double a = 0, b = 0, c = -radius * radius;
    for (int k = 0; k < 3; ++k) {
      a += v(k) * v(k);
      b += sign * x(k) * v(k);
      c += x(k) * x(k);
    }
    const double hit = radius == 0 || a == 0 ? std::numeric_limits<double>::infinity()
                                             : (-b + std::sqrt(std::max(b * b - a * c, 0.0))) / a;
    for (int k = 0; k < 3; ++k) x(k) += sign * v(k) * std::min(hit, left);
    if (hit >= left) return;
    left -= hit;
    double along = 0;
    for (int k = 0; k < 3; ++k) along += x(k) * v(k) / (radius * radius);
    for (int k = 0; k < 3; ++k) {
      v(k) -= 2 * along * x(k);
      x(k) *= 1 - 1e-15;
    }
  }
}

}  // namespace

double splitting_step(const SplittingTables& tables, const SplittingSystem& system,
                      View<double, 2> x, View<double, 2> v) {
  const std::int64_t n = x.shape[0], kicks = tables.drifts.shape[0] - 1;
  const auto species = [&](std::int64_t i) { return system.species.data ? system.species(i) : 0; };
  double closest = std::numeric_limits<double>::infinity();
  const auto drift = [&](std::int64_t k) {
    for (std::int64_t i = 0; i < n; ++i) {
      fly(system.wall, x[i], v[i], tables.drifts(k) * tables.step);
    }
  };
  drift(0);
  for (std::int64_t k = 0; k < kicks; ++k) {
    for (std::int64_t i = 0; i < n; ++i) {
      double sum[3] = {};
      for (std::int64_t j = 0; j < n; ++j) {
        each_image(system.cell, 1 / tables.u_lo, x[i], x[j], i == j,
                   [&](const double* d, double r) {
                     std::int64_t a = species(i), b = species(j);
                     if (a > b) std::swap(a, b);
                     const double G = push_of(tables, std::min(k, kicks - 1 - k), a, b, r);
                     for (int c = 0; c < 3; ++c) sum[c] += G * d[c];
                     closest = std::min(closest, r);
                   });
      }
      for (int c = 0; c < 3; ++c) v(i, c) += tables.step / tables.masses(species(i)) * sum[c];
    }
    drift(k + 1);
  }
  return closest;
}

}  // namespace mlcore::reference
