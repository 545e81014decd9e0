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

/// A (m, m), symmetric and positive semidefinite, becomes the symmetric S with S S = A.
MLCORE_API void symmetric_root(View<double, 2> A);

/// symmetric_multiply by its definition, from the whole matrix.
MLCORE_API void symmetric_multiply(View<const double, 2> A, View<const double, 2> x,
                                   View<double, 2> out);

}  // namespace mlcore::reference
