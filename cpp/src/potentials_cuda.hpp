#pragma once

// The CUDA side of potentials: cuda/potentials.cu, or cuda/stub.cpp without nvcc. Shapes are
// checked.

#include <vector>

#include "mlcore/potentials.hpp"

namespace mlcore::detail {

/// What is known of a candidate before it is evaluated.
struct PotentialVerdict {
  bool usable = true;  ///< LAMMPS would take it
  double cutoff = 0;
};

/// Of all candidates, in CPU memory.
std::vector<PotentialVerdict> judge_potentials(const PotentialModel& model,
                                               View<const double, 2> parameters);

/// Throws InvalidArgument where a candidate reaches beyond the list. Reads starts, species' number
/// and cutoff of the structures, deformation and displacements, in CPU memory.
void check_potential_reach(const PotentialStructures& structures,
                           const PotentialCandidates& candidates,
                           const std::vector<PotentialVerdict>& known);

}  // namespace mlcore::detail

namespace mlcore::cuda {

void evaluate_potentials(const Context& context, const PotentialModel& model,
                         const PotentialStructures& structures,
                         const PotentialCandidates& candidates, const PotentialResults& results);

}  // namespace mlcore::cuda
