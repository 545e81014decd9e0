#pragma once

// The obvious slow version: the oracle of the tests and of `mlcore.reference`.

#include "mlcore/linalg.hpp"

namespace mlcore::reference {

/// cholesky, row by row; NotPositiveDefinite carries no eigenvalue.
MLCORE_API void cholesky(View<double, 2> A);

/// lower_multiply by its definition.
MLCORE_API void lower_multiply(View<const double, 2> L, View<const double, 2> x,
                               View<double, 2> out);

/// symmetric_eigenvalues by cyclic Jacobi rotations.
MLCORE_API void symmetric_eigenvalues(View<double, 2> A, View<double, 1> values);

}  // namespace mlcore::reference
