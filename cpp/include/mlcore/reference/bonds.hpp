#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/bonds.hpp"

namespace mlcore::reference {

/// Energies of evaluate_bonds in extended precision, from sums over pairs of bonds and of bonds of
/// both ends as the formula has them.
MLCORE_API void bond_energies(const BondBasis& basis, View<const double, 2> coefficients,
                              View<const double, 1> middle, const BondRows& rows,
                              View<double, 1> energies);

}  // namespace mlcore::reference
