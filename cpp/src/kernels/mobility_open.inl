// Compiled once per instruction set; see simd.hpp.

#include "kernels/mobility_open.hpp"
#include "kernels/mobility_radial.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // of GCC 12's own avx512fintrin.h
#endif

#define MLCORE_INLINE inline __attribute__((always_inline))

namespace mlcore::kernels::MLCORE_ISA {
namespace {

#if defined(MLCORE_ISA_IS_avx512)
constexpr int kBytes = 64, kRows = 4;
#elif defined(MLCORE_ISA_IS_avx2)
constexpr int kBytes = 32, kRows = 2;
#else
constexpr int kBytes = 16, kRows = 2;
#endif

// A vector register of this instruction set.
template <class Real>
struct Register;
template <>
struct Register<double> {
  typedef double type __attribute__((vector_size(kBytes), aligned(8), may_alias));
};
template <>
struct Register<float> {
  typedef float type __attribute__((vector_size(kBytes), aligned(4), may_alias));
};
template <class Real>
using Vector = typename Register<Real>::type;
template <class Real>
constexpr int kLanes = kBytes / static_cast<int>(sizeof(Real));

template <class Real>
MLCORE_INLINE Vector<Real> load(const Real* p) {
  return *reinterpret_cast<const Vector<Real>*>(p);
}

template <class Real>
MLCORE_INLINE void put(Real* p, Vector<Real> v) {
  *reinterpret_cast<Vector<Real>*>(p) = v;
}

template <class Real>
MLCORE_INLINE Vector<Real> all(Real value) {
  return value - Vector<Real>{};
}

/// y (1 - r2 y^2)-correction of fourth order: 14 good bits become 53.
MLCORE_INLINE Vector<double> refined(Vector<double> r2, Vector<double> y) {
  const Vector<double> e = 1 - r2 * (y * y);
  return y + y * (e * (0.5 + e * (0.375 + e * 0.3125)));
}

/// 1/sqrt(r2) for r2 > 0.
MLCORE_INLINE Vector<double> inverse_roots(Vector<double> r2) {
#if defined(MLCORE_ISA_IS_avx512)
  return refined(r2, (Vector<double>)_mm512_rsqrt14_pd((__m512d)r2));
#else
  Vector<double> y;
  for (int l = 0; l < kLanes<double>; ++l) y[l] = 1.0 / __builtin_sqrt(r2[l]);
  return y;
#endif
}

MLCORE_INLINE Vector<float> inverse_roots(Vector<float> r2) {
#if defined(MLCORE_ISA_IS_avx512)
  const Vector<float> y = (Vector<float>)_mm512_rsqrt14_ps((__m512)r2);
  const Vector<float> e = 1 - r2 * (y * y);
  return y + y * (e * (0.5f + e * 0.375f));
#else
  Vector<float> y;
  for (int l = 0; l < kLanes<float>; ++l) y[l] = 1.0f / __builtin_sqrtf(r2[l]);
  return y;
#endif
}

/// Numbers below `least` are raised to it.
template <class Real>
MLCORE_INLINE Vector<Real> at_least(Vector<Real> v, Real least) {
  return v > least ? v : all(least);
}

/// Whether a < b in any lane.
MLCORE_INLINE bool any_less(Vector<double> a, Vector<double> b) {
#if defined(MLCORE_ISA_IS_avx512)
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ) != 0;
#elif defined(MLCORE_ISA_IS_avx2)
  return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_LT_OQ)) != 0;
#else
  bool any = false;
  for (int l = 0; l < kLanes<double>; ++l) any |= a[l] < b[l];
  return any;
#endif
}

MLCORE_INLINE bool any_less(Vector<float> a, Vector<float> b) {
#if defined(MLCORE_ISA_IS_avx512)
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ) != 0;
#elif defined(MLCORE_ISA_IS_avx2)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)a, (__m256)b, _CMP_LT_OQ)) != 0;
#else
  bool any = false;
  for (int l = 0; l < kLanes<float>; ++l) any |= a[l] < b[l];
  return any;
#endif
}

/// A pair contributes f I + g d d^T.
template <class Real>
struct Pair {
  Vector<Real> f, g;
};

/// Spheres that overlap, in any of the lanes. r = 0 is no exception.
template <class Real>
MLCORE_INLINE Pair<Real> overlapping(const OpenParameters<Real>& p, Pair<Real> apart,
                                     Vector<Real> r2) {
  const Vector<Real> inverse = inverse_roots(at_least<Real>(r2, kCoincide2<Real>));
  const auto overlap = r2 < p.reach2;
  return {overlap ? p.near - p.near_slope * (r2 * inverse) : apart.f,
          overlap ? p.near_g * inverse : apart.g};
}

/// Zuk et al., J. Fluid Mech. 741, R5 (2014).
template <class Real>
MLCORE_INLINE Pair<Real> overlapping_unequal(Pair<Real> apart, Vector<Real> r2, Vector<Real> a,
                                             Vector<Real> b) {
  using V = Vector<Real>;
  const V gap2 = (a - b) * (a - b), larger = a > b ? a : b;
  const V inverse = inverse_roots(at_least<Real>(r2, kCoincide2<Real>));
  // Written for r as it is, not as a difference of cubes: 16 r^3 (a + b) - (gap2 + 3 r^2)^2.
  const V r = r2 * inverse, over = 1 / (24 * (a * b));
  const V f = over * (16 * (a + b) - ((gap2 * inverse) * (gap2 * inverse)) * inverse -
                      6 * (gap2 * inverse) - 9 * r);
  const V q = gap2 * inverse - r;
  const V g = (3 * over) * ((q * q) * inverse) * (inverse * inverse);
  const auto far = r2 > (a + b) * (a + b);
  const auto engulfed = r2 <= gap2;
  return {far ? apart.f : engulfed ? 4 / (3 * larger) : f, far ? apart.g : engulfed ? V{} : g};
}

/// Pair functions over 1 / (8 pi eta). Overlap is rare: one branch per vector.
template <class Real, OpenKind kind>
MLCORE_INLINE Pair<Real> pair_of(const OpenParameters<Real>& p, Vector<Real> r2, Vector<Real> a,
                                 Vector<Real> b) {
  using V = Vector<Real>;
  if constexpr (kind == OpenKind::regularized) {
    const V inverse = inverse_roots(r2 + p.epsilon2);
    const V g = inverse * (inverse * inverse);
    return {inverse + p.epsilon2 * g, g};
  } else {
    const V inverse = inverse_roots(r2), i2 = inverse * inverse;
    if constexpr (kind == OpenKind::oseen) return {inverse, inverse * i2};
    // a^2 + b^2 such that rounding does not see which is which.
    constexpr Real sixth = Real(1) / Real(6);
    const V sum = a + b, gap = a - b;
    const V far = kind == OpenKind::rpy_unequal ? (sum * sum + gap * gap) * sixth : all(p.far);
    const V i3 = inverse * i2;
    const Pair<Real> apart = {inverse + far * i3, i3 * (1 - (3 * far) * i2)};
    if constexpr (kind == OpenKind::rpy_unequal) {
      if (!any_less(r2, (a + b) * (a + b))) return apart;
      return overlapping_unequal<Real>(apart, r2, a, b);
    } else {
      if (!any_less(r2, all(p.reach2))) return apart;
      return overlapping<Real>(p, apart, r2);
    }
  }
}

/// A block of M: symmetric but for xz, yz / zx, zy.
template <class Real>
struct Block {
  Vector<Real> xx, xy, xz, yy, yz, zz, zx, zy;
};

/// What the wall z = 0 adds; d = x_i - x_j, heights zi and zj above the wall.
template <class Real>
MLCORE_INLINE void add_wall(const OpenParameters<Real>& p, Vector<Real> dx, Vector<Real> dy,
                            Vector<Real> zi, Vector<Real> zj, Block<Real>& t) {
  using V = Vector<Real>;
  const V rz = zi + zj, inverse = inverse_roots(dx * dx + dy * dy + rz * rz);
  const auto w = wall_block<Real>(dx, dy, zi, zj, inverse, 1 / rz, p.radius * p.radius);
  t.xx += w.xx, t.xy += w.xy, t.yy += w.yy, t.zz += w.zz;
  t.xz += w.xz, t.yz += w.yz, t.zx += w.zx, t.zy += w.zy;
}

template <class Real>
MLCORE_INLINE Block<Real> block_of(Pair<Real> q, Vector<Real> x, Vector<Real> y, Vector<Real> z) {
  using V = Vector<Real>;
  const V gx = q.g * x, gy = q.g * y, gz = q.g * z;
  const V xz = gx * z, yz = gy * z;
  return {q.f + gx * x, gx * y, xz, q.f + gy * y, yz, q.f + gz * z, xz, yz};
}

template <class Real>
MLCORE_INLINE Real lane_sum(Vector<Real> v) {
  Real sum = 0;
  for (int l = 0; l < kLanes<Real>; ++l) sum += v[l];
  return sum;
}

/// Rows i..i+kRows-1 of tile a against lanes begin..end-1 of tile b, both ways.
template <class Real, OpenKind kind>
bool rows_against(const OpenParameters<Real>& p, OpenTile<Real>& a, int i, OpenTile<Real>& b,
                  int begin, int end) {
  using V = Vector<Real>;
  V u[kRows][3] = {};
  bool zero = false;
  for (int j = begin; j < end; j += kLanes<Real>) {
    const V x = load(b.x[0] + j), y = load(b.x[1] + j), z = load(b.x[2] + j);
    const V px = load(b.force[0] + j), py = load(b.force[1] + j), pz = load(b.force[2] + j);
    V vx = load(b.velocity[0] + j), vy = load(b.velocity[1] + j), vz = load(b.velocity[2] + j);
    const V radius = kind == OpenKind::rpy_unequal ? load(b.radius + j) : V{};
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const V dx = a.x[0][i + r] - x, dy = a.x[1][i + r] - y, dz = a.x[2][i + r] - z;
      const V qx = all(a.force[0][i + r]), qy = all(a.force[1][i + r]);
      const V qz = all(a.force[2][i + r]);
      const V r2 = dx * dx + dy * dy + dz * dz;
      if constexpr (kind == OpenKind::oseen) zero |= any_less(r2, all(kCoincide2<Real>));
      const V own = kind == OpenKind::rpy_unequal ? all(a.radius[i + r]) : V{};
      const Pair<Real> q = pair_of<Real, kind>(p, r2, own, radius);
      if constexpr (kind == OpenKind::rpy_wall) {
        Block<Real> t = block_of(q, dx, dy, dz);
        add_wall(p, dx, dy, all(a.x[2][i + r]), z, t);
        u[r][0] += t.xx * px + t.xy * py + t.xz * pz;
        u[r][1] += t.xy * px + t.yy * py + t.yz * pz;
        u[r][2] += t.zx * px + t.zy * py + t.zz * pz;
        vx += t.xx * qx + t.xy * qy + t.zx * qz;
        vy += t.xy * qx + t.yy * qy + t.zy * qz;
        vz += t.xz * qx + t.yz * qy + t.zz * qz;
      } else {
        const V there = q.g * (dx * px + dy * py + dz * pz);
        const V here = q.g * (dx * qx + dy * qy + dz * qz);
        u[r][0] = (u[r][0] + q.f * px) + there * dx;
        u[r][1] = (u[r][1] + q.f * py) + there * dy;
        u[r][2] = (u[r][2] + q.f * pz) + there * dz;
        vx = (vx + q.f * qx) + here * dx;
        vy = (vy + q.f * qy) + here * dy;
        vz = (vz + q.f * qz) + here * dz;
      }
    }
    put(b.velocity[0] + j, vx);
    put(b.velocity[1] + j, vy);
    put(b.velocity[2] + j, vz);
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < 3; ++c) a.velocity[c][i + r] += lane_sum<Real>(u[r][c]);
  }
  return zero;
}

/// Particle i against the vector of lanes it belongs to, itself left out.
template <class Real, OpenKind kind>
bool row_at_home(const OpenParameters<Real>& p, OpenTile<Real>& a, int i) {
  using V = Vector<Real>;
  const int j = i & -kLanes<Real>;
  V apart;
  for (int l = 0; l < kLanes<Real>; ++l) apart[l] = j + l == i ? Real(0) : Real(1);
  const V dx = a.x[0][i] - load(a.x[0] + j), dy = a.x[1][i] - load(a.x[1] + j);
  const V dz = a.x[2][i] - load(a.x[2] + j), z = load(a.x[2] + j);
  const V px = load(a.force[0] + j) * apart, py = load(a.force[1] + j) * apart;
  const V pz = load(a.force[2] + j) * apart;
  // The particle itself is moved away, so that its lane stays finite.
  const V r2 = dx * dx + dy * dy + dz * dz + (1 - apart);
  bool zero = false;
  if constexpr (kind == OpenKind::oseen) zero = any_less(r2, all(kCoincide2<Real>));
  const Pair<Real> q = pair_of<Real, kind>(p, r2, all(a.radius[i]), load(a.radius + j));
  Block<Real> t = block_of(q, dx, dy, dz);
  if constexpr (kind == OpenKind::rpy_wall) add_wall(p, dx, dy, all(a.x[2][i]), z, t);
  a.velocity[0][i] += lane_sum<Real>(t.xx * px + t.xy * py + t.xz * pz);
  a.velocity[1][i] += lane_sum<Real>(t.xy * px + t.yy * py + t.yz * pz);
  a.velocity[2][i] += lane_sum<Real>(t.zx * px + t.zy * py + t.zz * pz);
  return zero;
}

template <class Real, OpenKind kind>
bool between_tiles(const OpenParameters<Real>& p, OpenTile<Real>& a, OpenTile<Real>& b) {
  bool zero = false;
  for (int i = 0; i < a.padded; i += kRows) {
    zero |= rows_against<Real, kind>(p, a, i, b, 0, b.padded);
  }
  return zero;
}

template <class Real, OpenKind kind>
bool within_tile(const OpenParameters<Real>& p, OpenTile<Real>& a) {
  bool zero = false;
  for (int i = 0; i < a.padded; i += kRows) {
    for (int r = 0; r < kRows; ++r) zero |= row_at_home<Real, kind>(p, a, i + r);
    const int next = (i & -kLanes<Real>)+kLanes<Real>;
    zero |= rows_against<Real, kind>(p, a, i, a, next, a.padded);
  }
  return zero;
}

// -- matrices -------------------------------------------------------------------------------------

template <int... values>
struct Integers {};
template <int n, int... values>
struct Upto : Upto<n - 1, n - 1, values...> {};
template <int... values>
struct Upto<0, values...> {
  using type = Integers<values...>;
};

/// Part `part` of x0 y0 z0 x1 y1 z1 ... as one vector.
template <int part, class V, int... lane>
MLCORE_INLINE V interleaved(V x, V y, V z, Integers<lane...>) {
  constexpr int n = sizeof...(lane);
  const V xy = __builtin_shufflevector(
      x, y, ((part * n + lane) % 3 == 1 ? n + (part * n + lane) / 3 : (part * n + lane) / 3)...);
  return __builtin_shufflevector(
      xy, z, ((part * n + lane) % 3 == 2 ? n + (part * n + lane) / 3 : lane)...);
}

template <class Real>
MLCORE_INLINE void put_interleaved(Real* out, Vector<Real> x, Vector<Real> y, Vector<Real> z) {
  using Lanes = typename Upto<kLanes<Real>>::type;
  put(out, interleaved<0>(x, y, z, Lanes{}));
  put(out + kLanes<Real>, interleaved<1>(x, y, z, Lanes{}));
  put(out + 2 * kLanes<Real>, interleaved<2>(x, y, z, Lanes{}));
}

/// Blocks of particle i with the vector of particles from j on.
template <class Real, OpenKind kind>
MLCORE_INLINE Block<Real> blocks_from(const OpenParameters<Real>& p, const OpenPoints<Real>& points,
                                      std::int64_t i, std::int64_t j, bool& zero) {
  using V = Vector<Real>;
  const V z = load(points.x[2] + j);
  const V dx = points.x[0][i] - load(points.x[0] + j), dy = points.x[1][i] - load(points.x[1] + j);
  const V dz = points.x[2][i] - z;
  const V r2 = dx * dx + dy * dy + dz * dz;
  if constexpr (kind == OpenKind::oseen) {
    if (i < j || i >= j + kLanes<Real>) zero |= any_less(r2, all(kCoincide2<Real>));
  }
  V own{}, other{};
  if constexpr (kind == OpenKind::rpy_unequal) {
    own = all(points.radius[i]);
    other = load(points.radius + j);
  }
  Pair<Real> q = pair_of<Real, kind>(p, r2, own, other);
  if constexpr (kind != OpenKind::rpy_wall) {
    q.f *= p.stokeslet;
    q.g *= p.stokeslet;
  }
  Block<Real> t = block_of(q, dx, dy, dz);
  if constexpr (kind == OpenKind::rpy_wall) {
    add_wall(p, dx, dy, all(points.x[2][i]), z, t);
    t.xx *= p.stokeslet, t.xy *= p.stokeslet, t.xz *= p.stokeslet, t.yy *= p.stokeslet;
    t.yz *= p.stokeslet, t.zz *= p.stokeslet, t.zx *= p.stokeslet, t.zy *= p.stokeslet;
  }
  return t;
}

template <class Real>
void set_lane(Block<Real>& t, int lane, const double self[6]) {
  t.xx[lane] = static_cast<Real>(self[0]);
  t.xy[lane] = static_cast<Real>(self[1]);
  t.xz[lane] = t.zx[lane] = static_cast<Real>(self[2]);
  t.yy[lane] = static_cast<Real>(self[3]);
  t.yz[lane] = t.zy[lane] = static_cast<Real>(self[4]);
  t.zz[lane] = static_cast<Real>(self[5]);
}

template <class Real>
MLCORE_INLINE void put_block(const Block<Real>& t, Real* row0, Real* row1, Real* row2) {
  put_interleaved<Real>(row0, t.xx, t.xy, t.xz);
  put_interleaved<Real>(row1, t.xy, t.yy, t.yz);
  put_interleaved<Real>(row2, t.zx, t.zy, t.zz);
}

/// Whether particle i coincides with another one of the vector from j on, which holds i too.
template <class Real>
bool meets_another(const OpenPoints<Real>& points, std::int64_t i, std::int64_t j) {
  bool meets = false;
  for (std::int64_t k = j; k < j + kLanes<Real> && k < points.n; ++k) {
    Real r2 = 0;
    for (int a = 0; a < 3; ++a) {
      const Real d = points.x[a][k] - points.x[a][i];
      r2 += d * d;
    }
    meets |= k != i && r2 < kCoincide2<Real>;
  }
  return meets;
}

template <class Real, OpenKind kind>
bool fill_rows(const OpenParameters<Real>& p, const OpenPoints<Real>& points, std::int64_t i,
               const double self[6], Real* rows) {
  constexpr int lanes = kLanes<Real>;
  const std::int64_t n = points.n, width = 3 * n, whole = n / lanes * lanes;
  bool zero = false;
  const auto block = [&](std::int64_t j) __attribute__((always_inline)) {
    Block<Real> t = blocks_from<Real, kind>(p, points, i, j, zero);
    if (i >= j && i < j + lanes) {
      set_lane(t, static_cast<int>(i - j), self);
      if constexpr (kind == OpenKind::oseen) zero |= meets_another(points, i, j);
    }
    return t;
  };
  for (std::int64_t j = 0; j < whole; j += lanes) {
    put_block(block(j), rows + 3 * j, rows + width + 3 * j, rows + 2 * width + 3 * j);
  }
  if (whole == n) return zero;
  Real rest[3][3 * lanes];
  put_block(block(whole), rest[0], rest[1], rest[2]);
  for (int r = 0; r < 3; ++r) {
    for (std::int64_t k = 3 * whole; k < 3 * n; ++k) rows[r * width + k] = rest[r][k - 3 * whole];
  }
  return zero;
}

#define MLCORE_FOR_OPEN_KIND(call)        \
  switch (kind) {                         \
    case OpenKind::oseen:                 \
      return call(OpenKind::oseen);       \
    case OpenKind::rpy:                   \
      return call(OpenKind::rpy);         \
    case OpenKind::rpy_unequal:           \
      return call(OpenKind::rpy_unequal); \
    case OpenKind::regularized:           \
      return call(OpenKind::regularized); \
    case OpenKind::rpy_wall:              \
      return call(OpenKind::rpy_wall);    \
  }                                       \
  return false;

template <class Real>
bool rows_of(OpenKind kind, const OpenParameters<Real>& p, const OpenPoints<Real>& points,
             std::int64_t i, const double self[6], Real* rows) {
#define MLCORE_CALL(k) fill_rows<Real, k>(p, points, i, self, rows)
  MLCORE_FOR_OPEN_KIND(MLCORE_CALL)
#undef MLCORE_CALL
}

template <class Real>
bool tiles_of(OpenKind kind, const OpenParameters<Real>& p, OpenTile<Real>& a, OpenTile<Real>& b) {
#define MLCORE_CALL(k) between_tiles<Real, k>(p, a, b)
  MLCORE_FOR_OPEN_KIND(MLCORE_CALL)
#undef MLCORE_CALL
}

template <class Real>
bool tile_of(OpenKind kind, const OpenParameters<Real>& p, OpenTile<Real>& a) {
#define MLCORE_CALL(k) within_tile<Real, k>(p, a)
  MLCORE_FOR_OPEN_KIND(MLCORE_CALL)
#undef MLCORE_CALL
}

}  // namespace

bool mobility_tiles(OpenKind kind, const OpenParameters<double>& p, OpenTile<double>& a,
                    OpenTile<double>& b) {
  return tiles_of(kind, p, a, b);
}

bool mobility_tiles_f32(OpenKind kind, const OpenParameters<float>& p, OpenTile<float>& a,
                        OpenTile<float>& b) {
  return tiles_of(kind, p, a, b);
}

bool mobility_tile(OpenKind kind, const OpenParameters<double>& p, OpenTile<double>& a) {
  return tile_of(kind, p, a);
}

bool mobility_tile_f32(OpenKind kind, const OpenParameters<float>& p, OpenTile<float>& a) {
  return tile_of(kind, p, a);
}

bool mobility_open_rows(OpenKind kind, const OpenParameters<double>& p,
                        const OpenPoints<double>& points, std::int64_t i, const double self[6],
                        double* rows) {
  return rows_of(kind, p, points, i, self, rows);
}

bool mobility_open_rows_f32(OpenKind kind, const OpenParameters<float>& p,
                            const OpenPoints<float>& points, std::int64_t i, const double self[6],
                            float* rows) {
  return rows_of(kind, p, points, i, self, rows);
}

}  // namespace mlcore::kernels::MLCORE_ISA
