#include "mlcore/reference/mobility.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

namespace mlcore::reference {
namespace {

using std::numbers::pi;
using Vector = std::array<double, 3>;
using Tensor = std::array<double, 9>;

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

Vector row(const std::array<double, 9>& rows, int k) {
  return {rows[3 * k], rows[3 * k + 1], rows[3 * k + 2]};
}

Vector lattice(const std::array<double, 9>& rows, double i, double j, double k) {
  Vector v;
  for (int d = 0; d < 3; ++d) v[d] = i * rows[d] + j * rows[3 + d] + k * rows[6 + d];
  return v;
}

Vector sum(const Vector& a, const Vector& b) { return {a[0] + b[0], a[1] + b[1], a[2] + b[2]}; }

Vector between(View<const double, 2> x, std::int64_t i, std::int64_t j) {
  return {x(i, 0) - x(j, 0), x(i, 1) - x(j, 1), x(i, 2) - x(j, 2)};
}

/// across (I - dd) + along dd for the direction of d.
void add_pair(Tensor& t, const Vector& d, double along, double across) {
  const double r2 = dot(d, d);
  for (int p = 0; p < 3; ++p) {
    for (int q = 0; q < 3; ++q) {
      const double dd = r2 > 0 ? d[p] * d[q] / r2 : 0.0;
      t[3 * p + q] += across * (p == q) + (along - across) * dd;
    }
  }
}

double stokes(const MobilityModel& m) { return 1.0 / (6.0 * pi * m.viscosity * m.radius); }

/// Far field (no overlap) of the kernel.
void add_far(const MobilityModel& m, const Vector& d, double factor, Tensor& t) {
  const double s = m.radius / std::sqrt(dot(d, d));
  const double third = m.kernel == Kernel::rpy ? s * s * s : 0.0;
  const double scale = factor * stokes(m);
  add_pair(t, d, scale * (1.5 * s - third), scale * (0.75 * s + 0.5 * third));
}

void add_overlapping(const MobilityModel& m, const Vector& d, Tensor& t) {
  const double s = std::sqrt(dot(d, d)) / m.radius;
  add_pair(t, d, stokes(m) * (1.0 - 3.0 / 16.0 * s), stokes(m) * (1.0 - 9.0 / 32.0 * s));
}

bool overlap(const MobilityModel& m, const Vector& d) {
  return m.kernel == Kernel::rpy && dot(d, d) < 4.0 * m.radius * m.radius;
}

/// Value and derivative of a cubic Hermite table at r < cutoff.
std::array<double, 2> interpolate(View<const double, 1> value, View<const double, 1> slope,
                                  double cutoff, double r) {
  const double h = cutoff / static_cast<double>(value.shape[0] - 1);
  const std::int64_t k = std::min(static_cast<std::int64_t>(r / h), value.shape[0] - 2);
  const double u = r / h - static_cast<double>(k), v = 1.0 - u;
  const double y = value(k) * v * v * (1 + 2 * u) + value(k + 1) * u * u * (3 - 2 * u) +
                   h * (slope(k) * u * v * v - slope(k + 1) * u * u * v);
  const double dy = 6 * u * v * (value(k + 1) - value(k)) / h + slope(k) * v * (1 - 3 * u) +
                    slope(k + 1) * u * (3 * u - 2);
  return {y, dy};
}

void add_table(const PairTable& table, const Vector& d, Tensor& t) {
  const double r = std::sqrt(dot(d, d));
  if (r >= table.cutoff) return;
  add_pair(t, d, interpolate(table.par, table.dpar, table.cutoff, r)[0],
           interpolate(table.perp, table.dperp, table.cutoff, r)[0]);
}

/// Real-space part, Beenakker eq. (5); the terms in a^3 belong to RPY only.
void add_real(const MobilityModel& m, double xi, const Vector& d, Tensor& t) {
  const double a = m.radius, a3 = m.kernel == Kernel::rpy ? a * a * a : 0.0;
  const double r2 = dot(d, d), r = std::sqrt(r2);
  const double x3 = xi * xi * xi, x5 = x3 * xi * xi, x7 = x5 * xi * xi;
  const double gauss = std::exp(-xi * xi * r2) / std::sqrt(pi), erfc = std::erfc(xi * r);
  const double unit = erfc * (0.75 * a / r + 0.5 * a3 / (r2 * r)) +
                      gauss * (4 * x7 * a3 * r2 * r2 + 3 * x3 * a * r2 - 20 * x5 * a3 * r2 -
                               4.5 * xi * a + 14 * x3 * a3 + xi * a3 / r2);
  const double dyad = erfc * (0.75 * a / r - 1.5 * a3 / (r2 * r)) +
                      gauss * (-4 * x7 * a3 * r2 * r2 - 3 * x3 * a * r2 + 16 * x5 * a3 * r2 +
                               1.5 * xi * a - 2 * x3 * a3 - 3 * xi * a3 / r2);
  add_pair(t, d, stokes(m) * (unit + dyad), stokes(m) * unit);
}

/// One wave vector, Beenakker eq. (6).
void add_wave(const MobilityModel& m, double xi, double volume, const Vector& k, const Vector& d,
              Tensor& t) {
  const double a = m.radius, a3 = m.kernel == Kernel::rpy ? a * a * a : 0.0;
  const double k2 = dot(k, k), y = k2 / (4 * xi * xi);
  const double w = stokes(m) * (a - a3 * k2 / 3) * (1 + y + 2 * y * y) * 6 * pi / k2 *
                   std::exp(-y) / volume * std::cos(dot(k, d));
  add_pair(t, k, 0, w);
}

struct Box {
  Cell cell;
  std::array<double, 9> reciprocal;
  double volume;
  double half_diagonal;
};

Box make_box(const Cell& given) {
  Cell cell = given;
  for (int a = 0; a < 3; ++a) {
    if (cell.pbc[a]) continue;
    for (int k = 0; k < 3; ++k) cell.rows[3 * a + k] = 0;
  }
  Box box{completed(cell), {}, 0, 0};
  box.volume = std::fabs(determinant(box.cell.rows));
  const auto inv = inverse(box.cell.rows);
  for (int a = 0; a < 3; ++a) {
    for (int k = 0; k < 3; ++k) box.reciprocal[3 * a + k] = 2 * pi * inv[3 * k + a];
    box.half_diagonal += 0.5 * std::sqrt(dot(row(box.cell.rows, a), row(box.cell.rows, a)));
  }
  return box;
}

/// Calls f(d) for every image of d (wrapped) that may lie within `reach`.
template <class F>
void for_each_image(const Box& box, Vector d, double reach, const F& f) {
  wrap_displacement(box.cell, inverse(box.cell.rows), d.data());
  const auto h = heights(box.cell);
  int n[3];
  for (int a = 0; a < 3; ++a) {
    n[a] = box.cell.pbc[a] ? static_cast<int>((reach + box.half_diagonal) / h[a]) + 1 : 0;
  }
  for (int i = -n[0]; i <= n[0]; ++i) {
    for (int j = -n[1]; j <= n[1]; ++j) {
      for (int k = -n[2]; k <= n[2]; ++k) {
        const Vector image = sum(d, lattice(box.cell.rows, i, j, k));
        if (dot(image, image) < reach * reach) f(image);
      }
    }
  }
}

void add_ewald(const MobilityModel& m, const Box& box, const Vector& d, bool self, Tensor& t) {
  constexpr double kDigits = 7.0;  // exp(-49)
  const double xi = m.splitting > 0 ? m.splitting : 2.0 / std::cbrt(box.volume);
  const double a = m.radius, a3 = m.kernel == Kernel::rpy ? a * a * a : 0.0;
  for_each_image(box, d, std::max(kDigits / xi, 2 * a), [&](const Vector& image) {
    if (self && dot(image, image) == 0) return;
    add_real(m, xi, image, t);
    if (!overlap(m, image)) return;
    add_overlapping(m, image, t);
    add_far(m, image, -1.0, t);
  });
  const double reach = 2 * xi * kDigits;
  int n[3];
  for (int k = 0; k < 3; ++k) {
    const Vector r = row(box.cell.rows, k);
    n[k] = static_cast<int>(reach * std::sqrt(dot(r, r)) / (2 * pi));
  }
  for (int i = -n[0]; i <= n[0]; ++i) {
    for (int j = -n[1]; j <= n[1]; ++j) {
      for (int k = -n[2]; k <= n[2]; ++k) {
        const Vector wave = lattice(box.reciprocal, i, j, k);
        const double k2 = dot(wave, wave);
        if (k2 > 0 && k2 < reach * reach) add_wave(m, xi, box.volume, wave, d, t);
      }
    }
  }
  if (!self) return;
  const double own =
      stokes(m) * (1 - 6 * xi * a / std::sqrt(pi) + 40.0 / 3.0 * xi * xi * xi * a3 / std::sqrt(pi));
  for (int p = 0; p < 3; ++p) t[4 * p] += own;
}

/// Zuk et al. (2014), eq. (3.3), for radii a and b in units of 1 / (6 pi eta).
void add_unequal(const MobilityModel& m, const Vector& d, double a, double b, Tensor& t) {
  const double r = std::sqrt(dot(d, d)), unit = 1.0 / (6.0 * pi * m.viscosity);
  const double gap = a - b, big = std::max(a, b);
  if (r <= std::fabs(gap)) return add_pair(t, d, unit / big, unit / big);
  if (r > a + b) {
    const double ratio = (a * a + b * b) / (r * r), scale = 0.75 * unit / r;
    return add_pair(t, d, scale * (2 - 2 * ratio / 3), scale * (1 + ratio / 3));
  }
  const double cube = 32 * r * r * r, scale = unit / (a * b);
  const double across =
      scale * (16 * r * r * r * (a + b) - std::pow(gap * gap + 3 * r * r, 2)) / cube;
  add_pair(t, d, across + scale * 3 * std::pow(gap * gap - r * r, 2) / cube, across);
}

/// Cortez et al. (2005), eq. (10).
void add_regularized(const MobilityModel& m, const Vector& d, Tensor& t) {
  const double r2 = dot(d, d), e2 = 2.25 * m.radius * m.radius;
  const double scale = 1.0 / (8.0 * pi * m.viscosity) / std::pow(r2 + e2, 1.5);
  add_pair(t, d, scale * (2 * r2 + 2 * e2), scale * (r2 + 2 * e2));
}

/// Swan and Brady (2007), appendix C, as commonly printed; heights zi, zj.
void add_wall(const MobilityModel& m, const Vector& d, double zi, double zj, Tensor& t) {
  const double a = m.radius;
  const Vector e0 = {d[0] / a, d[1] / a, (zi + zj) / a};
  const double size = std::sqrt(dot(e0, e0));
  const double i1 = 1 / size, i3 = i1 * i1 * i1, i5 = i3 * i1 * i1, h = zj / (zi + zj);
  const double ex = e0[0] / size, ey = e0[1] / size, ez = e0[2] / size, e2 = ez * ez;
  const double f1 =
      -(3 * (1 + 2 * h * (1 - h) * e2) * i1 + 2 * (1 - 3 * e2) * i3 - 2 * (1 - 5 * e2) * i5) / 3;
  const double f2 =
      -(3 * (1 - 6 * h * (1 - h) * e2) * i1 - 6 * (1 - 5 * e2) * i3 + 10 * (1 - 7 * e2) * i5) / 3;
  const double f3 =
      ez * 2 / 3 *
      (3 * h * (1 - 6 * (1 - h) * e2) * i1 - 6 * (1 - 5 * e2) * i3 + 10 * (2 - 7 * e2) * i5);
  const double f4 = ez * 2 / 3 * (3 * h * i1 - 10 * i5);
  const double f5 = -(3 * h * h * e2 * i1 + 3 * e2 * i3 + (2 - 15 * e2) * i5) * 4 / 3;
  const double block[9] = {
      f1 + f2 * ex * ex,      f2 * ex * ey,           f2 * ex * ez + f3 * ex,
      f2 * ex * ey,           f1 + f2 * ey * ey,      f2 * ey * ez + f3 * ey,
      f2 * ex * ez + f4 * ex, f2 * ey * ez + f4 * ey, f1 + (f2 * ez + f3 + f4) * ez + f5};
  for (int p = 0; p < 9; ++p) t[p] += 0.75 * stokes(m) * block[p];
}

/// The self part of a sphere at height z: Swan and Brady (2007), eqs. (B1), (B2).
void add_self_at_wall(const MobilityModel& m, double z, Tensor& t) {
  const double s = m.radius / z;
  const double along = -9.0 / 16 * s + std::pow(s, 3) / 8 - std::pow(s, 5) / 16;
  const double up = -9.0 / 8 * s + std::pow(s, 3) / 2 - std::pow(s, 5) / 8;
  t[0] += stokes(m) * along;
  t[4] += stokes(m) * along;
  t[8] += stokes(m) * up;
}

MobilityModel without_wall(const MobilityModel& m) {
  MobilityModel free = m;
  if (m.kernel == Kernel::rpy_wall) free.kernel = Kernel::rpy;
  return free;
}

void add_kernel(const MobilityModel& given, const Box& box, View<const double, 2> x, std::int64_t i,
                std::int64_t j, Tensor& t) {
  const MobilityModel m = without_wall(given);
  const Vector d = between(x, i, j);
  if (m.kernel == Kernel::none) return;
  if (box.cell.fully_periodic()) return add_ewald(m, box, d, i == j, t);
  if (m.kernel == Kernel::regularized_oseen) return add_regularized(m, d, t);
  if (!m.radii.empty()) return add_unequal(m, d, m.radii(i), m.radii(j), t);
  if (i == j) {
    for (int p = 0; p < 3; ++p) t[4 * p] += stokes(m);
    if (given.kernel == Kernel::rpy_wall) add_self_at_wall(m, x(i, 2), t);
    return;
  }
  overlap(m, d) ? add_overlapping(m, d, t) : add_far(m, d, 1.0, t);
  if (given.kernel == Kernel::rpy_wall) add_wall(m, d, x(i, 2), x(j, 2), t);
}

}  // namespace

void mobility_matrix(const MobilityModel& model, const Cell& cell, View<const double, 2> x,
                     View<double, 2> M) {
  const Box box = make_box(cell);
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t j = 0; j < x.shape[0]; ++j) {
      const Vector d = between(x, i, j);
      Tensor t{};
      add_kernel(model, box, x, i, j, t);
      for (int p = 0; p < 3 && i == j; ++p) t[4 * p] += model.self;
      for_each_image(box, d, model.table.cutoff, [&](const Vector& image) {
        if (i != j || dot(image, image) > 0) add_table(model.table, image, t);
      });
      for (int p = 0; p < 3; ++p) {
        for (int q = 0; q < 3; ++q) M(3 * i + p, 3 * j + q) = t[3 * p + q];
      }
    }
  }
}

void mobility_apply(const MobilityModel& model, const Cell& cell, View<const double, 2> x,
                    View<const double, 2> F, View<double, 2> V) {
  const std::int64_t m = 3 * x.shape[0];
  std::vector<double> matrix(m * m);
  mobility_matrix(model, cell, x, {matrix.data(), {m, m}});
  for (std::int64_t p = 0; p < m; ++p) {
    double v = 0;
    for (std::int64_t q = 0; q < m; ++q) v += matrix[p * m + q] * F.data[q];
    V.data[p] = v;
  }
}

void mobility_divergence(const MobilityModel& model, const Cell& cell, View<const double, 2> x,
                         View<double, 2> D) {
  const Box box = make_box(cell);
  const PairTable& table = model.table;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    Vector total{};
    for (std::int64_t j = 0; j < x.shape[0]; ++j) {
      if (i == j) continue;
      for_each_image(box, between(x, i, j), table.cutoff, [&](const Vector& d) {
        const double r = std::sqrt(dot(d, d));
        if (r == 0) return;
        const auto par = interpolate(table.par, table.dpar, table.cutoff, r);
        const auto perp = interpolate(table.perp, table.dperp, table.cutoff, r);
        const double slope = par[1] + 2 * (par[0] - perp[0]) / r;
        for (int k = 0; k < 3; ++k) total[k] -= slope * d[k] / r;
      });
    }
    if (model.kernel == Kernel::rpy_wall) {
      const double z = x(i, 2), s = model.radius / z;
      total[2] += stokes(model) / z * (9.0 / 8 * s - 1.5 * std::pow(s, 3) + 0.625 * std::pow(s, 5));
    }
    for (int k = 0; k < 3; ++k) D(i, k) = total[k];
  }
}

}  // namespace mlcore::reference
