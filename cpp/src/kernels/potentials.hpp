#pragma once

#include <cstdint>

#include "../simd.hpp"
#include "mlcore/potentials.hpp"

namespace mlcore::kernels {

/// Directions whose derivatives go with one value.
constexpr int kPotentialDirections = 3;

/// Atoms begin..end-1 of one structure in as many candidates as a vector has lanes. A number is one
/// vector, or with derivatives 1 + kPotentialDirections of them: written (number) below.
struct PotentialJob {
  const std::int64_t* offsets;
  const std::int32_t* columns;
  const std::int32_t* species;  // all atoms'
  const double* vectors;
  std::int64_t begin, end;
  const double* deformation;    // (9, lanes) or null
  const double* displacements;  // (end - begin, 3, lanes) or null
  double* energy;               // (number)
  double* forces;               // (end - begin, 3, number) or null; added to
  double* virial;               // (6, number) or null: sums of d_a dE/dd_b, in the order of stress
  char* work;                   // potential_work() bytes, at a multiple of 64
  std::int64_t longest_row;
};

MLCORE_DECLARE_PER_ISA(int potential_lanes();
                       // Doubles that the prepared parameters take.
                       std::int64_t potential_prepared(const PotentialModel& model,
                                                       bool derivatives);
                       // Bytes of work memory.
                       std::int64_t potential_work(const PotentialModel& model, bool derivatives,
                                                   std::int64_t longest_row);
                       // From parameters (P, number) to what potential_run reads.
                       void potential_prepare(const PotentialModel& model, bool derivatives,
                                              const double* parameters, double* prepared);
                       void potential_run(const PotentialModel& model, bool derivatives,
                                          const double* prepared, const PotentialJob& job);)

}  // namespace mlcore::kernels
