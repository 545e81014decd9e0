#pragma once

// Radial functions of the mobility tensors, shared by the per-ISA kernels and the CUDA kernels.
// A pair contributes f I + g d d^T, d the vector between the particles. Everything is static: each
// instruction set keeps its own copy.

#include <cstdint>

#ifdef __CUDACC__
#define MLCORE_RADIAL static __host__ __device__ __forceinline__
#else
#define MLCORE_RADIAL static inline __attribute__((always_inline))
#endif

namespace mlcore::kernels {

/// Analytic part, whose pair functions are of kind `PairKind`.
struct RadialParameters {
  double radius;     // a
  double mobility;   // 1 / (6 pi eta a)
  double stokeslet;  // 1 / (8 pi eta)
  double xi;         // Ewald parameter
  double xi2;        // its square
  double inverse_xi2;
  double smooth;     // stokeslet * 2 xi / sqrt(pi)
  double laplacian;  // a^2 xi^2 / 3 (0: Oseen)
  double cutoff2;    // square of the real-space cutoff of the Ewald sum
};

/// Cubic Hermite table on uniform knots.
struct TableParameters {
  const double* par;
  const double* dpar;
  const double* perp;
  const double* dperp;
  std::int32_t last_interval;  // knots - 2
  double spacing;
  double inverse_spacing;
  double cutoff2;
};

enum class PairKind : int { oseen, rpy, periodic_oseen, periodic_rpy, table, regularized };

template <class T>
struct PairOf {
  T f, g;
};
using Pair = PairOf<double>;

MLCORE_RADIAL double root(double x) {
#ifdef __CUDA_ARCH__
  return sqrt(x);
#else
  return __builtin_sqrt(x);
#endif
}

/// What `inverse` means below: 1/r, any finite number at r = 0.
MLCORE_RADIAL double inverse_root(double r2) { return 1.0 / root(r2 > 1e-290 ? r2 : 1e-290); }

MLCORE_RADIAL Pair oseen_pair(const RadialParameters& p, double inverse) {
  const double f = p.stokeslet * inverse;
  return {f, f * inverse * inverse};
}

/// T is double or a vector of doubles.
template <class T>
MLCORE_RADIAL PairOf<T> rpy_pair(const RadialParameters& p, T r2, T inverse) {
  const T s = p.radius * inverse;
  const T scale = p.mobility * s;
  const T far_f = scale * (0.75 + 0.5 * s * s);
  const T far_g = scale * (0.75 - 1.5 * s * s) * inverse * inverse;
  const T near_f = p.mobility - (p.mobility * 0.28125 / p.radius) * (r2 * inverse);
  const T near_g = (p.mobility * 0.09375 / p.radius) * inverse;
  const auto overlap = r2 < 4.0 * p.radius * p.radius;
  return {overlap ? near_f : far_f, overlap ? near_g : far_g};
}

/// Blob of width 3 a / 2.
MLCORE_RADIAL Pair regularized_pair(const RadialParameters& p, double r2) {
  const double e2 = 2.25 * p.radius * p.radius, i = 1.0 / root(r2 + e2), i3 = i * i * i;
  return {p.stokeslet * (i + e2 * i3), p.stokeslet * i3};
}

/// Spheres of radii a and b: Zuk et al., J. Fluid Mech. 741, R5 (2014).
MLCORE_RADIAL Pair unequal_pair(const RadialParameters& p, double r2, double inverse, double a,
                                double b) {
  const double gap2 = (a - b) * (a - b), reach2 = (a + b) * (a + b);
  const double i2 = inverse * inverse, sum2 = (reach2 + gap2) * (1.0 / 6.0);
  if (r2 > reach2) {
    return {p.stokeslet * inverse * (1.0 + sum2 * i2),
            p.stokeslet * inverse * i2 * (1.0 - 3.0 * sum2 * i2)};
  }
  if (r2 <= gap2) return {p.stokeslet * 4.0 / (3.0 * (a > b ? a : b)), 0.0};
  const double over = p.stokeslet / (24.0 * (a * b)), r = r2 * inverse, q = gap2 * inverse;
  return {over * (16.0 * (a + b) - q * q * inverse - 6.0 * q - 9.0 * r),
          3.0 * over * (q - r) * (q - r) * inverse * i2};
}

/// What the wall z = 0 adds to a block, over 1 / (8 pi eta): Swan and Brady, Phys. Fluids 19,
/// 113306 (2007). Symmetric but for xz, yz against zx, zy.
template <class T>
struct WallBlock {
  T xx, xy, yy, zz, xz, yz, zx, zy;
};

/// d = x_i - x_j, heights zi and zj, `inverse` that of the distance to the image of j, `up` that of
/// zi + zj. Swapping i and j transposes the block to the last bit. T is a number, a vector of
/// numbers or a number with derivatives; Real its plain number.
template <class Real, class T, class A>
MLCORE_RADIAL WallBlock<T> wall_block(T dx, T dy, T zi, T zj, T inverse, T up, A a2) {
  const T ex = dx * inverse, ey = dy * inverse, ez = (zi + zj) * inverse, e2 = ez * ez;
  const T hi = zi * up, hj = zj * up, h = hi * hj;
  const T i2 = inverse * inverse, i3 = a2 * (inverse * i2), i5 = a2 * (i3 * i2);
  constexpr Real third = Real(1) / Real(3), one = 1, two = 2;
  const T he = h * e2;
  const T f1 = third * (two * ((one - Real(5) * e2) * i5) - two * ((one - Real(3) * e2) * i3)) -
               (one + two * he) * inverse;
  const T f2 =
      third * (Real(6) * ((one - Real(5) * e2) * i3) - Real(10) * ((one - Real(7) * e2) * i5)) -
      (one - Real(6) * he) * inverse;
  const T slope = two * (ez * inverse), level = f2 * ez - (Real(20) * third) * (ez * i5);
  const T to_wall = level + slope * hj, from_wall = level + slope * hi;
  WallBlock<T> t;
  t.xx = f1 + f2 * (ex * ex);
  t.xy = f2 * (ex * ey);
  t.yy = f1 + f2 * (ey * ey);
  t.zz = f1 - f2 * e2 + e2 * ((Real(4) * h - two) * inverse) -
         (Real(4) * third) * (Real(3) * (e2 * i3) + (two - Real(15) * e2) * i5);
  t.zx = ex * to_wall;
  t.zy = ey * to_wall;
  t.xz = -(ex * from_wall);
  t.yz = -(ey * from_wall);
  return t;
}

/// exp(-y) for 0 <= y <= 700.
MLCORE_RADIAL double exp_of_minus(double y) {
#ifdef __CUDA_ARCH__
  return exp(-y);
#else
  const double shifted = y * 1.4426950408889634074 + 0x1.8p52;
  const double n = shifted - 0x1.8p52;
  const double x = (n * 0x1.62e42fefa38p-1 - y) + n * 0x1.ef35793c7673p-45;
  const double x2 = x * x;
  double odd = 1.6059043836821614599e-10, even = 2.0876756987868098979e-9;
  odd = odd * x2 + 2.5052108385441718775e-8;
  even = even * x2 + 2.7557319223985890653e-7;
  odd = odd * x2 + 2.7557319223985890653e-6;
  even = even * x2 + 2.4801587301587301587e-5;
  odd = odd * x2 + 1.9841269841269841270e-4;
  even = even * x2 + 1.3888888888888888889e-3;
  odd = odd * x2 + 8.3333333333333333333e-3;
  even = even * x2 + 4.1666666666666666667e-2;
  odd = odd * x2 + 1.6666666666666666667e-1;
  even = even * x2 + 0.5;
  odd = odd * x2 + 1.0;
  even = even * x2 + 1.0;
  const double e = even + x * odd;
  // The low bits of `shifted` are the integer n: put 1023 - n into the exponent.
  const std::uint64_t exponent = (1023u - __builtin_bit_cast(std::uint64_t, shifted)) << 52;
  return e * __builtin_bit_cast(double, exponent);
#endif
}

/// exp(x^2) erfc(x) for x >= 0, given 1 / ((x + 3.75) (1 + 2 x)): Chebyshev series of
/// (1 + 2 x) exp(x^2) erfc(x) in (x - 3.75) / (x + 3.75), after Shepherd and Laframboise, Math.
/// Comp. 36, 249 (1981).
MLCORE_RADIAL double scaled_erfc(double x, double inverse) {
#ifdef __CUDA_ARCH__
  (void)inverse;
  return erfcx(x);
#else
  const double t = (x - 3.75) * (1.0 + 2.0 * x) * inverse;
  // Four interleaved Horner chains: latency, not throughput, is what costs here.
  const double t2 = t * t, t4 = t2 * t2;
  double a = 3.1979314703334298788e-8;
  double b = -1.9551380515362178484e-9;
  double c = -2.6231160584491090999e-9;
  double d = 1.8790835202394245313e-8;
  a = a * t4 + 1.7419823097809672593e-6;
  b = b * t4 - 5.0844681864951997425e-8;
  c = c * t4 - 2.4857137606467332225e-7;
  d = d * t4 - 9.7926253429250956572e-7;
  a = a * t4 + 5.1646529807018383399e-5;
  b = b * t4 + 2.2387565686214305542e-5;
  c = c * t4 - 1.143804815759545548e-5;
  d = d * t4 - 2.9015535244664421463e-4;
  a = a * t4 - 9.7465796832607181625e-3;
  b = b * t4 + 1.7556261651927444071e-3;
  c = c * t4 + 2.9371437802308329171e-4;
  d = d * t4 + 2.8362277372111925346e-2;
  a = a * t4 - 1.0880393014244457917e-1;
  b = b * t4 + 9.2304321164281171941e-2;
  c = c * t4 - 5.869339857664988545e-2;
  d = d * t4 + 8.2276738489995066108e-2;
  a = a * t4 + 1.2375126308378275289;
  b = b * t4 - 1.402405985855452563e-1;
  c = c * t4 + 3.5854154854790248424e-3;
  const double s = (a + t * b) + t2 * (c + t * d);
  return s * (x + 3.75) * inverse;
#endif
}

/// The Hasimoto-smoothed tensor (1 + a^2/3 Laplacian) applied to the part of the Oseen tensor that
/// the wave sum holds, at r with y = xi^2 r^2, x = xi r and E = exp(-y). With P0 = sqrt(pi)/2
/// erf(x)/x, P1 = (P0 - E) / 2y and P2 = (P1 - E/3) / 2y it is smooth at r = 0.
MLCORE_RADIAL Pair smooth_pair(const RadialParameters& p, double y, double x, double inverse_y,
                               double inverse_q) {
  const double e = exp_of_minus(y < 700.0 ? y : 700.0);
  const bool small = y < 0.06;
  const double half = small ? 0.5 : 0.5 * inverse_y;
  const double erf = 1.0 - e * scaled_erfc(x, inverse_q);
  const double far_p0 = 1.7724538509055160273 * erf * x * half;
  const double far_p1 = (far_p0 - e) * half;
  const double far_p2 = (far_p1 - e * (1.0 / 3.0)) * half;
  const double y2 = 2.0 * y;
  double near_p2 = 1.0 / 34459425.0;
  near_p2 = near_p2 * y2 + 1.0 / 2027025.0;
  near_p2 = near_p2 * y2 + 1.0 / 135135.0;
  near_p2 = near_p2 * y2 + 1.0 / 10395.0;
  near_p2 = near_p2 * y2 + 1.0 / 945.0;
  near_p2 = near_p2 * y2 + 1.0 / 105.0;
  near_p2 = (near_p2 * y2 + 1.0 / 15.0) * e;
  const double near_p1 = e * (1.0 / 3.0) + y2 * near_p2;
  const double p2 = small ? near_p2 : far_p2;
  const double p1 = small ? near_p1 : far_p1;
  const double p0 = small ? e + y2 * near_p1 : far_p0;
  const double f = e + p0 + p.laplacian * 4.0 * (p1 + (y - 2.0) * e);
  const double g = 2.0 * p1 - p.laplacian * 4.0 * (6.0 * p2 + e);
  return {p.smooth * f, p.smooth * p.xi2 * g};
}

MLCORE_RADIAL Pair smooth_pair(const RadialParameters& p, double r2) {
  const double y = p.xi2 * r2, x = root(y);
  return smooth_pair(p, y, x, 1.0 / (y > 0 ? y : 1.0), 1.0 / ((x + 3.75) * (1.0 + 2.0 * x)));
}

/// Real-space part of the Ewald sum, overlap included: the whole tensor less its smooth part.
template <bool rpy>
MLCORE_RADIAL Pair ewald_pair(const RadialParameters& p, double r2, double inverse) {
  const double x = p.xi * (r2 * inverse);
  const double inverse_q = 1.0 / ((x + 3.75) * (1.0 + 2.0 * x));
  const Pair whole = rpy ? rpy_pair(p, r2, inverse) : oseen_pair(p, inverse);
  const Pair smooth = smooth_pair(p, p.xi2 * r2, x, inverse * inverse * p.inverse_xi2, inverse_q);
  const bool inside = r2 < p.cutoff2;
  return {inside ? whole.f - smooth.f : 0.0, inside ? whole.g - smooth.g : 0.0};
}

/// Interpolated par and perp; zero beyond the cutoff.
MLCORE_RADIAL Pair table_pair(const TableParameters& p, double r2, double inverse) {
  const bool inside = r2 < p.cutoff2;
  const double t = inside ? r2 * inverse * p.inverse_spacing : 0.0;
  std::int32_t k = static_cast<std::int32_t>(t);
  k = k < p.last_interval ? k : p.last_interval;
  const double u = t - k;
  const double rise_par = p.par[k + 1] - p.par[k];
  const double par0 = p.dpar[k] * p.spacing, par1 = p.dpar[k + 1] * p.spacing;
  const double par =
      p.par[k] +
      u * (par0 + u * ((3.0 * rise_par - 2.0 * par0 - par1) + u * (par0 + par1 - 2.0 * rise_par)));
  const double rise_perp = p.perp[k + 1] - p.perp[k];
  const double perp0 = p.dperp[k] * p.spacing, perp1 = p.dperp[k + 1] * p.spacing;
  const double perp = p.perp[k] + u * (perp0 + u * ((3.0 * rise_perp - 2.0 * perp0 - perp1) +
                                                    u * (perp0 + perp1 - 2.0 * rise_perp)));
  const double g = r2 > 0.0 ? (par - perp) * inverse * inverse : 0.0;
  return {inside ? perp : 0.0, inside ? g : 0.0};
}

/// Divergence of the interpolant is q d: q = (par' + 2 (par - perp) / r) / r.
MLCORE_RADIAL double table_divergence(const TableParameters& p, double r2, double inverse) {
  const bool inside = r2 < p.cutoff2 && r2 > 0.0;
  const double t = inside ? r2 * inverse * p.inverse_spacing : 0.0;
  std::int32_t k = static_cast<std::int32_t>(t);
  k = k < p.last_interval ? k : p.last_interval;
  const double u = t - k;
  const double rise = p.par[k + 1] - p.par[k];
  const double d0 = p.dpar[k] * p.spacing, d1 = p.dpar[k + 1] * p.spacing;
  const double slope =
      d0 + u * (2.0 * (3.0 * rise - 2.0 * d0 - d1) + u * 3.0 * (d0 + d1 - 2.0 * rise));
  const double g = table_pair(p, r2, inverse).g;
  return inside ? slope * p.inverse_spacing * inverse + 2.0 * g : 0.0;
}

template <PairKind kind>
MLCORE_RADIAL Pair pair_functions(const RadialParameters& radial, const TableParameters& table,
                                  double r2, double inverse) {
  if constexpr (kind == PairKind::oseen) {
    return oseen_pair(radial, inverse);
  } else if constexpr (kind == PairKind::rpy) {
    return rpy_pair(radial, r2, inverse);
  } else if constexpr (kind == PairKind::table) {
    return table_pair(table, r2, inverse);
  } else if constexpr (kind == PairKind::regularized) {
    return regularized_pair(radial, r2);
  } else {
    return ewald_pair<kind == PairKind::periodic_rpy>(radial, r2, inverse);
  }
}

}  // namespace mlcore::kernels
