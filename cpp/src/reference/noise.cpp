#include "mlcore/reference/noise.hpp"

#include <cmath>
#include <vector>

#include "mlcore/reference/linalg.hpp"

namespace mlcore::reference {

void sqrt_apply(View<const double, 2> M, View<const double, 2> z, View<double, 2> out,
                bool symmetric) {
  std::vector<double> factor(M.begin(), M.end());
  const View<double, 2> root(factor.data(), M.shape);
  symmetric ? symmetric_root(root) : cholesky(root);
  const std::int64_t m = M.shape[0];
  for (std::int64_t k = 0; k < z.shape[0]; ++k) {
    for (std::int64_t i = 0; i < m; ++i) {
      out(k, i) = 0;
      for (std::int64_t j = 0; j < m; ++j) out(k, i) += root(i, j) * z(k, j);
    }
  }
}

ClosestPair closest_pair(const Cell& cell, View<const double, 2> x) {
  const Cell full = completed(cell);
  ClosestPair best;
  int reach[3];
  for (int axis = 0; axis < 3; ++axis) reach[axis] = full.pbc[axis] ? 2 : 0;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t j = i + 1; j < x.shape[0]; ++j) {
      double wrapped[3];
      for (int k = 0; k < 3; ++k) wrapped[k] = x(j, k) - x(i, k);
      wrap_displacement(full, inverse(full.rows), wrapped);
      for (int a = -reach[0]; a <= reach[0]; ++a) {
        for (int b = -reach[1]; b <= reach[1]; ++b) {
          for (int c = -reach[2]; c <= reach[2]; ++c) {
            double square = 0;
            for (int k = 0; k < 3; ++k) {
              const double d =
                  wrapped[k] + a * full.rows[k] + b * full.rows[3 + k] + c * full.rows[6 + k];
              square += d * d;
            }
            if (std::sqrt(square) < best.distance) best = {i, j, std::sqrt(square)};
          }
        }
      }
    }
  }
  return best;
}

}  // namespace mlcore::reference
