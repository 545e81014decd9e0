#include "mlcore/reference/linalg.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlcore::reference {
namespace {

/// Rotates rows and columns p and q of symmetric A so that A(p, q) vanishes.
void rotate(View<double, 2> A, std::int64_t p, std::int64_t q) {
  if (A(p, q) == 0) return;
  const double angle = 0.5 * std::atan2(2 * A(p, q), A(q, q) - A(p, p));
  const double c = std::cos(angle), s = std::sin(angle);
  for (std::int64_t k = 0; k < A.shape[0]; ++k) {
    const double kp = A(k, p), kq = A(k, q);
    A(k, p) = c * kp - s * kq;
    A(k, q) = s * kp + c * kq;
  }
  for (std::int64_t k = 0; k < A.shape[0]; ++k) {
    const double pk = A(p, k), qk = A(q, k);
    A(p, k) = c * pk - s * qk;
    A(q, k) = s * pk + c * qk;
  }
}

}  // namespace

void cholesky(View<double, 2> A) {
  const std::int64_t m = A.shape[0];
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = A(i, j);
      for (std::int64_t k = 0; k < j; ++k) sum -= A(i, k) * A(j, k);
      if (i != j) {
        A(i, j) = sum / A(j, j);
      } else if (sum > 0) {
        A(i, i) = std::sqrt(sum);
      } else {
        throw NotPositiveDefinite("the matrix is not positive definite",
                                  std::numeric_limits<double>::quiet_NaN());
      }
    }
  }
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = i + 1; j < m; ++j) A(i, j) = 0;
  }
}

void lower_multiply(View<const double, 2> L, View<const double, 2> x, View<double, 2> out) {
  for (std::int64_t k = 0; k < x.shape[0]; ++k) {
    for (std::int64_t i = 0; i < L.shape[0]; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j <= i; ++j) sum += L(i, j) * x(k, j);
      out(k, i) = sum;
    }
  }
}

void symmetric_eigenvalues(View<double, 2> A, View<double, 1> values) {
  constexpr int kSweeps = 30;
  const std::int64_t m = A.shape[0];
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (std::int64_t p = 0; p < m; ++p) {
      for (std::int64_t q = p + 1; q < m; ++q) rotate(A, p, q);
    }
  }
  for (std::int64_t i = 0; i < m; ++i) values(i) = A(i, i);
  std::sort(values.begin(), values.end());
}

}  // namespace mlcore::reference
