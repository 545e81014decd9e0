#pragma once

#include <limits>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/mobility.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// What to do with a mobility matrix that is not positive definite.
enum class Indefinite : int {
  error = 0,   ///< throw NotPositiveDefinite
  repair = 1,  ///< shift the spectrum: factor M + shift I, see NoiseReport::shift
};

/// How a square root was found.
struct NoiseReport {
  const char* method = "cholesky";
  /// Added to the diagonal: 0, or 1e-10 lambda_max - lambda_min where M had to be repaired (times
  /// a power of ten where rounding asks for it). The noise then has the covariance M + shift I.
  double shift = 0;
  /// lambda_min of M; known (not NaN) only where M had to be repaired.
  double smallest_eigenvalue = std::numeric_limits<double>::quiet_NaN();
};

/// Replaces M (3n, 3n), symmetric, by its lower Cholesky factor L, M = L L^T (zeros above).
///
/// @param x  (n, 3) the positions M belongs to, used to name the closest pair under the cell in the
///           error; an empty view where they are not known
/// @throws NotPositiveDefinite  naming the smallest eigenvalue and the closest pair; M is then as
///                              it was
/// @throws InvalidArgument      a shape is wrong or M holds a NaN or an infinity
MLCORE_API NoiseReport noise_factor(const Context& context, const Cell& cell,
                                    View<const double, 2> x, View<double, 2> M,
                                    Indefinite policy = Indefinite::error);

/// out[k] = L z[k] with M = L L^T: for standard normal z, Gaussian vectors of covariance M.
///
/// @param x       (n, 3)
/// @param z, out  (k, n, 3); one factorisation serves all k
/// @throws as mobility_matrix and noise_factor
MLCORE_API NoiseReport sqrt_apply(const Context& context, const MobilityModel& model,
                                  const Cell& cell, View<const double, 2> x,
                                  View<const double, 3> z, View<double, 3> out,
                                  Indefinite policy = Indefinite::error);

/// Indices of the two nearest particles, periodic images counted; {-1, -1} for fewer than two.
struct ClosestPair {
  std::int64_t first = -1, second = -1;
  double distance = std::numeric_limits<double>::infinity();
};
MLCORE_API ClosestPair closest_pair(const Cell& cell, View<const double, 2> x);

}  // namespace mlcore
