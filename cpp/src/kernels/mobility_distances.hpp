#pragma once

// Distances between particles, and their images, in blocks. For kernels/*.inl alone: each
// instruction set keeps its own copy.

#if defined(MLCORE_ISA_IS_avx512)
#include <immintrin.h>
#endif

#include "kernels/mobility.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr int kBlock = 64;
constexpr double kFar = 1e100;  // contributes nothing to any sum

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

/// Wrapped distances x_i - x_j of one particle to a block of others, and the signs of their
/// fractional coordinates. `padded` rounds their number up to a multiple of 8; the particle itself
/// and what pads the block lie far away.
struct Distances {
  alignas(64) double x[kBlock], y[kBlock], z[kBlock];
  alignas(64) double sign[3][kBlock];
  int padded;
};

/// Nearest integer for |x| < 2^51.
inline __attribute__((always_inline)) double nearest(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

/// Distances of particle i to particles first..first+count-1, not yet wrapped, from lane `lane` on.
void load_lanes(const PairGeometry& g, std::int64_t i, std::int64_t first, int count, int lane,
                Distances& d) {
  const double xi = g.x[i], yi = g.y[i], zi = g.z[i];
  double *x = d.x + lane, *y = d.y + lane, *z = d.z + lane;
  for (int j = 0; j < count; ++j) {
    x[j] = xi - g.x[first + j];
    y[j] = yi - g.y[first + j];
    z[j] = zi - g.z[first + j];
  }
}

/// Wraps `count` distances and pads them.
void finish_lanes(const PairGeometry& g, int count, Distances& d) {
  for (int axis = 0; g.periodic && axis < 3; ++axis) {
    const double ix = g.inverse[axis], iy = g.inverse[3 + axis], iz = g.inverse[6 + axis];
    const double rx = g.rows[3 * axis], ry = g.rows[3 * axis + 1], rz = g.rows[3 * axis + 2];
    double* sign = d.sign[axis];
    for (int j = 0; j < count; ++j) {
      const double fraction = d.x[j] * ix + d.y[j] * iy + d.z[j] * iz;
      const double shift = nearest(fraction);
      sign[j] = fraction >= shift ? 1.0 : -1.0;
      d.x[j] -= shift * rx;
      d.y[j] -= shift * ry;
      d.z[j] -= shift * rz;
    }
  }
  d.padded = (count + 7) & ~7;
  for (int j = count; j < d.padded; ++j) {
    d.x[j] = d.y[j] = d.z[j] = kFar;
    d.sign[0][j] = d.sign[1][j] = d.sign[2][j] = 1.0;
  }
}

/// A block of distances of one particle.
void load_distances(const PairGeometry& g, std::int64_t i, std::int64_t first, int count,
                    Distances& d) {
  load_lanes(g, i, first, count, 0, d);
  finish_lanes(g, count, d);
  if (i >= first && i < first + count) d.x[i - first] = d.y[i - first] = d.z[i - first] = kFar;
}

/// One image of a block of distances.
struct Places {
  const double *x, *y, *z;
  alignas(64) double r2[kBlock], inverse[kBlock];  // r^2 and 1/r
  alignas(64) double shifted[3][kBlock];
};

/// 1/r of a vector of r^2; any finite number at 0.
inline __attribute__((always_inline)) Vector inverse_roots(Vector r2) {
#if defined(MLCORE_ISA_IS_avx512)
  // The 14 bits of the estimate double with each of two Newton steps.
  const Vector v = (Vector)_mm512_max_pd((__m512d)r2, _mm512_set1_pd(1e-290));
  const Vector h = 0.5 * v;
  Vector y = (Vector)_mm512_rsqrt14_pd((__m512d)v);
  y = y * (1.5 - h * y * y);
  return y * (1.5 - h * y * y);
#else
  Vector y;
  for (int l = 0; l < kLanes; ++l) y[l] = inverse_root(r2[l]);
  return y;
#endif
}

/// The same for an array; count is a multiple of 8.
void inverse_roots(int count, const double* r2, double* out) {
  for (int j = 0; j < count; j += kLanes) {
    *reinterpret_cast<Vector*>(out + j) = inverse_roots(load(r2 + j));
  }
}

/// Places of image s of a term.
void locate(const PairGeometry& g, const PairTerm& term, std::int64_t s, const Distances& d,
            Places& p) {
  p.x = d.x;
  p.y = d.y;
  p.z = d.z;
  if (s > 0) {
    double n[9];
    for (int k = 0; k < 9; ++k) n[k] = term.images[3 * s + k / 3] * g.rows[k];
    for (int j = 0; j < d.padded; ++j) {
      const double a = d.sign[0][j], b = d.sign[1][j], c = d.sign[2][j];
      p.shifted[0][j] = d.x[j] + (a * n[0] + b * n[3] + c * n[6]);
      p.shifted[1][j] = d.y[j] + (a * n[1] + b * n[4] + c * n[7]);
      p.shifted[2][j] = d.z[j] + (a * n[2] + b * n[5] + c * n[8]);
    }
    p.x = p.shifted[0];
    p.y = p.shifted[1];
    p.z = p.shifted[2];
  }
  const double *x = p.x, *y = p.y, *z = p.z;
  for (int j = 0; j < d.padded; ++j) p.r2[j] = x[j] * x[j] + y[j] * y[j] + z[j] * z[j];
  inverse_roots(d.padded, p.r2, p.inverse);
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
