#include "mlcore/linalg.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/linalg.hpp"
#include "lapack.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kSmall = 32;     // below this, calling LAPACK costs more than the work
constexpr std::int64_t kColumns = 128;  // block column of the tiled factorisation
constexpr std::int64_t kRows = 192;     // rows of one tile
constexpr std::int64_t kMultiplyGrain = 16384;

std::int64_t check_square(const char* name, View<const double, 2> A) {
  MLCORE_CHECK(A.device == Device::cpu, name, " must lie in CPU memory");
  MLCORE_CHECK(A.shape[0] == A.shape[1] && A.shape[0] <= std::numeric_limits<int>::max(), name,
               " must be square, got the shape (", A.shape[0], ", ", A.shape[1], ")");
  return A.shape[0];
}

bool factor_block(int m, double* a, int stride) {
  int info = 0;
  MLCORE_LAPACK(dpotrf_)("U", &m, a, &stride, &info, 1);
  return info == 0;
}

/// Rows `begin..end` of block column `first`: subtract what the finished columns contribute.
void subtract_finished(View<double, 2> A, std::int64_t first, std::int64_t width,
                       std::int64_t begin, std::int64_t end) {
  const int columns = static_cast<int>(width), rows = static_cast<int>(end - begin);
  const int inner = static_cast<int>(first), stride = static_cast<int>(A.shape[1]);
  const double minus = -1, one = 1;
  MLCORE_LAPACK(dgemm_)
  ("T", "N", &columns, &rows, &inner, &minus, &A(first, 0), &stride, &A(begin, 0), &stride, &one,
   &A(begin, first), &stride, 1, 1);
}

void solve_rows(View<double, 2> A, std::int64_t first, std::int64_t width, std::int64_t begin,
                std::int64_t end) {
  const int columns = static_cast<int>(width), rows = static_cast<int>(end - begin);
  const int stride = static_cast<int>(A.shape[1]);
  const double one = 1;
  MLCORE_LAPACK(dtrsm_)
  ("L", "U", "T", "N", &columns, &rows, &one, &A(first, first), &stride, &A(begin, first), &stride,
   1, 1, 1, 1);
}

/// Calls body(begin, end) for the tiles of rows first..m-1.
template <class Body>
void for_tiles(const Context& context, std::int64_t first, std::int64_t m, const Body& body) {
  const std::int64_t tiles = (m - first + kRows - 1) / kRows;
  detail::parallel_for(context, tiles, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t t = begin; t < end; ++t) {
      body(first + t * kRows, std::min(m, first + (t + 1) * kRows));
    }
  });
}

/// Lower triangle of A becomes L, block column by block column; what lies above may change too.
bool factor_tiled(const Context& context, View<double, 2> A) {
  const std::int64_t m = A.shape[0];
  for (std::int64_t first = 0; first < m; first += kColumns) {
    const std::int64_t width = std::min(kColumns, m - first), next = first + width;
    if (first > 0) {
      for_tiles(context, first, m, [&](std::int64_t begin, std::int64_t end) {
        subtract_finished(A, first, width, begin, end);
      });
    }
    if (!factor_block(static_cast<int>(width), &A(first, first), static_cast<int>(m))) return false;
    for_tiles(context, next, m, [&](std::int64_t begin, std::int64_t end) {
      solve_rows(A, first, width, begin, end);
    });
  }
  return true;
}

bool factor(const Context& context, View<double, 2> A) {
  const std::int64_t m = A.shape[0];
  if (m <= kSmall) return MLCORE_DISPATCH(small_cholesky)(m, A.data);
  detail::prepare_lapack();
  if (m <= 2 * kColumns) return factor_block(static_cast<int>(m), A.data, static_cast<int>(m));
  return factor_tiled(context, A);
}

/// What a factorisation overwrites and the symmetric upper part does not hold: the block diagonal.
class Saved {
 public:
  explicit Saved(View<const double, 2> A)
      : width_(std::min(A.shape[0], kColumns)), blocks_(A.shape[0] * width_) {
    for_each(A.shape[0], [&](std::int64_t i, std::int64_t j, double& kept) { kept = A(i, j); });
  }

  void restore(View<double, 2> A) {
    const std::int64_t m = A.shape[0];
    for_each(m, [&](std::int64_t i, std::int64_t j, double& kept) { A(i, j) = kept; });
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < i / kColumns * kColumns; ++j) A(i, j) = A(j, i);
    }
  }

 private:
  template <class Body>
  void for_each(std::int64_t m, const Body& body) {
    for (std::int64_t i = 0; i < m; ++i) {
      const std::int64_t first = i / kColumns * kColumns;
      for (std::int64_t j = first; j < std::min(m, first + kColumns); ++j) {
        body(i, j, blocks_[i * width_ + j - first]);
      }
    }
  }

  std::int64_t width_;
  std::vector<double> blocks_;
};

bool diagonal_is_finite(View<const double, 2> A) {
  for (std::int64_t i = 0; i < A.shape[0]; ++i) {
    if (!std::isfinite(A(i, i))) return false;
  }
  return true;
}

void clear_upper(const Context& context, View<double, 2> A) {
  const std::int64_t m = A.shape[0];
  const std::int64_t grain =
      std::max<std::int64_t>(1, kMultiplyGrain / std::max<std::int64_t>(m, 1));
  detail::parallel_for(context, m, grain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) std::fill(&A(i, 0) + i + 1, &A(i, 0) + m, 0.0);
  });
}

}  // namespace

bool try_cholesky(const Context& context, View<double, 2> A) {
  check_square("A", A);
  if (A.empty()) return true;
  Saved saved(A);
  // A NaN or an infinity anywhere in a row reaches that row's pivot.
  if (factor(context, A) && diagonal_is_finite(A)) {
    clear_upper(context, A);
    return true;
  }
  saved.restore(A);
  check_finite("the matrix", View<const double, 2>(A));
  return false;
}

void cholesky(const Context& context, View<double, 2> A) {
  if (try_cholesky(context, A)) return;
  const std::int64_t m = A.shape[0];
  std::vector<double> copy(A.begin(), A.end()), values(m);
  symmetric_eigenvalues(context, {copy.data(), {m, m}}, {values.data(), {m}});
  std::ostringstream message;
  message.precision(6);
  message << "the " << m << " x " << m
          << " matrix is not positive definite: its eigenvalues lie between " << values.front()
          << " and " << values.back();
  throw NotPositiveDefinite(message.str(), values.front());
}

void lower_multiply(const Context& context, View<const double, 2> L, View<const double, 2> x,
                    View<double, 2> out) {
  const std::int64_t m = check_square("L", L);
  MLCORE_CHECK(x.shape == out.shape && x.shape[1] == m, "x and out must have the shape (k, ", m,
               "), got (", x.shape[0], ", ", x.shape[1], ") and (", out.shape[0], ", ",
               out.shape[1], ")");
  if (x.empty()) return;
  const auto rows = MLCORE_DISPATCH(lower_rows);
  const std::int64_t count = x.shape[0] * m;
  const std::int64_t grain = std::max<std::int64_t>(1, kMultiplyGrain / m);
  detail::parallel_for(context, count, grain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t k = i / m, stop = std::min(end, (k + 1) * m);
      rows(i - k * m, stop - k * m, m, L.data, x.data + k * m, out.data + k * m);
      i = stop;
    }
  });
}

void lower_transpose_solve(const Context&, View<const double, 2> L, View<double, 1> x) {
  const std::int64_t m = check_square("L", L);
  MLCORE_CHECK(x.shape[0] == m, "x must have the length ", m, ", got ", x.shape[0]);
  if (x.empty()) return;
  detail::prepare_lapack();
  const int n = static_cast<int>(m), one = 1;
  MLCORE_LAPACK(dtrsv_)("U", "N", "N", &n, L.data, &n, x.data, &one, 1, 1, 1);
}

void symmetric_eigenvalues(const Context&, View<double, 2> A, View<double, 1> values) {
  const std::int64_t m = check_square("A", A);
  MLCORE_CHECK(values.shape[0] == m, "values must have the length ", m, ", got ", values.shape[0]);
  if (A.empty()) return;
  check_finite("A", View<const double, 2>(A));
  detail::prepare_lapack();
  const int n = static_cast<int>(m), query = -1;
  double size = 0;
  int isize = 0, info = 0;
  MLCORE_LAPACK(dsyevd_)
  ("N", "U", &n, A.data, &n, values.data, &size, &query, &isize, &query, &info, 1, 1);
  const int lwork = static_cast<int>(size), liwork = isize;
  std::vector<double> work(lwork);
  std::vector<int> iwork(liwork);
  MLCORE_LAPACK(dsyevd_)
  ("N", "U", &n, A.data, &n, values.data, work.data(), &lwork, iwork.data(), &liwork, &info, 1, 1);
  if (info != 0) detail::raise<Error>("LAPACK dsyevd did not converge (info = ", info, ")");
}

}  // namespace mlcore
