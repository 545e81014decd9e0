#include "mlcore/noise.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <sstream>
#include <vector>

#include "mlcore/linalg.hpp"

namespace mlcore {
namespace {

constexpr double kFloor = 1e-10;  // smallest eigenvalue after a repair, relative to the largest

struct Spectrum {
  double smallest, largest;
};

Spectrum spectrum(const Context& context, View<const double, 2> M) {
  std::vector<double> copy(M.begin(), M.end()), values(M.shape[0]);
  symmetric_eigenvalues(context, {copy.data(), M.shape}, {values.data(), {M.shape[0]}});
  return {values.front(), values.back()};
}

[[noreturn]] void raise_indefinite(const Cell& cell, View<const double, 2> x, Spectrum range) {
  std::ostringstream message;
  message.precision(6);
  message << "the mobility matrix is not positive definite: its eigenvalues lie between "
          << range.smallest << " and " << range.largest;
  const ClosestPair pair = x.empty() ? ClosestPair{} : closest_pair(cell, x);
  if (pair.first >= 0) {
    message << "; the closest pair is particles " << pair.first << " and " << pair.second
            << " at the distance " << pair.distance;
  }
  message << "; psd = repair adds a multiple of the unit matrix instead";
  throw NotPositiveDefinite(message.str(), range.smallest, pair.first, pair.second);
}

void add_diagonal(View<double, 2> M, double value) {
  for (std::int64_t i = 0; i < M.shape[0]; ++i) M(i, i) += value;
}

NoiseReport repair(const Context& context, View<double, 2> M, Spectrum range) {
  if (!(range.largest > 0)) {
    throw NotPositiveDefinite("the mobility matrix has no positive eigenvalue; no repair is made",
                              range.smallest);
  }
  NoiseReport report;
  report.smallest_eigenvalue = range.smallest;
  double margin = kFloor * range.largest;
  while (true) {
    const double shift = std::max(0.0, margin - range.smallest);
    add_diagonal(M, shift - report.shift);
    report.shift = shift;
    if (try_cholesky(context, M)) return report;
    margin *= 10;
  }
}

}  // namespace

ClosestPair closest_pair(const Cell& cell, View<const double, 2> x) {
  MLCORE_CHECK(x.shape[1] == 3, "x must have the shape (n, 3), got (", x.shape[0], ", ", x.shape[1],
               ")");
  const Cell full = completed(cell);
  const auto inverse_rows = inverse(full.rows);
  ClosestPair best;
  double best_square = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t j = i + 1; j < x.shape[0]; ++j) {
      double d[3] = {x(j, 0) - x(i, 0), x(j, 1) - x(i, 1), x(j, 2) - x(i, 2)};
      wrap_displacement(full, inverse_rows, d);
      // In a skewed cell the nearest image may be a neighbour of the wrapped one.
      for (int image = 0; image < 27; ++image) {
        const int shift[3] = {image / 9 - 1, image / 3 % 3 - 1, image % 3 - 1};
        double square = 0;
        bool allowed = true;
        for (int axis = 0; axis < 3; ++axis) allowed &= shift[axis] == 0 || full.pbc[axis];
        for (int k = 0; k < 3; ++k) {
          const double component = d[k] + shift[0] * full.rows[k] + shift[1] * full.rows[3 + k] +
                                   shift[2] * full.rows[6 + k];
          square += component * component;
        }
        if (allowed && square < best_square) {
          best_square = square;
          best = {i, j, std::sqrt(square)};
        }
      }
    }
  }
  return best;
}

NoiseReport noise_factor(const Context& context, const Cell& cell, View<const double, 2> x,
                         View<double, 2> M, Indefinite policy) {
  MLCORE_CHECK(x.empty() || (x.shape[1] == 3 && 3 * x.shape[0] == M.shape[0]),
               "x must have the shape (n, 3) with 3n = ", M.shape[0], ", got (", x.shape[0], ", ",
               x.shape[1], ")");
  if (try_cholesky(context, M)) return {};
  const Spectrum range = spectrum(context, M);
  if (policy == Indefinite::error) raise_indefinite(cell, x, range);
  return repair(context, M, range);
}

NoiseReport sqrt_apply(const Context& context, const MobilityModel& model, const Cell& cell,
                       View<const double, 2> x, View<const double, 3> z, View<double, 3> out,
                       Indefinite policy) {
  const std::int64_t n = x.shape[0], m = 3 * n, count = z.shape[0];
  MLCORE_CHECK(z.shape == out.shape && z.shape[1] == n && z.shape[2] == 3,
               "z and out must have the shape (k, n, 3) with n = ", n, ", got (", z.shape[0], ", ",
               z.shape[1], ", ", z.shape[2], ") and (", out.shape[0], ", ", out.shape[1], ", ",
               out.shape[2], ")");
  const std::unique_ptr<double[]> matrix(new double[m * m]);
  const View<double, 2> M(matrix.get(), {m, m});
  mobility_matrix(context, model, cell, x, M);
  const NoiseReport report = noise_factor(context, cell, x, M, policy);
  lower_multiply(context, M, {z.data, {count, m}}, {out.data, {count, m}});
  return report;
}

}  // namespace mlcore
