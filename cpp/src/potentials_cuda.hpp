#pragma once

// The CUDA side of potentials: cuda/potentials.cu, or cuda/stub.cpp without nvcc. Shapes are
// checked, values on the GPU are not.

#include "mlcore/potentials.hpp"

namespace mlcore::cuda {

void evaluate_potentials(const Context& context, const PotentialModel& model,
                         const PotentialStructures& structures,
                         const PotentialCandidates& candidates, const PotentialResults& results);

}  // namespace mlcore::cuda
