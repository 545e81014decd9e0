#include "mlcore/potentials.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#define MLCORE_ISA unit_tests
#include "kernels/elementary.hpp"
#include "mlcore/reference/potentials.hpp"

namespace {

namespace kernels = mlcore::kernels::unit_tests;
using mlcore::InvalidArgument;
using mlcore::PotentialCandidates;
using mlcore::PotentialForm;
using mlcore::PotentialModel;
using mlcore::PotentialResults;
using mlcore::PotentialStructures;

double noise(int k) { return std::sin(1.7 * k + 0.3 * (k % 5)) * std::cos(0.013 * k); }

// ------------------------------------------------------------------------------------ functions

/// Largest error of f in units of the last place of g, over first..last.
template <class F, class G>
double error(double first, double last, F f, G g) {
  double worst = 0;
  for (int k = 0; k <= 200000; ++k) {
    const double x = first + (last - first) * k / 200000;
    const double y = f(kernels::all(x))[0];
    const long double want = g(static_cast<long double>(x));
    const double size = std::fabs(static_cast<double>(want));
    const double ulp = std::nextafter(size, INFINITY) - size;
    worst = std::max(worst, static_cast<double>(std::fabs(y - want)) / ulp);
  }
  return worst;
}

TEST(Elementary, AreRightToTheLastPlaces) {
  const auto e = [](auto x) { return kernels::exponential(x); };
  const auto l = [](auto x) { return kernels::logarithm(x); };
  const auto l1 = [](auto x) { return kernels::logarithm_of_one_plus(x); };
  const auto s = [](auto x) { return kernels::sine(x); };
  const auto c = [](auto x) { return kernels::cosine(x); };
  EXPECT_LE(error(-700, 700, e, [](long double x) { return std::exp(x); }), 1.5);
  EXPECT_LE(error(-0.5, 0.5, e, [](long double x) { return std::exp(x); }), 1.5);
  EXPECT_LE(error(1e-3, 3, l, [](long double x) { return std::log(x); }), 2);
  EXPECT_LE(error(1e-300, 1e300, l, [](long double x) { return std::log(x); }), 1.5);
  EXPECT_LE(error(0, 1, l1, [](long double x) { return std::log1p(x); }), 2.5);
  EXPECT_LE(error(0, 1e20, l1, [](long double x) { return std::log1p(x); }), 2);
  EXPECT_LE(error(0, 1.5707963, s, [](long double x) { return std::sin(x); }), 2);
  EXPECT_LE(error(0, 1.5707963, c, [](long double x) { return std::cos(x); }), 2);
}

TEST(Elementary, EdgesStayFinite) {
  const double nan = std::nan(""), infinity = INFINITY;
  EXPECT_TRUE(std::isnan(kernels::exponential(kernels::all(nan))[0]));
  EXPECT_TRUE(std::isnan(kernels::logarithm(kernels::all(nan))[0]));
  EXPECT_TRUE(std::isnan(kernels::logarithm(kernels::all(-1.0))[0]));
  EXPECT_NEAR(kernels::logarithm(kernels::all(0.0))[0], -709, 1);
  EXPECT_NEAR(kernels::logarithm(kernels::all(infinity))[0], 709, 1);
  EXPECT_GT(kernels::exponential(kernels::all(-infinity))[0], 0);
  EXPECT_LT(kernels::exponential(kernels::all(-infinity))[0], 1e-300);
  EXPECT_TRUE(std::isfinite(kernels::exponential(kernels::all(1e9))[0]));
}

// ----------------------------------------------------------------------------------- structures

/// Clusters of several sizes, two species, all pairs within the cutoff neighbors.
struct Clusters {
  explicit Clusters(double cutoff) {
    starts.push_back(0);
    for (int size : {1, 2, 7, 0, 12}) {
      const int first = static_cast<int>(x.size() / 3);
      for (int k = 0; k < size; ++k) {
        const int site[] = {k % 2, k / 2 % 3, k / 6};
        for (int a = 0; a < 3; ++a) {
          x.push_back(2.4 * site[a] + 0.25 * noise(static_cast<int>(x.size())));
        }
        species.push_back(k % 3 == 0 ? 1 : 0);
      }
      starts.push_back(first + size);
    }
    offsets.push_back(0);
    for (std::size_t s = 0; s + 1 < starts.size(); ++s) {
      for (std::int64_t i = starts[s]; i < starts[s + 1]; ++i) add(i, s, cutoff);
    }
    volumes.assign(starts.size() - 1, 100.0);
    view.starts = {starts.data(), {static_cast<std::int64_t>(starts.size())}};
    view.species = {species.data(), {static_cast<std::int64_t>(species.size())}};
    view.offsets = {offsets.data(), {static_cast<std::int64_t>(offsets.size())}};
    view.columns = {columns.data(), {static_cast<std::int64_t>(columns.size())}};
    view.vectors = {vectors.data(), {static_cast<std::int64_t>(columns.size()), 3}};
    view.volumes = {volumes.data(), {static_cast<std::int64_t>(volumes.size())}};
    view.cutoff = cutoff;
  }

  void add(std::int64_t i, std::size_t s, double cutoff) {
    for (std::int64_t j = starts[s]; j < starts[s + 1]; ++j) {
      double d[3], square = 0;
      for (int a = 0; a < 3; ++a) {
        d[a] = x[3 * j + a] - x[3 * i + a];
        square += d[a] * d[a];
      }
      if (i == j || square >= cutoff * cutoff) continue;
      columns.push_back(static_cast<std::int32_t>(j));
      vectors.insert(vectors.end(), d, d + 3);
    }
    offsets.push_back(static_cast<std::int64_t>(columns.size()));
  }

  std::vector<double> x, vectors, volumes;
  std::vector<std::int64_t> starts, offsets;
  std::vector<std::int32_t> species, columns;
  PotentialStructures view;
};

struct Case {
  std::string name;
  PotentialModel model;
  std::vector<double> typical;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const auto add = [&](const char* name, PotentialForm form, std::vector<double> typical) {
    PotentialModel model;
    model.form = form;
    model.species = 2;
    all.push_back({name, model, typical});
  };
  add("lj", PotentialForm::lj, {0.3, 2.2, 4.0});
  add("morse", PotentialForm::morse, {1.0, 1.4, 2.4, 4.0});
  add("buckingham", PotentialForm::buckingham, {900, 0.3, 9, 4.0});
  add("sw", PotentialForm::stillinger_weber, {2.1, 2.1, 1.8, 21, 1.2, -0.33, 7, 0.6, 4, 0.2});
  add("tersoff", PotentialForm::tersoff,
      {3, 1, 0.8, 1e5, 16, -0.6, 0.79, 1.1e-6, 1.7, 471, 2.85, 0.3, 2.5, 1830});
  all[0].model.shift = true;
  return all;
}

/// C candidates about the typical one, m of Tersoff as it is.
std::vector<double> candidates_of(const Case& c, std::int64_t count) {
  const std::int64_t P = mlcore::potential_parameters(c.model);
  const auto columns = static_cast<std::int64_t>(c.typical.size());
  std::vector<double> values(count * P);
  for (std::int64_t k = 0; k < count * P; ++k) {
    const bool fixed = c.model.form == PotentialForm::tersoff && k % columns == 0;
    values[k] = c.typical[k % columns] * (fixed ? 1 : 1 + 0.04 * noise(static_cast<int>(k)));
  }
  return values;
}

/// Arrays for the results of a call.
struct Arrays {
  Arrays(std::int64_t C, std::int64_t M, std::int64_t N, std::int64_t Q = 0)
      : energies(C * M, 7),
        forces(C * N * 3, 7),
        stress(C * M * 6, 7),
        d_energies(C * M * Q),
        d_forces(C * N * 3 * Q) {
    view.energies = {energies.data(), {C, M}};
    view.forces = {forces.data(), {C, N, 3}};
    view.stress = {stress.data(), {C, M, 6}};
    if (Q > 0) {
      view.d_energies = {d_energies.data(), {C, M, Q}};
      view.d_forces = {d_forces.data(), {C, N, 3, Q}};
    }
  }

  std::vector<double> energies, forces, stress, d_energies, d_forces;
  PotentialResults view;
};

void expect_close(const std::vector<double>& got, const std::vector<double>& want,
                  const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  double size = 1, worst = 0;
  for (double value : want) size = std::max(size, std::fabs(value));
  for (std::size_t k = 0; k < got.size(); ++k) {
    worst = std::max(worst, std::fabs(got[k] - want[k]));
    if (std::isnan(got[k])) worst = INFINITY;
  }
  EXPECT_LE(worst, 1e-11 * size) << what;
}

TEST(Potentials, AreThoseOfTheOracle) {
  const Clusters clusters(5.0);
  const auto M = clusters.view.volumes.shape[0], N = clusters.view.species.shape[0];
  for (const Case& c : cases()) {
    for (std::int64_t C : {1, 9}) {
      const std::vector<double> values = candidates_of(c, C);
      std::vector<double> F(C * 9), u(C * N * 3);
      for (std::int64_t k = 0; k < C * 9; ++k) {
        F[k] = (k % 9 % 4 == 0 ? 1 : 0) + 0.03 * noise(static_cast<int>(k));
      }
      for (std::size_t k = 0; k < u.size(); ++k) u[k] = 0.05 * noise(static_cast<int>(k) + 9);
      PotentialCandidates candidates;
      candidates.parameters = {values.data(), {C, mlcore::potential_parameters(c.model)}};
      if (C > 1) {
        candidates.deformation = {F.data(), {C, 1, 3, 3}};
        candidates.displacements = {u.data(), {C, N, 3}};
      }
      Arrays got(C, M, N), want(C, M, N);
      mlcore::evaluate_potentials({}, c.model, clusters.view, candidates, got.view);
      mlcore::reference::evaluate_potentials(c.model, clusters.view, candidates, want.view);
      expect_close(got.energies, want.energies, c.name + " energies");
      expect_close(got.forces, want.forces, c.name + " forces");
      expect_close(got.stress, want.stress, c.name + " stress");
    }
  }
}

TEST(Potentials, DerivativesAreDifferences) {
  const Clusters clusters(5.0);
  const auto M = clusters.view.volumes.shape[0], N = clusters.view.species.shape[0];
  const std::int64_t C = 2, Q = 5;
  for (const Case& c : cases()) {
    const std::vector<double> values = candidates_of(c, C);
    const std::int64_t P = mlcore::potential_parameters(c.model);
    const auto columns = static_cast<std::int64_t>(c.typical.size());
    const bool last_is_cutoff = columns <= 4;
    std::vector<double> directions(P * Q);
    for (std::int64_t k = 0; k < P * Q; ++k) {
      const std::int64_t column = k / Q % columns;
      const bool fixed = (c.model.form == PotentialForm::tersoff && column == 0) ||
                         (last_is_cutoff && column == columns - 1);
      directions[k] = fixed ? 0 : noise(static_cast<int>(k)) * c.typical[column];
    }
    PotentialCandidates candidates;
    candidates.parameters = {values.data(), {C, P}};
    candidates.directions = {directions.data(), {1, P, Q}};
    Arrays got(C, M, N, Q);
    mlcore::evaluate_potentials({}, c.model, clusters.view, candidates, got.view);
    for (std::int64_t q = 0; q < Q; ++q) {
      const double h = 1e-6;
      std::vector<Arrays> sides;
      for (double sign : {1.0, -1.0}) {
        std::vector<double> moved = values;
        for (std::int64_t k = 0; k < C * P; ++k) {
          moved[k] += sign * h * directions[k % P * Q + q];
        }
        PotentialCandidates there;
        there.parameters = {moved.data(), {C, P}};
        sides.emplace_back(C, M, N);
        mlcore::evaluate_potentials({}, c.model, clusters.view, there, sides.back().view);
      }
      const auto compare = [&](const std::vector<double>& slopes, const std::vector<double>& up,
                               const std::vector<double>& down) {
        double size = 1;
        for (std::size_t k = 0; k < up.size(); ++k) {
          size = std::max(size, std::fabs(up[k] - down[k]) / (2 * h));
        }
        for (std::size_t k = 0; k < up.size(); ++k) {
          ASSERT_NEAR(slopes[k * Q + q], (up[k] - down[k]) / (2 * h), 1e-6 * size) << c.name;
        }
      };
      compare(got.d_energies, sides[0].energies, sides[1].energies);
      compare(got.d_forces, sides[0].forces, sides[1].forces);
    }
  }
}

TEST(Potentials, ThreadsDoNotShow) {
  const Clusters clusters(5.0);
  const auto M = clusters.view.volumes.shape[0], N = clusters.view.species.shape[0];
  const Case c = cases()[4];
  const std::int64_t C = 400;
  const std::vector<double> values = candidates_of(c, C);
  PotentialCandidates candidates;
  candidates.parameters = {values.data(), {C, mlcore::potential_parameters(c.model)}};
  Arrays one(C, M, N), many(C, M, N);
  mlcore::evaluate_potentials({1}, c.model, clusters.view, candidates, one.view);
  mlcore::evaluate_potentials({4}, c.model, clusters.view, candidates, many.view);
  EXPECT_EQ(one.energies, many.energies);
  EXPECT_EQ(one.forces, many.forces);
  EXPECT_EQ(one.stress, many.stress);
}

TEST(Potentials, BadArgumentsAreNamed) {
  Clusters clusters(5.0);
  const auto M = clusters.view.volumes.shape[0], N = clusters.view.species.shape[0];
  const Case c = cases()[3];
  std::vector<double> values = candidates_of(c, 2);
  PotentialCandidates candidates;
  candidates.parameters = {values.data(), {2, mlcore::potential_parameters(c.model)}};
  Arrays out(2, M, N);
  const auto message = [&](const PotentialStructures& on) -> std::string {
    try {
      mlcore::evaluate_potentials({}, c.model, on, candidates, out.view);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(clusters.view), "");
  PotentialStructures on = clusters.view;
  on.cutoff = 3;
  EXPECT_NE(message(on).find("of candidate 0"), std::string::npos);
  clusters.species[3] = 2;
  EXPECT_NE(message(clusters.view).find("species must lie in 0..1"), std::string::npos);
  clusters.species[3] = 0;
  std::swap(clusters.columns[0], clusters.columns.back());
  EXPECT_NE(message(clusters.view).find("columns must be atoms of the same"), std::string::npos);
  std::swap(clusters.columns[0], clusters.columns.back());
  clusters.offsets[2] = 1000;
  EXPECT_NE(message(clusters.view).find("offsets must grow"), std::string::npos);
  clusters.offsets[2] = clusters.offsets[1] + 1;
  values[5] = std::nan("");
  EXPECT_NE(message(clusters.view).find("parameters must be finite"), std::string::npos);
}

}  // namespace
