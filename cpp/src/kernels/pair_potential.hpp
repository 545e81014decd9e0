#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Table as it is read. With s the distance from the first knot in knots, row 0 of a pair holds for
/// s < 0, row k + 1 for k <= s <= k + 1: (u, a, b, c) with du/dr = a + t (b + t c), u = u + h t (a
/// + t (b / 2 + t c / 3)), t = s - k.
struct PairPlan {
  const double* rows;         // (P, knots, 4)
  const std::int64_t* start;  // (types, stride) first row of a pair; rows of 8 at least
  std::int64_t types, stride, knots;
  double first, cutoff_square, spacing, per_knot;
};

/// Arrays as in PairRows and PairResults; those not wanted are null.
struct PairJob {
  const double* places;   // (m, 4): x, y, z and the type, an integer from 0; or null: vectors
  const double* vectors;  // (p, 3)
  const std::int32_t* types;
  std::int32_t first_type;
  const std::int64_t* offsets;
  const std::int32_t* columns;
  std::int64_t particles, pairs;  // m, p
  double* forces;
  double* energies;
  double share;
};

/// Derivatives by the vectors, see PairPotential; along null: the first ones.
struct PairDerivatives {
  const double* weights;
  const double* along;
  double* by_vectors;
  double* by_weights;
};

MLCORE_DECLARE_PER_ISA(
    // Places of particles begin..end-1 from (m, 3) coordinates; false: a coordinate is not finite
    // or a type out of range.
    bool pair_places(const double* x, const std::int32_t* types, std::int32_t first_type,
                     std::int64_t kinds, std::int64_t begin, std::int64_t end, double* places);
    // Rows begin..end-1; virial null or (6,) to write to. The first row whose neighbors are no
    // particles, or -1.
    std::int64_t pair_run(const PairPlan& plan, const PairJob& job, std::int64_t begin,
                          std::int64_t end, double* virial);
    std::int64_t pair_derivatives(const PairPlan& plan, const PairJob& job,
                                  const PairDerivatives& derivatives, std::int64_t begin,
                                  std::int64_t end);)

}  // namespace mlcore::kernels
