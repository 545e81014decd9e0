#include "mobility_plan.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace mlcore::detail {
namespace {

using std::numbers::pi;
using Vector = std::array<double, 3>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double norm(const Vector& v) { return std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]); }

Vector combine(const std::array<double, 9>& rows, double a, double b, double c) {
  Vector v;
  for (int k = 0; k < 3; ++k) v[k] = a * rows[k] + b * rows[3 + k] + c * rows[6 + k];
  return v;
}

bool orthogonal(const std::array<double, 9>& r) {
  for (int a = 0; a < 3; ++a) {
    const int b = (a + 1) % 3;
    double dot = 0;
    for (int k = 0; k < 3; ++k) dot += r[3 * a + k] * r[3 * b + k];
    if (dot != 0) return false;
  }
  return true;
}

/// Longest vector from the centre of the periodic part of the cell to a corner.
double half_diagonal(const Cell& cell) {
  double longest = 0;
  for (int corner = 0; corner < 8; ++corner) {
    double s[3];
    for (int a = 0; a < 3; ++a) s[a] = cell.pbc[a] ? ((corner >> a & 1) ? 0.5 : -0.5) : 0.0;
    longest = std::max(longest, norm(combine(cell.rows, s[0], s[1], s[2])));
  }
  return longest;
}

/// Cell whose open axes are unit vectors perpendicular to the periodic ones.
Cell tidy_cell(const Cell& cell) {
  Cell tidy = cell;
  for (int a = 0; a < 3; ++a) {
    if (cell.pbc[a]) continue;
    for (int k = 0; k < 3; ++k) tidy.rows[3 * a + k] = 0;
  }
  return completed(tidy);
}

kernels::RadialParameters radial_parameters(const MobilityModel& model, double xi, double cutoff) {
  kernels::RadialParameters p{};
  p.radius = model.radius;
  p.mobility = 1.0 / (6.0 * pi * model.viscosity * model.radius);
  p.stokeslet = 1.0 / (8.0 * pi * model.viscosity);
  p.xi = xi;
  p.xi2 = xi * xi;
  p.inverse_xi2 = xi > 0 ? 1.0 / p.xi2 : 0.0;
  p.smooth = p.stokeslet * 2.0 * xi / std::sqrt(pi);
  p.laplacian = model.kernel == Kernel::rpy ? p.xi2 * model.radius * model.radius / 3.0 : 0.0;
  p.cutoff2 = cutoff * cutoff;
  return p;
}

kernels::TableParameters table_parameters(const PairTable& table) {
  kernels::TableParameters p{};
  if (table.cutoff <= 0) return p;
  p.par = table.par.data;
  p.dpar = table.dpar.data;
  p.perp = table.perp.data;
  p.dperp = table.dperp.data;
  p.last_interval = static_cast<std::int32_t>(table.par.shape[0] - 2);
  p.spacing = table.cutoff / static_cast<double>(table.par.shape[0] - 1);
  p.inverse_spacing = 1.0 / p.spacing;
  p.cutoff2 = table.cutoff * table.cutoff;
  return p;
}

/// How far the two halves of the Ewald sum must reach.
struct Reach {
  double real, wave;
};

/// Cutoffs at which the tails, integrated without regard to signs, fall below the tolerance
/// (relative to 1 / (6 pi eta a)).
Reach ewald_reach(const MobilityModel& model, double xi, double volume) {
  const double a = model.kernel == Kernel::rpy ? model.radius : 0.0;
  const double h = a * a * xi * xi / 3.0;
  const double scale = 0.75 * model.radius;  // stokeslet / mobility
  const auto real_tail = [&](double u) {
    const double amplitude =
        scale * 2.0 * xi / std::sqrt(pi) * std::exp(-u * u) * (2.0 + h * (4.0 * u * u + 8.0));
    const double images = std::max(1.0, 4.0 * pi * u / (2.0 * xi * xi * xi * volume));
    return amplitude * images;
  };
  const auto wave_tail = [&](double u) {
    const double modes = 4.0 * xi / pi * (1.0 + u * u) / u;
    return scale * modes * std::exp(-u * u) * (1.0 + 4.0 * u * u * h);
  };
  double real = 1.0, wave = 1.0;
  while (real_tail(real) > 0.5 * model.tolerance) real += 0.02;
  while (wave_tail(wave) > 0.5 * model.tolerance) wave += 0.02;
  return {real / xi, 2.0 * xi * wave};
}

/// Time of one pair (matrix) or one particle (apply) in arbitrary units for a given splitting.
double ewald_cost(const MobilityModel& model, double xi, double volume, double half_diagonal,
                  EwaldUse use, std::int64_t n) {
  const Reach reach = ewald_reach(model, xi, volume);
  const double side = std::cbrt(volume);
  const double images = std::pow(reach.real + 0.3 * half_diagonal + 0.3 * side, 3) * 4.19 / volume;
  const double modes = volume * std::pow(reach.wave, 3) / (12.0 * pi * pi);
  if (use == EwaldUse::matrix) return 14.0 * images + modes;
  return 14.0 * images * static_cast<double>(n) + 4.0 * modes;
}

double best_splitting(const MobilityModel& model, const Cell& cell, EwaldUse use, std::int64_t n) {
  const double volume = std::fabs(determinant(cell.rows));
  const double reach = half_diagonal(cell);
  double best = 0, lowest = kInfinity;
  for (double s = 1.5; s < 40; s *= 1.08) {
    const double xi = s / std::cbrt(volume);
    const double cost = ewald_cost(model, xi, volume, reach, use, n);
    if (cost >= lowest) continue;
    lowest = cost;
    best = xi;
  }
  return best;
}

/// Weights of one wave vector, counted twice for its negative:
/// 2 / (eta V k^2) (1 - a^2 k^2 / 3) (1 + k^2 / 4 xi^2) exp(-k^2 / 4 xi^2) (I - kk).
void append_weights(const MobilityModel& model, double xi, double volume, const Vector& k,
                    std::vector<double>& weights) {
  const double k2 = k[0] * k[0] + k[1] * k[1] + k[2] * k[2];
  const double a = model.kernel == Kernel::rpy ? model.radius : 0.0;
  const double y = k2 / (4.0 * xi * xi);
  const double w =
      2.0 / (model.viscosity * volume * k2) * (1.0 - a * a * k2 / 3.0) * (1.0 + y) * std::exp(-y);
  for (int p = 0; p < 3; ++p) {
    for (int q = p; q < 3; ++q) weights.push_back(w * ((p == q ? 1.0 : 0.0) - k[p] * k[q] / k2));
  }
}

WavePart wave_part(const MobilityModel& model, const Cell& cell,
                   const std::array<double, 9>& inverse, double xi, double reach) {
  const double volume = std::fabs(determinant(cell.rows));
  // Columns of the inverse are the reciprocal vectors over 2 pi.
  std::array<double, 9> reciprocal;
  int extent[3];
  for (int a = 0; a < 3; ++a) {
    for (int k = 0; k < 3; ++k) reciprocal[3 * a + k] = 2.0 * pi * inverse[3 * k + a];
    const Vector row = {cell.rows[3 * a], cell.rows[3 * a + 1], cell.rows[3 * a + 2]};
    extent[a] = static_cast<int>(reach * norm(row) / (2.0 * pi));
  }
  WavePart part;
  for (int n3 = 0; n3 <= extent[2]; ++n3) {
    for (int n2 = n3 ? -extent[1] : 0; n2 <= extent[1]; ++n2) {
      kernels::WaveRow row{n2, n3, 0, 0, static_cast<std::int64_t>(part.weights.size() / 6)};
      bool any = false;
      for (int n1 = n3 || n2 ? -extent[0] : 1; n1 <= extent[0]; ++n1) {
        const Vector k = combine(reciprocal, n1, n2, n3);
        if (norm(k) > reach) continue;  // the n1 within a sphere are consecutive
        if (!any) row.begin = n1;
        any = true;
        row.end = n1 + 1;
        append_weights(model, xi, volume, k, part.weights);
        part.extent = {std::max(part.extent[0], std::abs(n1)),
                       std::max(part.extent[1], std::abs(n2)), std::max(part.extent[2], n3)};
      }
      if (any) part.rows.push_back(row);
    }
  }
  return part;
}

/// Calls f(n, S) for every lattice vector S = n @ rows with |n_a| <= extent_a, 0 left out.
template <class F>
void for_each_lattice_vector(const Cell& cell, const std::array<int, 3>& extent, const F& f) {
  for (int i = -extent[0]; i <= extent[0]; ++i) {
    for (int j = -extent[1]; j <= extent[1]; ++j) {
      for (int k = -extent[2]; k <= extent[2]; ++k) {
        if (i || j || k) f(std::array<int, 3>{i, j, k}, combine(cell.rows, i, j, k));
      }
    }
  }
}

/// Largest |n_a| of lattice vectors n @ rows no longer than `reach`, plus `margin`.
std::array<int, 3> lattice_extent(const Cell& cell, double reach, double margin) {
  const std::array<double, 3> height = heights(cell);
  std::array<int, 3> extent;
  for (int a = 0; a < 3; ++a) {
    extent[a] = cell.pbc[a] ? static_cast<int>(reach / height[a] + margin) : 0;
  }
  return extent;
}

/// Adds the sum of a term over the images of a particle to its self part.
void add_own_images(const Cell& cell, const kernels::PairTerm& term, double cutoff,
                    double self[6]) {
  for (const Vector& d : own_images(cell, cutoff)) {
    const double r2 = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
    double f, g;
    MLCORE_DISPATCH(mobility_pair)(term, 1, &r2, &f, &g);
    int m = 0;
    for (int p = 0; p < 3; ++p) {
      for (int q = p; q < 3; ++q) self[m++] += (p == q ? f : 0.0) + g * d[p] * d[q];
    }
  }
}

void add_diagonal(double value, double self[6]) {
  self[0] += value;
  self[3] += value;
  self[5] += value;
}

kernels::PairKind kind_of(const MobilityModel& model, bool periodic) {
  if (model.kernel == Kernel::regularized_oseen) return kernels::PairKind::regularized;
  if (model.kernel == Kernel::rpy_wall) return kernels::PairKind::rpy;
  if (model.kernel == Kernel::rpy) {
    return periodic ? kernels::PairKind::periodic_rpy : kernels::PairKind::rpy;
  }
  return periodic ? kernels::PairKind::periodic_oseen : kernels::PairKind::oseen;
}

EwaldSum make_ewald_sum(const MobilityModel& model, const Cell& cell, double xi) {
  const Reach reach = ewald_reach(model, xi, std::fabs(determinant(cell.rows)));
  EwaldSum sum;
  sum.radial = radial_parameters(model, xi, reach.real);
  sum.images = pair_images(cell, reach.real);
  sum.waves = wave_part(model, cell, inverse(cell.rows), xi, reach.wave);
  for (std::size_t k = 0; k < sum.waves.weights.size(); ++k) {
    sum.wave_self[k % 6] += sum.waves.weights[k];
  }
  for (int m = 0; m < 6; ++m) sum.self[m] = sum.wave_self[m];
  add_own_images(cell, {kind_of(model, true), sum.radial, {}, 0, nullptr}, reach.real, sum.self);
  add_diagonal(sum.radial.mobility - kernels::smooth_pair(sum.radial, 0.0).f, sum.self);
  return sum;
}

/// All an Ewald sum depends on.
using EwaldKey = std::array<double, 16>;

EwaldKey ewald_key(const MobilityModel& model, const Cell& cell, EwaldUse use, std::int64_t n) {
  EwaldKey key{};
  std::copy(cell.rows.begin(), cell.rows.end(), key.begin());
  key[9] = static_cast<double>(model.kernel);
  key[10] = model.radius;
  key[11] = model.viscosity;
  key[12] = model.tolerance;
  key[13] = model.splitting;
  key[14] = static_cast<double>(use);
  key[15] = use == EwaldUse::apply ? static_cast<double>(n) : 0.0;
  return key;
}

/// A trajectory asks for the same sums again and again: each thread keeps the last ones.
std::shared_ptr<const EwaldSum> ewald_sum(const MobilityModel& model, const Cell& cell,
                                          EwaldUse use, std::int64_t n) {
  struct Kept {
    EwaldKey key{};
    std::shared_ptr<const EwaldSum> sum;
  };
  thread_local std::array<Kept, 4> kept;
  thread_local std::size_t next = 0;
  const EwaldKey key = ewald_key(model, cell, use, n);
  for (const Kept& k : kept) {
    if (k.sum && k.key == key) return k.sum;
  }
  const double xi = model.splitting > 0 ? model.splitting : best_splitting(model, cell, use, n);
  Kept& slot = kept[next++ % kept.size()];
  slot = {key, std::make_shared<const EwaldSum>(make_ewald_sum(model, cell, xi))};
  return slot.sum;
}

void add_kernel(const MobilityModel& model, EwaldUse use, std::int64_t n, MobilityPlan& plan) {
  static constexpr double kZero[3] = {};
  kernels::PairTerm& term = plan.terms[plan.term_count++];
  if (plan.cell.is_open()) {
    term = {kind_of(model, false), radial_parameters(model, 0, 0), {}, 1, kZero};
    add_diagonal(term.radial.mobility, plan.self);
    return;
  }
  plan.ewald = ewald_sum(model, plan.cell, use, n);
  const std::vector<double>& images = plan.ewald->images;
  term = {kind_of(model, true),
          plan.ewald->radial,
          {},
          static_cast<std::int64_t>(images.size() / 3),
          images.data()};
  for (int m = 0; m < 6; ++m) plan.self[m] += plan.ewald->self[m];
}

/// Images of the table, kept by each thread for the next call.
std::shared_ptr<const std::vector<double>> table_images(const Cell& cell, double cutoff) {
  struct Kept {
    Cell cell;
    double cutoff = -1;
    std::shared_ptr<const std::vector<double>> images;
  };
  static thread_local Kept kept;
  if (kept.cutoff != cutoff || kept.cell.rows != cell.rows || kept.cell.pbc != cell.pbc) {
    kept = {cell, cutoff, std::make_shared<const std::vector<double>>(pair_images(cell, cutoff))};
  }
  return kept.images;
}

void add_table(const PairTable& table, MobilityPlan& plan) {
  plan.table_images = table_images(plan.cell, table.cutoff);
  plan.table_term = plan.term_count;
  kernels::PairTerm& term = plan.terms[plan.term_count++];
  term = {kernels::PairKind::table,
          {},
          table_parameters(table),
          static_cast<std::int64_t>(plan.table_images->size() / 3),
          plan.table_images->data()};
  add_own_images(plan.cell, term, table.cutoff, plan.self);
}

void check_radii(const MobilityModel& model, const Cell& cell, std::int64_t n) {
  if (model.radii.empty() && model.radii.data == nullptr) return;
  MLCORE_CHECK(model.kernel == Kernel::rpy && cell.is_open(),
               "radii of single particles are known to the RPY kernel in open space alone");
  MLCORE_CHECK(model.radii.shape[0] == n, "radii must hold one radius per particle (", n, "), got ",
               model.radii.shape[0]);
  for (std::int64_t i = 0; i < n; ++i) {
    MLCORE_CHECK(model.radii(i) > 0 && std::isfinite(model.radii(i)),
                 "radii must be positive and finite, but entry ", i, " is ", model.radii(i));
  }
}

}  // namespace

void check_mobility(const MobilityModel& model, const Cell& cell, std::int64_t n) {
  const bool analytic = model.kernel != Kernel::none;
  const int number = static_cast<int>(model.kernel);
  MLCORE_CHECK(number >= 0 && number <= static_cast<int>(Kernel::rpy_wall),
               "kernel must be none, oseen, rpy, regularized_oseen or rpy_wall");
  MLCORE_CHECK(!analytic || (model.radius > 0 && std::isfinite(model.radius)),
               "radius must be positive and finite, got ", model.radius);
  MLCORE_CHECK(!analytic || (model.viscosity > 0 && std::isfinite(model.viscosity)),
               "viscosity must be positive and finite, got ", model.viscosity);
  MLCORE_CHECK(std::isfinite(model.self), "self must be finite, got ", model.self);
  MLCORE_CHECK(model.tolerance >= 1e-14 && model.tolerance <= 1e-2,
               "tolerance must lie in 1e-14..1e-2, got ", model.tolerance);
  MLCORE_CHECK(model.splitting >= 0 && std::isfinite(model.splitting),
               "splitting must be finite and not negative, got ", model.splitting);
  MLCORE_CHECK(!analytic || cell.is_open() || cell.fully_periodic(),
               "pbc must be all true or all false for the Oseen and RPY kernels, got (",
               cell.pbc[0], ", ", cell.pbc[1], ", ", cell.pbc[2], ")");
  const bool open_only =
      model.kernel == Kernel::regularized_oseen || model.kernel == Kernel::rpy_wall;
  MLCORE_CHECK(!open_only || cell.is_open(), "the ",
               model.kernel == Kernel::rpy_wall ? "wall" : "regularised Oseen",
               " kernel is known in open space alone: leave out the cell, or set pbc to false");
  check_radii(model, cell, n);
  const PairTable& table = model.table;
  MLCORE_CHECK(table.cutoff >= 0 && std::isfinite(table.cutoff),
               "table cutoff must be finite and not negative, got ", table.cutoff);
  if (table.cutoff == 0) return;
  const std::int64_t knots = table.par.shape[0];
  MLCORE_CHECK(knots >= 2 && knots < (std::int64_t{1} << 31),
               "a table needs at least 2 knots, got ", knots);
  MLCORE_CHECK(
      table.dpar.shape[0] == knots && table.perp.shape[0] == knots && table.dperp.shape[0] == knots,
      "par, dpar, perp and dperp must have the same length, got ", knots, ", ", table.dpar.shape[0],
      ", ", table.perp.shape[0], " and ", table.dperp.shape[0]);
}

std::vector<std::array<double, 3>> own_images(const Cell& cell, double cutoff) {
  std::vector<std::array<double, 3>> images;
  for_each_lattice_vector(cell, lattice_extent(cell, cutoff, 0.0),
                          [&](const std::array<int, 3>&, const Vector& d) {
                            if (norm(d) < cutoff) images.push_back(d);
                          });
  return images;
}

std::vector<double> pair_images(const Cell& cell, double cutoff) {
  const std::array<double, 3> height = heights(cell);
  const bool right_angles = orthogonal(cell.rows);
  // A distance lies in the octant with signs s: within a quarter diagonal of its centre.
  const double reach = cutoff + 0.5 * half_diagonal(cell);
  std::vector<double> images(3, 0.0);
  for_each_lattice_vector(
      cell, lattice_extent(cell, cutoff, 0.5), [&](const std::array<int, 3>& n, const Vector&) {
        double gap2 = 0, widest = 0;  // distance to the faces that the octant cannot come closer to
        for (int a = 0; a < 3; ++a) {
          const double gap = (n[a] < 0 ? -n[a] - 0.5 : n[a]) * height[a];
          gap2 += gap * gap;
          widest = std::max(widest, gap);
        }
        if ((right_angles ? std::sqrt(gap2) : widest) >= cutoff) return;
        bool near = false;
        for (int octant = 0; octant < 8 && !near; ++octant) {
          double c[3];
          for (int a = 0; a < 3; ++a) {
            c[a] = cell.pbc[a] ? ((octant >> a & 1) ? -1.0 : 1.0) * (n[a] + 0.25) : 0.0;
          }
          near = norm(combine(cell.rows, c[0], c[1], c[2])) < reach;
        }
        if (near) images.insert(images.end(), n.begin(), n.end());
      });
  return images;
}

kernels::PairGeometry pair_geometry(const MobilityPlan& plan, const double* x, const double* y,
                                    const double* z) {
  kernels::PairGeometry geometry;
  geometry.x = x;
  geometry.y = y;
  geometry.z = z;
  geometry.periodic = !plan.cell.is_open();
  for (int a = 0; a < 3; ++a) {
    for (int k = 0; k < 3; ++k) {
      geometry.rows[3 * a + k] = plan.cell.pbc[a] ? plan.cell.rows[3 * a + k] : 0.0;
      geometry.inverse[3 * k + a] = plan.cell.pbc[a] ? plan.inverse[3 * k + a] : 0.0;
    }
  }
  return geometry;
}

MobilityPlan mobility_plan(const MobilityModel& model, const Cell& cell, EwaldUse use,
                           std::int64_t n) {
  MobilityPlan plan;
  plan.cell = tidy_cell(cell);
  plan.inverse = inverse(plan.cell.rows);
  if (model.kernel != Kernel::none && use != EwaldUse::none) add_kernel(model, use, n, plan);
  add_diagonal(model.self, plan.self);
  if (model.table.cutoff > 0) add_table(model.table, plan);
  return plan;
}

}  // namespace mlcore::detail
