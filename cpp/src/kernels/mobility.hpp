#pragma once

#include <cstdint>

#include "../simd.hpp"
#include "mobility_radial.hpp"

namespace mlcore::kernels {

/// Lanes of one tile of particles in the wave part of the Ewald sum.
constexpr int kTile = 8;

/// One radial term and the images it is summed over. An image n stands for the lattice vector
/// sum_a n_a s_a row_a, s_a the sign of fractional coordinate a of the wrapped distance: so a short
/// list serves every octant of the cell. The first image is 0.
struct PairTerm {
  PairKind kind;
  RadialParameters radial;
  TableParameters table;
  std::int64_t image_count;
  const double* images;  // (image_count, 3) integers
};

/// Positions as structure of arrays, and how distances are wrapped.
struct PairGeometry {
  const double* x;
  const double* y;
  const double* z;
  double rows[9];     // zero along open axes
  double inverse[9];  // columns of open axes are zero
  bool periodic;      // along any axis
};

/// Wave vectors grouped by (n2, n3): k = n1 b1 + n2 b2 + n3 b3 over half of reciprocal space.
struct WaveRow {
  std::int32_t n2, n3;      // n3 >= 0
  std::int32_t begin, end;  // n1
  std::int64_t first;       // index of the first wave vector of the row
};
struct WaveVectors {
  std::int64_t count;
  std::int64_t row_count;
  const WaveRow* rows;
  const double* weights;   // (count, 6): xx xy xz yy yz zz
  std::int32_t extent[3];  // largest |n|
};

// Symmetric 3x3 tensors are stored as xx xy xz yy yz zz.
MLCORE_DECLARE_PER_ISA(
    // Rows 3i..3i+2 of M; the block of i itself holds no sensible numbers.
    void mobility_row(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                      std::int64_t i, std::int64_t n, double* M, std::int64_t stride);
    // Blocks of M left of the diagonal for particles begin..end-1.
    void mobility_lower_rows(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                             std::int64_t begin, std::int64_t end, double* M, std::int64_t stride);
    // velocity += sum of M_ij F_j over all j but i; force as structure of arrays, padded with zeros
    // to a multiple of 8.
    void mobility_velocity(const PairGeometry& geometry, const PairTerm* terms, int term_count,
                           std::int64_t i, std::int64_t n, const double* const force[3],
                           double velocity[3]);
    // divergence -= sum of q d over all particles but i.
    void mobility_divergence_row(const PairGeometry& geometry, const PairTerm& term, std::int64_t i,
                                 std::int64_t n, double divergence[3]);
    // Pair functions of one term at given squared distances.
    void mobility_pair(const PairTerm& term, std::int64_t count, const double* r2, double* f,
                       double* g);
    // cos and sin of k.x for a tile of particles, (count, 2, kTile), from the powers
    // exp(i n theta), each (2 extent + 1, 2, kTile).
    void mobility_phases(const WaveVectors& waves, const double* const powers[3], double* phases);
    // Wave part of M for a pair of tiles: out (6, kTile, kTile).
    void mobility_wave_tile(std::int64_t count, const double* weights, const double* phases_i,
                            const double* phases_j, double* out);
    // sums (rows' wave vectors, 6): adds F_j cos k.x_j (3), F_j sin k.x_j (3) of one tile.
    void mobility_spread(const WaveVectors& waves, std::int64_t row_begin, std::int64_t row_end,
                         const double* const powers[3], const double* force, double* sums);
    // velocity (3, kTile) of one tile from the weighted sums (count, 6).
    void mobility_gather(const WaveVectors& waves, const double* const powers[3],
                         const double* sums, double* velocity);)

}  // namespace mlcore::kernels
