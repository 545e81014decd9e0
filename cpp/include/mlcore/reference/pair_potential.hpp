#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/pair_potential.hpp"

namespace mlcore::reference {

/// Value and first two derivatives of a pair's curve at a distance.
struct PairCurve {
  double energy, slope, bend;
};
MLCORE_API PairCurve pair_curve(const PairEnergyTable& table, std::int64_t pair, double r);

/// PairPotential::evaluate, one pair at a time.
MLCORE_API void pair_potential(const PairEnergyTable& table, const PairRows& rows,
                               const PairResults& results);

}  // namespace mlcore::reference
