#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/splitting.hpp"

namespace mlcore::reference {

/// One step of one replica, every pair and image by the formula: x and v (n, 3) are written to.
/// Returns the smallest distance of a pair below the cutoff, infinity where there is none.
MLCORE_API double splitting_step(const SplittingTables& tables, const SplittingSystem& system,
                                 View<double, 2> x, View<double, 2> v);

}  // namespace mlcore::reference
