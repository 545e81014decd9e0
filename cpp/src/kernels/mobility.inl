// Compiled once per instruction set; see simd.hpp.

#include "kernels/mobility.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr int kBlock = 64;

/// Wrapped distances x_i - x_j of one particle to a block of others, and the signs of their
/// fractional coordinates.
struct Distances {
  int count;  // a multiple of the widest vector; distances beyond the block are made up
  double x[kBlock], y[kBlock], z[kBlock];
  double sign[3][kBlock];
};

/// Nearest integer for |x| < 2^51.
inline __attribute__((always_inline)) double nearest(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

void load_distances(const PairGeometry& g, std::int64_t i, std::int64_t first, int count,
                    Distances& d) {
  const double xi = g.x[i], yi = g.y[i], zi = g.z[i];
  for (int j = 0; j < count; ++j) {
    d.x[j] = xi - g.x[first + j];
    d.y[j] = yi - g.y[first + j];
    d.z[j] = zi - g.z[first + j];
  }
  for (; count % kTile; ++count) d.x[count] = d.y[count] = d.z[count] = 1.0;
  d.count = count;
  for (int axis = 0; axis < 3; ++axis) {
    const double ix = g.inverse[axis], iy = g.inverse[3 + axis], iz = g.inverse[6 + axis];
    const double rx = g.rows[3 * axis], ry = g.rows[3 * axis + 1], rz = g.rows[3 * axis + 2];
    double* sign = d.sign[axis];
    if (rx == 0 && ry == 0 && rz == 0) {
      for (int j = 0; j < count; ++j) sign[j] = 1.0;
      continue;
    }
    for (int j = 0; j < count; ++j) {
      const double fraction = d.x[j] * ix + d.y[j] * iy + d.z[j] * iz;
      const double shift = nearest(fraction);
      sign[j] = fraction >= shift ? 1.0 : -1.0;
      d.x[j] -= shift * rx;
      d.y[j] -= shift * ry;
      d.z[j] -= shift * rz;
    }
  }
}

/// One image of a block of distances.
struct Image {
  double n[9];  // rows times the integers of the image
  const Distances& d;

  inline __attribute__((always_inline)) Image(const PairGeometry& g, const double* image,
                                              const Distances& d)
      : d(d) {
    for (int k = 0; k < 9; ++k) n[k] = image[k / 3] * g.rows[k];
  }

  inline __attribute__((always_inline)) void at(int j, double& x, double& y, double& z) const {
    const double a = d.sign[0][j], b = d.sign[1][j], c = d.sign[2][j];
    x = d.x[j] + (a * n[0] + b * n[3] + c * n[6]);
    y = d.y[j] + (a * n[1] + b * n[4] + c * n[7]);
    z = d.z[j] + (a * n[2] + b * n[5] + c * n[8]);
  }
};

/// The block itself.
struct Nearest {
  const Distances& d;

  inline __attribute__((always_inline)) void at(int j, double& x, double& y, double& z) const {
    x = d.x[j];
    y = d.y[j];
    z = d.z[j];
  }
};

/// Sum over a block, by halves.
double total(double* v) {
  for (int half = kBlock / 2; half >= 1; half /= 2) {
    for (int j = 0; j < half; ++j) v[j] += v[j + half];
  }
  return v[0];
}

struct Tensors {
  double xx[kBlock], xy[kBlock], xz[kBlock], yy[kBlock], yz[kBlock], zz[kBlock];
};

void clear(int count, Tensors& t) {
  for (int j = 0; j < count; ++j) {
    t.xx[j] = t.xy[j] = t.xz[j] = t.yy[j] = t.yz[j] = t.zz[j] = 0.0;
  }
}

template <PairKind kind, class Where>
inline __attribute__((always_inline)) void add_image_tensors(const PairTerm& term,
                                                             const Where& image, int count,
                                                             Tensors& t) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    double x, y, z;
    image.at(j, x, y, z);
    const Pair p = pair_functions<kind>(radial, table, x * x + y * y + z * z);
    const double gx = p.g * x, gy = p.g * y;
    t.xx[j] += p.f + gx * x;
    t.xy[j] += gx * y;
    t.xz[j] += gx * z;
    t.yy[j] += p.f + gy * y;
    t.yz[j] += gy * z;
    t.zz[j] += p.f + p.g * z * z;
  }
}

template <PairKind kind>
void add_tensors(const PairGeometry& g, const PairTerm& term, const Distances& d, Tensors& t) {
  add_image_tensors<kind>(term, Nearest{d}, d.count, t);
  for (std::int64_t s = 1; s < term.image_count; ++s) {
    add_image_tensors<kind>(term, Image(g, term.images + 3 * s, d), d.count, t);
  }
}

/// Velocities caused by a block of forces.
struct Velocities {
  double fx[kBlock], fy[kBlock], fz[kBlock];  // zero where distances are made up
  double u[kBlock], v[kBlock], w[kBlock];
};

void load_forces(const double* const force[3], std::int64_t first, int count, Velocities& to) {
  for (int j = 0; j < count; ++j) {
    to.fx[j] = force[0][first + j];
    to.fy[j] = force[1][first + j];
    to.fz[j] = force[2][first + j];
  }
  for (; count % kTile; ++count) to.fx[count] = to.fy[count] = to.fz[count] = 0.0;
}

template <PairKind kind, class Where>
inline __attribute__((always_inline)) void add_image_velocities(const PairTerm& term,
                                                                const Where& image, int count,
                                                                Velocities& to) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    double x, y, z;
    image.at(j, x, y, z);
    const Pair p = pair_functions<kind>(radial, table, x * x + y * y + z * z);
    const double q = p.g * (x * to.fx[j] + y * to.fy[j] + z * to.fz[j]);
    to.u[j] += p.f * to.fx[j] + q * x;
    to.v[j] += p.f * to.fy[j] + q * y;
    to.w[j] += p.f * to.fz[j] + q * z;
  }
}

template <PairKind kind>
void add_velocities(const PairGeometry& g, const PairTerm& term, const Distances& d,
                    Velocities& to) {
  add_image_velocities<kind>(term, Nearest{d}, d.count, to);
  for (std::int64_t s = 1; s < term.image_count; ++s) {
    add_image_velocities<kind>(term, Image(g, term.images + 3 * s, d), d.count, to);
  }
}

template <class Where>
inline __attribute__((always_inline)) void add_image_divergence(const PairTerm& term,
                                                                const Where& image, int count,
                                                                Velocities& to) {
  const TableParameters table = term.table;
#pragma GCC ivdep
  for (int j = 0; j < count; ++j) {
    double x, y, z;
    image.at(j, x, y, z);
    const double q = table_divergence(table, x * x + y * y + z * z);
    to.u[j] += q * x;
    to.v[j] += q * y;
    to.w[j] += q * z;
  }
}

void clear(Velocities& v) {
  for (int j = 0; j < kBlock; ++j) v.u[j] = v.v[j] = v.w[j] = 0.0;
}

void store_rows(int count, const Tensors& t, double* __restrict row0, double* __restrict row1,
                double* __restrict row2) {
  for (int j = 0; j < count; ++j) {
    row0[3 * j] = t.xx[j];
    row0[3 * j + 1] = t.xy[j];
    row0[3 * j + 2] = t.xz[j];
    row1[3 * j] = t.xy[j];
    row1[3 * j + 1] = t.yy[j];
    row1[3 * j + 2] = t.yz[j];
    row2[3 * j] = t.xz[j];
    row2[3 * j + 1] = t.yz[j];
    row2[3 * j + 2] = t.zz[j];
  }
}

template <PairKind kind>
void fill_pairs(const PairTerm& term, std::int64_t count, const double* r2, double* f, double* g) {
  const RadialParameters radial = term.radial;
  const TableParameters table = term.table;
#pragma GCC ivdep
  for (std::int64_t k = 0; k < count; ++k) {
    const Pair p = pair_functions<kind>(radial, table, r2[k]);
    f[k] = p.f;
    g[k] = p.g;
  }
}

#define MLCORE_FOR_KIND(call, ...)                        \
  switch (term.kind) {                                    \
    case PairKind::oseen:                                 \
      return call<PairKind::oseen>(__VA_ARGS__);          \
    case PairKind::rpy:                                   \
      return call<PairKind::rpy>(__VA_ARGS__);            \
    case PairKind::periodic_oseen:                        \
      return call<PairKind::periodic_oseen>(__VA_ARGS__); \
    case PairKind::periodic_rpy:                          \
      return call<PairKind::periodic_rpy>(__VA_ARGS__);   \
    case PairKind::table:                                 \
      return call<PairKind::table>(__VA_ARGS__);          \
  }

void add_term_tensors(const PairGeometry& g, const PairTerm& term, const Distances& d, Tensors& t) {
  MLCORE_FOR_KIND(add_tensors, g, term, d, t)
}

void add_term_velocities(const PairGeometry& g, const PairTerm& term, const Distances& d,
                         Velocities& to) {
  MLCORE_FOR_KIND(add_velocities, g, term, d, to)
}

// A vector register of this instruction set.
#if defined(MLCORE_ISA_IS_avx512)
constexpr int kLanes = 8, kRows = 4;
#elif defined(MLCORE_ISA_IS_avx2)
constexpr int kLanes = 4, kRows = 2;
#else
constexpr int kLanes = 2, kRows = 2;
#endif
typedef double Vector __attribute__((vector_size(kLanes * 8), aligned(8), may_alias));

inline __attribute__((always_inline)) Vector load(const double* p) {
  return *reinterpret_cast<const Vector*>(p);
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
                  std::int64_t i, std::int64_t begin, std::int64_t end, double* M,
                  std::int64_t stride) {
  Distances d;
  Tensors t;
  double* rows = M + 3 * i * stride;
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const int count = static_cast<int>(end - first < kBlock ? end - first : kBlock);
    load_distances(geometry, i, first, count, d);
    clear(d.count, t);
    for (int k = 0; k < term_count; ++k) add_term_tensors(geometry, terms[k], d, t);
    store_rows(count, t, rows + 3 * first, rows + stride + 3 * first,
               rows + 2 * stride + 3 * first);
  }
}

void mobility_velocity(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                       std::int64_t i, std::int64_t begin, std::int64_t end,
                       const double* const force[3], double velocity[3]) {
  Distances d;
  Velocities sums;
  clear(sums);
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const int count = static_cast<int>(end - first < kBlock ? end - first : kBlock);
    load_distances(geometry, i, first, count, d);
    load_forces(force, first, count, sums);
    for (int k = 0; k < term_count; ++k) add_term_velocities(geometry, terms[k], d, sums);
  }
  velocity[0] += total(sums.u);
  velocity[1] += total(sums.v);
  velocity[2] += total(sums.w);
}

void mobility_divergence_row(const PairGeometry& geometry, const PairTerm& term, std::int64_t i,
                             std::int64_t begin, std::int64_t end, double divergence[3]) {
  Distances d;
  Velocities sums;
  clear(sums);
  for (std::int64_t first = begin; first < end; first += kBlock) {
    const int count = static_cast<int>(end - first < kBlock ? end - first : kBlock);
    load_distances(geometry, i, first, count, d);
    // Not d.count: made-up distances would count.
    add_image_divergence(term, Nearest{d}, count, sums);
    for (std::int64_t s = 1; s < term.image_count; ++s) {
      add_image_divergence(term, Image(geometry, term.images + 3 * s, d), count, sums);
    }
  }
  divergence[0] -= total(sums.u);
  divergence[1] -= total(sums.v);
  divergence[2] -= total(sums.w);
}

void mobility_pair(const PairTerm& term, std::int64_t count, const double* r2, double* f,
                   double* g) {
  MLCORE_FOR_KIND(fill_pairs, term, count, r2, f, g)
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
