#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "mobility_cases.hpp"

namespace {

using namespace mobility_cases;  // NOLINT(google-build-using-namespace)

constexpr int kParticles = 11;
constexpr std::int64_t kN = kParticles;

mlcore::View<const double, 3> batch(const Values& v) {
  return {v.data(), {1, static_cast<std::int64_t>(v.size() / 3), 3}};
}

mlcore::View<double, 3> batch(Values& v) {
  return {v.data(), {1, static_cast<std::int64_t>(v.size() / 3), 3}};
}

double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

/// Everything a backward call can give.
struct Gradients {
  Values x, radius, viscosity, self, par, dpar, perp, dperp;

  Gradients(const MobilityModel& model, int n)
      : x(3 * n, -7),
        radius(model.radii.empty() ? 1 : n, -7),
        viscosity(1, -7),
        self(1, -7),
        par(model.table.par.size(), -7),
        dpar(par),
        perp(par),
        dperp(par) {}

  mlcore::MobilityGradients view() {
    const auto column = [](Values& v) {
      return mlcore::View<double, 1>(v.data(), {static_cast<std::int64_t>(v.size())});
    };
    return {batch(x),    column(radius), column(viscosity), column(self),
            column(par), column(dpar),   column(perp),      column(dperp)};
  }
};

std::vector<Case> all_cases() {
  std::vector<Case> all = cases();
  for (const Case& c : open_cases(kParticles)) all.push_back(c);
  for (Case& c : all) c.model.tolerance = 1e-13;
  return all;
}

Gradients apply_backward(const Case& c, const Values& x, const Values& F, const Values& G,
                         int threads = 1) {
  Gradients g(c.model, static_cast<int>(x.size() / 3));
  mlcore::mobility_apply_backward(Context{threads}, c.model, c.cell, batch(x), batch(F), batch(G),
                                  g.view());
  return g;
}

/// Central difference of fourth order.
double slope(const std::function<double(double)>& f, double h) {
  return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
}

class MobilityGradient : public testing::TestWithParam<int> {
 protected:
  MobilityGradient() : c(all_cases()[GetParam()]), x(above_wall(kParticles, 31)) {
    if (c.model.kernel == Kernel::rpy_wall) {
      for (int i = 0; i < kParticles; ++i) x[3 * i + 2] += 0.1;
    }
  }
  Case c;
  Values x, F = random_vectors(kParticles, 1, 32), G = random_vectors(kParticles, 1, 33);

  double value(const MobilityModel& model, const Values& at) const {
    return dot(G, apply(model, c.cell, at, F));
  }
};

TEST_P(MobilityGradient, PositionsByFiniteDifferences) {
  const Gradients g = apply_backward(c, x, F, G);
  const double scale = largest(g.x);
  for (std::size_t k = 0; k < x.size(); ++k) {
    const auto moved = [&](double h) {
      Values y = x;
      y[k] += h;
      return value(c.model, y);
    };
    EXPECT_NEAR(g.x[k], slope(moved, 1e-3), 2e-7 * scale) << c.name << " " << k;
  }
}

TEST_P(MobilityGradient, ParametersByFiniteDifferences) {
  const Gradients g = apply_backward(c, x, F, G);
  const double scale = std::fabs(value(c.model, x)) + 1;
  EXPECT_NEAR(g.self[0], dot(F, G), 1e-12 * scale);
  const auto with_viscosity = [&](double h) {
    MobilityModel model = c.model;
    model.viscosity += h;
    return value(model, x);
  };
  if (c.model.kernel == Kernel::none) {
    EXPECT_EQ(g.viscosity[0], 0);
    EXPECT_EQ(g.radius[0], 0);
  } else {
    EXPECT_NEAR(g.viscosity[0], slope(with_viscosity, 1e-3), 1e-8 * scale) << c.name;
  }
  if (c.model.kernel == Kernel::none) return;
  for (std::size_t k = 0; k < g.radius.size(); ++k) {
    Values radii(c.model.radii.begin(), c.model.radii.end());
    const auto with_radius = [&](double h) {
      MobilityModel model = c.model;
      Values changed = radii;
      if (radii.empty()) {
        model.radius += h;
      } else {
        changed[k] += h;
        model.radii.data = changed.data();
      }
      // One splitting for all radii: the tails of the sums must not move.
      if (!c.cell.is_open()) model.splitting = 0.5;
      return value(model, x);
    };
    EXPECT_NEAR(g.radius[k], slope(with_radius, 1e-3), 1e-7 * scale) << c.name << " " << k;
  }
}

TEST_P(MobilityGradient, TablesByTheirLinearity) {
  if (c.model.table.cutoff == 0) GTEST_SKIP() << "no table";
  const Gradients g = apply_backward(c, x, F, G);
  const mlcore::PairTable& t = c.model.table;
  const Values* slopes[4] = {&g.par, &g.dpar, &g.perp, &g.dperp};
  const mlcore::View<const double, 1> columns[4] = {t.par, t.dpar, t.perp, t.dperp};
  for (int column = 0; column < 4; ++column) {
    for (std::int64_t k = 0; k < t.par.shape[0]; k += 7) {
      Values changed(columns[column].begin(), columns[column].end());
      changed[k] += 1;
      MobilityModel model = c.model;
      mlcore::View<const double, 1>* to[4] = {&model.table.par, &model.table.dpar,
                                              &model.table.perp, &model.table.dperp};
      to[column]->data = changed.data();
      EXPECT_NEAR((*slopes[column])[k], value(model, x) - value(c.model, x), 1e-10)
          << c.name << " " << column << " " << k;
    }
  }
}

TEST_P(MobilityGradient, MatrixAndApplyAgree) {
  Values C(9 * kN * kN);
  for (std::int64_t p = 0; p < 3 * kN; ++p) {
    for (std::int64_t q = 0; q < 3 * kN; ++q) C[3 * kN * p + q] = G[p] * F[q];
  }
  Gradients g(c.model, kParticles);
  mlcore::mobility_matrix_backward(Context{1}, c.model, c.cell, batch(x),
                                   {C.data(), {1, 3 * kN, 3 * kN}}, g.view());
  const Gradients expected = apply_backward(c, x, F, G);
  EXPECT_LE(difference(g.x, expected.x), 1e-11 * largest(expected.x)) << c.name;
  EXPECT_LE(difference(g.radius, expected.radius), 1e-11 * (1 + largest(expected.radius)));
  EXPECT_NEAR(g.viscosity[0], expected.viscosity[0], 1e-11 * (1 + largest(expected.viscosity)));
  EXPECT_NEAR(g.self[0], expected.self[0], 1e-12);
  EXPECT_LE(difference(g.par, expected.par), 1e-12);
  EXPECT_LE(difference(g.dperp, expected.dperp), 1e-12);
}

TEST_P(MobilityGradient, SecondDerivativesByFiniteDifferences) {
  const Values H = random_vectors(kParticles, 1, 34);
  Values dV(x.size(), -7), dX(x.size(), -7);
  mlcore::mobility_apply_tangent({1}, c.model, c.cell, batch(x), batch(F), batch(H), batch(dV));
  mlcore::mobility_apply_hessian({1}, c.model, c.cell, batch(x), batch(F), batch(G), batch(H),
                                 batch(dX));
  const auto moved = [&](double h) {
    Values y = x;
    for (std::size_t k = 0; k < x.size(); ++k) y[k] += h * H[k];
    return y;
  };
  // The Hermite table has jumps in its second derivative: small steps.
  const double step = c.model.table.cutoff > 0 ? 1e-5 : 1e-3;
  for (std::size_t k = 0; k < x.size(); k += 4) {
    const auto velocity = [&](double h) { return apply(c.model, c.cell, moved(h), F)[k]; };
    const auto gradient = [&](double h) { return apply_backward(c, moved(h), F, G).x[k]; };
    EXPECT_NEAR(dV[k], slope(velocity, step), 1e-6 * largest(dV)) << c.name << " " << k;
    EXPECT_NEAR(dX[k], slope(gradient, step), 1e-6 * largest(dX)) << c.name << " " << k;
  }
}

TEST_P(MobilityGradient, DoesNotDependOnThreads) {
  const Gradients one = apply_backward(c, x, F, G);
  for (int threads : {2, 7}) {
    const Gradients some = apply_backward(c, x, F, G, threads);
    EXPECT_EQ(one.x, some.x);
    EXPECT_EQ(one.radius, some.radius);
    EXPECT_EQ(one.viscosity, some.viscosity);
    EXPECT_EQ(one.par, some.par);
  }
}

INSTANTIATE_TEST_SUITE_P(All, MobilityGradient,
                         testing::Range(0, static_cast<int>(all_cases().size())));

TEST(MobilityGradients, BatchesAddUpInTheParameters) {
  const Case c{"rpy", rpy(), Cell::open()};
  const Values x = above_wall(2 * kParticles, 41), F = random_vectors(2 * kParticles, 1, 42);
  Gradients both(c.model, 2 * kParticles);
  mlcore::MobilityGradients to = both.view();
  to.x.shape = {2, kN, 3};
  mlcore::mobility_apply_backward({2}, c.model, c.cell, {x.data(), {2, kN, 3}},
                                  {F.data(), {2, kN, 3}}, {F.data(), {2, kN, 3}}, to);
  double radius = 0;
  for (int b = 0; b < 2; ++b) {
    const auto part = [&](const Values& v) {
      return Values(v.begin() + 3 * kN * b, v.begin() + 3 * kN * (b + 1));
    };
    const Gradients one = apply_backward(c, part(x), part(F), part(F));
    EXPECT_EQ(part(both.x), one.x);
    radius += one.radius[0];
  }
  EXPECT_EQ(both.radius[0], radius);
}

TEST(MobilityGradients, OseenRefusesParticlesThatAllButCoincide) {
  const Values F = random_vectors(2, 1, 8), H = random_vectors(2, 1, 9), C = random_vectors(12, 1);
  const mlcore::View<const double, 3> matrix(C.data(), {1, 6, 6});
  for (const Cell& cell : {Cell::open(), Cell::cubic(20)}) {
    const Case c{"oseen", oseen(), cell};
    const auto all = [&](const Values& x) {
      Values to = apply_backward(c, x, F, H).x;
      Gradients g(c.model, 2);
      mlcore::mobility_matrix_backward({}, c.model, cell, batch(x), matrix, g.view());
      Values out(6, NAN);
      mlcore::mobility_apply_tangent({}, c.model, cell, batch(x), batch(F), batch(H), batch(out));
      to.insert(to.end(), g.x.begin(), g.x.end());
      to.insert(to.end(), out.begin(), out.end());
      mlcore::mobility_apply_hessian({}, c.model, cell, batch(x), batch(F), batch(H), batch(F),
                                     batch(out));
      to.insert(to.end(), out.begin(), out.end());
      return to;
    };
    for (double r : {0.0, 1e-150, 1e-110, 1e-60, 9e-41}) {
      const Values x = {0, 0, 0, 0, r, 0};
      EXPECT_THROW(all(x), mlcore::InvalidArgument) << r;
      Gradients g(c.model, 2);
      Values out(6);
      EXPECT_THROW(apply_backward(c, x, F, H), mlcore::InvalidArgument);
      EXPECT_THROW(mlcore::mobility_matrix_backward({}, c.model, cell, batch(x), matrix, g.view()),
                   mlcore::InvalidArgument);
      EXPECT_THROW(mlcore::mobility_apply_tangent({}, c.model, cell, batch(x), batch(F), batch(H),
                                                  batch(out)),
                   mlcore::InvalidArgument);
      EXPECT_THROW(mlcore::mobility_apply_hessian({}, c.model, cell, batch(x), batch(F), batch(H),
                                                  batch(F), batch(out)),
                   mlcore::InvalidArgument);
    }
    for (double v : all({0, 0, 0, 0, 1.1e-40, 0})) EXPECT_TRUE(std::isfinite(v));
  }
}

TEST(MobilityGradients, EdgesAndErrors) {
  const Case c{"rpy", rpy(), Cell::open()};
  EXPECT_EQ(apply_backward(c, {}, {}, {}).radius[0], 0);
  EXPECT_EQ(apply_backward(c, {1, 2, 3}, {1, 0, 0}, {1, 0, 0}).x, Values(3, 0.0));
  // Coinciding spheres: the force between them has no direction.
  const Gradients same = apply_backward(c, {1, 2, 3, 1, 2, 3}, Values(6, 1.0), Values(6, 1.0));
  EXPECT_EQ(same.x, Values(6, 0.0));
  double value = 1;
  const mlcore::View<const double, 3> gpu(&value, {1, 1, 3}, mlcore::Device::cuda);
  EXPECT_THROW(mlcore::mobility_apply_backward({}, c.model, c.cell, gpu, gpu, gpu, {}),
               mlcore::BackendUnavailable);
  EXPECT_THROW(apply_backward(c, {1, 2, 3}, {1, 0}, {1, 0, 0}), mlcore::InvalidArgument);
  EXPECT_THROW(apply_backward(c, {1, 2, NAN}, {1, 0, 0}, {1, 0, 0}), mlcore::InvalidArgument);
  EXPECT_THROW(apply_backward(c, {1, 2, 3}, {1, 0, 0}, {1, INFINITY, 0}), mlcore::InvalidArgument);
}

}  // namespace
