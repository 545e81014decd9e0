#pragma once

// Mobilities in open space without a table, where the pair functions are a few operations: tiles of
// particles in the first-level cache, in double or single precision.

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

enum class OpenKind : int { oseen, rpy, rpy_unequal, regularized, rpy_wall };

constexpr int kOpenTile = 256;

/// Squared distance below which particles count as one: the Oseen tensor is an error there, and the
/// others no longer depend on it. All powers of larger ones that second derivatives take are
/// finite.
template <class Real>
constexpr Real kCoincide2 = sizeof(Real) == 8 ? Real(1e-80) : Real(1e-18);

/// Constants of the pair functions in units of 1 / (8 pi eta).
template <class Real>
struct OpenParameters {
  Real stokeslet;   // 1 / (8 pi eta)
  Real radius;      // a
  Real far;         // 2 a^2 / 3
  Real reach2;      // 4 a^2
  Real near;        // 4 / (3 a)
  Real near_slope;  // 3 / (8 a^2)
  Real near_g;      // 1 / (8 a^2)
  Real epsilon2;    // square of the width of the blob
};

/// Particles of a tile as structure of arrays. What pads it to a multiple of 16 lies far away and
/// carries no force.
template <class Real>
struct OpenTile {
  alignas(64) Real x[3][kOpenTile];
  alignas(64) Real radius[kOpenTile];
  alignas(64) Real force[3][kOpenTile];
  alignas(64) Real velocity[3][kOpenTile];
  int padded;  // count, rounded up to a multiple of 16
};

/// All particles as structure of arrays, padded as a tile is.
template <class Real>
struct OpenPoints {
  const Real* x[3];
  const Real* radius;  // null: all alike
  std::int64_t n;
};

// velocity += (8 pi eta) M_ij F_j, both ways between two tiles, or between all particles of one.
// mobility_open_rows: the three rows of M of particle i; `self` is the block on the diagonal: xx xy
// xz yy yz zz. All return whether two particles coincide (Oseen alone looks).
MLCORE_DECLARE_PER_ISA(bool mobility_tiles(OpenKind kind, const OpenParameters<double>& p,
                                           OpenTile<double>& a, OpenTile<double>& b);
                       bool mobility_tiles_f32(OpenKind kind, const OpenParameters<float>& p,
                                               OpenTile<float>& a, OpenTile<float>& b);
                       bool mobility_tile(OpenKind kind, const OpenParameters<double>& p,
                                          OpenTile<double>& a);
                       bool mobility_tile_f32(OpenKind kind, const OpenParameters<float>& p,
                                              OpenTile<float>& a);
                       bool mobility_open_rows(OpenKind kind, const OpenParameters<double>& p,
                                               const OpenPoints<double>& points, std::int64_t i,
                                               const double self[6], double* rows);
                       bool mobility_open_rows_f32(OpenKind kind, const OpenParameters<float>& p,
                                                   const OpenPoints<float>& points, std::int64_t i,
                                                   const double self[6], float* rows);)

}  // namespace mlcore::kernels
