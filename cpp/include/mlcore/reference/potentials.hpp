#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/potentials.hpp"

namespace mlcore::reference {

/// The formulas of LAMMPS' documentation in extended precision, forces and stress by differences of
/// the energies along the vectors to the neighbors. No derivatives by parameters.
MLCORE_API void evaluate_potentials(const PotentialModel& model,
                                    const PotentialStructures& structures,
                                    const PotentialCandidates& candidates,
                                    const PotentialResults& results);

}  // namespace mlcore::reference
