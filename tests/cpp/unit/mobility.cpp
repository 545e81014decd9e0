#include "mlcore/mobility.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include "mlcore/reference/mobility.hpp"
#include "mobility_cases.hpp"

namespace {

using namespace mobility_cases;  // NOLINT(google-build-using-namespace)

TEST(Mobility, MatchesReferenceForAnySize) {
  for (const Case& c : cases()) {
    for (int n : {0, 1, 2, 7, 8, 9, 17, 70}) {
      if (n == 70 && !c.cell.is_open()) continue;
      const Values x = random_vectors(n, 14, 3);
      const Values expected = reference_matrix(c.model, c.cell, x);
      const double scale = largest(expected);
      const Values M = matrix(c.model, c.cell, x);
      EXPECT_LE(difference(M, expected), 2e-10 * scale) << c.name << " n=" << n;
      const Values F = random_vectors(n, 1, 4);
      const Values V = apply(c.model, c.cell, x, F);
      EXPECT_LE(difference(V, product(expected, F)), 1e-9 * scale) << c.name << " n=" << n;
      Values D(x.size());
      mlcore::reference::mobility_divergence(c.model, c.cell, vectors(x), {D.data(), {n, 3}});
      EXPECT_LE(difference(divergence(c.model, c.cell, x), D), 1e-12 * (1 + largest(D)))
          << c.name << " n=" << n;
    }
  }
}

std::vector<float> narrow(const Values& v) { return {v.begin(), v.end()}; }
Values wide(const std::vector<float>& v) { return {v.begin(), v.end()}; }

TEST(Mobility, OpenKernelsMatchTheReference) {
  for (int n : {0, 1, 2, 7, 8, 9, 15, 16, 17, 33, 70}) {
    for (const Case& c : open_cases(n)) {
      const Values x = above_wall(n), F = random_vectors(n, 1, 4);
      const Values expected = reference_matrix(c.model, c.cell, x);
      const double scale = largest(expected);
      EXPECT_LE(difference(matrix(c.model, c.cell, x), expected), 1e-13 * scale) << c.name << n;
      const Values V = apply(c.model, c.cell, x, F);
      EXPECT_LE(difference(V, product(expected, F)), 1e-12 * scale) << c.name << " n=" << n;
      Values D(x.size());
      mlcore::reference::mobility_divergence(c.model, c.cell, vectors(x), {D.data(), {n, 3}});
      EXPECT_LE(difference(divergence(c.model, c.cell, x), D), 1e-12 * (1 + largest(D)));
      const Values M = matrix(c.model, c.cell, x);
      for (int p = 0; p < 3 * n; ++p) {
        for (int q = 0; q < p; ++q) EXPECT_EQ(M[p * 3 * n + q], M[q * 3 * n + p]) << c.name;
      }
    }
  }
}

// Several tiles, several blocks, and a last one that is not full.
TEST(Mobility, ManyTilesMatchTheMatrix) {
  for (int n : {257, 513, 1100, 4000}) {
    Values x = random_vectors(n, 40, 5);
    for (int i = 0; i < n; ++i) x[3 * i + 2] += 1.1;
    const Values F = random_vectors(n, 1, 6);
    Values radii(n, 1.1);
    for (int i = 0; i < n; i += 3) radii[i] = 0.3;
    MobilityModel mixed = rpy();
    mixed.radii = {radii.data(), {n}};
    for (const MobilityModel& model : {rpy(), oseen(), regularized(), wall(), mixed}) {
      const Values V = apply(model, Cell::open(), x, F);
      EXPECT_EQ(V, apply(model, Cell::open(), x, F, 2));
      EXPECT_EQ(V, apply(model, Cell::open(), x, F, 7));
      if (n > 600 && model.kernel != Kernel::rpy) continue;
      if (n > 2000) continue;
      const Values M = matrix(model, Cell::open(), x);
      EXPECT_LE(difference(V, product(M, F)), 1e-12 * largest(V)) << n;
    }
  }
}

TEST(Mobility, SinglePrecisionIsCloseToDouble) {
  for (int n : {1, 15, 16, 17, 70, 600}) {
    const std::vector<float> x = narrow(above_wall(n)), F = narrow(random_vectors(n, 1, 4));
    std::vector<Case> all = n <= 100 ? open_cases(n) : std::vector<Case>{};
    all.push_back({"rpy", rpy(), Cell::open()});
    all.push_back({"oseen", oseen(), Cell::open()});
    all.push_back({"periodic", rpy(), Cell::cubic(14)});
    const std::int64_t m = 3 * n;
    for (const Case& c : all) {
      if (n > 100 && !c.cell.is_open()) continue;
      std::vector<float> M(m * m), V(m);
      const mlcore::View<const float, 2> xs(x.data(), {n, 3}), Fs(F.data(), {n, 3});
      mlcore::mobility_matrix(Context{1}, c.model, c.cell, xs, {M.data(), {m, m}});
      mlcore::mobility_apply(Context{1}, c.model, c.cell, xs, Fs, {V.data(), {n, 3}});
      const Values exact = matrix(c.model, c.cell, wide(x));
      Values sizes = exact, force = wide(F);
      for (double& v : sizes) v = std::fabs(v);
      EXPECT_LE(difference(wide(M), exact), 1e-6 * largest(exact)) << c.name << n;
      const double scale = largest(product(sizes, force));
      EXPECT_LE(difference(wide(V), product(exact, force)), 1e-6 * scale) << c.name << n;
    }
  }
}

TEST(Mobility, UnequalRadiiBecomeEqualOnes) {
  const int n = 30;
  const Values x = random_vectors(n, 8, 9), radii(n, 1.1);
  MobilityModel model = rpy();
  model.radii = {radii.data(), {n}};
  const Values M = matrix(rpy(), Cell::open(), x);
  EXPECT_LE(difference(matrix(model, Cell::open(), x), M), 1e-14 * largest(M));
}

TEST(Mobility, IsExactlySymmetric) {
  for (const Case& c : cases()) {
    const Values M = matrix(c.model, c.cell, random_vectors(17, 14, 5));
    for (int p = 0; p < 51; ++p) {
      for (int q = 0; q < p; ++q) EXPECT_EQ(M[p * 51 + q], M[q * 51 + p]) << c.name;
    }
  }
}

TEST(Mobility, DoesNotDependOnThreads) {
  for (const Case& c : cases()) {
    const Values x = random_vectors(77, 14, 6), F = random_vectors(77, 1, 7);
    const Values M = matrix(c.model, c.cell, x), V = apply(c.model, c.cell, x, F);
    for (int threads : {2, 7}) {
      EXPECT_EQ(matrix(c.model, c.cell, x, threads), M) << c.name;
      EXPECT_EQ(apply(c.model, c.cell, x, F, threads), V) << c.name;
      EXPECT_EQ(divergence(c.model, c.cell, x, threads), divergence(c.model, c.cell, x)) << c.name;
    }
  }
}

TEST(Mobility, DoesNotDependOnTheSplitting) {
  for (MobilityModel model : {rpy(), oseen()}) {
    model.tolerance = 1e-12;
    const Values x = random_vectors(6, 14, 8), F = random_vectors(6, 1, 9);
    const Values M = matrix(model, triclinic(), x);
    for (double xi : {0.2, 0.35, 0.6, 0.9}) {
      model.splitting = xi;
      EXPECT_LE(difference(matrix(model, triclinic(), x), M), 1e-12 * largest(M)) << xi;
      EXPECT_LE(difference(apply(model, triclinic(), x, F), product(M, F)), 1e-11 * largest(M));
      EXPECT_LE(difference(reference_matrix(model, triclinic(), x), M), 1e-12 * largest(M)) << xi;
    }
  }
}

TEST(Mobility, KeepsTheToleranceItPromises) {
  const Values x = random_vectors(9, 14, 10);
  MobilityModel model = rpy();
  const Values exact = reference_matrix(model, triclinic(), x);
  const double stokes = 1 / (6 * std::numbers::pi * model.radius * model.viscosity);
  for (double tolerance : {1e-3, 1e-6, 1e-9, 1e-13}) {
    model.tolerance = tolerance;
    EXPECT_LE(difference(matrix(model, triclinic(), x), exact), (tolerance + 1e-15) * stokes);
  }
}

// Hasimoto (1959): mu / mu_0 = 1 - 2.837297 a/L + (4 pi / 3) (a/L)^3 for the RPY tensor.
TEST(Mobility, SelfPartOfACubeFollowsHasimoto) {
  const double mu0 = 1 / (6 * std::numbers::pi * 2.497 * 2);
  const Values M = matrix(rpy(2, 2.497), Cell::cubic(24), {5, -7, 100});
  const double z = 2.0 / 24;
  EXPECT_NEAR(M[0] / mu0, 1 - 2.837297479 * z + 4 * std::numbers::pi / 3 * z * z * z, 1e-9);
  EXPECT_NEAR(M[0], 8.14e-3, 0.01e-3);
  EXPECT_NEAR(M[1], 0, 1e-14);
}

TEST(Mobility, IsContinuousWhereSpheresTouch) {
  const MobilityModel model = rpy(1, 1);
  for (const Cell& cell : {Cell::open(), Cell::cubic(11)}) {
    const Values below = matrix(model, cell, {0, 0, 0, 2 - 1e-12, 0, 0});
    const Values above = matrix(model, cell, {0, 0, 0, 2 + 1e-12, 0, 0});
    EXPECT_LE(difference(below, above), 1e-12);
  }
}

TEST(Mobility, CoincidentSpheresMoveAsOne) {
  for (const Cell& cell : {Cell::open(), Cell::cubic(11), triclinic()}) {
    const Values M = matrix(rpy(), cell, {1, 2, 3, 1, 2, 3});
    for (int a = 0; a < 3; ++a) {
      for (int b = 0; b < 3; ++b) EXPECT_NEAR(M[6 * a + b], M[6 * a + 3 + b], 1e-14);
    }
    const Values near = matrix(rpy(), cell, {1, 2, 3, 1, 2 + 1e-7, 3});
    EXPECT_LE(difference(near, M), 1e-7);
  }
}

TEST(Mobility, BatchesAreIndependent) {
  const int n = 9;
  const Values x = random_vectors(3 * n, 14, 11), F = random_vectors(3 * n, 1, 12);
  for (const Case& c : cases()) {
    Values M(3 * 9 * n * n), V(9 * n), D(9 * n);
    mlcore::mobility_matrix(Context{2}, c.model, c.cell, {x.data(), {3, n, 3}},
                            {M.data(), {3, 3 * n, 3 * n}});
    mlcore::mobility_apply(Context{2}, c.model, c.cell, {x.data(), {3, n, 3}},
                           {F.data(), {3, n, 3}}, {V.data(), {3, n, 3}});
    mlcore::mobility_divergence(Context{2}, c.model, c.cell, {x.data(), {3, n, 3}},
                                {D.data(), {3, n, 3}});
    for (int b = 0; b < 3; ++b) {
      const Values xb(x.begin() + 3 * n * b, x.begin() + 3 * n * (b + 1));
      const Values Fb(F.begin() + 3 * n * b, F.begin() + 3 * n * (b + 1));
      EXPECT_EQ(matrix(c.model, c.cell, xb),
                Values(M.begin() + 9 * n * n * b, M.begin() + 9 * n * n * (b + 1)));
      EXPECT_EQ(apply(c.model, c.cell, xb, Fb),
                Values(V.begin() + 3 * n * b, V.begin() + 3 * n * (b + 1)));
      EXPECT_EQ(divergence(c.model, c.cell, xb),
                Values(D.begin() + 3 * n * b, D.begin() + 3 * n * (b + 1)));
    }
  }
}

TEST(Mobility, OnlyTheSelfPart) {
  MobilityModel model;
  model.self = 0.3;
  const Values x = random_vectors(9, 5), F = random_vectors(9, 1, 2);
  for (const Cell& cell : {Cell::open(), Cell::cubic(4)}) {
    const Values M = matrix(model, cell, x), V = apply(model, cell, x, F);
    for (int p = 0; p < 27; ++p) {
      for (int q = 0; q < 27; ++q) EXPECT_EQ(M[p * 27 + q], p == q ? 0.3 : 0.0);
      EXPECT_EQ(V[p], 0.3 * F[p]);
    }
    EXPECT_EQ(largest(divergence(model, cell, x)), 0);
  }
}

TEST(Mobility, RejectsWhatItCannotDo) {
  const Values x = random_vectors(4, 5);
  const Cell slab = {{7, 0, 0, 0, 7, 0, 0, 0, 7}, {true, false, true}};
  EXPECT_THROW(matrix(rpy(), slab, x), mlcore::InvalidArgument);
  EXPECT_THROW(matrix(rpy(0), Cell::open(), x), mlcore::InvalidArgument);
  EXPECT_THROW(matrix(rpy(1, -1), Cell::open(), x), mlcore::InvalidArgument);
  EXPECT_THROW(matrix(rpy(), Cell::cubic(0), x), mlcore::InvalidArgument);
  EXPECT_THROW(matrix(oseen(), Cell::open(), {1, 2, 3, 4, 5, 6, 1, 2, 3}), mlcore::InvalidArgument);
  Values bad = x;
  bad[5] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(matrix(rpy(), Cell::open(), bad), mlcore::InvalidArgument);
  EXPECT_THROW(apply(rpy(), Cell::open(), x, bad), mlcore::InvalidArgument);
  bad[5] = std::numeric_limits<double>::infinity();
  EXPECT_THROW(divergence(rpy(), Cell::open(), bad), mlcore::InvalidArgument);
  Values low = above_wall(4), radii(4, 1.0);
  radii[3] = -1;
  low[8] = 1.09;
  EXPECT_THROW(matrix(wall(), Cell::open(), low), mlcore::InvalidArgument);
  EXPECT_THROW(apply(wall(), Cell::open(), low, x), mlcore::InvalidArgument);
  EXPECT_THROW(divergence(wall(), Cell::open(), low), mlcore::InvalidArgument);
  EXPECT_THROW(matrix(wall(), Cell::cubic(20), x), mlcore::InvalidArgument);
  EXPECT_THROW(matrix(regularized(), Cell::cubic(20), x), mlcore::InvalidArgument);
  EXPECT_THROW(
      apply(oseen(), Cell::open(), {1, 2, 3, 4, 5, 6, 1, 2, 3}, {1, 0, 0, 1, 0, 0, 0, 0, 0}),
      mlcore::InvalidArgument);
  MobilityModel mixed = rpy();
  mixed.radii = {radii.data(), {3}};
  EXPECT_THROW(matrix(mixed, Cell::open(), x), mlcore::InvalidArgument);
  mixed.radii = {radii.data(), {4}};
  EXPECT_THROW(matrix(mixed, Cell::cubic(20), x), mlcore::InvalidArgument);
  mixed.kernel = Kernel::oseen;
  EXPECT_THROW(matrix(mixed, Cell::open(), x), mlcore::InvalidArgument);
  Values M(143);
  EXPECT_THROW(mlcore::mobility_matrix({}, rpy(), Cell::open(), vectors(x), {M.data(), {11, 13}}),
               mlcore::InvalidArgument);
  MobilityModel model;
  model.table = shared_table().view();
  model.table.dperp.shape[0] -= 1;
  EXPECT_THROW(matrix(model, Cell::open(), x), mlcore::InvalidArgument);
}

/// 40 particles of which 21 and 33 lie `r` apart, and many share coordinates.
Values nearly_coinciding(double r) {
  Values x(3 * 40);
  for (int i = 0; i < 40; ++i) {
    x[3 * i] = i % 3;
    x[3 * i + 1] = 1 + (i / 3) % 4;
    x[3 * i + 2] = 1 + i / 12;  // NOLINT(bugprone-integer-division)
  }
  for (int i : {21, 33}) x[3 * i] = x[3 * i + 1] = x[3 * i + 2] = 0;
  x[3 * 33 + 1] = -r;
  return x;
}

template <class Call>
void expect_coincidence(const Call& call, const std::string& what) {
  try {
    call();
    ADD_FAILURE() << what << " throws nothing";
  } catch (const mlcore::InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("particles 21 and 33 coincide"), std::string::npos)
        << what << ": " << error.what();
  }
}

TEST(Mobility, OseenRefusesParticlesThatAllButCoincide) {
  MobilityModel with_table = oseen();
  with_table.table = shared_table().view();
  const Values F = random_vectors(40, 1, 8);
  for (double r : {0.0, 1e-300, 1e-150, 1e-110, 1e-60, 9e-41}) {
    const Values x = nearly_coinciding(r);
    for (const MobilityModel& model : {oseen(), with_table}) {
      for (const Cell& cell : {Cell::open(), Cell::cubic(20), triclinic()}) {
        expect_coincidence([&] { matrix(model, cell, x); }, "matrix");
        expect_coincidence([&] { apply(model, cell, x, F); }, "apply");
        expect_coincidence([&] { divergence(model, cell, x); }, "divergence");
      }
    }
  }
  for (double r : {1.1e-40, 1e-20}) {
    const Values x = nearly_coinciding(r);
    const double scale = 1 / r;  // K_self = 1 / (6 pi 0.7 1.1)
    for (const Cell& cell : {Cell::open(), Cell::cubic(20)}) {
      const Values M = matrix(oseen(), cell, x);
      EXPECT_NEAR(M[(3 * 21 + 1) * 120 + 3 * 33 + 1], scale / (4 * std::numbers::pi * 0.7),
                  1e-9 * scale);
      EXPECT_TRUE(std::isfinite(largest(apply(oseen(), cell, x, F))));
      EXPECT_EQ(largest(divergence(oseen(), cell, x)), 0);
    }
  }
}

TEST(Mobility, OseenInSinglePrecisionRefusesParticlesThatAllButCoincide) {
  for (double r : {0.0, 1e-30, 9e-10}) {
    const std::vector<float> x = narrow(nearly_coinciding(r));
    std::vector<float> M(120 * 120), V(120);
    const mlcore::View<const float, 2> at(x.data(), {40, 3});
    const mlcore::View<float, 2> out(V.data(), {40, 3});
    expect_coincidence(
        [&] { mlcore::mobility_matrix({}, oseen(), Cell::open(), at, {M.data(), {120, 120}}); },
        "matrix");
    expect_coincidence([&] { mlcore::mobility_apply({}, oseen(), Cell::open(), at, at, out); },
                       "apply");
    expect_coincidence([&] { mlcore::mobility_divergence({}, oseen(), Cell::open(), at, out); },
                       "divergence");
  }
  std::vector<float> x = narrow(nearly_coinciding(2e-9)), V(120, NAN);
  const mlcore::View<const float, 2> at(x.data(), {40, 3});
  mlcore::mobility_apply({}, oseen(), Cell::open(), at, at, {V.data(), {40, 3}});
  EXPECT_TRUE(std::isfinite(largest(wide(V))));
}

TEST(Mobility, GpuViewsNeedADevice) {
  if (mlcore::cuda_status().devices > 0) GTEST_SKIP() << "there is a device";
  double values[3] = {};
  const mlcore::View<const double, 2> x(values, {1, 3}, mlcore::Device::cuda);
  const mlcore::View<double, 2> V(values, {1, 3}, mlcore::Device::cuda);
  EXPECT_THROW(mlcore::mobility_apply({}, rpy(), Cell::open(), x, x, V),
               mlcore::BackendUnavailable);
  const mlcore::View<double, 2> host(values, {1, 3});
  EXPECT_THROW(mlcore::mobility_apply({}, rpy(), Cell::open(), x, x, host),
               mlcore::InvalidArgument);
}

}  // namespace
