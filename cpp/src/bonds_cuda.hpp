#pragma once

// The CUDA side of bonds: cuda/bonds.cu, or cuda/stub.cpp without nvcc. Shapes are checked, values
// on the GPU are not.

#include "kernels/bonds.hpp"
#include "mlcore/bonds.hpp"

namespace mlcore::cuda {

/// `plan` holds the products, on the host, and no other arrays; coefficients (rows, columns) and
/// middle lie on the GPU with the rest.
void evaluate_bonds(const Context& context, const kernels::BondPlan& plan,
                    View<const double, 2> coefficients, View<const double, 1> middle,
                    const BondRows& rows, const BondDirections& directions,
                    const BondResults& results);

}  // namespace mlcore::cuda
