#include "mlcore/linalg.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cholesky.hpp"
#include "kernels/linalg.hpp"
#include "lapack.hpp"
#include "linalg_cuda.hpp"
#include "mlcore/buffer.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kSerial = 384;                    // up to this size one thread factors
constexpr std::int64_t kTileRows = kernels::kPanelRows;  // handed to a thread at a time
constexpr std::int64_t kMultiplyGrain = 16384;
constexpr std::int64_t kGroupRows = 256;  // rows of a symmetric product summed apart, at least
constexpr std::int64_t kMostGroups = 8;
constexpr std::int64_t kRereadRows = 32;  // rows that stay in cache for further vectors

template <class T>
std::int64_t check_square(const char* name, View<const T, 2> A, bool cpu_alone = true) {
  MLCORE_CHECK(!cpu_alone || A.device == Device::cpu, name, " must lie in CPU memory");
  MLCORE_CHECK(A.shape[0] == A.shape[1] && A.shape[0] <= std::numeric_limits<int>::max(), name,
               " must be square, got the shape (", A.shape[0], ", ", A.shape[1], ")");
  return A.shape[0];
}

void check_vectors(std::int64_t m, View<const double, 2> x, View<double, 2> out) {
  MLCORE_CHECK(x.shape == out.shape && x.shape[1] == m, "x and out must have the shape (k, ", m,
               "), got (", x.shape[0], ", ", x.shape[1], ") and (", out.shape[0], ", ",
               out.shape[1], ")");
}

/// Calls body(begin, end) for tiles of rows, the last (longest of a triangle) first: each goes to
/// the thread that is free. No tile's result depends on who has it.
template <class Body>
void for_tiles(const Context& context, std::int64_t rows, const Body& body) {
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const std::int64_t threads = std::min<std::int64_t>(tiles, detail::resolve_threads(context));
  std::atomic<std::int64_t> left{tiles};
  detail::parallel_for(context, threads, 1, [&](std::int64_t, std::int64_t, int) {
    for (std::int64_t t = left.fetch_sub(1) - 1; t >= 0; t = left.fetch_sub(1) - 1) {
      body(t * kTileRows, std::min(rows, (t + 1) * kTileRows));
    }
  });
}

/// factor_block with its outermost panels shared among threads.
template <class T>
bool factor_shared(const Context& context, View<T, 2> A, T* work) {
  const std::int64_t m = A.shape[0], width = kernels::panel_width(m);
  T* const packed = work;
  T* const triangle = packed + kernels::packed_size(m, width);
  T* const inverse = triangle + kernels::packed_size(width, width);
  T* const rest = inverse + kernels::packed_size(width, 1);
  for (std::int64_t first = 0; first < m; first += width) {
    const std::int64_t columns = std::min(width, m - first), next = first + columns;
    if (!MLCORE_DISPATCH(factor_block<T>)(columns, &A(first, first), m, rest)) return false;
    if (next == m) break;
    MLCORE_DISPATCH(pack_triangle<T>)(columns, &A(first, first), m, triangle, inverse);
    for_tiles(context, m - next, [&](std::int64_t begin, std::int64_t end) {
      MLCORE_DISPATCH(solve_rows<T>)
      (begin, end, columns, &A(next, first), m, triangle, inverse, packed);
    });
    for_tiles(context, m - next, [&](std::int64_t begin, std::int64_t end) {
      MLCORE_DISPATCH(subtract_products<T>)(begin, end, columns, packed, &A(next, next), m);
    });
  }
  return true;
}

template <class T>
bool diagonal_is_finite(View<const T, 2> A) {
  for (std::int64_t i = 0; i < A.shape[0]; ++i) {
    if (!std::isfinite(A(i, i))) return false;
  }
  return true;
}

/// The lower triangle becomes L; what lies above is neither read nor changed.
template <class T>
bool factor(const Context& context, View<T, 2> A) {
  const std::int64_t m = A.shape[0];
  const Buffer buffer(sizeof(T) * kernels::factor_work(m));
  T* const work = static_cast<T*>(buffer.data());
  const bool done = m <= kSerial ? MLCORE_DISPATCH(factor_block<T>)(m, A.data, m, work)
                                 : factor_shared(context, A, work);
  // A NaN or an infinity anywhere in a row reaches that row's pivot.
  return done && diagonal_is_finite<T>(A);
}

template <class T>
void clear_upper(const Context& context, View<T, 2> A) {
  const std::int64_t m = A.shape[0];
  const std::int64_t grain = std::max<std::int64_t>(1, kMultiplyGrain / m);
  detail::parallel_for(context, m, grain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) std::fill(&A(i, 0) + i + 1, &A(i, 0) + m, T(0));
  });
}

template <class T>
bool try_in_place(const Context& context, View<T, 2> A) {
  const std::int64_t m = check_square<T>("A", A, false);
  if (A.empty()) return true;
  if (A.device == Device::cuda) return cuda::try_cholesky(context, A);
  std::vector<T> diagonal(m);
  for (std::int64_t i = 0; i < m; ++i) diagonal[i] = A(i, i);
  if (factor(context, A)) {
    clear_upper(context, A);
    return true;
  }
  for (std::int64_t i = 0; i < m; ++i) {
    A(i, i) = diagonal[i];
    for (std::int64_t j = 0; j < i; ++j) A(i, j) = A(j, i);
  }
  check_finite("the matrix", View<const T, 2>(A));
  return false;
}

template <class T>
[[noreturn]] void raise_indefinite(const Context& context, View<const T, 2> A) {
  const std::int64_t m = A.shape[0];
  const std::vector<T> host = cuda::host_copy(context, A);
  std::vector<double> copy(host.begin(), host.end()), values(m);
  symmetric_eigenvalues(context, {copy.data(), {m, m}}, {values.data(), {m}});
  std::ostringstream message;
  message.precision(6);
  message << "the " << m << " x " << m
          << " matrix is not positive definite: its eigenvalues lie between " << values.front()
          << " and " << values.back();
  throw NotPositiveDefinite(message.str(), values.front());
}

/// Refuses A where it is not symmetric; its lower triangle goes to L, unless that is null.
template <class T>
void copy_symmetric(const Context& context, View<const T, 2> A, T* L, double tolerance) {
  const std::int64_t m = A.shape[0];
  const std::int64_t tiles = (m + kTileRows - 1) / kTileRows;
  std::vector<double> worst(tiles, 0.0), largest(tiles, 0.0);
  for_tiles(context, m, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t t = begin / kTileRows;
    MLCORE_DISPATCH(copy_lower<T>)(begin, end, m, A.data, L, &worst[t], &largest[t]);
  });
  double asymmetry = 0, size = 0;
  bool finite = true;
  for (std::int64_t t = 0; t < tiles; ++t) {
    finite = finite && std::isfinite(worst[t]);
    asymmetry = std::max(asymmetry, worst[t]);
    size = std::max(size, largest[t]);
  }
  if (!finite) check_finite("the matrix", A);
  MLCORE_CHECK(asymmetry <= tolerance * size, "the matrix must be symmetric to ", tolerance,
               " of its largest entry, but M - M^T has an entry of ", asymmetry);
}

template <class T>
bool copy_and_factor(const Context& context, View<const T, 2> A, View<T, 2> L) {
  constexpr double tolerance = sizeof(T) == 8 ? 1e-10 : 1e-5;
  if (A.device == Device::cuda) {
    cuda::check_symmetric(context, A, tolerance);
    cuda::copy_matrix(context, A, L);
    return cuda::try_cholesky(context, L);
  }
  copy_symmetric(context, A, L.data, tolerance);
  return factor(context, L);
}

template <class T>
void factor_copy(const Context& context, View<const T, 2> A, View<T, 2> L) {
  const std::int64_t m = check_square<T>("A", A, false);
  MLCORE_CHECK(L.shape == A.shape, "L must have the shape (", m, ", ", m, ") of A, got (",
               L.shape[0], ", ", L.shape[1], ")");
  MLCORE_CHECK(L.device == A.device, "A and L must live on the same device");
  if (A.empty()) return;
  if (!copy_and_factor(context, A, L)) raise_indefinite<T>(context, A);
}

template <class T>
void multiply_lower(const Context& context, View<const T, 2> L, View<const double, 2> x,
                    View<double, 2> out) {
  const std::int64_t m = check_square("L", L);
  check_vectors(m, x, out);
  if (x.empty()) return;
  const auto rows = MLCORE_DISPATCH(lower_rows<T>);
  const std::int64_t blocks = (m + kRereadRows - 1) / kRereadRows;
  const std::int64_t grain = std::max<std::int64_t>(1, kMultiplyGrain / m / kRereadRows);
  detail::parallel_for(context, blocks, grain, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = kRereadRows * begin; i < std::min(m, kRereadRows * end);
         i += kRereadRows) {
      for (std::int64_t k = 0; k < x.shape[0]; ++k) {
        rows(i, std::min(m, i + kRereadRows), m, L.data, x.data + k * m, out.data + k * m);
      }
    }
  });
}

/// Rows end here so that each of `groups` has the same share of the triangle.
std::int64_t group_end(std::int64_t m, std::int64_t groups, std::int64_t group) {
  if (group == groups) return m;
  const double share = std::sqrt(static_cast<double>(group) / static_cast<double>(groups));
  return static_cast<std::int64_t>(share * static_cast<double>(m)) / 8 * 8;
}

template <class T>
void multiply_symmetric(const Context& context, View<const T, 2> A, View<const double, 2> x,
                        View<double, 2> out, bool upwards) {
  const std::int64_t m = check_square("A", A), columns = x.shape[0];
  check_vectors(m, x, out);
  if (x.empty()) return;
  // As many groups of rows, each with sums of its own, for any number of threads.
  const std::int64_t groups = std::clamp<std::int64_t>(m / kGroupRows, 1, kMostGroups);
  const std::int64_t block = columns > 4 ? kRereadRows : m;
  const Buffer buffer(sizeof(double) * groups * columns * m);
  double* const sums = static_cast<double*>(buffer.data());
  const auto add_group = [&](std::int64_t g) {
    double* y = sums + g * columns * m;
    const std::int64_t low = group_end(m, groups, g), high = group_end(m, groups, g + 1);
    for (std::int64_t c = 0; c < columns; ++c) std::fill(y + c * m, y + c * m + high, 0.0);
    const std::int64_t blocks = (high - low + block - 1) / block;
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t begin = low + block * (upwards ? blocks - 1 - b : b);
      MLCORE_DISPATCH(symmetric_rows<T>)
      (begin, std::min(high, begin + block), m, A.data, columns, upwards, x.data, y);
    }
  };
  detail::parallel_for(context, groups, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t g = begin; g < end; ++g) add_group(upwards ? begin + end - 1 - g : g);
  });
  for (std::int64_t c = 0; c < columns; ++c) {
    double* target = out.data + c * m;
    std::copy_n(sums + (groups - 1) * columns * m + c * m, m, target);
    for (std::int64_t g = 0; g + 1 < groups; ++g) {
      const double* part = sums + g * columns * m + c * m;
      const std::int64_t count = group_end(m, groups, g + 1);
      for (std::int64_t i = 0; i < count; ++i) target[i] += part[i];
    }
  }
}

}  // namespace

bool try_cholesky(const Context& context, View<double, 2> A) { return try_in_place(context, A); }
bool try_cholesky(const Context& context, View<float, 2> A) { return try_in_place(context, A); }

void cholesky(const Context& context, View<double, 2> A) {
  if (!try_in_place(context, A)) raise_indefinite<double>(context, A);
}

void cholesky(const Context& context, View<float, 2> A) {
  if (!try_in_place(context, A)) raise_indefinite<float>(context, A);
}

void cholesky(const Context& context, View<const double, 2> A, View<double, 2> L) {
  factor_copy(context, A, L);
}

void cholesky(const Context& context, View<const float, 2> A, View<float, 2> L) {
  factor_copy(context, A, L);
}

void check_symmetric(const Context& context, View<const double, 2> A, double tolerance) {
  check_square<double>("A", A, false);
  if (A.device == Device::cuda) return cuda::check_symmetric(context, A, tolerance);
  if (!A.empty()) copy_symmetric<double>(context, A, nullptr, tolerance);
}

void lower_multiply(const Context& context, View<const double, 2> L, View<const double, 2> x,
                    View<double, 2> out) {
  MLCORE_CHECK(x.device == L.device && out.device == L.device,
               "L, x and out must live on the same device");
  if (L.device == Device::cpu) return multiply_lower(context, L, x, out);
  check_vectors(check_square("L", L, false), x, out);
  if (!x.empty()) cuda::multiply_rows(context, L, true, x, out);
}

void lower_multiply(const Context& context, View<const float, 2> L, View<const double, 2> x,
                    View<double, 2> out) {
  multiply_lower(context, L, x, out);
}

void symmetric_multiply(const Context& context, View<const double, 2> A, View<const double, 2> x,
                        View<double, 2> out, bool upwards) {
  multiply_symmetric(context, A, x, out, upwards);
}

void symmetric_multiply(const Context& context, View<const float, 2> A, View<const double, 2> x,
                        View<double, 2> out, bool upwards) {
  multiply_symmetric(context, A, x, out, upwards);
}

void lower_transpose_solve(const Context& context, View<const double, 2> L, View<double, 1> x) {
  const std::int64_t m = check_square("L", L, false);
  MLCORE_CHECK(x.shape[0] == m, "x must have the length ", m, ", got ", x.shape[0]);
  MLCORE_CHECK(x.device == L.device, "L and x must live on the same device");
  if (x.empty()) return;
  if (L.device == Device::cuda) return cuda::lower_transpose_solve(context, L, x);
  detail::prepare_lapack();
  const int n = static_cast<int>(m), one = 1;
  MLCORE_LAPACK(dtrsv_)("U", "N", "N", &n, L.data, &n, x.data, &one, 1, 1, 1);
}

void symmetric_eigenvalues(const Context&, View<double, 2> A, View<double, 1> values) {
  const std::int64_t m = check_square<double>("A", A);
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
