#include "mlcore/noise.hpp"

#include <gtest/gtest.h>

#include <cmath>
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
    mlcore::reference::sqrt_apply({M.data(), {m, m}}, noise,
                                  {expected.data(), {count, kParticles, 3}});
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

TEST(Noise, EmptyInputAndWrongShapes) {
  std::vector<double> x(6), z(9);
  EXPECT_NO_THROW(mlcore::sqrt_apply({}, rpy(), Cell::open(), {x.data(), {0, 3}},
                                     {z.data(), {1, 0, 3}}, {z.data(), {1, 0, 3}}));
  EXPECT_THROW(mlcore::sqrt_apply({}, rpy(), Cell::open(), view(x), {z.data(), {1, 3, 3}},
                                  {z.data(), {1, 3, 3}}),
               mlcore::InvalidArgument);
}

}  // namespace
