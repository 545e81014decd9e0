#pragma once

// Radial functions with their derivatives in s = r^2 and in the radius. Everything is static, as in
// mobility_radial.hpp.

#include "mobility_radial.hpp"

namespace mlcore::kernels {

/// f, g and d/ds, d^2/ds^2, d/da of both.
struct Slopes {
  double f, g, f1, g1, f2, g2, fa, ga;
};

MLCORE_RADIAL Slopes operator*(double c, const Slopes& s) {
  return {c * s.f, c * s.g, c * s.f1, c * s.g1, c * s.f2, c * s.g2, c * s.fa, c * s.ga};
}

MLCORE_RADIAL Slopes operator-(const Slopes& a, const Slopes& b) {
  return {a.f - b.f,   a.g - b.g,   a.f1 - b.f1, a.g1 - b.g1,
          a.f2 - b.f2, a.g2 - b.g2, a.fa - b.fa, a.ga - b.ga};
}

MLCORE_RADIAL Slopes select(bool first, const Slopes& a, const Slopes& b) {
  return {first ? a.f : b.f,   first ? a.g : b.g,   first ? a.f1 : b.f1, first ? a.g1 : b.g1,
          first ? a.f2 : b.f2, first ? a.g2 : b.g2, first ? a.fa : b.fa, first ? a.ga : b.ga};
}

/// 1/r, and 0 at r = 0: there every slope counts as 0.
MLCORE_RADIAL double inverse_or_zero(double r2) {
  return r2 > 1e-60 ? 1.0 / root(r2 > 1e-60 ? r2 : 1.0) : 0.0;
}

MLCORE_RADIAL Slopes oseen_slopes(const RadialParameters& p, double i) {
  const double f = p.stokeslet * i, i2 = i * i, g = f * i2;
  return {f, g, -0.5 * g, -1.5 * g * i2, 0.75 * g * i2, 3.75 * g * i2 * i2, 0, 0};
}

/// Spheres apart, with sum2 = a^2 + b^2 and its derivative in the radius.
MLCORE_RADIAL Slopes apart_slopes(double stokeslet, double sum2, double dsum2, double i) {
  const double c = sum2 * (1.0 / 3.0), i2 = i * i;
  const double i3 = stokeslet * i * i2, i5 = i3 * i2, i7 = i5 * i2, i9 = i7 * i2;
  return {stokeslet * i + c * i3,    i3 - 3.0 * c * i5,
          -0.5 * i3 - 1.5 * c * i5,  -1.5 * i5 + 7.5 * c * i7,
          0.75 * i5 + 3.75 * c * i7, 3.75 * i7 - 26.25 * c * i9,
          dsum2 * (1.0 / 3.0) * i3,  -dsum2 * i5};
}

MLCORE_RADIAL Slopes rpy_slopes(const RadialParameters& p, double r2, double i) {
  const double a = p.radius, st = p.stokeslet, r = r2 * i, i3 = i * i * i;
  const Slopes apart = apart_slopes(st, 2.0 * a * a, 4.0 * a, i);
  const double h = st / (8.0 * a * a);
  const Slopes overlap = {st * 4.0 / (3.0 * a) - 3.0 * h * r,
                          h * i,
                          -1.5 * h * i,
                          -0.5 * h * i3,
                          0.75 * h * i3,
                          0.75 * h * i3 * i * i,
                          (6.0 * h * r) / a - st * 4.0 / (3.0 * a * a),
                          -2.0 * h * i / a};
  return select(r2 < 4.0 * a * a, overlap, apart);
}

/// Spheres of radii a and b; fa, ga are slopes in a.
MLCORE_RADIAL Slopes unequal_slopes(const RadialParameters& p, double r2, double i, double a,
                                    double b) {
  const double st = p.stokeslet, gap = a - b, d2 = gap * gap, d4 = d2 * d2, r = r2 * i;
  const double i2 = i * i, i3 = i * i2, i5 = i3 * i2, i7 = i5 * i2, i9 = i7 * i2;
  const double u = st / (24.0 * (a * b)), w = 3.0 * u, larger = a > b ? a : b;
  const double f = u * (16.0 * (a + b) - d4 * i3 - 6.0 * d2 * i - 9.0 * r);
  const double g = w * (d4 * i5 - 2.0 * d2 * i3 + i);
  const Slopes overlap = {f,
                          g,
                          u * (1.5 * d4 * i5 + 3.0 * d2 * i3 - 4.5 * i),
                          w * (-2.5 * d4 * i7 + 3.0 * d2 * i5 - 0.5 * i3),
                          u * (-3.75 * d4 * i7 - 4.5 * d2 * i5 + 2.25 * i3),
                          w * (8.75 * d4 * i9 - 7.5 * d2 * i7 + 0.75 * i5),
                          u * (16.0 - 4.0 * d2 * gap * i3 - 12.0 * gap * i) - f / a,
                          4.0 * w * gap * (d2 * i5 - i3) - g / a};
  const double whole = st * 4.0 / (3.0 * larger);
  const Slopes inside = {whole, 0, 0, 0, 0, 0, a > b ? -whole / a : 0.0, 0};
  const Slopes apart = apart_slopes(st, a * a + b * b, 2.0 * a, i);
  return select(r2 > (a + b) * (a + b), apart, select(r2 <= d2, inside, overlap));
}

MLCORE_RADIAL Slopes regularized_slopes(const RadialParameters& p, double r2) {
  const double a = p.radius, e2 = 2.25 * a * a, i = 1.0 / root(r2 + e2), i2 = i * i;
  const double st = p.stokeslet, i3 = st * i * i2, i5 = i3 * i2, i7 = i5 * i2;
  return {st * i + e2 * i3,
          i3,
          -0.5 * i3 - 1.5 * e2 * i5,
          -1.5 * i5,
          0.75 * i5 + 3.75 * e2 * i7,
          3.75 * i7,
          4.5 * a * (0.5 * i3 - 1.5 * e2 * i5),
          -6.75 * a * i5};
}

/// Smooth part of the Ewald sum: see smooth_pair. P_m obey dP_m/dy = -(2m + 1) P_(m+1) and
/// P_(m-1) = 2 y P_m + E / (2m - 1)!!.
MLCORE_RADIAL Slopes smooth_slopes(const RadialParameters& p, double r2) {
  const double y = p.xi2 * r2, x = root(y), y2 = 2.0 * y;
  const double e = exp_of_minus(y < 700.0 ? y : 700.0);
  const bool small = y < 4.0;
  const double half = small ? 0.5 : 1.0 / y2;
  double p4 = 0;
  for (int k = 44; k >= 0; --k) p4 = 1.0 / (2 * k + 9) * (1.0 + y2 * p4);
  p4 *= e * (1.0 / 105.0);
  const double erf = 1.0 - e * scaled_erfc(x, 1.0 / ((x + 3.75) * (1.0 + 2.0 * x)));
  const double far_p0 = 1.7724538509055160273 * erf * x * half;
  const double far_p1 = (far_p0 - e) * half, far_p2 = (far_p1 - e * (1.0 / 3.0)) * half;
  const double far_p3 = (far_p2 - e * (1.0 / 15.0)) * half;
  const double near_p3 = y2 * p4 + e * (1.0 / 105.0), near_p2 = y2 * near_p3 + e * (1.0 / 15.0);
  const double near_p1 = y2 * near_p2 + e * (1.0 / 3.0);
  const double p3 = small ? near_p3 : far_p3, p2 = small ? near_p2 : far_p2;
  const double p1 = small ? near_p1 : far_p1, p0 = small ? y2 * near_p1 + e : far_p0;
  p4 = small ? p4 : (far_p3 - e * (1.0 / 105.0)) * half;
  const double l = 4.0 * p.laplacian, s = p.smooth, t = p.smooth * p.xi2, xi2 = p.xi2;
  const double la = 2.0 * l / p.radius;
  return {s * (e + p0 + l * (p1 + (y - 2.0) * e)),
          t * (2.0 * p1 - l * (6.0 * p2 + e)),
          xi2 * s * (-e - p1 + l * (-3.0 * p2 + (3.0 - y) * e)),
          xi2 * t * (-6.0 * p2 + l * (30.0 * p3 + e)),
          xi2 * xi2 * s * (e + 3.0 * p2 + l * (15.0 * p3 + (y - 4.0) * e)),
          xi2 * xi2 * t * (30.0 * p3 - l * (210.0 * p4 + e)),
          s * la * (p1 + (y - 2.0) * e),
          -t * la * (6.0 * p2 + e)};
}

template <bool rpy>
MLCORE_RADIAL Slopes ewald_slopes(const RadialParameters& p, double r2, double i) {
  const Slopes whole = rpy ? rpy_slopes(p, r2, i) : oseen_slopes(p, i);
  return (r2 < p.cutoff2 ? 1.0 : 0.0) * (whole - smooth_slopes(p, r2 < p.cutoff2 ? r2 : 0.0));
}

/// Value, slope and second derivative of a column of a Hermite table, in r.
struct Interpolated {
  double v, d, dd;
};

MLCORE_RADIAL Interpolated interpolate(const TableParameters& p, const double* value,
                                       const double* slope, std::int32_t k, double u) {
  const double rise = value[k + 1] - value[k];
  const double d0 = slope[k] * p.spacing, d1 = slope[k + 1] * p.spacing;
  const double c = 3.0 * rise - 2.0 * d0 - d1, d = d0 + d1 - 2.0 * rise;
  return {value[k] + u * (d0 + u * (c + u * d)),
          (d0 + u * (2.0 * c + 3.0 * u * d)) * p.inverse_spacing,
          (2.0 * c + 6.0 * u * d) * p.inverse_spacing * p.inverse_spacing};
}

MLCORE_RADIAL Slopes table_slopes(const TableParameters& p, double r2, double i) {
  const bool inside = r2 < p.cutoff2;
  const double t = inside ? r2 * i * p.inverse_spacing : 0.0;
  std::int32_t k = static_cast<std::int32_t>(t);
  k = k < p.last_interval ? k : p.last_interval;
  const Interpolated par = interpolate(p, p.par, p.dpar, k, t - k);
  const Interpolated perp = interpolate(p, p.perp, p.dperp, k, t - k);
  const Interpolated rest = {par.v - perp.v, par.d - perp.d, par.dd - perp.dd};
  const double i2 = i * i, i3 = i * i2, i4 = i2 * i2;
  const Slopes s = {perp.v,
                    rest.v * i2,
                    0.5 * perp.d * i,
                    0.5 * rest.d * i3 - rest.v * i4,
                    0.25 * (perp.dd * i2 - perp.d * i3),
                    0.25 * rest.dd * i4 - 1.25 * rest.d * i4 * i + 2.0 * rest.v * i4 * i2,
                    0,
                    0};
  return (inside ? 1.0 : 0.0) * s;
}

/// a, b: radii of the two spheres where they differ (`unequal`).
template <PairKind kind, bool unequal>
MLCORE_RADIAL Slopes slopes_of(const RadialParameters& radial, const TableParameters& table,
                               double r2, double a, double b) {
  const double i = inverse_or_zero(r2);
  if constexpr (unequal) return unequal_slopes(radial, r2, i, a, b);
  if constexpr (kind == PairKind::oseen) return oseen_slopes(radial, i);
  if constexpr (kind == PairKind::rpy) return rpy_slopes(radial, r2, i);
  if constexpr (kind == PairKind::regularized) return regularized_slopes(radial, r2);
  if constexpr (kind == PairKind::table) return table_slopes(table, r2, i);
  return ewald_slopes<kind == PairKind::periodic_rpy>(radial, r2, i);
}

// -- numbers with derivatives ---------------------------------------------------------------------

/// A number and its derivatives in n directions; T may be such a number itself.
template <class T, int n>
struct Jet {
  T v;
  T d[n];
};

template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator+(const Jet<T, n>& a, const Jet<T, n>& b) {
  Jet<T, n> c{a.v + b.v, {}};
  for (int k = 0; k < n; ++k) c.d[k] = a.d[k] + b.d[k];
  return c;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator-(const Jet<T, n>& a, const Jet<T, n>& b) {
  Jet<T, n> c{a.v - b.v, {}};
  for (int k = 0; k < n; ++k) c.d[k] = a.d[k] - b.d[k];
  return c;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator*(const Jet<T, n>& a, const Jet<T, n>& b) {
  Jet<T, n> c{a.v * b.v, {}};
  for (int k = 0; k < n; ++k) c.d[k] = a.v * b.d[k] + a.d[k] * b.v;
  return c;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator*(double a, const Jet<T, n>& b) {
  Jet<T, n> c{a * b.v, {}};
  for (int k = 0; k < n; ++k) c.d[k] = a * b.d[k];
  return c;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator+(double a, const Jet<T, n>& b) {
  Jet<T, n> c = b;
  c.v = a + b.v;
  return c;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator-(const Jet<T, n>& a) {
  return -1.0 * a;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator-(double a, const Jet<T, n>& b) {
  return a + -1.0 * b;
}
template <class T, int n>
MLCORE_RADIAL Jet<T, n> operator-(const Jet<T, n>& a, double b) {
  return -b + a;
}

MLCORE_RADIAL double reciprocal(double a) { return 1.0 / a; }
template <class T, int n>
MLCORE_RADIAL Jet<T, n> reciprocal(const Jet<T, n>& a) {
  const T v = reciprocal(a.v), slope = -1.0 * (v * v);
  Jet<T, n> c{v, {}};
  for (int k = 0; k < n; ++k) c.d[k] = slope * a.d[k];
  return c;
}

MLCORE_RADIAL double reciprocal_root(double a) { return 1.0 / root(a); }
template <class T, int n>
MLCORE_RADIAL Jet<T, n> reciprocal_root(const Jet<T, n>& a) {
  const T v = reciprocal_root(a.v), slope = -0.5 * (v * v * v);
  Jet<T, n> c{v, {}};
  for (int k = 0; k < n; ++k) c.d[k] = slope * a.d[k];
  return c;
}

/// The wall's block over 1 / (8 pi eta) of numbers with derivatives; a: radius.
template <class T>
MLCORE_RADIAL WallBlock<T> wall_of(T dx, T dy, T zi, T zj, T a) {
  const T rz = zi + zj;
  return wall_block<double>(dx, dy, zi, zj, reciprocal_root(dx * dx + dy * dy + rz * rz),
                            reciprocal(rz), a * a);
}

/// The self part over a wall at height z, along it and up, with its derivatives in height and
/// radius; unit: 1 / (6 pi eta).
struct WallSelf {
  double value[2], slope[2], curvature[2], radius[2];
};

MLCORE_RADIAL WallSelf wall_self(double unit, double a, double z) {
  const double a2 = a * a, a4 = a2 * a2, h = 1 / z, h2 = h * h, h3 = h * h2;
  const double h5 = h3 * h2, h7 = h5 * h2, s = a * h, s2 = s * s;
  return {{unit / a * (1 - s * (9.0 / 16 - s2 * (1.0 / 8 - s2 / 16))),
           unit / a * (1 - s * (9.0 / 8 - s2 * (1.0 / 2 - s2 / 8)))},
          {unit * h2 * (9.0 / 16 - h2 * a2 * (3.0 / 8 - 5.0 / 16 * a2 * h2)),
           unit * h2 * (9.0 / 8 - h2 * a2 * (3.0 / 2 - 5.0 / 8 * a2 * h2))},
          {unit * (-9.0 / 8 * h3 + 1.5 * a2 * h5 - 15.0 / 8 * a4 * h7),
           unit * (-9.0 / 4 * h3 + 6.0 * a2 * h5 - 15.0 / 4 * a4 * h7)},
          {unit * (-1 / a2 + a * h3 / 4 - a2 * a * h5 / 4),
           unit * (-1 / a2 + a * h3 - a2 * a * h5 / 2)}};
}

/// sum of s_ab W_ab, s row by row.
template <class T>
MLCORE_RADIAL T contracted(const WallBlock<T>& w, const double s[9]) {
  return s[0] * w.xx + (s[1] + s[3]) * w.xy + s[2] * w.xz + s[4] * w.yy + s[5] * w.yz +
         s[6] * w.zx + s[7] * w.zy + s[8] * w.zz;
}

}  // namespace mlcore::kernels
