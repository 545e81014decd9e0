#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/noise.hpp"

namespace mlcore::reference {

/// out[k] = L z[k] with M = L L^T, or S z[k] with the symmetric S S = M, from a given matrix M
/// (m, m); z, out (k, m).
MLCORE_API void sqrt_apply(View<const double, 2> M, View<const double, 2> z, View<double, 2> out,
                           bool symmetric = false);

/// closest_pair over all images within two cells in each direction.
MLCORE_API ClosestPair closest_pair(const Cell& cell, View<const double, 2> x);

}  // namespace mlcore::reference
