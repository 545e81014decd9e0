// Compiled once per instruction set; see simd.hpp.

#include "kernels/mobility_distances.hpp"
#include "kernels/mobility_gradient.hpp"
#include "kernels/mobility_slopes.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

/// C_ij + C_ji^T of a block, row by row.
struct Cotangents {
  alignas(64) double s[9][kBlock];
};

void load_cotangents(const PairCotangent& c, std::int64_t i, std::int64_t first, int count,
                     int padded, Cotangents& to) {
  for (int a = 0; a < 3; ++a) {
    for (int b = 0; b < 3; ++b) {
      double* s = to.s[3 * a + b];
      if (c.matrix) {
        const double* row = c.matrix + (3 * i + a) * c.stride + 3 * first + b;
        const double* column = c.matrix + (3 * first + b) * c.stride + 3 * i + a;
        for (int j = 0; j < count; ++j) s[j] = row[3 * j] + column[3 * j * c.stride];
      } else {
        const double fi = c.force[a][i], gi = c.adjoint[a][i];
        const double *f = c.force[b] + first, *g = c.adjoint[b] + first;
        for (int j = 0; j < count; ++j) s[j] = gi * f[j] + fi * g[j];
      }
      for (int j = count; j < padded; ++j) s[j] = 0.0;
      if (i >= first && i < first + count) s[i - first] = 0.0;
    }
  }
}

/// Per-lane sums.
struct Lanes {
  alignas(64) double x[kBlock], y[kBlock], z[kBlock], value[kBlock], radius[kBlock];
};

/// Motions of i against those of a block.
struct Motions {
  alignas(64) double x[kBlock], y[kBlock], z[kBlock];
};

void load_motions(const double* const motion[3], std::int64_t i, std::int64_t first, int count,
                  int padded, Motions& to) {
  double* const out[3] = {to.x, to.y, to.z};
  for (int a = 0; a < 3; ++a) {
    const double own = motion[a][i];
    for (int j = 0; j < count; ++j) out[a][j] = own - motion[a][first + j];
    for (int j = count; j < padded; ++j) out[a][j] = 0.0;
  }
}

struct Radii {
  double own;
  alignas(64) double others[kBlock];
};

void load_radii(const PairSystem& system, std::int64_t i, std::int64_t first, int count, int padded,
                Radii& to) {
  to.own = system.radii ? system.radii[i] : 1.0;
  for (int j = 0; j < count; ++j) to.others[j] = system.radii ? system.radii[first + j] : 1.0;
  for (int j = count; j < padded; ++j) to.others[j] = 1.0;
}

/// The symmetric part of a cotangent.
struct Symmetric {
  double xx, xy, xz, yy, yz, zz;
};

inline __attribute__((always_inline)) Symmetric symmetric(const Cotangents& c, int j) {
  return {c.s[0][j], 0.5 * (c.s[1][j] + c.s[3][j]), 0.5 * (c.s[2][j] + c.s[6][j]),
          c.s[4][j], 0.5 * (c.s[5][j] + c.s[7][j]), c.s[8][j]};
}

template <PairKind kind, bool unequal>
void add_gradients(const PairTerm& term, const Places& at, int count, const Cotangents& cotangent,
                   const Radii& radii, Lanes& to) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
  const double *px = at.x, *py = at.y, *pz = at.z;
  constexpr double analytic = kind == PairKind::table ? 0.0 : 1.0;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    const double x = px[j], y = py[j], z = pz[j];
    const Slopes k = slopes_of<kind, unequal>(radial, table, at.r2[j], radii.own, radii.others[j]);
    const Symmetric s = symmetric(cotangent, j);
    const double trace = s.xx + s.yy + s.zz;
    const double tx = s.xx * x + s.xy * y + s.xz * z;
    const double ty = s.xy * x + s.yy * y + s.yz * z;
    const double tz = s.xz * x + s.yz * y + s.zz * z;
    const double q = tx * x + ty * y + tz * z;
    const double c = 2.0 * (k.f1 * trace + k.g1 * q), g = 2.0 * k.g;
    to.x[j] += c * x + g * tx;
    to.y[j] += c * y + g * ty;
    to.z[j] += c * z + g * tz;
    to.value[j] += analytic * (k.f * trace + k.g * q);
    to.radius[j] += k.fa * trace + k.ga * q;
  }
}

template <PairKind kind, bool unequal>
void add_hessian(const PairTerm& term, const Places& at, int count, const Cotangents& cotangent,
                 const Radii& radii, const Motions& motion, Lanes& to) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
  const double *px = at.x, *py = at.y, *pz = at.z;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    const double x = px[j], y = py[j], z = pz[j];
    const double hx = motion.x[j], hy = motion.y[j], hz = motion.z[j];
    const Slopes k = slopes_of<kind, unequal>(radial, table, at.r2[j], radii.own, radii.others[j]);
    const Symmetric s = symmetric(cotangent, j);
    const double trace = s.xx + s.yy + s.zz;
    const double tx = s.xx * x + s.xy * y + s.xz * z;
    const double ty = s.xy * x + s.yy * y + s.yz * z;
    const double tz = s.xz * x + s.yz * y + s.zz * z;
    const double ux = s.xx * hx + s.xy * hy + s.xz * hz;
    const double uy = s.xy * hx + s.yy * hy + s.yz * hz;
    const double uz = s.xz * hx + s.yz * hy + s.zz * hz;
    const double q = tx * x + ty * y + tz * z, dq = 2.0 * (tx * hx + ty * hy + tz * hz);
    const double change = 2.0 * (x * hx + y * hy + z * hz);
    const double c = 2.0 * (k.f1 * trace + k.g1 * q);
    const double dc = 2.0 * (change * (k.f2 * trace + k.g2 * q) + k.g1 * dq);
    const double g = 2.0 * k.g, dg = 2.0 * k.g1 * change;
    to.x[j] += dc * x + c * hx + dg * tx + g * ux;
    to.y[j] += dc * y + c * hy + dg * ty + g * uy;
    to.z[j] += dc * z + c * hz + dg * tz + g * uz;
  }
}

template <PairKind kind, bool unequal>
void add_tangents(const PairTerm& term, const Places& at, int count, const double* const force[3],
                  const Radii& radii, const Motions& motion, Lanes& to) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
  const double *px = at.x, *py = at.y, *pz = at.z;
  const double *fx = force[0], *fy = force[1], *fz = force[2];
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    const double x = px[j], y = py[j], z = pz[j];
    const double hx = motion.x[j], hy = motion.y[j], hz = motion.z[j];
    const Slopes k = slopes_of<kind, unequal>(radial, table, at.r2[j], radii.own, radii.others[j]);
    const double change = 2.0 * (x * hx + y * hy + z * hz);
    const double df = x * fx[j] + y * fy[j] + z * fz[j];
    const double hf = hx * fx[j] + hy * fy[j] + hz * fz[j];
    const double f = k.f1 * change, along = k.g1 * change * df + k.g * hf, g = k.g * df;
    to.x[j] += f * fx[j] + along * x + g * hx;
    to.y[j] += f * fy[j] + along * y + g * hy;
    to.z[j] += f * fz[j] + along * z + g * hz;
  }
}

/// Calls what(kind, unequal) for the kind of a term.
#define MLCORE_FOR_SLOPES(what)                      \
  switch (term.kind) {                               \
    case PairKind::oseen:                            \
      return what(PairKind::oseen, false);           \
    case PairKind::rpy:                              \
      if (unequal) return what(PairKind::rpy, true); \
      return what(PairKind::rpy, false);             \
    case PairKind::periodic_oseen:                   \
      return what(PairKind::periodic_oseen, false);  \
    case PairKind::periodic_rpy:                     \
      return what(PairKind::periodic_rpy, false);    \
    case PairKind::regularized:                      \
      return what(PairKind::regularized, false);     \
    case PairKind::table:                            \
      return what(PairKind::table, false);           \
  }

void add_term_gradients(const PairTerm& term, bool unequal, const Places& at, int count,
                        const Cotangents& c, const Radii& radii, Lanes& to) {
#define MLCORE_CALL(kind, flag) add_gradients<kind, flag>(term, at, count, c, radii, to)
  MLCORE_FOR_SLOPES(MLCORE_CALL)
#undef MLCORE_CALL
}

void add_term_hessian(const PairTerm& term, bool unequal, const Places& at, int count,
                      const Cotangents& c, const Radii& radii, const Motions& motion, Lanes& to) {
#define MLCORE_CALL(kind, flag) add_hessian<kind, flag>(term, at, count, c, radii, motion, to)
  MLCORE_FOR_SLOPES(MLCORE_CALL)
#undef MLCORE_CALL
}

void add_term_tangents(const PairTerm& term, bool unequal, const Places& at, int count,
                       const double* const force[3], const Radii& radii, const Motions& motion,
                       Lanes& to) {
#define MLCORE_CALL(kind, flag) add_tangents<kind, flag>(term, at, count, force, radii, motion, to)
  MLCORE_FOR_SLOPES(MLCORE_CALL)
#undef MLCORE_CALL
}

/// The wall's part of a block; the particle itself is left out.
void add_wall_gradients(const PairSystem& system, std::int64_t i, std::int64_t first, int count,
                        const Cotangents& cotangent, Lanes& to) {
  using Number = Jet<double, 4>;  // in x_i, y_i, z_i, a
  const PairGeometry& g = system.geometry;
  const RadialParameters& p = system.terms[0].radial;
  for (int j = 0; j < count; ++j) {
    if (first + j == i) continue;
    double s[9];
    for (int m = 0; m < 9; ++m) s[m] = p.stokeslet * cotangent.s[m][j];
    const Number w =
        contracted(wall_of<Number>({g.x[i] - g.x[first + j], {1, 0, 0, 0}},
                                   {g.y[i] - g.y[first + j], {0, 1, 0, 0}}, {g.z[i], {0, 0, 1, 0}},
                                   {g.z[first + j], {0, 0, 0, 0}}, {p.radius, {0, 0, 0, 1}}),
                   s);
    to.x[j] += w.d[0];
    to.y[j] += w.d[1];
    to.z[j] += w.d[2];
    to.value[j] += w.v;
    to.radius[j] += w.d[3];
  }
}

void add_wall_hessian(const PairSystem& system, const double* const motion[3], std::int64_t i,
                      std::int64_t first, int count, const Cotangents& cotangent,
                      const Motions& relative, Lanes& to) {
  using Along = Jet<double, 1>;
  using Number = Jet<Along, 3>;
  const PairGeometry& g = system.geometry;
  const RadialParameters& p = system.terms[0].radial;
  const Along zero{0, {0}}, one{1, {0}};
  for (int j = 0; j < count; ++j) {
    if (first + j == i) continue;
    double s[9];
    for (int m = 0; m < 9; ++m) s[m] = p.stokeslet * cotangent.s[m][j];
    const Along dx{g.x[i] - g.x[first + j], {relative.x[j]}};
    const Along dy{g.y[i] - g.y[first + j], {relative.y[j]}};
    const Along zi{g.z[i], {motion[2][i]}}, zj{g.z[first + j], {motion[2][first + j]}};
    const Along a{p.radius, {0}};
    const Number w = contracted(
        wall_of<Number>({dx, {one, zero, zero}}, {dy, {zero, one, zero}}, {zi, {zero, zero, one}},
                        {zj, {zero, zero, zero}}, {a, {zero, zero, zero}}),
        s);
    to.x[j] += w.d[0].d[0];
    to.y[j] += w.d[1].d[0];
    to.z[j] += w.d[2].d[0];
  }
}

void add_wall_tangents(const PairSystem& system, const double* const motion[3], std::int64_t i,
                       std::int64_t first, int count, const double* const force[3],
                       const Motions& relative, Lanes& to) {
  using Number = Jet<double, 1>;
  const PairGeometry& g = system.geometry;
  const RadialParameters& p = system.terms[0].radial;
  for (int j = 0; j < count; ++j) {
    if (first + j == i) continue;
    const WallBlock<Number> w = wall_of<Number>(
        {g.x[i] - g.x[first + j], {relative.x[j]}}, {g.y[i] - g.y[first + j], {relative.y[j]}},
        {g.z[i], {motion[2][i]}}, {g.z[first + j], {motion[2][first + j]}}, {p.radius, {0}});
    const double fx = p.stokeslet * force[0][j], fy = p.stokeslet * force[1][j];
    const double fz = p.stokeslet * force[2][j];
    to.x[j] += w.xx.d[0] * fx + w.xy.d[0] * fy + w.xz.d[0] * fz;
    to.y[j] += w.xy.d[0] * fx + w.yy.d[0] * fy + w.yz.d[0] * fz;
    to.z[j] += w.zx.d[0] * fx + w.zy.d[0] * fy + w.zz.d[0] * fz;
  }
}

double sum_of(const double* v) {
  double sum = 0;
  for (int j = 0; j < kBlock; ++j) sum += v[j];
  return sum;
}

}  // namespace

void mobility_gradient_row(const PairSystem& system, const PairCotangent& cotangent, std::int64_t i,
                           std::int64_t n, GradientSums& sums) {
  Distances d;
  Places at;
  Cotangents c;
  Radii radii;
  Lanes lanes = {};
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const int count = static_cast<int>(n - first < kBlock ? n - first : kBlock);
    load_distances(system.geometry, i, first, count, d);
    load_cotangents(cotangent, i, first, count, d.padded, c);
    load_radii(system, i, first, count, d.padded, radii);
    for (int t = 0; t < system.term_count; ++t) {
      for (std::int64_t s = 0; s < system.terms[t].image_count; ++s) {
        locate(system.geometry, system.terms[t], s, d, at);
        add_term_gradients(system.terms[t], system.radii, at, d.padded, c, radii, lanes);
      }
    }
    if (system.wall) add_wall_gradients(system, i, first, count, c, lanes);
  }
  sums.x[0] += sum_of(lanes.x);
  sums.x[1] += sum_of(lanes.y);
  sums.x[2] += sum_of(lanes.z);
  sums.value += sum_of(lanes.value);
  sums.radius += sum_of(lanes.radius);
}

void mobility_hessian_row(const PairSystem& system, const PairCotangent& cotangent,
                          const double* const motion[3], std::int64_t i, std::int64_t n,
                          double out[3]) {
  Distances d;
  Places at;
  Cotangents c;
  Radii radii;
  Motions motions;
  Lanes lanes = {};
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const int count = static_cast<int>(n - first < kBlock ? n - first : kBlock);
    load_distances(system.geometry, i, first, count, d);
    load_cotangents(cotangent, i, first, count, d.padded, c);
    load_radii(system, i, first, count, d.padded, radii);
    load_motions(motion, i, first, count, d.padded, motions);
    for (int t = 0; t < system.term_count; ++t) {
      for (std::int64_t s = 0; s < system.terms[t].image_count; ++s) {
        locate(system.geometry, system.terms[t], s, d, at);
        add_term_hessian(system.terms[t], system.radii, at, d.padded, c, radii, motions, lanes);
      }
    }
    if (system.wall) add_wall_hessian(system, motion, i, first, count, c, motions, lanes);
  }
  out[0] += sum_of(lanes.x);
  out[1] += sum_of(lanes.y);
  out[2] += sum_of(lanes.z);
}

void mobility_tangent_row(const PairSystem& system, const double* const force[3],
                          const double* const motion[3], std::int64_t i, std::int64_t n,
                          double out[3]) {
  Distances d;
  Places at;
  Radii radii;
  Motions motions;
  Lanes lanes = {};
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const int count = static_cast<int>(n - first < kBlock ? n - first : kBlock);
    load_distances(system.geometry, i, first, count, d);
    load_radii(system, i, first, count, d.padded, radii);
    load_motions(motion, i, first, count, d.padded, motions);
    const double* const at_block[3] = {force[0] + first, force[1] + first, force[2] + first};
    for (int t = 0; t < system.term_count; ++t) {
      for (std::int64_t s = 0; s < system.terms[t].image_count; ++s) {
        locate(system.geometry, system.terms[t], s, d, at);
        add_term_tangents(system.terms[t], system.radii, at, d.padded, at_block, radii, motions,
                          lanes);
      }
    }
    if (system.wall) add_wall_tangents(system, motion, i, first, count, at_block, motions, lanes);
  }
  out[0] += sum_of(lanes.x);
  out[1] += sum_of(lanes.y);
  out[2] += sum_of(lanes.z);
}

}  // namespace mlcore::kernels::MLCORE_ISA
