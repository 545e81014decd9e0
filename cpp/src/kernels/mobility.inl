// Compiled once per instruction set; see simd.hpp.

#include "kernels/mobility.hpp"
#include "kernels/mobility_distances.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

struct Tensors {
  alignas(64) double xx[kBlock], xy[kBlock], xz[kBlock], yy[kBlock], yz[kBlock], zz[kBlock];
};

/// Writes (first) or adds one image of one term.
template <PairKind kind, bool first>
void put_tensors(const PairTerm& term, const Places& at, int count, Tensors& t) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
  const double *px = at.x, *py = at.y, *pz = at.z;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    const double x = px[j], y = py[j], z = pz[j];
    const Pair p = pair_functions<kind>(radial, table, at.r2[j], at.inverse[j]);
    const double gx = p.g * x, gy = p.g * y, gz = p.g * z;
    t.xx[j] = (first ? 0.0 : t.xx[j]) + (p.f + gx * x);
    t.xy[j] = (first ? 0.0 : t.xy[j]) + gx * y;
    t.xz[j] = (first ? 0.0 : t.xz[j]) + gx * z;
    t.yy[j] = (first ? 0.0 : t.yy[j]) + (p.f + gy * y);
    t.yz[j] = (first ? 0.0 : t.yz[j]) + gy * z;
    t.zz[j] = (first ? 0.0 : t.zz[j]) + (p.f + gz * z);
  }
}

/// Velocities caused by the particles of a block, lane by lane.
struct Velocities {
  alignas(64) double u[kBlock], v[kBlock], w[kBlock];
};

template <PairKind kind, bool first>
void put_velocities(const PairTerm& term, const Places& at, int count, const double* const force[3],
                    Velocities& to) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
  const double *px = at.x, *py = at.y, *pz = at.z;
  const double *fx = force[0], *fy = force[1], *fz = force[2];
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    const double x = px[j], y = py[j], z = pz[j];
    const Pair p = pair_functions<kind>(radial, table, at.r2[j], at.inverse[j]);
    const double q = p.g * (x * fx[j] + y * fy[j] + z * fz[j]);
    to.u[j] = (first ? 0.0 : to.u[j]) + (p.f * fx[j] + q * x);
    to.v[j] = (first ? 0.0 : to.v[j]) + (p.f * fy[j] + q * y);
    to.w[j] = (first ? 0.0 : to.w[j]) + (p.f * fz[j] + q * z);
  }
}

template <bool first>
void put_divergence(const PairTerm& term, const Places& at, int count, Velocities& to) {
  const TableParameters table = term.table;
  const double *px = at.x, *py = at.y, *pz = at.z;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    const double q = table_divergence(table, at.r2[j], at.inverse[j]);
    to.u[j] = (first ? 0.0 : to.u[j]) - q * px[j];
    to.v[j] = (first ? 0.0 : to.v[j]) - q * py[j];
    to.w[j] = (first ? 0.0 : to.w[j]) - q * pz[j];
  }
}

/// Sum of the first `count` numbers, a multiple of 8.
double total(const double* v, int count) {
  Vector sum = load(v);
  for (int j = kLanes; j < count; j += kLanes) sum += load(v + j);
  double lanes = 0;
  for (int l = 0; l < kLanes; ++l) lanes += sum[l];
  return lanes;
}

void add_totals(const Velocities& v, int count, double out[3]) {
  out[0] += total(v.u, count);
  out[1] += total(v.v, count);
  out[2] += total(v.w, count);
}

/// Writes `count` tensors from lane `lane` on as three rows of a matrix.
void store_rows(int count, int lane, const Tensors& t, double* __restrict row0,
                double* __restrict row1, double* __restrict row2) {
  const double *xx = t.xx + lane, *xy = t.xy + lane, *xz = t.xz + lane;
  const double *yy = t.yy + lane, *yz = t.yz + lane, *zz = t.zz + lane;
  for (int j = 0; j < count; ++j) {
    row0[3 * j] = xx[j];
    row0[3 * j + 1] = xy[j];
    row0[3 * j + 2] = xz[j];
    row1[3 * j] = xy[j];
    row1[3 * j + 1] = yy[j];
    row1[3 * j + 2] = yz[j];
    row2[3 * j] = xz[j];
    row2[3 * j + 1] = yz[j];
    row2[3 * j + 2] = zz[j];
  }
}

template <PairKind kind>
void fill_pairs(const PairTerm& term, std::int64_t count, const double* r2, double* f, double* g) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
#pragma GCC ivdep
  for (std::int64_t k = 0; k < count; ++k) {
    const Pair p = pair_functions<kind>(radial, table, r2[k], inverse_root(r2[k]));
    f[k] = p.f;
    g[k] = p.g;
  }
}

#define MLCORE_FOR_KIND(call)      \
  switch (term.kind) {             \
    case PairKind::oseen:          \
      return call(oseen);          \
    case PairKind::rpy:            \
      return call(rpy);            \
    case PairKind::periodic_oseen: \
      return call(periodic_oseen); \
    case PairKind::periodic_rpy:   \
      return call(periodic_rpy);   \
    case PairKind::regularized:    \
      return call(regularized);    \
    case PairKind::table:          \
      return call(table);          \
  }

template <bool first>
void put_term_tensors(const PairTerm& term, const Places& at, int count, Tensors& t) {
#define MLCORE_CALL(kind) put_tensors<PairKind::kind, first>(term, at, count, t)
  MLCORE_FOR_KIND(MLCORE_CALL)
#undef MLCORE_CALL
}

template <bool first>
void put_term_velocities(const PairTerm& term, const Places& at, int count,
                         const double* const force[3], Velocities& to) {
#define MLCORE_CALL(kind) put_velocities<PairKind::kind, first>(term, at, count, force, to)
  MLCORE_FOR_KIND(MLCORE_CALL)
#undef MLCORE_CALL
}

/// Sum over all terms and images of a block.
void sum_tensors(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                 const Distances& d, Tensors& t) {
  Places at;
  if (term_count == 0) t = {};
  for (int k = 0; k < term_count; ++k) {
    for (std::int64_t s = 0; s < terms[k].image_count; ++s) {
      locate(geometry, terms[k], s, d, at);
      if (k + s == 0) {
        put_term_tensors<true>(terms[k], at, d.padded, t);
      } else {
        put_term_tensors<false>(terms[k], at, d.padded, t);
      }
    }
  }
}

/// Lanes of a block that belong to one row: columns j..j+count-1 of particle i.
struct Segment {
  std::int64_t i, j;
  int count;
};

void put_segments(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                  const Segment* segments, int used, int lanes, Distances& d, Tensors& t, double* M,
                  std::int64_t stride) {
  finish_lanes(geometry, lanes, d);
  sum_tensors(geometry, terms, term_count, d, t);
  int lane = 0;
  for (int k = 0; k < used; ++k) {
    const Segment& s = segments[k];
    double* row = M + 3 * s.i * stride + 3 * s.j;
    store_rows(s.count, lane, t, row, row + stride, row + 2 * stride);
    lane += s.count;
  }
}

/// exp(i (n2 theta2 + n3 theta3)) of a tile.
struct Phase {
  double c[kTile], s[kTile];
};

void outer_phase(const WaveVectors& waves, const WaveRow& row, const double* const powers[3],
                 Phase& out) {
  const double* p2 = powers[1] + 2 * kTile * (row.n2 + waves.extent[1]);
  const double* p3 = powers[2] + 2 * kTile * (row.n3 + waves.extent[2]);
  for (int l = 0; l < kTile; ++l) {
    out.c[l] = p2[l] * p3[l] - p2[kTile + l] * p3[kTile + l];
    out.s[l] = p2[l] * p3[kTile + l] + p2[kTile + l] * p3[l];
  }
}

}  // namespace

void mobility_row(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                  std::int64_t i, std::int64_t n, double* M, std::int64_t stride) {
  Distances d;
  Tensors t;
  double* rows = M + 3 * i * stride;
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const int count = static_cast<int>(n - first < kBlock ? n - first : kBlock);
    load_distances(geometry, i, first, count, d);
    sum_tensors(geometry, terms, term_count, d, t);
    store_rows(count, 0, t, rows + 3 * first, rows + stride + 3 * first,
               rows + 2 * stride + 3 * first);
  }
}

void mobility_lower_rows(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                         std::int64_t begin, std::int64_t end, double* M, std::int64_t stride) {
  Distances d;
  Tensors t;
  Segment segments[kBlock];
  int used = 0, lanes = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    for (std::int64_t j = 0; j < i;) {
      const int room = kBlock - lanes;
      const int count = static_cast<int>(i - j < room ? i - j : room);
      load_lanes(geometry, i, j, count, lanes, d);
      segments[used++] = {i, j, count};
      lanes += count;
      j += count;
      if (lanes < kBlock) continue;
      put_segments(geometry, terms, term_count, segments, used, lanes, d, t, M, stride);
      used = lanes = 0;
    }
  }
  if (lanes) put_segments(geometry, terms, term_count, segments, used, lanes, d, t, M, stride);
}

void mobility_velocity(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                       std::int64_t i, std::int64_t n, const double* const force[3],
                       double velocity[3]) {
  Distances d;
  Places at;
  Velocities sums;
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const int count = static_cast<int>(n - first < kBlock ? n - first : kBlock);
    load_distances(geometry, i, first, count, d);
    const double* const f[3] = {force[0] + first, force[1] + first, force[2] + first};
    for (int k = 0; k < term_count; ++k) {
      for (std::int64_t s = 0; s < terms[k].image_count; ++s) {
        locate(geometry, terms[k], s, d, at);
        if (first + k + s == 0) {
          put_term_velocities<true>(terms[k], at, d.padded, f, sums);
        } else {
          put_term_velocities<false>(terms[k], at, d.padded, f, sums);
        }
      }
    }
  }
  const std::int64_t used = n < kBlock ? (n + 7) & ~std::int64_t{7} : kBlock;
  if (term_count > 0) add_totals(sums, static_cast<int>(used), velocity);
}

void mobility_divergence_row(const PairGeometry& geometry, const PairTerm& term, std::int64_t i,
                             std::int64_t n, double divergence[3]) {
  Distances d;
  Places at;
  Velocities sums;
  for (std::int64_t first = 0; first < n; first += kBlock) {
    const int count = static_cast<int>(n - first < kBlock ? n - first : kBlock);
    load_distances(geometry, i, first, count, d);
    for (std::int64_t s = 0; s < term.image_count; ++s) {
      locate(geometry, term, s, d, at);
      if (first + s == 0) {
        put_divergence<true>(term, at, d.padded, sums);
      } else {
        put_divergence<false>(term, at, d.padded, sums);
      }
    }
  }
  const std::int64_t used = n < kBlock ? (n + 7) & ~std::int64_t{7} : kBlock;
  add_totals(sums, static_cast<int>(used), divergence);
}

void mobility_pair(const PairTerm& term, std::int64_t count, const double* r2, double* f,
                   double* g) {
#define MLCORE_CALL(kind) fill_pairs<PairKind::kind>(term, count, r2, f, g)
  MLCORE_FOR_KIND(MLCORE_CALL)
#undef MLCORE_CALL
}

void mobility_phases(const WaveVectors& waves, const double* const powers[3], double* phases) {
  Phase outer;
  for (std::int64_t r = 0; r < waves.row_count; ++r) {
    const WaveRow& row = waves.rows[r];
    outer_phase(waves, row, powers, outer);
    double* out = phases + 2 * kTile * row.first;
    const double* p = powers[0] + 2 * kTile * (row.begin + waves.extent[0]);
    for (std::int32_t n = row.begin; n < row.end; ++n, out += 2 * kTile, p += 2 * kTile) {
      for (int l = 0; l < kTile; ++l) {
        out[l] = p[l] * outer.c[l] - p[kTile + l] * outer.s[l];
        out[kTile + l] = p[l] * outer.s[l] + p[kTile + l] * outer.c[l];
      }
    }
  }
}

void mobility_wave_tile(std::int64_t count, const double* weights, const double* phases_i,
                        const double* phases_j, double* out) {
  for (int i = 0; i < kTile; i += kRows) {
    for (int j = 0; j < kTile; j += kLanes) {
      Vector sum[kRows][6] = {};
      for (std::int64_t k = 0; k < count; ++k) {
        const double* pi = phases_i + 2 * kTile * k + i;
        const double* pj = phases_j + 2 * kTile * k + j;
        const double* w = weights + 6 * k;
        const Vector c = load(pj), s = load(pj + kTile);
#pragma GCC unroll 4
        for (int row = 0; row < kRows; ++row) {
          const Vector wave = pi[row] * c + pi[kTile + row] * s;
#pragma GCC unroll 6
          for (int m = 0; m < 6; ++m) sum[row][m] += w[m] * wave;
        }
      }
      for (int row = 0; row < kRows; ++row) {
        for (int m = 0; m < 6; ++m) {
          *reinterpret_cast<Vector*>(out + (m * kTile + i + row) * kTile + j) = sum[row][m];
        }
      }
    }
  }
}

void mobility_spread(const WaveVectors& waves, std::int64_t row_begin, std::int64_t row_end,
                     const double* const powers[3], const double* force, double* sums) {
  Phase outer;
  for (std::int64_t r = row_begin; r < row_end; ++r) {
    const WaveRow& row = waves.rows[r];
    outer_phase(waves, row, powers, outer);
    const double* p = powers[0] + 2 * kTile * (row.begin + waves.extent[0]);
    double* out = sums + 6 * row.first;
    for (std::int32_t n = row.begin; n < row.end; ++n, out += 6, p += 2 * kTile) {
      Vector sum[6] = {};
      for (int l = 0; l < kTile; l += kLanes) {
        const Vector pc = load(p + l), ps = load(p + kTile + l);
        const Vector oc = load(outer.c + l), os = load(outer.s + l);
        const Vector c = pc * oc - ps * os, s = pc * os + ps * oc;
        for (int a = 0; a < 3; ++a) {
          const Vector f = load(force + a * kTile + l);
          sum[a] += f * c;
          sum[3 + a] += f * s;
        }
      }
      for (int m = 0; m < 6; ++m) {
        double lanes = 0;
        for (int l = 0; l < kLanes; ++l) lanes += sum[m][l];
        out[m] += lanes;
      }
    }
  }
}

void mobility_gather(const WaveVectors& waves, const double* const powers[3], const double* sums,
                     double* velocity) {
  Phase outer;
  for (std::int64_t r = 0; r < waves.row_count; ++r) {
    const WaveRow& row = waves.rows[r];
    outer_phase(waves, row, powers, outer);
    for (int l = 0; l < kTile; l += kLanes) {
      const Vector oc = load(outer.c + l), os = load(outer.s + l);
      const double* p = powers[0] + 2 * kTile * (row.begin + waves.extent[0]) + l;
      const double* in = sums + 6 * row.first;
      Vector v[3];
      for (int a = 0; a < 3; ++a) v[a] = load(velocity + a * kTile + l);
      for (std::int32_t n = row.begin; n < row.end; ++n, in += 6, p += 2 * kTile) {
        const Vector pc = load(p), ps = load(p + kTile);
        const Vector c = pc * oc - ps * os, s = pc * os + ps * oc;
        for (int a = 0; a < 3; ++a) v[a] += in[a] * c + in[3 + a] * s;
      }
      for (int a = 0; a < 3; ++a) *reinterpret_cast<Vector*>(velocity + a * kTile + l) = v[a];
    }
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
