#include "mlcore/reference/potentials.hpp"

#include <array>
#include <cmath>
#include <vector>

#include "mlcore/cell.hpp"

namespace mlcore::reference {
namespace {

using Real = long double;
using Vector = std::array<Real, 3>;

constexpr Real kPi = 3.14159265358979323846264338327950288L;
constexpr Real kStep = 1e-5L;  // of fourth-order differences

struct Neighbor {
  Vector d;
  std::int64_t species, atom;
};

Real dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
Real length(const Vector& a) { return std::sqrt(dot(a, a)); }

/// Row of an unordered pair of species.
std::int64_t pair_row(std::int64_t species, std::int64_t a, std::int64_t b) {
  if (a > b) std::swap(a, b);
  return a * species - a * (a - 1) / 2 + b - a;
}

// ----------------------------------------------------------------------------------- pair forms

Real pair_curve(PotentialForm form, const double* p, Real r) {
  if (form == PotentialForm::lj) {
    const Real s6 = std::pow(p[1] / r, 6.0L);
    return 4 * p[0] * (s6 * s6 - s6);
  }
  if (form == PotentialForm::morse) {
    const Real e = std::exp(-p[1] * (r - p[2]));
    return p[0] * (e * e - 2 * e);
  }
  return p[0] * std::exp(-r / p[1]) - p[2] / std::pow(r, 6.0L);
}

Real pair_energy(const PotentialModel& model, const double* parameters, std::int64_t center,
                 const std::vector<Neighbor>& near) {
  const int columns = model.form == PotentialForm::lj ? 3 : 4;
  Real energy = 0;
  for (const Neighbor& other : near) {
    const double* p = parameters + columns * pair_row(model.species, center, other.species);
    const Real r = length(other.d), cut = p[columns - 1];
    if (r >= cut) continue;
    energy += pair_curve(model.form, p, r) / 2;
    if (model.shift) energy -= pair_curve(model.form, p, cut) / 2;
  }
  return energy;
}

// ----------------------------------------------------------------------------- Stillinger-Weber

Real sw_energy(const PotentialModel& model, const double* parameters, std::int64_t center,
               const std::vector<Neighbor>& near) {
  enum { epsilon, sigma, a, lambda, gamma, cos0, A, B, p, q, columns };
  const std::int64_t s = model.species;
  const auto row = [&](std::int64_t j, std::int64_t k) {
    return parameters + columns * ((center * s + j) * s + k);
  };
  Real energy = 0;
  for (std::size_t j = 0; j < near.size(); ++j) {
    const double* ij = row(near[j].species, near[j].species);
    const Real r = length(near[j].d), cut = Real(ij[a]) * ij[sigma];
    if (r >= cut) continue;
    energy +=
        ij[A] * Real(ij[epsilon]) *
        (ij[B] * std::pow(ij[sigma] / r, Real(ij[p])) - std::pow(ij[sigma] / r, Real(ij[q]))) *
        std::exp(ij[sigma] / (r - cut)) / 2;
    for (std::size_t k = j + 1; k < near.size(); ++k) {
      const double* ik = row(near[k].species, near[k].species);
      const Real other = length(near[k].d), other_cut = Real(ik[a]) * ik[sigma];
      if (other >= other_cut) continue;
      const double* ijk = row(std::min(near[j].species, near[k].species),
                              std::max(near[j].species, near[k].species));
      const Real off = dot(near[j].d, near[k].d) / (r * other) - ijk[cos0];
      energy += ijk[lambda] * Real(ijk[epsilon]) * off * off *
                std::exp(ij[gamma] * Real(ij[sigma]) / (r - cut)) *
                std::exp(ik[gamma] * Real(ik[sigma]) / (other - other_cut));
    }
  }
  return energy;
}

// --------------------------------------------------------------------------------------- Tersoff

enum TersoffColumn { m, gamma, lam3, c, d, cos0, n, beta, lam2, B, R, D, lam1, A, tersoff_columns };

Real taper(const double* row, Real r) {
  if (r < Real(row[R]) - row[D]) return 1;
  if (r > Real(row[R]) + row[D]) return 0;
  return (1 - std::sin(kPi / 2 * (r - row[R]) / row[D])) / 2;
}

Real bond_order(const double* row, Real zeta) {
  const Real x = row[beta] * zeta, power = row[n];
  return std::pow(1 + std::pow(x, power), -1 / (2 * power));
}

Real tersoff_energy(const PotentialModel& model, const double* parameters, std::int64_t center,
                    const std::vector<Neighbor>& near) {
  const std::int64_t s = model.species;
  const auto row = [&](std::int64_t j, std::int64_t k) {
    return parameters + tersoff_columns * ((center * s + j) * s + k);
  };
  Real energy = 0;
  for (std::size_t j = 0; j < near.size(); ++j) {
    const double* ij = row(near[j].species, near[j].species);
    const Real r = length(near[j].d);
    if (r >= Real(ij[R]) + ij[D]) continue;
    Real zeta = 0;
    for (std::size_t k = 0; k < near.size(); ++k) {
      const double* ijk = row(near[j].species, near[k].species);
      const Real other = length(near[k].d);
      if (k == j || other >= Real(ijk[R]) + ijk[D]) continue;
      const Real off = ijk[cos0] - dot(near[j].d, near[k].d) / (r * other);
      const Real c2 = Real(ijk[c]) * ijk[c], d2 = Real(ijk[d]) * ijk[d];
      // gamma (1 + c2 / d2 - c2 / (d2 + off^2)), without the cancellation
      const Real g = ijk[gamma] * (1 + c2 / d2 * (off * off / (d2 + off * off)));
      const Real line = ijk[lam3] * (r - other);
      const Real exponent = ijk[m] == 3 ? line * line * line : line;
      const Real rise = exponent > 69.0776L ? 1e30L : exponent < -69.0776L ? 0 : std::exp(exponent);
      zeta += taper(ijk, other) * g * rise;
    }
    energy +=
        taper(ij, r) / 2 *
        (ij[A] * std::exp(-ij[lam1] * r) - bond_order(ij, zeta) * ij[B] * std::exp(-ij[lam2] * r));
  }
  return energy;
}

// ------------------------------------------------------------------------------------------- EAM

/// LAMMPS' cubic through uniform knots, `place` counted in knots from the first; and its slope.
Real spline(const double* f, std::int64_t knots, Real place, Real* rise = nullptr) {
  const auto slope = [&](std::int64_t k) -> Real {
    if (k == 0) return Real(f[1]) - f[0];
    if (k == knots - 1) return Real(f[k]) - f[k - 1];
    if (k == 1 || k == knots - 2) return (Real(f[k + 1]) - f[k - 1]) / 2;
    return (Real(f[k - 2]) - f[k + 2] + 8 * (Real(f[k + 1]) - f[k - 1])) / 12;
  };
  const auto whole = static_cast<std::int64_t>(std::floor(place));
  const std::int64_t k = std::max<std::int64_t>(0, std::min(whole, knots - 2));
  const Real t = std::min(place - k, 1.0L), step = Real(f[k + 1]) - f[k];
  const Real linear = slope(k), square = 3 * step - 2 * slope(k) - slope(k + 1);
  const Real cube = slope(k) + slope(k + 1) - 2 * step;
  if (rise) *rise = linear + t * (2 * square + 3 * t * cube);
  return f[k] + t * (linear + t * (square + t * cube));
}

Real eam_energy(const PotentialModel& model, const double* parameters, std::int64_t center,
                const std::vector<Neighbor>& near) {
  const std::int64_t s = model.species, nr = model.radial_knots, nrho = model.embedding_knots;
  const double* density = parameters + s * nrho;
  const double* product = density + s * s * nr;
  Real energy = 0, sum = 0;
  for (const Neighbor& other : near) {
    const Real r = length(other.d), place = r / model.radial_spacing;
    if (r >= model.cutoff) continue;
    sum += spline(density + (other.species * s + center) * nr, nr, place);
    energy += spline(product + pair_row(s, center, other.species) * nr, nr, place) / r / 2;
  }
  Real rise;
  const Real end = (nrho - 1) * Real(model.density_spacing);
  const Real largest = model.largest_density > 0 ? Real(model.largest_density) : end;
  energy += spline(parameters + center * nrho, nrho, sum / model.density_spacing, &rise);
  if (sum > largest) energy += rise / model.density_spacing * (sum - largest);
  return energy;
}

// ------------------------------------------------------------------------------------ structures

Real energy_of(const PotentialModel& model, const double* parameters, std::int64_t center,
               const std::vector<Neighbor>& near) {
  switch (model.form) {
    case PotentialForm::stillinger_weber:
      return sw_energy(model, parameters, center, near);
    case PotentialForm::tersoff:
      return tersoff_energy(model, parameters, center, near);
    case PotentialForm::eam:
      return eam_energy(model, parameters, center, near);
    default:
      return pair_energy(model, parameters, center, near);
  }
}

/// F of a candidate on a structure.
std::array<double, 9> deformation_of(const View<const double, 4>& all, std::int64_t c,
                                     std::int64_t s) {
  if (!all.data) return {1, 0, 0, 0, 1, 0, 0, 0, 1};
  const double* from =
      all.data + 9 * ((all.shape[0] > 1 ? c : 0) * all.shape[1] + (all.shape[1] > 1 ? s : 0));
  std::array<double, 9> F;
  std::copy(from, from + 9, F.begin());
  return F;
}

std::vector<Neighbor> neighbors_of(const PotentialStructures& on,
                                   const PotentialCandidates& candidates, std::int64_t candidate,
                                   const std::array<double, 9>& F, std::int64_t i) {
  const std::int64_t N = on.species.shape[0];
  std::vector<Neighbor> near;
  for (std::int64_t e = on.offsets(i); e < on.offsets(i + 1); ++e) {
    const std::int64_t j = on.columns(e);
    Neighbor other{{}, on.species(j), j};
    for (int a = 0; a < 3; ++a) {
      for (int b = 0; b < 3; ++b) other.d[a] += Real(F[3 * a + b]) * on.vectors(e, b);
      if (candidates.displacements.data) {
        const double* u = candidates.displacements.data + 3 * candidate * N;
        other.d[a] += Real(u[3 * j + a]) - u[3 * i + a];
      }
    }
    near.push_back(other);
  }
  return near;
}

/// Derivative by one component of one vector, of the fourth order in the step.
Real slope_of(const PotentialModel& model, const double* parameters, std::int64_t center,
              std::vector<Neighbor>& near, std::size_t k, int axis) {
  const Real at = near[k].d[axis];
  const auto moved = [&](int steps) {
    near[k].d[axis] = at + steps * kStep;
    return energy_of(model, parameters, center, near);
  };
  const Real slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * kStep);
  near[k].d[axis] = at;
  return slope;
}

}  // namespace

void evaluate_potentials(const PotentialModel& model, const PotentialStructures& on,
                         const PotentialCandidates& candidates, const PotentialResults& results) {
  const std::int64_t M = on.starts.shape[0] - 1, N = on.species.shape[0];
  for (std::int64_t candidate = 0; candidate < candidates.parameters.shape[0]; ++candidate) {
    const double* parameters = &candidates.parameters(candidate, 0);
    for (std::int64_t s = 0; s < M; ++s) {
      const std::array<double, 9> F = deformation_of(candidates.deformation, candidate, s);
      Real energy = 0, virial[6] = {};
      std::vector<Vector> forces(N);
      for (std::int64_t i = on.starts(s); i < on.starts(s + 1); ++i) {
        std::vector<Neighbor> near = neighbors_of(on, candidates, candidate, F, i);
        energy += energy_of(model, parameters, on.species(i), near);
        for (std::size_t k = 0; k < near.size(); ++k) {
          Vector g;
          for (int a = 0; a < 3; ++a) {
            g[a] = slope_of(model, parameters, on.species(i), near, k, a);
            forces[i][a] += g[a];
            forces[near[k].atom][a] -= g[a];
          }
          const Vector& x = near[k].d;
          const Real parts[] = {x[0] * g[0], x[1] * g[1], x[2] * g[2],
                                x[1] * g[2], x[0] * g[2], x[0] * g[1]};
          for (int v = 0; v < 6; ++v) virial[v] += parts[v];
        }
      }
      const Real volume = on.volumes(s) * std::fabs(determinant(F));
      if (results.energies.data) results.energies(candidate, s) = static_cast<double>(energy);
      for (int v = 0; results.stress.data && v < 6; ++v) {
        results.stress(candidate, s, v) = static_cast<double>(virial[v] / volume);
      }
      for (std::int64_t i = on.starts(s); results.forces.data && i < on.starts(s + 1); ++i) {
        for (int a = 0; a < 3; ++a) {
          results.forces(candidate, i, a) = static_cast<double>(forces[i][a]);
        }
      }
    }
  }
}

}  // namespace mlcore::reference
