#include "mlcore/noise.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <utility>
#include <vector>

#include "mlcore/linalg.hpp"
#include "mlcore/random.hpp"
#include "mlcore/reference/noise.hpp"

namespace {

using mlcore::Cell;
using mlcore::Context;
using Matrix = std::vector<double>;

const std::int64_t kParticles = 8;

mlcore::MobilityModel rpy() {
  mlcore::MobilityModel model;
  model.kernel = mlcore::Kernel::rpy;
  return model;
}

std::vector<double> positions() {
  std::vector<double> x;
  for (std::int64_t i = 0; i < kParticles; ++i) {
    x.insert(x.end(), {2.5 * (i % 2), 2.3 * (i / 2 % 2), 2.1 * (i / 4) + 0.1 * i});
  }
  return x;
}

mlcore::View<const double, 2> view(const std::vector<double>& x) {
  return {x.data(), {static_cast<std::int64_t>(x.size() / 3), 3}};
}

TEST(Noise, MatchesReferenceForAnyThreadCount) {
  const auto x = positions();
  const std::int64_t m = 3 * kParticles, count = 5;
  for (const Cell& cell : {Cell::open(), Cell::cubic(9)}) {
    Matrix M(m * m), z(count * m), expected(count * m), first(count * m);
    for (std::size_t i = 0; i < z.size(); ++i) z[i] = std::sin(3.0 * i);
    mlcore::mobility_matrix({}, rpy(), cell, view(x), {M.data(), {m, m}});
    const mlcore::View<const double, 3> noise(z.data(), {count, kParticles, 3});
    mlcore::reference::sqrt_apply({M.data(), {m, m}}, {z.data(), {count, m}},
                                  {expected.data(), {count, m}});
    const auto report = mlcore::sqrt_apply({1}, rpy(), cell, view(x), noise,
                                           {first.data(), {count, kParticles, 3}});
    for (std::size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(first[i], expected[i], 1e-13);
    EXPECT_EQ(report.shift, 0);
    for (int threads : {2, 7}) {
      Matrix again(count * m);
      mlcore::sqrt_apply({threads}, rpy(), cell, view(x), noise,
                         {again.data(), {count, kParticles, 3}});
      EXPECT_EQ(again, first);
    }
  }
}

// The square root times its transpose, column by column, is the mobility.
TEST(Noise, UnitVectorsGiveTheMatrixBack) {
  const auto x = positions();
  const std::int64_t m = 3 * kParticles;
  Matrix M(m * m), identity(m * m, 0.0), columns(m * m);
  for (std::int64_t i = 0; i < m; ++i) identity[i * m + i] = 1;
  mlcore::mobility_matrix({}, rpy(), Cell::open(), view(x), {M.data(), {m, m}});
  mlcore::sqrt_apply({}, rpy(), Cell::open(), view(x), {identity.data(), {m, kParticles, 3}},
                     {columns.data(), {m, kParticles, 3}});
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < m; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < m; ++k) sum += columns[k * m + i] * columns[k * m + j];
      EXPECT_NEAR(sum, M[i * m + j], 1e-15);
    }
  }
}

// Oseen between two points nearer than 3a / 2 is indefinite.
TEST(Noise, IndefiniteMatrixIsNamedOrRepaired) {
  mlcore::MobilityModel model;
  model.kernel = mlcore::Kernel::oseen;
  const std::vector<double> x = {0, 0, 0, 9.6, 0, 0, 5, 0, 0, 0, 5, 0};
  const std::int64_t m = 12;
  Matrix z(m, 1.0), out(m), M(m * m), values(m);
  const mlcore::View<const double, 3> noise(z.data(), {1, 4, 3});
  const mlcore::View<double, 3> result(out.data(), {1, 4, 3});
  const Cell cell = Cell::cubic(10);
  mlcore::mobility_matrix({}, model, cell, view(x), {M.data(), {m, m}});
  const Matrix original = M;
  mlcore::symmetric_eigenvalues({}, {M.data(), {m, m}}, {values.data(), {m}});
  ASSERT_LT(values[0], 0);
  try {
    mlcore::sqrt_apply({}, model, cell, view(x), noise, result);
    FAIL() << "no error";
  } catch (const mlcore::NotPositiveDefinite& error) {
    EXPECT_EQ(error.first, 0);
    EXPECT_EQ(error.second, 1);
    EXPECT_NEAR(error.smallest_eigenvalue, values[0], 1e-12);
    EXPECT_NE(std::string(error.what()).find("particles 0 and 1 at the distance 0.4"),
              std::string::npos)
        << error.what();
  }
  Matrix L = original;
  const auto report =
      mlcore::noise_factor({}, cell, view(x), {L.data(), {m, m}}, mlcore::Indefinite::repair);
  EXPECT_NEAR(report.shift, 1e-10 * values[m - 1] - values[0], 1e-13);
  EXPECT_NEAR(report.smallest_eigenvalue, values[0], 1e-12);
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < m; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < m; ++k) sum += L[i * m + k] * L[j * m + k];
      EXPECT_NEAR(sum, original[i * m + j] + (i == j) * report.shift, 1e-13);
    }
  }
}

TEST(Noise, NothingToRepairInANegativeMatrix) {
  Matrix M = {-1, 0, 0, 0, -1, 0, 0, 0, -1};
  EXPECT_THROW(
      mlcore::noise_factor({}, Cell::open(), {}, {M.data(), {3, 3}}, mlcore::Indefinite::repair),
      mlcore::NotPositiveDefinite);
}

TEST(Noise, ClosestPairMatchesReference) {
  const std::uint32_t tags[] = {0, 1, 2, 3, 4, 5, 6};
  const Cell skewed{{6, 0, 0, 2.5, 5, 0, -2, 1, 4}, {true, true, true}};
  Cell slab = skewed;
  slab.pbc = {true, false, true};
  for (std::uint64_t step = 0; step < 50; ++step) {
    std::vector<double> x(21);
    mlcore::random_normal({}, 1, 0, step, {tags, {7}}, {x.data(), {7, 3}});
    for (double& entry : x) entry *= 8;
    for (const Cell& cell : {Cell::open(), skewed, slab}) {
      const auto found = mlcore::closest_pair(cell, view(x));
      const auto expected = mlcore::reference::closest_pair(cell, view(x));
      EXPECT_EQ(found.first, expected.first);
      EXPECT_EQ(found.second, expected.second);
      EXPECT_NEAR(found.distance, expected.distance, 1e-12);
    }
  }
  EXPECT_EQ(mlcore::closest_pair(Cell::open(), view({1, 2, 3})).first, -1);
}

// n particles at random in a box of the volume fraction phi of unit spheres.
std::vector<double> suspension(std::int64_t n, double phi) {
  std::mt19937_64 engine(n);
  std::uniform_real_distribution<double> place(0, std::cbrt(4.18879 * n / phi));
  std::vector<double> x(3 * n);
  for (double& entry : x) entry = place(engine);
  return x;
}

std::vector<double> numbers(std::int64_t count) {
  std::vector<double> z(count);
  for (std::int64_t i = 0; i < count; ++i) z[i] = std::sin(1.7 * i + 0.3);
  return z;
}

double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double square = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    square += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(square / norm);
}

mlcore::SqrtOptions with(mlcore::SqrtMethod method, double tolerance) {
  mlcore::SqrtOptions options;
  options.method = method;
  options.tolerance = tolerance;
  return options;
}

const mlcore::SqrtMethod kSymmetric[] = {mlcore::SqrtMethod::lanczos,
                                         mlcore::SqrtMethod::chebyshev};

TEST(Noise, SymmetricRootMatchesReferenceFromPositionsAndFromTheMatrix) {
  const std::int64_t n = 20, m = 3 * n, count = 5;
  const auto x = suspension(n, 0.3), z = numbers(count * m);
  for (const Cell& cell : {Cell::open(), Cell::cubic(9)}) {
    Matrix M(m * m), expected(count * m);
    mlcore::mobility_matrix({}, rpy(), cell, view(x), {M.data(), {m, m}});
    mlcore::reference::sqrt_apply({M.data(), {m, m}}, {z.data(), {count, m}},
                                  {expected.data(), {count, m}}, true);
    for (const auto method : kSymmetric) {
      for (const double tolerance : {1e-3, 1e-6, 1e-10}) {
        Matrix formed(count * m), free(count * m);
        const auto options = with(method, tolerance);
        const auto report =
            mlcore::sqrt_apply({1}, mlcore::View<const double, 2>(M.data(), {m, m}),
                               {z.data(), {count, m}}, {formed.data(), {count, m}}, options);
        mlcore::sqrt_apply({1}, rpy(), cell, view(x),
                           mlcore::View<const double, 3>(z.data(), {count, n, 3}),
                           {free.data(), {count, n, 3}}, options);
        EXPECT_LT(relative_distance(formed, expected), 5 * tolerance) << report.method;
        EXPECT_LT(relative_distance(free, expected), 5 * tolerance) << report.method;
        EXPECT_GT(report.iterations, 3);
        EXPECT_LE(report.error, tolerance);
        for (int threads : {2, 7}) {
          Matrix again(count * m);
          mlcore::sqrt_apply({threads}, mlcore::View<const double, 2>(M.data(), {m, m}),
                             {z.data(), {count, m}}, {again.data(), {count, m}}, options);
          EXPECT_EQ(again, formed);
        }
      }
    }
  }
}

TEST(Noise, KrylovSpacesThatEndEarly) {
  // Three distinct eigenvalues, a vector that is an eigenvector, one that is zero.
  const std::int64_t m = 30, count = 3;
  Matrix M(m * m, 0.0), z(count * m, 0.0), out(count * m), expected(count * m, 0.0);
  for (std::int64_t i = 0; i < m; ++i) {
    M[i * m + i] = 1 + i % 3;
    z[i] = 1 + 0.1 * i;
    expected[i] = z[i] * std::sqrt(M[i * m + i]);
  }
  z[m + 4] = 2;
  expected[m + 4] = 2 * std::sqrt(2.0);
  for (const auto method : kSymmetric) {
    mlcore::sqrt_apply({}, mlcore::View<const double, 2>(M.data(), {m, m}), {z.data(), {count, m}},
                       {out.data(), {count, m}}, with(method, 1e-12));
    for (std::int64_t i = 0; i < count * m; ++i) EXPECT_NEAR(out[i], expected[i], 1e-10);
  }
}

TEST(Noise, SinglePrecisionSaysWhatItCosts) {
  const std::int64_t n = 40, m = 3 * n;
  const auto x = suspension(n, 0.2), z = numbers(m);
  Matrix M(m * m), expected(m), out(m);
  mlcore::mobility_matrix({}, rpy(), Cell::open(), view(x), {M.data(), {m, m}});
  const mlcore::View<const double, 2> matrix(M.data(), {m, m});
  for (const auto method :
       {mlcore::SqrtMethod::cholesky, mlcore::SqrtMethod::lanczos, mlcore::SqrtMethod::chebyshev}) {
    auto options = with(method, 1e-9);
    mlcore::sqrt_apply({}, matrix, {z.data(), {1, m}}, {expected.data(), {1, m}}, options);
    options.single_precision = true;
    const auto report =
        mlcore::sqrt_apply({}, matrix, {z.data(), {1, m}}, {out.data(), {1, m}}, options);
    const double distance = relative_distance(out, expected);
    EXPECT_GT(distance, 1e-10);
    EXPECT_LT(distance, report.error);
    EXPECT_LT(report.error, 1e-3);
    mlcore::sqrt_apply({}, rpy(), Cell::open(), view(x),
                       mlcore::View<const double, 3>(z.data(), {1, n, 3}), {out.data(), {1, n, 3}},
                       options);
    EXPECT_LT(relative_distance(out, expected), 1e-4);
  }
}

TEST(Noise, LanczosNamesTheRitzValueAndThePairOrRepairs) {
  mlcore::MobilityModel model;
  model.kernel = mlcore::Kernel::oseen;
  const std::vector<double> x = {0, 0, 0, 9.6, 0, 0, 5, 0, 0, 0, 5, 0};
  const std::int64_t m = 12;
  const Cell cell = Cell::cubic(10);
  Matrix M(m * m), values(m), z = numbers(m), out(m);
  mlcore::mobility_matrix({}, model, cell, view(x), {M.data(), {m, m}});
  Matrix shifted = M;
  mlcore::symmetric_eigenvalues({}, {M.data(), {m, m}}, {values.data(), {m}});
  const mlcore::View<const double, 3> noise(z.data(), {1, 4, 3});
  const mlcore::View<double, 3> result(out.data(), {1, 4, 3});
  for (const auto method : kSymmetric) {
    try {
      mlcore::sqrt_apply({}, model, cell, view(x), noise, result, with(method, 1e-3));
      FAIL() << "no error";
    } catch (const mlcore::NotPositiveDefinite& error) {
      EXPECT_EQ(error.first, 0);
      EXPECT_EQ(error.second, 1);
      EXPECT_NEAR(error.smallest_eigenvalue, values[0], 1e-6);
    }
  }
  auto options = with(mlcore::SqrtMethod::lanczos, 1e-10);
  options.psd = mlcore::Indefinite::repair;
  const auto report = mlcore::sqrt_apply({}, model, cell, view(x), noise, result, options);
  EXPECT_NEAR(report.smallest_eigenvalue, values[0], 1e-9);
  EXPECT_NEAR(report.shift, 1e-10 * values[m - 1] - values[0], 1e-9);
  for (std::int64_t i = 0; i < m; ++i) shifted[i * m + i] += report.shift;
  Matrix expected(m);
  mlcore::reference::sqrt_apply({shifted.data(), {m, m}}, {z.data(), {1, m}},
                                {expected.data(), {1, m}}, true);
  EXPECT_LT(relative_distance(out, expected), 1e-6);
}

TEST(Noise, GivenBoundsAreChecked) {
  const std::int64_t n = 30, m = 3 * n;
  const auto x = suspension(n, 0.2), z = numbers(m);
  Matrix M(m * m), work, values(m), out(m), expected(m);
  mlcore::mobility_matrix({}, rpy(), Cell::open(), view(x), {M.data(), {m, m}});
  work = M;
  mlcore::symmetric_eigenvalues({}, {work.data(), {m, m}}, {values.data(), {m}});
  const mlcore::View<const double, 2> matrix(M.data(), {m, m});
  auto options = with(mlcore::SqrtMethod::chebyshev, 1e-8);
  options.lowest = 0.99 * values[0];
  options.highest = 1.01 * values[m - 1];
  const auto report =
      mlcore::sqrt_apply({}, matrix, {z.data(), {1, m}}, {out.data(), {1, m}}, options);
  EXPECT_TRUE(std::isnan(report.smallest_ritz));
  mlcore::reference::sqrt_apply(matrix, {z.data(), {1, m}}, {expected.data(), {1, m}}, true);
  EXPECT_LT(relative_distance(out, expected), 1e-8);
  for (const auto& [low, high] : {std::pair{0.9, 0.5}, std::pair{3.0, 1.01}}) {
    options.lowest = low * values[0];
    options.highest = high * values[m - 1];
    EXPECT_THROW(mlcore::sqrt_apply({}, matrix, {z.data(), {1, m}}, {out.data(), {1, m}}, options),
                 mlcore::InvalidArgument)
        << low << " " << high;
  }
}

TEST(Noise, BatchesEqualTheirParts) {
  const std::int64_t batch = 3, count = 2, n = 12, size = count * 3 * n;
  Matrix x, z = numbers(batch * size), out(batch * size), one(size);
  for (std::int64_t b = 0; b < batch; ++b) {
    auto part = suspension(n, 0.1 + 0.1 * b);
    x.insert(x.end(), part.begin(), part.end());
  }
  for (const auto method :
       {mlcore::SqrtMethod::cholesky, mlcore::SqrtMethod::lanczos, mlcore::SqrtMethod::automatic}) {
    for (int threads : {1, 2}) {
      const auto reports = mlcore::sqrt_apply(
          {threads}, rpy(), Cell::open(), mlcore::View<const double, 3>(x.data(), {batch, n, 3}),
          mlcore::View<const double, 4>(z.data(), {batch, count, n, 3}),
          mlcore::View<double, 4>(out.data(), {batch, count, n, 3}), with(method, 1e-6));
      ASSERT_EQ(reports.size(), 3u);
      for (std::int64_t b = 0; b < batch; ++b) {
        mlcore::sqrt_apply({}, rpy(), Cell::open(),
                           mlcore::View<const double, 2>(x.data() + 3 * n * b, {n, 3}),
                           mlcore::View<const double, 3>(z.data() + size * b, {count, n, 3}),
                           mlcore::View<double, 3>(one.data(), {count, n, 3}), with(method, 1e-6));
        for (std::int64_t i = 0; i < size; ++i) EXPECT_EQ(out[size * b + i], one[i]);
      }
    }
  }
}

TEST(Noise, OptionsOutOfRange) {
  const auto x = positions();
  Matrix z(3 * kParticles), out(3 * kParticles);
  const mlcore::View<const double, 3> noise(z.data(), {1, kParticles, 3});
  const mlcore::View<double, 3> result(out.data(), {1, kParticles, 3});
  const auto apply = [&](const mlcore::SqrtOptions& options) {
    mlcore::sqrt_apply({}, rpy(), Cell::open(), view(x), noise, result, options);
  };
  for (double tolerance : {0.0, -1.0, 0.7, std::nan("")}) {
    EXPECT_THROW(apply(with(mlcore::SqrtMethod::lanczos, tolerance)), mlcore::InvalidArgument);
  }
  mlcore::SqrtOptions options;
  options.lowest = 2;
  options.highest = 1;
  EXPECT_THROW(apply(options), mlcore::InvalidArgument);
  options = with(mlcore::SqrtMethod::lanczos, 1e-12);
  options.max_iterations = 0;
  EXPECT_THROW(apply(options), mlcore::InvalidArgument);
  options.max_iterations = 2;
  z = numbers(3 * kParticles);
  EXPECT_THROW(mlcore::sqrt_apply({}, rpy(), Cell::open(), view(x),
                                  mlcore::View<const double, 3>(z.data(), {1, kParticles, 3}),
                                  result, options),
               mlcore::Error);
  z[5] = std::nan("");
  EXPECT_THROW(
      mlcore::sqrt_apply({}, rpy(), Cell::open(), view(x),
                         mlcore::View<const double, 3>(z.data(), {1, kParticles, 3}), result),
      mlcore::InvalidArgument);
}

TEST(Noise, EmptyInputAndWrongShapes) {
  std::vector<double> x(6), z(9);
  const auto apply = [&](std::int64_t n, std::int64_t vectors) {
    mlcore::sqrt_apply({}, rpy(), Cell::open(), mlcore::View<const double, 2>(x.data(), {n, 3}),
                       mlcore::View<const double, 3>(z.data(), {1, vectors, 3}),
                       mlcore::View<double, 3>(z.data(), {1, vectors, 3}));
  };
  EXPECT_NO_THROW(apply(0, 0));
  EXPECT_THROW(apply(2, 3), mlcore::InvalidArgument);
}

}  // namespace
