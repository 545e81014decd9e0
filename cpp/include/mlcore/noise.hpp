#pragma once

#include <limits>
#include <vector>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/mobility.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// What to do with a mobility matrix that is not positive definite.
enum class Indefinite : int {
  error = 0,   ///< throw NotPositiveDefinite
  repair = 1,  ///< shift the spectrum: the root of M + shift I, see NoiseReport::shift
};

/// How a square root is found. All give vectors of the covariance M from standard normal ones.
enum class SqrtMethod : int {
  cholesky = 0,   ///< g = L z, M = L L^T: exact
  lanczos = 1,    ///< g = S z, M = S S, S symmetric, by Lanczos' method
  chebyshev = 2,  ///< the same S, by Chebyshev polynomials
  /// Cholesky where it is cheaper: up to 100 particles, or where k vectors per configuration times
  /// the digits of the tolerance exceed n / 15 (k > n / 45 for 1e-3); Lanczos else.
  automatic = 3,
};

struct SqrtOptions {
  SqrtMethod method = SqrtMethod::cholesky;
  /// Of Lanczos and Chebyshev, relative, 1e-14 .. 0.5. Lanczos' method stops where g changes by
  /// less (relative) from one iteration to the next, Chebyshev's where a bound of the error is
  /// below.
  double tolerance = 1e-3;
  Indefinite psd = Indefinite::error;
  int max_iterations = 1000;  ///< of Lanczos and Chebyshev; memory grows with what Lanczos takes
  /// The matrix and its factor are held in single precision, vectors in double: faster where
  /// reading M is what takes the time. Matrix-free products are then computed in single precision.
  bool single_precision = false;
  /// Bounds of the spectrum of M for Chebyshev, both or none (0, 0: estimated).
  double lowest = 0, highest = 0;
};

/// How a square root was found.
struct NoiseReport {
  const char* method = "cholesky";
  std::int64_t iterations = 0;  ///< of Lanczos; degree of Chebyshev polynomials
  /// Estimate of |g - M^(1/2) z| / |M^(1/2) z|, the largest of the vectors: the last change of
  /// Lanczos, the bound of Chebyshev, sqrt(m) 2^-24 of Cholesky in single precision, 0 (rounding)
  /// of Cholesky; what single precision may add to Lanczos and Chebyshev is in it.
  double error = 0;
  /// Of Lanczos and Chebyshev with bounds of its own; an upper bound of lambda_min.
  double smallest_ritz = std::numeric_limits<double>::quiet_NaN();
  /// Added to the diagonal: 0, or 1e-10 lambda_max - lambda_min where M had to be repaired (times
  /// a power of ten where rounding asks for it). The noise then has the covariance M + shift I.
  double shift = 0;
  /// lambda_min of M (Lanczos, Chebyshev: the Ritz value); known (not NaN) only where M had to be
  /// repaired.
  double smallest_eigenvalue = std::numeric_limits<double>::quiet_NaN();
};

/// Replaces M (3n, 3n), symmetric, by its lower Cholesky factor L, M = L L^T (zeros above), on the
/// CPU or a GPU.
///
/// @param x  (n, 3) the positions M belongs to, used to name the closest pair under the cell in the
///           error; an empty view where they are not known
/// @throws NotPositiveDefinite  naming the smallest eigenvalue and the closest pair; M is then as
///                              it was
/// @throws InvalidArgument      a shape is wrong or M holds a NaN or an infinity
/// @throws BackendUnavailable   M on a GPU in a build without CUDA, or no cuSOLVER there
MLCORE_API NoiseReport noise_factor(const Context& context, const Cell& cell,
                                    View<const double, 2> x, View<double, 2> M,
                                    Indefinite policy = Indefinite::error);

/// out[k] = a square root of M(x) times z[k]: for standard normal z, Gaussian vectors of
/// covariance M. In open space without a table, and where M would take more than 2 GiB, Lanczos and
/// Chebyshev never form M; elsewhere they read half of it per iteration for all vectors together.
///
/// @param x       (n, 3)
/// @param z, out  (k, n, 3); one factorisation serves all k
/// @throws NotPositiveDefinite  naming the smallest eigenvalue (or Ritz value) and the closest pair
/// @throws InvalidArgument      as mobility_matrix; an option is out of range; bounds that do not
///                              hold the spectrum
/// @throws Error                the tolerance is not reached in max_iterations
/// @throws BackendUnavailable   arrays on a GPU in a build without CUDA, or Cholesky there without
///                              cuSOLVER
MLCORE_API NoiseReport sqrt_apply(const Context& context, const MobilityModel& model,
                                  const Cell& cell, View<const double, 2> x,
                                  View<const double, 3> z, View<double, 3> out,
                                  const SqrtOptions& options = {});

/// The same of a given matrix M (m, m); z, out (k, m). x (m / 3, 3) and the cell are used in
/// messages alone; x may be empty.
/// @throws InvalidArgument  as above, or M holds a NaN or an infinity, or is not symmetric to 1e-10
///                          of its largest entry (1e-5 where options ask for single precision): all
///                          of M is looked at once, which takes the time of two products with it
MLCORE_API NoiseReport sqrt_apply(const Context& context, View<const double, 2> M,
                                  View<const double, 2> z, View<double, 2> out,
                                  const SqrtOptions& options = {}, const Cell& cell = Cell::open(),
                                  View<const double, 2> x = {});

/// Batches of configurations of equal size in one cell: x (B, n, 3), z and out (B, k, n, 3).
MLCORE_API std::vector<NoiseReport> sqrt_apply(const Context& context, const MobilityModel& model,
                                               const Cell& cell, View<const double, 3> x,
                                               View<const double, 4> z, View<double, 4> out,
                                               const SqrtOptions& options = {});

/// Indices of the two nearest particles, periodic images counted; {-1, -1} for fewer than two.
struct ClosestPair {
  std::int64_t first = -1, second = -1;
  double distance = std::numeric_limits<double>::infinity();
};
MLCORE_API ClosestPair closest_pair(const Cell& cell, View<const double, 2> x);

}  // namespace mlcore
