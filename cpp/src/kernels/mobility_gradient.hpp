#pragma once

// Derivatives of sum_ij C_ij : M_ij, pair by pair.

#include "mobility.hpp"

namespace mlcore::kernels {

/// C_ij + C_ji^T of a pair: from vectors, C_ij = adjoint_i force_j, or from a matrix.
struct PairCotangent {
  const double* force[3];
  const double* adjoint[3];
  const double* matrix;  // null: vectors
  std::int64_t stride;
};

/// What a pair is made of.
struct PairSystem {
  PairGeometry geometry;
  const PairTerm* terms;
  int term_count;
  const double* radii;  // null: all alike
  bool wall;
};

/// Sums over the partners of a particle.
struct GradientSums {
  double x[3];    // derivative in its position
  double value;   // of the analytic kernel
  double radius;  // derivative in the common radius, or in its own
};

MLCORE_DECLARE_PER_ISA(
    // Adds the pairs of particle i.
    void mobility_gradient_row(const PairSystem& system, const PairCotangent& cotangent,
                               std::int64_t i, std::int64_t n, GradientSums& sums);
    // Adds how sums.x changes along the motion (3, n).
    void mobility_hessian_row(const PairSystem& system, const PairCotangent& cotangent,
                              const double* const motion[3], std::int64_t i, std::int64_t n,
                              double out[3]);
    // Adds how the velocity of i changes along the motion (3, n).
    void mobility_tangent_row(const PairSystem& system, const double* const force[3],
                              const double* const motion[3], std::int64_t i, std::int64_t n,
                              double out[3]);)

}  // namespace mlcore::kernels
