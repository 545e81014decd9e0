#pragma once

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

// Dense symmetric matrices of a mobility's size. Work is split into tiles of fixed size over the
// library's threads, so results do not depend on their number. Factorisation and products are the
// library's own and as fast as the instruction set allows, whatever BLAS is installed. On a GPU the
// library takes cuSOLVER and cuBLAS, which it loads when they are first asked for
// (BackendUnavailable where they are missing); single-precision lower_multiply, symmetric_multiply
// and symmetric_eigenvalues are for arrays on the CPU alone. All arrays of a call live on one
// device.

/// A = L L^T in place: A (m, m), symmetric in full, becomes lower triangular with zeros above.
/// Right-looking, in panels packed for registers and caches. Works in memory of 2 m panels' rows:
/// at most 3 KiB m in double precision.
/// @throws NotPositiveDefinite  with the smallest eigenvalue; A is then as it was
/// @throws InvalidArgument      A is not square or holds a NaN or an infinity
MLCORE_API void cholesky(const Context& context, View<double, 2> A);
MLCORE_API void cholesky(const Context& context, View<float, 2> A);

/// L of A = L L^T, zeros above; A and L (m, m) must not overlap.
/// @throws NotPositiveDefinite  with the smallest eigenvalue
/// @throws InvalidArgument      a shape is wrong, A holds a NaN or an infinity, or is not symmetric
///                              to 1e-10 of its largest entry (1e-5 in single precision)
MLCORE_API void cholesky(const Context& context, View<const double, 2> A, View<double, 2> L);
MLCORE_API void cholesky(const Context& context, View<const float, 2> A, View<float, 2> L);

/// @throws InvalidArgument  A (m, m) is not square, holds a NaN or an infinity, or is not symmetric
///                          to `tolerance` of its largest entry
MLCORE_API void check_symmetric(const Context& context, View<const double, 2> A,
                                double tolerance = 1e-10);

/// cholesky, but returns false (A as it was) where the matrix is not positive definite.
MLCORE_API bool try_cholesky(const Context& context, View<double, 2> A);
MLCORE_API bool try_cholesky(const Context& context, View<float, 2> A);

/// out[k] = L x[k] for lower triangular L (m, m); x and out (k, m) must not overlap. What lies
/// above the diagonal is not read. Sums are in double precision.
MLCORE_API void lower_multiply(const Context& context, View<const double, 2> L,
                               View<const double, 2> x, View<double, 2> out);
MLCORE_API void lower_multiply(const Context& context, View<const float, 2> L,
                               View<const double, 2> x, View<double, 2> out);

/// out[k] = A x[k] for symmetric A (m, m), of which only the lower triangle is read; x and out
/// (k, m) must not overlap.
/// @param upwards  read the rows from the last to the first: called in turns, a matrix somewhat
///                 larger than the cache is found there in part
MLCORE_API void symmetric_multiply(const Context& context, View<const double, 2> A,
                                   View<const double, 2> x, View<double, 2> out,
                                   bool upwards = false);
MLCORE_API void symmetric_multiply(const Context& context, View<const float, 2> A,
                                   View<const double, 2> x, View<double, 2> out,
                                   bool upwards = false);

/// x = L^-T x in place for lower triangular L (m, m) with a non-zero diagonal; x (m,).
MLCORE_API void lower_transpose_solve(const Context& context, View<const double, 2> L,
                                      View<double, 1> x);

/// Eigenvalues of symmetric A (m, m), ascending; destroys A. values (m,).
MLCORE_API void symmetric_eigenvalues(const Context& context, View<double, 2> A,
                                      View<double, 1> values);

}  // namespace mlcore
