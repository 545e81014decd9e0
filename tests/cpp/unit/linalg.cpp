#include "mlcore/linalg.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "mlcore/reference/linalg.hpp"

namespace {

using mlcore::Context;
using Matrix = std::vector<double>;

mlcore::View<double, 2> view(Matrix& a, std::int64_t m) { return {a.data(), {m, m}}; }

/// B B^T / m + shift I with random B.
Matrix random_matrix(std::int64_t m, double shift) {
  std::mt19937_64 engine(m);
  std::uniform_real_distribution<double> uniform(-1, 1);
  Matrix b(m * m), a(m * m);
  for (double& entry : b) entry = uniform(engine);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = i == j ? shift : 0;
      for (std::int64_t k = 0; k < m; ++k) sum += b[i * m + k] * b[j * m + k] / m;
      a[i * m + j] = a[j * m + i] = sum;
    }
  }
  return a;
}

// Sizes on both sides of the small, single-block and tiled paths.
const std::vector<std::int64_t> kSizes = {0,  1,  2,  3,  15, 16, 17,  31,  32,  33,
                                          47, 48, 49, 60, 96, 97, 384, 385, 401, 577};

double largest_difference(const Matrix& a, const Matrix& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(a[i] - b[i]));
  return largest;
}

TEST(Linalg, CholeskyMatchesReferenceAndDoesNotDependOnThreads) {
  for (std::int64_t m : kSizes) {
    Matrix expected = random_matrix(m, 0.1), first = expected;
    mlcore::reference::cholesky(view(expected, m));
    mlcore::cholesky(Context{1}, view(first, m));
    EXPECT_LT(largest_difference(first, expected), 1e-11) << m;
    for (int threads : {2, 7}) {
      Matrix again = random_matrix(m, 0.1);
      mlcore::cholesky(Context{threads}, view(again, m));
      EXPECT_EQ(again, first) << m;
    }
  }
}

TEST(Linalg, CholeskyFailureRestoresTheMatrixAndNamesTheEigenvalue) {
  for (std::int64_t m : {2, 20, 100, 300, 401}) {
    Matrix a = random_matrix(m, 0.0);
    a[m * m - 1] = -0.5;
    const Matrix before = a;
    EXPECT_FALSE(mlcore::try_cholesky(Context{2}, view(a, m)));
    EXPECT_EQ(a, before);
    Matrix work = a, values(m);
    if (m <= 100) {
      mlcore::reference::symmetric_eigenvalues(view(work, m), {values.data(), {m}});
    } else {
      mlcore::symmetric_eigenvalues({}, view(work, m), {values.data(), {m}});
    }
    try {
      mlcore::cholesky({}, view(a, m));
      FAIL() << "no error for m = " << m;
    } catch (const mlcore::NotPositiveDefinite& error) {
      EXPECT_NEAR(error.smallest_eigenvalue, values[0], 1e-10);
      EXPECT_NE(std::string(error.what()).find("eigenvalues lie between -"), std::string::npos);
    }
    EXPECT_EQ(a, before);
  }
}

TEST(Linalg, CholeskyRejectsNanWhereverItStands) {
  for (std::int64_t m : {3, 40, 300}) {
    for (std::int64_t entry : {std::int64_t{0}, m, (m - 1) * m + 1, m * m - 1}) {
      for (double bad : {std::nan(""), HUGE_VAL}) {
        Matrix a = random_matrix(m, 0.1);
        const std::int64_t i = entry / m, j = entry % m;
        a[i * m + j] = a[j * m + i] = bad;
        EXPECT_THROW(mlcore::cholesky({}, view(a, m)), mlcore::InvalidArgument)
            << m << " " << entry;
      }
    }
  }
}

TEST(Linalg, CholeskyInSinglePrecision) {
  for (std::int64_t m : {1, 5, 16, 48, 49, 97, 385, 401}) {
    Matrix expected = random_matrix(m, 0.5);
    std::vector<float> single(expected.begin(), expected.end()), factor(m * m);
    mlcore::reference::cholesky(view(expected, m));
    mlcore::cholesky({1}, mlcore::View<const float, 2>(single.data(), {m, m}),
                     mlcore::View<float, 2>(factor.data(), {m, m}));
    const Matrix first(factor.begin(), factor.end());
    EXPECT_LT(largest_difference(first, expected), 1e-4) << m;
    for (int threads : {2, 7}) {
      std::vector<float> again = single;
      mlcore::cholesky({threads}, mlcore::View<float, 2>(again.data(), {m, m}));
      EXPECT_EQ(again, factor) << m;
    }
    std::vector<double> x(m), out(m), product(m);
    for (std::int64_t i = 0; i < m; ++i) x[i] = std::sin(1.0 + i);
    mlcore::lower_multiply({}, mlcore::View<const float, 2>(factor.data(), {m, m}),
                           {x.data(), {1, m}}, {out.data(), {1, m}});
    mlcore::reference::lower_multiply({first.data(), {m, m}}, {x.data(), {1, m}},
                                      {product.data(), {1, m}});
    EXPECT_LT(largest_difference(out, product), 1e-12);
  }
}

TEST(Linalg, CholeskyOfACopyChecksSymmetry) {
  for (std::int64_t m : {2, 9, 50, 130, 401}) {
    Matrix a = random_matrix(m, 0.1), expected = a, factor(m * m, 7.0);
    const mlcore::View<const double, 2> matrix(a.data(), {m, m});
    mlcore::cholesky({}, view(expected, m));
    for (int threads : {1, 2}) {
      mlcore::cholesky({threads}, matrix, view(factor, m));
      EXPECT_EQ(factor, expected) << m;
    }
    for (const std::int64_t place : {m - 1, (m - 1) * m, m / 2 * m}) {
      const double kept = a[place];
      a[place] += 1e-6;
      EXPECT_THROW(mlcore::cholesky({}, matrix, view(factor, m)), mlcore::InvalidArgument) << m;
      a[place] = std::nan("");
      EXPECT_THROW(mlcore::cholesky({}, matrix, view(factor, m)), mlcore::InvalidArgument) << m;
      a[place] = kept;
    }
  }
}

TEST(Linalg, SymmetricMultiplyReadsTheLowerTriangle) {
  for (std::int64_t m : kSizes) {
    const Matrix whole = random_matrix(m, 0.1);
    Matrix half = whole;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = i + 1; j < m; ++j) half[i * m + j] = std::nan("");
    }
    const std::vector<float> single(half.begin(), half.end());
    for (std::int64_t k : {0, 1, 2, 3, 5, 7}) {
      Matrix x(k * m), expected(k * m), out(k * m);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(1.0 + i);
      const mlcore::View<const double, 2> xs(x.data(), {k, m});
      mlcore::reference::symmetric_multiply({whole.data(), {m, m}}, xs, {expected.data(), {k, m}});
      for (bool upwards : {false, true}) {
        mlcore::symmetric_multiply({1}, {half.data(), {m, m}}, xs, {out.data(), {k, m}}, upwards);
        EXPECT_LT(largest_difference(out, expected), 1e-11) << m << " " << k;
        Matrix again(k * m);
        for (int threads : {2, 7}) {
          mlcore::symmetric_multiply({threads}, {half.data(), {m, m}}, xs, {again.data(), {k, m}},
                                     upwards);
          EXPECT_EQ(again, out);
        }
        mlcore::symmetric_multiply({1}, mlcore::View<const float, 2>(single.data(), {m, m}), xs,
                                   {again.data(), {k, m}}, upwards);
        EXPECT_LT(largest_difference(again, expected), 1e-4);
      }
    }
  }
}

TEST(Linalg, LowerMultiplyMatchesReference) {
  for (std::int64_t m : kSizes) {
    Matrix l = random_matrix(m, 0.1);  // what lies above the diagonal must not be read
    for (std::int64_t k : {0, 1, 5}) {
      Matrix x(k * m), expected(k * m), out(k * m);
      for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(1.0 + i);
      mlcore::reference::lower_multiply(view(l, m), {x.data(), {k, m}}, {expected.data(), {k, m}});
      mlcore::lower_multiply({1}, view(l, m), {x.data(), {k, m}}, {out.data(), {k, m}});
      EXPECT_LT(largest_difference(out, expected), 1e-12);
      Matrix again(k * m);
      mlcore::lower_multiply({7}, view(l, m), {x.data(), {k, m}}, {again.data(), {k, m}});
      EXPECT_EQ(again, out);
    }
  }
}

TEST(Linalg, LowerTransposeSolveUndoesTheProduct) {
  for (std::int64_t m : {1, 2, 33, 300}) {
    Matrix l = random_matrix(m, 1.0);
    mlcore::cholesky({}, view(l, m));
    std::vector<double> x(m), b(m, 0.0);
    for (std::int64_t i = 0; i < m; ++i) x[i] = std::cos(1.0 * i);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = i; j < m; ++j) b[i] += l[j * m + i] * x[j];
    }
    mlcore::lower_transpose_solve({}, view(l, m), {b.data(), {m}});
    EXPECT_LT(largest_difference(b, x), 1e-10);
  }
}

TEST(Linalg, EigenvaluesMatchReference) {
  for (std::int64_t m : {0, 1, 2, 17, 60}) {
    Matrix a = random_matrix(m, -0.2), b = a, values(m), expected(m);
    mlcore::symmetric_eigenvalues({}, view(a, m), {values.data(), {m}});
    mlcore::reference::symmetric_eigenvalues(view(b, m), {expected.data(), {m}});
    EXPECT_LT(largest_difference(values, expected), 1e-11);
  }
}

TEST(Linalg, ConcurrentCallsGiveTheSameResult) {
  const std::int64_t m = 300;
  Matrix expected = random_matrix(m, 0.1);
  mlcore::cholesky({1}, view(expected, m));
  std::vector<Matrix> results(4, random_matrix(m, 0.1));
  std::vector<std::thread> threads;
  for (Matrix& a : results) {
    threads.emplace_back([&a] { mlcore::cholesky({2}, view(a, m)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Matrix& a : results) EXPECT_EQ(a, expected);
}

/// CPU memory passed for a GPU's: refused, with CUDA (where it lies) and without (no backend); and
/// arrays here and there.
TEST(Linalg, NothingRunsOnAGpuThatIsNotThere) {
  Matrix a{2, 1, 1, 2}, b(4), x(2), y(2);
  constexpr auto kThere = mlcore::Device::cuda;
  const mlcore::View<double, 2> there(a.data(), {2, 2}, kThere), here(b.data(), {2, 2});
  const mlcore::View<const double, 2> vectors(x.data(), {1, 2}, kThere);
  const mlcore::View<double, 2> results(y.data(), {1, 2}, kThere), at_home(y.data(), {1, 2});
  EXPECT_THROW(mlcore::cholesky({}, there), mlcore::Error);
  EXPECT_THROW(mlcore::try_cholesky({}, there), mlcore::Error);
  EXPECT_THROW(mlcore::check_symmetric({}, there), mlcore::Error);
  EXPECT_THROW(mlcore::cholesky({}, there, {b.data(), {2, 2}, kThere}), mlcore::Error);
  EXPECT_THROW(mlcore::lower_multiply({}, there, vectors, results), mlcore::Error);
  EXPECT_THROW(mlcore::lower_transpose_solve({}, there, {x.data(), {2}, kThere}), mlcore::Error);
  EXPECT_THROW(mlcore::cholesky({}, there, here), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::lower_multiply({}, there, vectors, at_home), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::lower_transpose_solve({}, there, {x.data(), {2}}), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::symmetric_multiply({}, there, vectors, results), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::symmetric_eigenvalues({}, there, {x.data(), {2}}), mlcore::InvalidArgument);
}

TEST(Linalg, RejectsWrongShapes) {
  Matrix a(6);
  const mlcore::View<double, 2> wide(a.data(), {2, 3}), square(a.data(), {2, 2});
  EXPECT_THROW(mlcore::cholesky({}, wide), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::lower_multiply({}, square, wide, wide), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::lower_transpose_solve({}, square, {a.data(), {3}}), mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::symmetric_eigenvalues({}, square, {a.data(), {3}}), mlcore::InvalidArgument);
}

}  // namespace
