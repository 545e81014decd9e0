#pragma once

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

// Dense symmetric matrices of a mobility's size. LAPACK's own threads stay off: work is split into
// tiles of fixed size over the library's threads, so results do not depend on their number.

/// A = L L^T in place: A (m, m), symmetric in full, becomes lower triangular with zeros above.
/// @throws NotPositiveDefinite  with the smallest eigenvalue; A is then as it was
/// @throws InvalidArgument      A is not square or holds a NaN or an infinity
MLCORE_API void cholesky(const Context& context, View<double, 2> A);

/// cholesky, but returns false (A as it was) where the matrix is not positive definite.
MLCORE_API bool try_cholesky(const Context& context, View<double, 2> A);

/// out[k] = L x[k] for lower triangular L (m, m); x and out (k, m) must not overlap.
MLCORE_API void lower_multiply(const Context& context, View<const double, 2> L,
                               View<const double, 2> x, View<double, 2> out);

/// x = L^-T x in place for lower triangular L (m, m) with a non-zero diagonal; x (m,).
MLCORE_API void lower_transpose_solve(const Context& context, View<const double, 2> L,
                                      View<double, 1> x);

/// Eigenvalues of symmetric A (m, m), ascending; destroys A. values (m,).
MLCORE_API void symmetric_eigenvalues(const Context& context, View<double, 2> A,
                                      View<double, 1> values);

}  // namespace mlcore
