#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/noise.hpp"

namespace mlcore::reference {

/// out[k] = L z[k] from a given matrix M (3n, 3n), which is left as it is; z, out (k, n, 3).
MLCORE_API void sqrt_apply(View<const double, 2> M, View<const double, 3> z, View<double, 3> out);

/// closest_pair over all images within two cells in each direction.
MLCORE_API ClosestPair closest_pair(const Cell& cell, View<const double, 2> x);

}  // namespace mlcore::reference
