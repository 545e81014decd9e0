#include "mlcore/reference/linalg.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace mlcore::reference {
namespace {

/// Rotates rows and columns p and q of symmetric A so that A(p, q) vanishes; columns p and q of V
/// follow.
void rotate(View<double, 2> A, View<double, 2> V, std::int64_t p, std::int64_t q) {
  if (A(p, q) == 0) return;
  const double angle = 0.5 * std::atan2(2 * A(p, q), A(q, q) - A(p, p));
  const double c = std::cos(angle), s = std::sin(angle);
  const auto turn = [c, s](double& first, double& second) {
    const double before = first;
    first = c * before - s * second;
    second = s * before + c * second;
  };
  for (std::int64_t k = 0; k < A.shape[0]; ++k) turn(A(k, p), A(k, q));
  for (std::int64_t k = 0; k < A.shape[0]; ++k) turn(A(p, k), A(q, k));
  for (std::int64_t k = 0; k < V.shape[0]; ++k) turn(V(k, p), V(k, q));
}

/// A becomes the diagonal matrix of its eigenvalues; V is multiplied by the eigenvectors.
void diagonalise(View<double, 2> A, View<double, 2> V) {
  constexpr int kSweeps = 30;
  const std::int64_t m = A.shape[0];
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    for (std::int64_t p = 0; p < m; ++p) {
      for (std::int64_t q = p + 1; q < m; ++q) rotate(A, V, p, q);
    }
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

void symmetric_multiply(View<const double, 2> A, View<const double, 2> x, View<double, 2> out) {
  for (std::int64_t k = 0; k < x.shape[0]; ++k) {
    for (std::int64_t i = 0; i < A.shape[0]; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < A.shape[0]; ++j) sum += A(i, j) * x(k, j);
      out(k, i) = sum;
    }
  }
}

void symmetric_eigenvalues(View<double, 2> A, View<double, 1> values) {
  const std::int64_t m = A.shape[0];
  diagonalise(A, {});
  for (std::int64_t i = 0; i < m; ++i) values(i) = A(i, i);
  std::sort(values.begin(), values.end());
}

void symmetric_root(View<double, 2> A) {
  const std::int64_t m = A.shape[0];
  std::vector<double> vectors(m * m, 0.0), roots(m);
  const View<double, 2> V(vectors.data(), {m, m});
  for (std::int64_t i = 0; i < m; ++i) V(i, i) = 1;
  diagonalise(A, V);
  for (std::int64_t k = 0; k < m; ++k) roots[k] = std::sqrt(std::max(0.0, A(k, k)));
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < m; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < m; ++k) sum += roots[k] * V(i, k) * V(j, k);
      A(i, j) = sum;
    }
  }
}

}  // namespace mlcore::reference
