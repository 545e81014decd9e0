#include "mlcore/pair_potential.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "mlcore/reference/pair_potential.hpp"

namespace {

using mlcore::PairEnergyTable;
using mlcore::PairPotential;
using mlcore::PairResults;
using mlcore::PairRows;
using mlcore::View;

double noise(int k) { return std::sin(1.7 * k + 0.3 * (k % 5)) * std::cos(0.013 * k); }

/// A bumpy table that is the same at every call.
struct Table {
  Table(std::int64_t types, std::int64_t knots, double first, double cutoff) {
    const std::int64_t pairs = types * (types + 1) / 2;
    for (int k = 0; k < pairs * knots; ++k) {
      energy.push_back(noise(k));
      slope.push_back(2 * noise(7 * k + 3));
    }
    table = {types, first, cutoff, {energy.data(), {pairs, knots}}, {slope.data(), {pairs, knots}}};
  }

  std::vector<double> energy, slope;
  PairEnergyTable table;
};

/// Rows of all lengths from 0 on: row i of n has i neighbors among m particles.
struct System {
  System(std::int64_t n, std::int64_t m, std::int64_t kinds, double edge, int first_type = 0)
      : n(n), m(m) {
    for (int k = 0; k < 3 * m; ++k) x.push_back(edge * (0.5 + 0.5 * noise(11 * k + 1)));
    for (int k = 0; k < m; ++k) {
      types.push_back(first_type + static_cast<int>(k * 7 % 5 % kinds));
    }
    offsets.push_back(0);
    for (int i = 0; i < n; ++i) {
      for (int e = 0; e < i; ++e) columns.push_back(static_cast<int>((i + 1 + 5 * e) % m));
      offsets.push_back(static_cast<std::int64_t>(columns.size()));
    }
    rows = {{x.data(), {m, 3}},
            {types.data(), {m}},
            first_type,
            {offsets.data(), {n + 1}},
            {columns.data(), {static_cast<std::int64_t>(columns.size())}},
            {}};
  }

  /// The same rows by vectors.
  PairRows by_vectors() {
    vectors.clear();
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t e = offsets[i]; e < offsets[i + 1]; ++e) {
        for (int k = 0; k < 3; ++k) vectors.push_back(x[3 * columns[e] + k] - x[3 * i + k]);
      }
    }
    PairRows result = rows;
    result.x = {};
    result.vectors = {vectors.data(), {static_cast<std::int64_t>(columns.size()), 3}};
    return result;
  }

  std::int64_t n, m;
  std::vector<double> x, vectors;
  std::vector<std::int32_t> types, columns;
  std::vector<std::int64_t> offsets;
  PairRows rows;
};

struct Arrays {
  explicit Arrays(std::int64_t n) : forces(3 * n, 0.25), energies(n), virial(6) {}

  PairResults results() {
    const auto n = static_cast<std::int64_t>(energies.size());
    return {{forces.data(), {n, 3}}, {energies.data(), {n}}, 0.5, {virial.data(), {6}}};
  }

  std::vector<double> forces, energies, virial;
};

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double scale) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t k = 0; k < got.size(); ++k) ASSERT_NEAR(got[k], want[k], scale) << k;
}

struct Case {
  std::int64_t n, m, types, knots;
  double first, cutoff, edge;
};
const Case kCases[] = {{40, 60, 1, 50, 0.5, 2.5, 3},  {40, 40, 3, 20, 0.2, 1.5, 2},
                       {300, 310, 1, 7, 0.0, 1.0, 1}, {33, 50, 12, 2, 0.9, 1.0, 2},
                       {9, 9, 8, 300, 0.1, 9.0, 4},   {1, 1, 1, 2, 0.0, 1.0, 1}};

TEST(PairPotential, MatchesReference) {
  for (const Case& c : kCases) {
    Table table(c.types, c.knots, c.first, c.cutoff);
    System system(c.n, c.m, c.types, c.edge, c.types == 3 ? 1 : 0);
    const PairPotential potential(table.table);
    EXPECT_EQ(potential.types(), c.types);
    Arrays want(c.n);
    mlcore::reference::pair_potential(table.table, system.rows, want.results());
    for (const PairRows& rows : {system.rows, system.by_vectors()}) {
      Arrays got(c.n);
      potential.evaluate({1}, rows, got.results());
      const double scale = 1e-12 * static_cast<double>(c.knots) * static_cast<double>(c.n);
      expect_near(got.forces, want.forces, scale);
      expect_near(got.energies, want.energies, scale);
      expect_near(got.virial, want.virial, scale * 100);
    }
  }
}

TEST(PairPotential, EveryResultAloneIsTheSame) {
  Table table(2, 30, 0.3, 1.5);
  System system(70, 90, 2, 2);
  const PairPotential potential(table.table);
  Arrays all(70), alone(70);
  potential.evaluate({}, system.rows, all.results());
  PairResults forces, energies, virial;
  forces.forces = alone.results().forces;
  energies.energies = alone.results().energies;
  virial.virial = alone.results().virial;
  for (const PairResults& one : {forces, energies, virial}) {
    potential.evaluate({}, system.rows, one);
  }
  EXPECT_EQ(alone.forces, all.forces);
  EXPECT_EQ(alone.energies, all.energies);
  EXPECT_EQ(alone.virial, all.virial);
  PairResults sums = all.results();
  sums.share = 1;
  potential.evaluate({}, system.rows, sums);
  for (std::size_t i = 0; i < 70; ++i) EXPECT_EQ(all.energies[i], 2 * alone.energies[i]);
}

TEST(PairPotential, ThreadsChangeNothing) {
  Table table(1, 40, 0.3, 1.5);
  System system(900, 1000, 1, 6);
  const PairPotential potential(table.table);
  Arrays one(900);
  potential.evaluate({1}, system.rows, one.results());
  for (int threads : {2, 3, 8}) {
    Arrays many(900);
    potential.evaluate({threads}, system.rows, many.results());
    EXPECT_EQ(many.forces, one.forces);
    EXPECT_EQ(many.energies, one.energies);
    EXPECT_EQ(many.virial, one.virial);
  }
}

/// One pair of two particles at the distance r along x.
struct Two {
  explicit Two(const PairPotential& potential, double r) {
    const std::vector<double> x{0, 0, 0, r, 0, 0};
    const std::vector<std::int32_t> columns{1, 0};
    const std::vector<std::int64_t> offsets{0, 1, 2};
    PairRows rows;
    rows.x = {x.data(), {2, 3}};
    rows.offsets = {offsets.data(), {3}};
    rows.columns = {columns.data(), {2}};
    Arrays arrays(2);
    potential.evaluate({}, rows, arrays.results());
    energy = arrays.energies[0] + arrays.energies[1];
    force = arrays.forces[3] - 0.25;
    EXPECT_NEAR(arrays.forces[0] - 0.25, -force, 1e-15);
    EXPECT_EQ(arrays.virial[1], 0);
    virial = arrays.virial[0];
  }
  double energy, force, virial;
};

TEST(PairPotential, KnotsLineAndCutoff) {
  const std::vector<double> energy{5, 1, 0.5, 0}, slope{-3, -2, -1, 0};
  const PairPotential potential(
      PairEnergyTable{1, 1, 4, {energy.data(), {1, 4}}, {slope.data(), {1, 4}}});
  for (int k = 0; k < 3; ++k) {
    const Two two(potential, 1.0 + k);
    EXPECT_NEAR(two.energy, energy[k], 1e-12);
    EXPECT_NEAR(two.force, -slope[k], 1e-12);
    EXPECT_NEAR(two.virial, -slope[k] * (1.0 + k), 1e-12);
  }
  EXPECT_NEAR(Two(potential, 0.25).energy, 5 + 0.75 * 3, 1e-12);
  EXPECT_NEAR(Two(potential, 0.25).force, 3, 1e-12);
  EXPECT_NEAR(Two(potential, 1e-150).energy, 8, 1e-12);
  EXPECT_NEAR(Two(potential, 0).energy, 8, 1e-12);
  EXPECT_EQ(Two(potential, 0).force, 0);
  EXPECT_EQ(Two(potential, 4).energy, 0);
  EXPECT_EQ(Two(potential, 1e200).force, 0);
  EXPECT_LT(std::fabs(Two(potential, std::nextafter(4.0, 0)).energy), 1e-12);
}

TEST(PairPotential, DerivativesAreThoseOfTheEnergy) {
  Table table(3, 9, 0.3, 1.5);
  System system(20, 30, 3, 1.2);
  const PairPotential potential(table.table);
  const PairRows rows = system.by_vectors();
  const std::int64_t p = rows.columns.shape[0];
  std::vector<double> weights, along;
  for (int k = 0; k < 20; ++k) weights.push_back(noise(3 * k));
  for (int k = 0; k < 3 * p; ++k) along.push_back(noise(5 * k + 2));
  const auto objective = [&] {
    std::vector<double> energies(20);
    PairResults results;
    results.energies = {energies.data(), {20}};
    potential.evaluate({}, rows, results);
    double sum = 0;
    for (int i = 0; i < 20; ++i) sum += weights[i] * energies[i];
    return sum;
  };
  const auto slope = [&] {
    std::vector<double> gradient(3 * p);
    potential.gradient({2}, rows, {weights.data(), {20}}, {gradient.data(), {p, 3}});
    return gradient;
  };
  const auto product = [&] {
    const auto gradient = slope();
    double sum = 0;
    for (int k = 0; k < 3 * p; ++k) sum += along[k] * gradient[k];
    return sum;
  };
  const auto gradient = slope();
  std::vector<double> second(3 * p), by_weights(20);
  potential.second_gradient({}, rows, {weights.data(), {20}}, {along.data(), {p, 3}},
                            {second.data(), {p, 3}}, {by_weights.data(), {20}});
  const auto difference = [&](double& value, const std::function<double()>& f) {
    const double before = value, h = 1e-5;
    value = before + h;
    const double high = f();
    value = before - h;
    const double low = f();
    value = before;
    return (high - low) / (2 * h);
  };
  for (int k = 0; k < 3 * p; k += 7) {
    EXPECT_NEAR(gradient[k], difference(system.vectors[k], objective), 1e-6) << k;
    EXPECT_NEAR(second[k], difference(system.vectors[k], product), 1e-5) << k;
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_NEAR(by_weights[i], difference(weights[i], product), 1e-7) << i;
  }
}

void expect_invalid(const std::string& what, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error: " << what;
  } catch (const mlcore::InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST(PairPotential, ErrorsNameTheArgument) {
  const auto build = [](const std::function<void(Table&)>& change) {
    Table table(2, 4, 0.5, 2);
    change(table);
    const PairPotential potential(table.table);
  };
  expect_invalid("types", [&] { build([](Table& t) { t.table.types = 0; }); });
  expect_invalid("energy must have the shape (3, K)",
                 [&] { build([](Table& t) { t.table.energy.shape[0] = 2; }); });
  expect_invalid("slope", [&] { build([](Table& t) { t.table.slope.shape[1] = 3; }); });
  expect_invalid("first", [&] { build([](Table& t) { t.table.first = -1; }); });
  expect_invalid("cutoff", [&] { build([](Table& t) { t.table.cutoff = 0.5; }); });
  expect_invalid("energy must be finite", [&] { build([](Table& t) { t.energy[2] = NAN; }); });
  expect_invalid("overflow", [&] { build([](Table& t) { t.energy[2] = 1e308; }); });

  Table table(2, 4, 0.5, 2);
  const PairPotential potential(table.table);
  const auto run = [&](const std::function<void(System&)>& change, bool vectors) {
    System system(9, 12, 2, 2);
    if (vectors) system.rows = system.by_vectors();
    change(system);
    Arrays arrays(9);
    potential.evaluate({}, system.rows, arrays.results());
  };
  for (bool vectors : {false, true}) {
    expect_invalid("columns must lie in 0..11, but entry 5 is 12",
                   [&] { run([](System& s) { s.columns[5] = 12; }, vectors); });
    expect_invalid("is -1", [&] { run([](System& s) { s.columns[7] = -1; }, vectors); });
    expect_invalid("types must lie in 0..1",
                   [&] { run([](System& s) { s.types[3] = 2; }, vectors); });
    expect_invalid("offsets must grow",
                   [&] { run([](System& s) { s.offsets[3] = 100; }, vectors); });
    expect_invalid("types are needed", [&] { run([](System& s) { s.rows.types = {}; }, vectors); });
  }
  expect_invalid("x must be finite, but entry 8",
                 [&] { run([](System& s) { s.x[8] = NAN; }, false); });
  expect_invalid("vectors must be finite",
                 [&] { run([](System& s) { s.vectors[8] = INFINITY; }, true); });
  System system(9, 12, 2, 2);
  Arrays arrays(8);
  expect_invalid("forces must have the length 9",
                 [&] { potential.evaluate({}, system.rows, arrays.results()); });
}

}  // namespace
