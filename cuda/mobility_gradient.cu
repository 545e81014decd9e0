// Mirrors cpp/src/mobility_gradient.cpp and mobility_gradient_waves.cpp. One thread per particle
// and chunk of its partners, then sums over the chunks in fixed order: no atomic additions, the
// same bits every time.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "device.cuh"
#include "finite.cuh"
#include "kernels/mobility_slopes.hpp"
#include "mobility_gradient_cuda.hpp"
#include "mobility_plan.cuh"
#include "sums.cuh"

namespace mlcore::cuda {
namespace {

using kernels::Slopes;
using std::numbers::pi;

constexpr int kThreads = 128;
constexpr int kSums = 5;   // of a particle over its pairs: x y z value radius
constexpr int kStats = 8;  // of a particle: value radius and its SelfWeight

/// Where the self part of the kernel comes from; that of a periodic kernel is the host's.
enum class Own { none, open, wall };

/// What a pair is made of, by value.
struct System {
  Parameters p;
  const double* radii;  // null: all alike
  Own own;
  double radius, unit;  // 1 / (6 pi eta)
};

/// C_ij = G_i F_j^T, or blocks of C where that is not null.
struct Cotangent {
  const double *F, *G, *C;
  std::int64_t n;
};

__device__ std::int64_t thread_index() {
  return blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
}

__device__ double radius_of(const System& s, std::int64_t i) {
  return s.radii ? s.radii[i] : s.radius;
}

__device__ double entry(const Cotangent& c, std::int64_t i, std::int64_t j, int a, int b) {
  return c.C ? c.C[(3 * i + a) * 3 * c.n + 3 * j + b] : c.G[3 * i + a] * c.F[3 * j + b];
}

/// C_ij + C_ji^T, row by row.
__device__ void pair_weight(const Cotangent& c, std::int64_t i, std::int64_t j, double s[9]) {
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) s[3 * a + b] = entry(c, i, j, a, b) + entry(c, j, i, b, a);
  }
}

/// The symmetric part of a cotangent.
struct Symmetric {
  double xx, xy, xz, yy, yz, zz;
};

__device__ Symmetric symmetric(const double s[9]) {
  return {s[0], 0.5 * (s[1] + s[3]), 0.5 * (s[2] + s[6]), s[4], 0.5 * (s[5] + s[7]), s[8]};
}

__device__ Vec times(const Symmetric& s, Vec v) {
  return {s.xx * v.x + s.xy * v.y + s.xz * v.z, s.xy * v.x + s.yy * v.y + s.yz * v.z,
          s.xz * v.x + s.yz * v.y + s.zz * v.z};
}

__device__ double dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

__device__ Slopes slopes_at(const System& system, const PairTerm& term, double r2, double a,
                            double b) {
  const auto& radial = term.radial;
  const auto& table = term.table;
  switch (term.kind) {
    case PairKind::oseen:
      return kernels::slopes_of<PairKind::oseen, false>(radial, table, r2, a, b);
    case PairKind::rpy:
      if (system.radii) return kernels::slopes_of<PairKind::rpy, true>(radial, table, r2, a, b);
      return kernels::slopes_of<PairKind::rpy, false>(radial, table, r2, a, b);
    case PairKind::periodic_oseen:
      return kernels::slopes_of<PairKind::periodic_oseen, false>(radial, table, r2, a, b);
    case PairKind::periodic_rpy:
      return kernels::slopes_of<PairKind::periodic_rpy, false>(radial, table, r2, a, b);
    case PairKind::regularized:
      return kernels::slopes_of<PairKind::regularized, false>(radial, table, r2, a, b);
    default:
      return kernels::slopes_of<PairKind::table, false>(radial, table, r2, a, b);
  }
}

/// Calls f(distance, slopes, whether of the analytic kernel) for all terms and images of a pair.
template <class F>
__device__ void for_each_place(const System& s, const double* x, std::int64_t i, std::int64_t j,
                               const F& f) {
  const Wrapped w = wrapped(s.p, load(x, i) - load(x, j));
  const double a = radius_of(s, i), b = radius_of(s, j);
  for (int t = 0; t < s.p.term_count; ++t) {
    const PairTerm& term = s.p.terms[t];
    for (std::int64_t n = 0; n < term.image_count; ++n) {
      const Vec v = image(s.p, w, term.images + 3 * n);
      f(v, slopes_at(s, term, dot(v, v), a, b), t != s.p.table_term);
    }
  }
}

// -- pairs ----------------------------------------------------------------------------------------

__device__ void add_wall_gradient(const System& s, const double* x, std::int64_t i, std::int64_t j,
                                  const double weight[9], double sum[kSums]) {
  using Number = kernels::Jet<double, 4>;  // in x_i, y_i, z_i, a
  const kernels::RadialParameters& p = s.p.terms[0].radial;
  const Vec xi = load(x, i), xj = load(x, j);
  double c[9];
  for (int m = 0; m < 9; ++m) c[m] = p.stokeslet * weight[m];
  const Number w =
      kernels::contracted(kernels::wall_of<Number>(
                              {xi.x - xj.x, {1, 0, 0, 0}}, {xi.y - xj.y, {0, 1, 0, 0}},
                              {xi.z, {0, 0, 1, 0}}, {xj.z, {0, 0, 0, 0}}, {p.radius, {0, 0, 0, 1}}),
                          c);
  sum[0] += w.d[0];
  sum[1] += w.d[1];
  sum[2] += w.d[2];
  sum[3] += w.v;
  sum[4] += w.d[3];
}

__device__ void add_gradient(const System& system, const double* x, const Cotangent& c,
                             std::int64_t i, std::int64_t j, double sum[kSums]) {
  double weight[9];
  pair_weight(c, i, j, weight);
  const Symmetric s = symmetric(weight);
  const double trace = s.xx + s.yy + s.zz;
  for_each_place(system, x, i, j, [&](Vec d, const Slopes& k, bool analytic) {
    const Vec t = times(s, d);
    const double q = dot(t, d);
    const double along = 2.0 * (k.f1 * trace + k.g1 * q), g = 2.0 * k.g;
    sum[0] += along * d.x + g * t.x;
    sum[1] += along * d.y + g * t.y;
    sum[2] += along * d.z + g * t.z;
    if (analytic) sum[3] += k.f * trace + k.g * q;
    sum[4] += k.fa * trace + k.ga * q;
  });
  if (system.own == Own::wall) add_wall_gradient(system, x, i, j, weight, sum);
}

/// parts (chunks, n, kSums): sums of particle i over the partners of a chunk.
__global__ void gradient_parts(const System s, const double* x, const Cotangent c, Chunks chunks,
                               double* parts, Faults* faults) {
  const std::int64_t t = thread_index(), n = c.n;
  if (t >= chunks.count * n) return;
  const std::int64_t i = t % n, first = t / n * chunks.size;
  const std::int64_t last = first + chunks.size < n ? first + chunks.size : n;
  double sum[kSums] = {};
  for (std::int64_t j = first; j < last; ++j) {
    if (j == i) continue;
    if (j < i && singular(s.p, load(x, i) - load(x, j))) {
      atomicMin(&faults->coincidence, static_cast<unsigned long long>(j * n + i));
    }
    add_gradient(s, x, c, i, j, sum);
  }
  for (int m = 0; m < kSums; ++m) parts[kSums * t + m] = sum[m];
}

/// Turns the sums of a particle into its derivative X (null: not wanted) and its stats, and adds
/// the self part.
__global__ void finish_gradient(const System s, const double* x, const Cotangent c,
                                const double* sums, double* X, double* stats) {
  const std::int64_t i = thread_index();
  if (i >= c.n) return;
  const double* sum = sums + kSums * i;
  double self[6];
  int m = 0;
  for (int a = 0; a < 3; ++a) {
    for (int b = a; b < 3; ++b) {
      self[m++] = entry(c, i, i, a, b) + (a == b ? 0.0 : entry(c, i, i, b, a));
    }
  }
  const double along = self[0] + self[3], up = self[5];
  // Every pair was met twice; of unequal spheres each gave the slope in its own radius.
  double value = 0.5 * sum[3], radius = s.radii ? sum[4] : 0.5 * sum[4], push = 0;
  if (s.own == Own::wall) {
    const kernels::WallSelf w = kernels::wall_self(s.unit, s.radius, x[3 * i + 2]);
    push = w.slope[0] * along + w.slope[1] * up;
    value += w.value[0] * along + w.value[1] * up;
    radius += w.radius[0] * along + w.radius[1] * up;
  } else if (s.own == Own::open) {
    const double a = radius_of(s, i), own = s.unit / a * (along + up);
    value += own;
    radius -= own / a;
  }
  if (X) {
    X[3 * i] = sum[0];
    X[3 * i + 1] = sum[1];
    X[3 * i + 2] = sum[2] + push;
  }
  double* out = stats + kStats * i;
  out[0] = value;
  out[1] = radius;
  for (int k = 0; k < 6; ++k) out[2 + k] = self[k];
}

/// Column 1 of the stats.
__global__ void take_radii(const double* stats, std::int64_t n, double* out) {
  const std::int64_t i = thread_index();
  if (i < n) out[i] = stats[kStats * i + 1];
}

__device__ void add_wall_tangent(const System& s, const double* x, const double* F, const double* H,
                                 std::int64_t i, std::int64_t j, double sum[3]) {
  using Number = kernels::Jet<double, 1>;
  const kernels::RadialParameters& p = s.p.terms[0].radial;
  const Vec xi = load(x, i), xj = load(x, j), h = load(H, i) - load(H, j), f = load(F, j);
  const kernels::WallBlock<Number> w =
      kernels::wall_of<Number>({xi.x - xj.x, {h.x}}, {xi.y - xj.y, {h.y}}, {xi.z, {H[3 * i + 2]}},
                               {xj.z, {H[3 * j + 2]}}, {p.radius, {0}});
  const double fx = p.stokeslet * f.x, fy = p.stokeslet * f.y, fz = p.stokeslet * f.z;
  sum[0] += w.xx.d[0] * fx + w.xy.d[0] * fy + w.xz.d[0] * fz;
  sum[1] += w.xy.d[0] * fx + w.yy.d[0] * fy + w.yz.d[0] * fz;
  sum[2] += w.zx.d[0] * fx + w.zy.d[0] * fy + w.zz.d[0] * fz;
}

/// parts (chunks, n, 3): change of the velocity of particle i along the motion H.
__global__ void tangent_parts(const System s, const double* x, const double* F, const double* H,
                              std::int64_t n, Chunks chunks, double* parts, Faults* faults) {
  const std::int64_t t = thread_index();
  if (t >= chunks.count * n) return;
  const std::int64_t i = t % n, first = t / n * chunks.size;
  const std::int64_t last = first + chunks.size < n ? first + chunks.size : n;
  double sum[3] = {};
  for (std::int64_t j = first; j < last; ++j) {
    if (j == i) continue;
    if (j < i && singular(s.p, load(x, i) - load(x, j))) {
      atomicMin(&faults->coincidence, static_cast<unsigned long long>(j * n + i));
    }
    const Vec h = load(H, i) - load(H, j), force = load(F, j);
    for_each_place(s, x, i, j, [&](Vec d, const Slopes& k, bool) {
      const double change = 2.0 * dot(d, h), df = dot(d, force), hf = dot(h, force);
      const double f = k.f1 * change, along = k.g1 * change * df + k.g * hf, g = k.g * df;
      sum[0] += f * force.x + along * d.x + g * h.x;
      sum[1] += f * force.y + along * d.y + g * h.y;
      sum[2] += f * force.z + along * d.z + g * h.z;
    });
    if (s.own == Own::wall) add_wall_tangent(s, x, F, H, i, j, sum);
  }
  for (int m = 0; m < 3; ++m) parts[3 * t + m] = sum[m];
}

__global__ void add_own_tangent(const System s, const double* x, const double* F, const double* H,
                                std::int64_t n, double* dV) {
  const std::int64_t i = thread_index();
  if (i >= n) return;
  const kernels::WallSelf w = kernels::wall_self(s.unit, s.radius, x[3 * i + 2]);
  for (int a = 0; a < 3; ++a) dV[3 * i + a] += w.slope[a == 2] * H[3 * i + 2] * F[3 * i + a];
}

__device__ void add_wall_hessian(const System& s, const double* x, const double* H, std::int64_t i,
                                 std::int64_t j, const double weight[9], double sum[3]) {
  using Along = kernels::Jet<double, 1>;
  using Number = kernels::Jet<Along, 3>;
  const kernels::RadialParameters& p = s.p.terms[0].radial;
  const Vec xi = load(x, i), xj = load(x, j), h = load(H, i) - load(H, j);
  const Along zero{0, {0}}, one{1, {0}};
  double c[9];
  for (int m = 0; m < 9; ++m) c[m] = p.stokeslet * weight[m];
  const Along dx{xi.x - xj.x, {h.x}}, dy{xi.y - xj.y, {h.y}};
  const Along zi{xi.z, {H[3 * i + 2]}}, zj{xj.z, {H[3 * j + 2]}}, a{p.radius, {0}};
  const Number w = kernels::contracted(
      kernels::wall_of<Number>({dx, {one, zero, zero}}, {dy, {zero, one, zero}},
                               {zi, {zero, zero, one}}, {zj, {zero, zero, zero}},
                               {a, {zero, zero, zero}}),
      c);
  for (int m = 0; m < 3; ++m) sum[m] += w.d[m].d[0];
}

/// parts (chunks, n, 3): change of the derivative in the position of particle i along H.
__global__ void hessian_parts(const System system, const double* x, const Cotangent c,
                              const double* H, Chunks chunks, double* parts, Faults* faults) {
  const std::int64_t t = thread_index(), n = c.n;
  if (t >= chunks.count * n) return;
  const std::int64_t i = t % n, first = t / n * chunks.size;
  const std::int64_t last = first + chunks.size < n ? first + chunks.size : n;
  double sum[3] = {};
  for (std::int64_t j = first; j < last; ++j) {
    if (j == i) continue;
    if (j < i && singular(system.p, load(x, i) - load(x, j))) {
      atomicMin(&faults->coincidence, static_cast<unsigned long long>(j * n + i));
    }
    double weight[9];
    pair_weight(c, i, j, weight);
    const Symmetric s = symmetric(weight);
    const double trace = s.xx + s.yy + s.zz;
    const Vec h = load(H, i) - load(H, j), u = times(s, h);
    for_each_place(system, x, i, j, [&](Vec d, const Slopes& k, bool) {
      const Vec v = times(s, d);
      const double q = dot(v, d), dq = 2.0 * dot(v, h), change = 2.0 * dot(d, h);
      const double along = 2.0 * (k.f1 * trace + k.g1 * q);
      const double turn = 2.0 * (change * (k.f2 * trace + k.g2 * q) + k.g1 * dq);
      const double g = 2.0 * k.g, dg = 2.0 * k.g1 * change;
      sum[0] += turn * d.x + along * h.x + dg * v.x + g * u.x;
      sum[1] += turn * d.y + along * h.y + dg * v.y + g * u.y;
      sum[2] += turn * d.z + along * h.z + dg * v.z + g * u.z;
    });
    if (system.own == Own::wall) add_wall_hessian(system, x, H, i, j, weight, sum);
  }
  for (int m = 0; m < 3; ++m) parts[3 * t + m] = sum[m];
}

__global__ void add_own_hessian(const System s, const double* x, const Cotangent c, const double* H,
                                double* dX) {
  const std::int64_t i = thread_index();
  if (i >= c.n) return;
  const kernels::WallSelf w = kernels::wall_self(s.unit, s.radius, x[3 * i + 2]);
  const double along = entry(c, i, i, 0, 0) + entry(c, i, i, 1, 1), up = entry(c, i, i, 2, 2);
  dX[3 * i + 2] += H[3 * i + 2] * (w.curvature[0] * along + w.curvature[1] * up);
}

// -- tables ---------------------------------------------------------------------------------------

/// Adds a pair with the weight s (row by row) at the distance v to the knots (4, count).
__device__ void add_to_knots(const kernels::TableParameters& p, Vec v, const double s[9],
                             std::int64_t count, double* knots) {
  const double r2 = dot(v, v);
  if (!(r2 < p.cutoff2)) return;
  const Symmetric c = symmetric(s);
  const double along = r2 > 0 ? dot(times(c, v), v) / r2 : 0.0;
  const double across = c.xx + c.yy + c.zz - along;
  const double t = sqrt(r2) * p.inverse_spacing;
  std::int32_t k = static_cast<std::int32_t>(t);
  k = k < p.last_interval ? k : p.last_interval;
  const double u = t - k, w = 1 - u;
  const double basis[4] = {w * w * (1 + 2 * u), u * u * (3 - 2 * u), p.spacing * u * w * w,
                           -p.spacing * u * u * w};
  double *par = knots + k, *perp = knots + 2 * count + k;
  par[0] += along * basis[0];
  par[1] += along * basis[1];
  par[count] += along * basis[2];
  par[count + 1] += along * basis[3];
  perp[0] += across * basis[0];
  perp[1] += across * basis[1];
  perp[count] += across * basis[2];
  perp[count + 1] += across * basis[3];
}

/// Worker w of `workers` adds the pairs i > j of particles i = w, w + workers, .. to its own knots.
__global__ void knot_parts(const System s, const double* x, const Cotangent c, std::int64_t workers,
                           std::int64_t count, double* all_knots) {
  const std::int64_t worker = thread_index();
  if (worker >= workers) return;
  double* knots = all_knots + 4 * count * worker;
  const PairTerm& term = s.p.terms[s.p.table_term];
  for (std::int64_t i = worker; i < c.n; i += workers) {
    for (std::int64_t j = 0; j < i; ++j) {
      double weight[9];
      pair_weight(c, i, j, weight);
      const Wrapped w = wrapped(s.p, load(x, i) - load(x, j));
      for (std::int64_t m = 0; m < term.image_count; ++m) {
        add_to_knots(term.table, image(s.p, w, term.images + 3 * m), weight, count, knots);
      }
    }
  }
}

// -- waves ----------------------------------------------------------------------------------------

/// 2 pi times the reciprocal vector of wave k.
__device__ Vec wave_vector(const Parameters& p, std::int64_t k) {
  const std::int32_t* n = p.waves + 3 * k;
  double v[3];
  for (int c = 0; c < 3; ++c) {
    v[c] = 2.0 * pi *
           (n[0] * p.inverse[3 * c] + n[1] * p.inverse[3 * c + 1] + n[2] * p.inverse[3 * c + 2]);
  }
  return {v[0], v[1], v[2]};
}

/// A weight tensor times a vector.
__device__ Vec weighted(const double* w, Vec v) {
  return {w[0] * v.x + w[1] * v.y + w[2] * v.z, w[1] * v.x + w[3] * v.y + w[4] * v.z,
          w[2] * v.x + w[4] * v.y + w[5] * v.z};
}

/// sum_j v_j cos k.x_j and sum_j v_j sin k.x_j, times a weight.
struct Wave {
  Vec c, s;
};

__device__ Wave wave_of(const Parameters& p, const double* sums, std::int64_t k) {
  const double* w = p.weights + 6 * k;
  return {weighted(w, load(sums, 2 * k)), weighted(w, load(sums, 2 * k + 1))};
}

__device__ double slope(const Wave& w, Vec v, double2 e) {
  return dot(v, w.s) * e.x - dot(v, w.c) * e.y;
}

__device__ double value(const Wave& w, Vec v, double2 e) {
  return dot(v, w.c) * e.x + dot(v, w.s) * e.y;
}

/// parts (chunks, waves, 6): sums of wave k over the particles of a chunk; with a motion H (else
/// null) those of their change.
__global__ void wave_sum_parts(const Parameters p, const double* x, const double* v,
                               const double* H, std::int64_t n, Chunks chunks, double* parts) {
  const std::int64_t t = thread_index();
  if (t >= chunks.count * p.wave_count) return;
  const std::int64_t k = t % p.wave_count, first = t / p.wave_count * chunks.size;
  const std::int64_t last = first + chunks.size < n ? first + chunks.size : n;
  const Vec wave = wave_vector(p, k);
  double c[3] = {}, s[3] = {};
  for (std::int64_t j = first; j < last; ++j) {
    const double2 e = phase(p, load(x, j), k);
    const double rate = H ? dot(wave, load(H, j)) : 0.0;
    const double cosine = H ? -rate * e.y : e.x, sine = H ? rate * e.x : e.y;
    for (int a = 0; a < 3; ++a) {
      c[a] += v[3 * j + a] * cosine;
      s[a] += v[3 * j + a] * sine;
    }
  }
  for (int a = 0; a < 3; ++a) {
    parts[6 * t + a] = c[a];
    parts[6 * t + 3 + a] = s[a];
  }
}

/// out (waves, 2): what a wave adds to the value and to its slope in the radius.
__global__ void wave_stats(const Parameters p, const double* radius_weights, const double* f,
                           const double* g, double* out) {
  const std::int64_t k = thread_index();
  if (k >= p.wave_count) return;
  const Vec fc = load(f, 2 * k), fs = load(f, 2 * k + 1);
  const Vec gc = load(g, 2 * k), gs = load(g, 2 * k + 1);
  const double *w = p.weights + 6 * k, *r = radius_weights + 6 * k;
  out[2 * k] = dot(gc, weighted(w, fc)) + dot(gs, weighted(w, fs));
  out[2 * k + 1] = dot(gc, weighted(r, fc)) + dot(gs, weighted(r, fs));
}

/// What one wave adds to the result of particle i.
struct GradientOfWave {
  const double *F, *G, *f, *g;  // vectors, and their sums over the particles

  __device__ void add(const Parameters& p, const double* x, std::int64_t i, std::int64_t k,
                      double sum[3]) const {
    const double2 e = phase(p, load(x, i), k);
    const double c =
        slope(wave_of(p, f, k), load(G, i), e) + slope(wave_of(p, g, k), load(F, i), e);
    const Vec wave = wave_vector(p, k);
    sum[0] += c * wave.x;
    sum[1] += c * wave.y;
    sum[2] += c * wave.z;
  }
};

struct TangentOfWave {
  const double *H, *f, *df;  // d: of the change along H

  __device__ void add(const Parameters& p, const double* x, std::int64_t i, std::int64_t k,
                      double sum[3]) const {
    const double2 e = phase(p, load(x, i), k);
    const double rate = dot(wave_vector(p, k), load(H, i));
    const Wave w = wave_of(p, f, k), d = wave_of(p, df, k);
    sum[0] += d.c.x * e.x + d.s.x * e.y + rate * (w.s.x * e.x - w.c.x * e.y);
    sum[1] += d.c.y * e.x + d.s.y * e.y + rate * (w.s.y * e.x - w.c.y * e.y);
    sum[2] += d.c.z * e.x + d.s.z * e.y + rate * (w.s.z * e.x - w.c.z * e.y);
  }
};

struct HessianOfWave {
  const double *F, *G, *H, *f, *g, *df, *dg;

  __device__ void add(const Parameters& p, const double* x, std::int64_t i, std::int64_t k,
                      double sum[3]) const {
    const double2 e = phase(p, load(x, i), k);
    const Vec Fi = load(F, i), Gi = load(G, i), wave = wave_vector(p, k);
    const double rate = dot(wave, load(H, i));
    const double c = slope(wave_of(p, df, k), Gi, e) + slope(wave_of(p, dg, k), Fi, e) -
                     rate * (value(wave_of(p, f, k), Gi, e) + value(wave_of(p, g, k), Fi, e));
    sum[0] += c * wave.x;
    sum[1] += c * wave.y;
    sum[2] += c * wave.z;
  }
};

/// parts (chunks, n, 3): sums of particle i over the waves of a chunk.
template <class OfWave>
__global__ void wave_parts(const Parameters p, const double* x, const OfWave of_wave,
                           std::int64_t n, Chunks chunks, double* parts) {
  const std::int64_t t = thread_index();
  if (t >= chunks.count * n) return;
  const std::int64_t i = t % n, first = t / n * chunks.size;
  const std::int64_t last = first + chunks.size < p.wave_count ? first + chunks.size : p.wave_count;
  double sum[3] = {};
  for (std::int64_t k = first; k < last; ++k) of_wave.add(p, x, i, k, sum);
  for (int m = 0; m < 3; ++m) parts[3 * t + m] = sum[m];
}

/// parts (chunks, n, kSums) of the waves of a matrix, as gradient_parts; i = j holds the self part.
__global__ void matrix_wave_parts(const Parameters p, const double* radius_weights,
                                  const double2* phases, const Cotangent c, Chunks chunks,
                                  double* parts) {
  const std::int64_t t = thread_index(), n = c.n;
  if (t >= chunks.count * n) return;
  const std::int64_t i = t % n, first = t / n * chunks.size;
  const std::int64_t last = first + chunks.size < n ? first + chunks.size : n;
  double sum[kSums] = {};
  for (std::int64_t j = first; j < last; ++j) {
    double s[9];
    pair_weight(c, i, j, s);
    const double packed[6] = {s[0], s[1] + s[3], s[2] + s[6], s[4], s[5] + s[7], s[8]};
    for (std::int64_t k = 0; k < p.wave_count; ++k) {
      const double2 a = phases[k * n + i], b = phases[k * n + j];
      const double cosine = a.x * b.x + a.y * b.y, sine = a.y * b.x - a.x * b.y;
      double weight = 0, radius = 0;
      for (int m = 0; m < 6; ++m) {
        weight += packed[m] * p.weights[6 * k + m];
        radius += packed[m] * radius_weights[6 * k + m];
      }
      const Vec wave = wave_vector(p, k);
      sum[0] -= weight * sine * wave.x;
      sum[1] -= weight * sine * wave.y;
      sum[2] -= weight * sine * wave.z;
      sum[3] += weight * cosine;
      sum[4] += radius * cosine;
    }
  }
  for (int m = 0; m < kSums; ++m) parts[kSums * t + m] = sum[m];
}

// -- one call -------------------------------------------------------------------------------------

__global__ void find_low(const double* x, std::int64_t n, double radius,
                         unsigned long long* first) {
  const std::int64_t i = thread_index();
  if (i < n && x[3 * i + 2] < radius) atomicMin(first, static_cast<unsigned long long>(i));
}

/// Slope in the radius of the weights of the waves.
std::vector<double> radius_weights(const MobilityModel& model, const detail::MobilityPlan& plan) {
  const detail::WavePart& part = plan.ewald->waves;
  std::vector<double> out(part.weights.size(), 0.0);
  if (model.kernel != Kernel::rpy) return out;
  const double volume = std::fabs(determinant(plan.cell.rows));
  const std::vector<std::int32_t> n = wave_integers(part);
  for (std::size_t k = 0; k < n.size() / 3; ++k) {
    double v[3], k2 = 0;
    for (int c = 0; c < 3; ++c) {
      v[c] = 0;
      for (int a = 0; a < 3; ++a) v[c] += 2.0 * pi * n[3 * k + a] * plan.inverse[3 * c + a];
      k2 += v[c] * v[c];
    }
    const double y = k2 / (4.0 * plan.ewald->radial.xi2);
    const double slope =
        -4.0 * model.radius / 3.0 / (model.viscosity * volume) * (1.0 + y) * std::exp(-y);
    int m = 0;
    for (int a = 0; a < 3; ++a) {
      for (int b = a; b < 3; ++b) {
        out[6 * k + m++] = slope * ((a == b ? 1.0 : 0.0) - v[a] * v[b] / k2);
      }
    }
  }
  return out;
}

Own own_of(const MobilityModel& model, const detail::MobilityPlan& plan) {
  if (plan.ewald || model.kernel == Kernel::none) return Own::none;
  return model.kernel == Kernel::rpy_wall ? Own::wall : Own::open;
}

/// Everything one call needs: device, stream, plan, wrapped positions, faults.
class Call {
 public:
  Call(const Context& context, const MobilityModel& model, const detail::MobilityPlan& plan,
       View<const double, 2> x)
      : stream(static_cast<cudaStream_t>(context.stream)),
        n(x.shape[0]),
        chunks(n, n),
        model_(model),
        device_(device_of("x", x.data)),
        current_(device_),
        plan_(model, plan, stream),
        x_(x.size(), stream),
        faults_(&kNoFaults, 1, stream) {
    system = {plan_.parameters,
              resident(std::vector<double>(model.radii.begin(), model.radii.end()), stream),
              own_of(model, plan), model.radius, 1.0 / (6.0 * pi * model.viscosity)};
    look_beyond(x.data, x.size(), kLargestPosition<double>, &faults()->position, stream);
    if (system.own == Own::wall) {
      find_low<<<blocks(n, kThreads), kThreads, 0, stream>>>(x.data, n, model.radius,
                                                             &faults()->height);
    }
    wrap_positions<<<blocks(n, kThreads), kThreads, 0, stream>>>(system.p, x.data, n, x_.get());
    check(cudaGetLastError(), "wrap positions");
  }

  /// F, G, H or C: on the same GPU, finite. Where several are wrong, one of them is named.
  void take(const char* name, View<const double, 2> v) {
    MLCORE_CHECK(device_of(name, v.data) == device_,
                 "all arrays must live on the same device, but ", name, " is not where x is");
    check_finite_there(name, v.data, v.size(), stream);
  }

  template <class T>
  void copy(const T* from, std::int64_t count, T* to) const {
    check(cudaMemcpyAsync(to, from, count * sizeof(T), cudaMemcpyDeviceToHost, stream),
          "copy from the device");
    check(cudaStreamSynchronize(stream), "run a kernel");
  }

  /// Blocks for a particle and chunk per thread.
  unsigned grid() const { return blocks(chunks.count * n, kThreads); }
  const double* x() const { return x_.get(); }
  Faults* faults() const { return faults_.get(); }
  void finish() const { cuda::finish(faults_.get(), model_, n, stream); }

  const cudaStream_t stream;
  const std::int64_t n;
  const Chunks chunks;
  System system;

 private:
  const MobilityModel& model_;
  int device_;
  CurrentDevice current_;
  DevicePlan plan_;
  Scratch<double> x_;
  Scratch<Faults> faults_;
};

/// Sums (waves, 6) of vectors, or of their change along H.
class WaveSums {
 public:
  WaveSums(const Call& call, const double* v, const double* H)
      : sums_(6 * call.system.p.wave_count, call.stream) {
    const Parameters& p = call.system.p;
    const Chunks chunks(p.wave_count, call.n);
    const Scratch<double> parts(6 * chunks.count * p.wave_count, call.stream);
    wave_sum_parts<<<blocks(chunks.count * p.wave_count, kThreads), kThreads, 0, call.stream>>>(
        p, call.x(), v, H, call.n, chunks, parts.get());
    check(cudaGetLastError(), "sum waves");
    sum_rows(parts.get(), chunks.count, 6 * p.wave_count, false, sums_.get(), call.stream);
  }
  const double* get() const { return sums_.get(); }

 private:
  Scratch<double> sums_;
};

/// Adds what the waves give every particle to out (n, 3).
template <class OfWave>
void add_waves(const Call& call, const OfWave& of_wave, double* out) {
  const Parameters& p = call.system.p;
  const Chunks chunks(call.n, p.wave_count);
  const Scratch<double> parts(3 * chunks.count * call.n, call.stream);
  wave_parts<<<blocks(chunks.count * call.n, kThreads), kThreads, 0, call.stream>>>(
      p, call.x(), of_wave, call.n, chunks, parts.get());
  check(cudaGetLastError(), "add waves");
  sum_rows(parts.get(), chunks.count, 3 * call.n, true, out, call.stream);
}

/// Adds the waves of sum G . M F to X and to the parameters' sums.
void add_vector_waves(const Call& call, const double* slopes, const Cotangent& c, double* X,
                      detail::ParameterSums& sums) {
  const Parameters& p = call.system.p;
  const WaveSums f(call, c.F, nullptr), g(call, c.G, nullptr);
  const Scratch<double> stats(2 * p.wave_count, call.stream), both(2, call.stream);
  wave_stats<<<blocks(p.wave_count, kThreads), kThreads, 0, call.stream>>>(p, slopes, f.get(),
                                                                           g.get(), stats.get());
  check(cudaGetLastError(), "sum waves");
  sum_many_rows(stats.get(), p.wave_count, 2, both.get(), call.stream);
  double found[2];
  call.copy(both.get(), 2, found);
  sums.value += found[0];
  sums.radius[0] += found[1];
  if (X) add_waves(call, GradientOfWave{c.F, c.G, f.get(), g.get()}, X);
}

/// Adds the waves of sum C M to the sums (n, kSums) of the particles.
void add_matrix_waves(const Call& call, const double* slopes, const Cotangent& c, double* sums) {
  const Parameters& p = call.system.p;
  const Scratch<double2> phases(call.n * p.wave_count, call.stream);
  const dim3 grid(blocks(call.n, kThreads),
                  static_cast<unsigned>(std::min<std::int64_t>(p.wave_count, 65535)));
  fill_phases<<<grid, kThreads, 0, call.stream>>>(p, call.x(), call.n, phases.get());
  const Scratch<double> parts(kSums * call.chunks.count * call.n, call.stream);
  matrix_wave_parts<<<call.grid(), kThreads, 0, call.stream>>>(p, slopes, phases.get(), c,
                                                               call.chunks, parts.get());
  check(cudaGetLastError(), "add waves");
  sum_rows(parts.get(), call.chunks.count, kSums * call.n, true, sums, call.stream);
}

/// What the pairs give the knots of the table.
void find_knots(const Call& call, const Cotangent& c, std::vector<double>& knots) {
  const auto count = static_cast<std::int64_t>(knots.size()) / 4;
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 23;
  const std::int64_t workers =
      std::clamp<std::int64_t>(kMostNumbers / (4 * count), 1, std::min<std::int64_t>(call.n, 4096));
  const Scratch<double> parts(4 * count * workers, call.stream), sums(4 * count, call.stream);
  check(cudaMemsetAsync(parts.get(), 0, 4 * count * workers * sizeof(double), call.stream),
        "clear an array");
  knot_parts<<<blocks(workers, kThreads), kThreads, 0, call.stream>>>(call.system, call.x(), c,
                                                                      workers, count, parts.get());
  check(cudaGetLastError(), "add to knots");
  sum_many_rows(parts.get(), workers, 4 * count, sums.get(), call.stream);
  call.copy(sums.get(), 4 * count, knots.data());
}

/// The pairs of every particle, written to out (n, 3).
void sum_parts(const Call& call, const Scratch<double>& parts, double* out) {
  check(cudaGetLastError(), "add pairs");
  sum_rows(parts.get(), call.chunks.count, 3 * call.n, false, out, call.stream);
}

}  // namespace

detail::ParameterSums mobility_backward(const Context& context, const MobilityModel& model,
                                        const detail::MobilityPlan& plan,
                                        const MobilityScalar& scalar, View<double, 2> X,
                                        std::vector<double>& knots) {
  Call call(context, model, plan, scalar.x);
  const bool matrix = scalar.C.data != nullptr, unequal = call.system.radii != nullptr;
  if (matrix) {
    call.take("C", scalar.C);
  } else {
    call.take("F", scalar.F);
    call.take("G", scalar.G);
  }
  const std::int64_t n = call.n;
  const Cotangent c{scalar.F.data, scalar.G.data, scalar.C.data, n};
  double* out = X.empty() ? nullptr : X.data;
  const Scratch<double> parts(kSums * call.chunks.count * n, call.stream);
  const Scratch<double> sums(kSums * n, call.stream), stats(kStats * n, call.stream);
  gradient_parts<<<call.grid(), kThreads, 0, call.stream>>>(call.system, call.x(), c, call.chunks,
                                                            parts.get(), call.faults());
  check(cudaGetLastError(), "add pairs");
  sum_rows(parts.get(), call.chunks.count, kSums * n, false, sums.get(), call.stream);
  const double* slopes = plan.ewald ? resident(radius_weights(model, plan), call.stream) : nullptr;
  const bool waves = call.system.p.wave_count > 0;
  if (waves && matrix) add_matrix_waves(call, slopes, c, sums.get());
  finish_gradient<<<blocks(n, kThreads), kThreads, 0, call.stream>>>(call.system, call.x(), c,
                                                                     sums.get(), out, stats.get());
  check(cudaGetLastError(), "finish derivatives");
  call.finish();
  const Scratch<double> totals(kStats, call.stream);
  sum_many_rows(stats.get(), n, kStats, totals.get(), call.stream);
  double found[kStats];
  call.copy(totals.get(), kStats, found);
  detail::ParameterSums result;
  result.value = found[0];
  result.radius.assign(unequal ? n : 1, found[1]);
  std::copy_n(found + 2, 6, result.self.begin());
  if (unequal) {
    const Scratch<double> radii(n, call.stream);
    take_radii<<<blocks(n, kThreads), kThreads, 0, call.stream>>>(stats.get(), n, radii.get());
    call.copy(radii.get(), n, result.radius.data());
  }
  if (waves && !matrix) add_vector_waves(call, slopes, c, out, result);
  if (!knots.empty()) find_knots(call, c, knots);
  return result;
}

void mobility_tangent(const Context& context, const MobilityModel& model,
                      const detail::MobilityPlan& plan, View<const double, 2> x,
                      View<const double, 2> F, View<const double, 2> H, View<double, 2> dV) {
  Call call(context, model, plan, x);
  call.take("F", F);
  call.take("H", H);
  const Scratch<double> parts(3 * call.chunks.count * call.n, call.stream);
  tangent_parts<<<call.grid(), kThreads, 0, call.stream>>>(
      call.system, call.x(), F.data, H.data, call.n, call.chunks, parts.get(), call.faults());
  sum_parts(call, parts, dV.data);
  if (call.system.own == Own::wall) {
    add_own_tangent<<<blocks(call.n, kThreads), kThreads, 0, call.stream>>>(
        call.system, call.x(), F.data, H.data, call.n, dV.data);
  }
  if (call.system.p.wave_count > 0) {
    const WaveSums f(call, F.data, nullptr), df(call, F.data, H.data);
    add_waves(call, TangentOfWave{H.data, f.get(), df.get()}, dV.data);
  }
  call.finish();
}

void mobility_hessian(const Context& context, const MobilityModel& model,
                      const detail::MobilityPlan& plan, View<const double, 2> x,
                      View<const double, 2> F, View<const double, 2> G, View<const double, 2> H,
                      View<double, 2> dX) {
  Call call(context, model, plan, x);
  call.take("F", F);
  call.take("G", G);
  call.take("H", H);
  const Cotangent c{F.data, G.data, nullptr, call.n};
  const Scratch<double> parts(3 * call.chunks.count * call.n, call.stream);
  hessian_parts<<<call.grid(), kThreads, 0, call.stream>>>(call.system, call.x(), c, H.data,
                                                           call.chunks, parts.get(), call.faults());
  sum_parts(call, parts, dX.data);
  if (call.system.own == Own::wall) {
    add_own_hessian<<<blocks(call.n, kThreads), kThreads, 0, call.stream>>>(call.system, call.x(),
                                                                            c, H.data, dX.data);
  }
  if (call.system.p.wave_count > 0) {
    const WaveSums f(call, F.data, nullptr), g(call, G.data, nullptr);
    const WaveSums df(call, F.data, H.data), dg(call, G.data, H.data);
    add_waves(call, HessianOfWave{F.data, G.data, H.data, f.get(), g.get(), df.get(), dg.get()},
              dX.data);
  }
  call.finish();
}

}  // namespace mlcore::cuda
