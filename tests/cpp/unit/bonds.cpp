#include "mlcore/bonds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "mlcore/reference/bonds.hpp"

namespace {

using mlcore::BondBasis;
using mlcore::BondDirections;
using mlcore::BondResults;
using mlcore::BondRows;
using mlcore::View;

using Values = std::vector<double>;

std::int64_t length(const auto& values) { return static_cast<std::int64_t>(values.size()); }

Values uniform(std::int64_t count, double scale, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> random(-scale, scale);
  Values x(count);
  for (double& v : x) v = random(engine);
  return x;
}

/// Atoms around the sites of a cubic lattice, alone or in a periodic cube, and all pairs that are
/// closer than the reach and a skin.
struct System {
  System(int side, double spacing, double reach, int kinds, bool periodic = true) {
    const Values shift = uniform(3 * side * side * side, 0.2 * spacing, 5);
    for (int k = 0; k < side * side * side; ++k) {
      const int site[3] = {k % side, k / side % side, k / side / side};
      for (int a = 0; a < 3; ++a) x.push_back(spacing * site[a] + shift[3 * k + a]);
      species.push_back(k * 7 % 5 % kinds);
    }
    const double edge = side * spacing, far = 1.1 * reach;
    const int images = periodic ? static_cast<int>(std::ceil(far / edge)) + 1 : 0;
    offsets.push_back(0);
    for (int i = 0; i < n(); ++i) {
      for (int j = 0; j < n(); ++j) add_images(i, j, edge, far, images);
      offsets.push_back(length(columns));
    }
    displacements.assign(3 * n(), 0.0);
  }
  System() : offsets{0} {}

  std::int64_t n() const { return length(x) / 3; }
  BondRows rows() const {
    const std::int64_t p = length(columns);
    return {{offsets.data(), {n() + 1}},
            {columns.data(), {p}},
            {vectors.data(), {p, 3}},
            {species.data(), {n()}},
            {displacements.data(), {n(), 3}}};
  }
  Values x, vectors, displacements;
  std::vector<std::int32_t> species, columns;
  std::vector<std::int64_t> offsets;

 private:
  void add_images(int i, int j, double edge, double far, int m) {
    for (int a = -m; a <= m; ++a) {
      for (int b = -m; b <= m; ++b) {
        for (int c = -m; c <= m; ++c) {
          const double d[3] = {x[3 * j] - x[3 * i] + a * edge,
                               x[3 * j + 1] - x[3 * i + 1] + b * edge,
                               x[3 * j + 2] - x[3 * i + 2] + c * edge};
          if (i == j && a == 0 && b == 0 && c == 0) continue;
          if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= far * far) continue;
          columns.push_back(j);
          vectors.insert(vectors.end(), d, d + 3);
        }
      }
    }
  }
};

/// Two atoms at a distance.
System two(double dx, double dy = 0, double dz = 0) {
  System system;
  system.x = {0, 0, 0, dx, dy, dz};
  system.columns = {1, 0};
  system.vectors = {dx, dy, dz, -dx, -dy, -dz};
  system.offsets = {0, 1, 2};
  system.species = {0, 0};
  system.displacements.assign(6, 0.0);
  return system;
}

struct Model {
  explicit Model(const BondBasis& basis) : basis(basis) {
    const auto shape = mlcore::bond_shape(basis);
    rows = shape.rows;
    columns = shape.columns;
    C = uniform(rows * columns, 1.0, 11);
    middle = uniform(shape.seen, 1.5, 12);
  }

  View<const double, 2> coefficients() const { return {C.data(), {rows, columns}}; }
  View<const double, 1> around() const { return {middle.data(), {length(middle)}}; }

  BondBasis basis;
  std::int64_t rows, columns;
  Values C, middle;
};

struct Arrays {
  Arrays(const Model& model, const System& system)
      : energies(system.n(), kNone),
        slopes(3 * system.n(), kNone),
        grown(model.rows * model.columns, kNone),
        rows(model.rows) {}

  BondResults results() {
    return {{energies.data(), {length(energies)}},
            {slopes.data(), {length(slopes) / 3, 3}},
            {grown.data(), {rows, length(grown) / rows}}};
  }

  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  Values energies, slopes, grown;
  std::int64_t rows;
};

/// What derivatives are asked for; keeps the arrays.
struct Directions {
  explicit Directions(const System& system)
      : weights(uniform(system.n(), 1.0, 21)), along(uniform(3 * system.n(), 1.0, 22)) {}

  BondDirections weighted() const { return {{weights.data(), {length(weights)}}, {}}; }
  BondDirections both() const {
    return {{weights.data(), {length(weights)}}, {along.data(), {length(along) / 3, 3}}};
  }

  Values weights, along;
};

Arrays evaluate(const Model& model, const System& system, const BondDirections& directions = {},
                int threads = 1) {
  Arrays arrays(model, system);
  mlcore::evaluate_bonds({threads}, model.basis, model.coefficients(), model.around(),
                         system.rows(), directions, arrays.results());
  return arrays;
}

double largest(const Values& values) {
  double most = 0;
  for (double v : values) most = std::max(most, std::fabs(v));
  return most;
}

/// To `tolerance` of the largest entry.
void expect_near(const Values& got, const Values& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  const double scale = tolerance * largest(want);
  for (std::size_t k = 0; k < got.size(); ++k) ASSERT_NEAR(got[k], want[k], scale) << k;
}

/// (high - low) / (2 h) of every array, atoms moved by h along a direction.
Arrays difference(const Model& model, const System& system, const BondDirections& directions,
                  const Values& along, double h) {
  System moved = system;
  const auto at = [&](double by) {
    for (std::size_t k = 0; k < along.size(); ++k) {
      moved.displacements[k] = system.displacements[k] + by * along[k];
    }
    return evaluate(model, moved, directions);
  };
  Arrays high = at(h), low = at(-h);
  const auto change = [&](Values& to, const Values& from) {
    for (std::size_t k = 0; k < to.size(); ++k) to[k] = (to[k] - from[k]) / (2 * h);
  };
  change(high.energies, low.energies);
  change(high.slopes, low.slopes);
  change(high.grown, low.grown);
  return high;
}

struct Case {
  const char* name;
  BondBasis basis;  // species, reach, inner, radial, order, turns, degree, decay, knot
  int side;
  double spacing;
  bool periodic;
};

class Bonds : public testing::TestWithParam<Case> {
 protected:
  Bonds()
      : model(GetParam().basis),
        system(GetParam().side, GetParam().spacing, GetParam().basis.reach,
               static_cast<int>(GetParam().basis.species), GetParam().periodic),
        directions(system) {
    system.displacements = uniform(3 * system.n(), 0.03, 4);
  }

  /// Of differences: functions of lengths wind the faster the more there are.
  double step() const {
    return 8e-5 / static_cast<double>(std::max<std::int64_t>(model.basis.radial, 8));
  }

  Model model;
  System system;
  Directions directions;
};

TEST_P(Bonds, MatchReference) {
  Values want(system.n());
  mlcore::reference::bond_energies(model.basis, model.coefficients(), model.around(), system.rows(),
                                   {want.data(), {system.n()}});
  EXPECT_GT(largest(want), 0);
  expect_near(evaluate(model, system).energies, want, 1e-12);
}

TEST_P(Bonds, SlopesByDisplacementsAreDifferences) {
  const Arrays got = evaluate(model, system, directions.weighted());
  const double scale = largest(got.slopes) + largest(got.energies);
  for (std::size_t k = 0; k < got.slopes.size(); k += 1 + got.slopes.size() / 9) {
    Values along(got.slopes.size());
    along[k] = 1;
    const Arrays change = difference(model, system, {}, along, step());
    double want = 0;
    for (std::int64_t i = 0; i < system.n(); ++i)
      want += directions.weights[i] * change.energies[i];
    EXPECT_NEAR(got.slopes[k], want, 1e-7 * scale) << k;
  }
}

TEST_P(Bonds, SlopesByCoefficientsMakeTheEnergy) {
  const Arrays got = evaluate(model, system, directions.weighted());
  const auto weighted = [&](const Arrays& arrays) {
    double sum = 0;
    for (std::int64_t i = 0; i < system.n(); ++i) sum += directions.weights[i] * arrays.energies[i];
    return sum;
  };
  double sum = 0, sizes = 0;
  for (std::size_t k = 0; k < got.grown.size(); ++k) {
    sum += model.C[k] * got.grown[k];
    sizes += std::fabs(model.C[k] * got.grown[k]);
  }
  EXPECT_NEAR(sum, weighted(got), 1e-13 * sizes);
  Model one = model;
  for (std::size_t k = 0; k < got.grown.size(); k += 1 + got.grown.size() / 23) {
    std::fill(one.C.begin(), one.C.end(), 0.0);
    one.C[k] = 1;
    EXPECT_NEAR(got.grown[k], weighted(evaluate(one, system)), 1e-12 * largest(got.grown)) << k;
  }
}

TEST_P(Bonds, TangentsAreDifferences) {
  const Arrays got = evaluate(model, system, directions.both());
  const Arrays want = difference(model, system, directions.weighted(), directions.along, step());
  expect_near(got.energies, want.energies, 1e-7);
  expect_near(got.slopes, want.slopes, 1e-7);
  expect_near(got.grown, want.grown, 1e-7);
}

TEST_P(Bonds, ThreadsChangeNothing) {
  for (const BondDirections& asked : {BondDirections{}, directions.both()}) {
    const Arrays one = evaluate(model, system, asked);
    for (int threads : {2, 3, 8}) {
      const Arrays many = evaluate(model, system, asked, threads);
      EXPECT_EQ(many.energies, one.energies);
      EXPECT_EQ(many.slopes, one.slopes);
      EXPECT_EQ(many.grown, one.grown);
    }
  }
}

TEST_P(Bonds, EveryResultAloneIsTheSame) {
  const auto run = [&](const BondDirections& asked, const BondResults& to) {
    mlcore::evaluate_bonds({1}, model.basis, model.coefficients(), model.around(), system.rows(),
                           asked, to);
  };
  for (const BondDirections& asked : {BondDirections{}, directions.both()}) {
    const Arrays all = evaluate(model, system, asked);
    Arrays alone(model, system);
    BondResults energies, slopes, grown;
    energies.energies = alone.results().energies;
    slopes.by_displacements = alone.results().by_displacements;
    grown.by_coefficients = alone.results().by_coefficients;
    for (const BondResults& to : {energies, slopes, grown}) run(asked, to);
    expect_near(alone.energies, all.energies, 1e-13);
    expect_near(alone.slopes, all.slopes, 1e-13);
    expect_near(alone.grown, all.grown, 1e-13);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Core, Bonds,
    testing::Values(Case{"usual", {1, 2.5, 2.0}, 3, 1.6, true},
                    Case{"two_species", {2, 2.2, 1.8}, 3, 1.5, true},
                    Case{"open", {1, 2.0, 1.5}, 4, 1.4, false},
                    Case{"odd_numbers", {1, 2.3, 0.0, 7, 5, 3, 2, 1.5, 0.1}, 3, 1.7, true},
                    Case{"least", {2, 2.2, 1.0, 3, 1, 1, 1}, 3, 1.6, true},
                    Case{"three_species", {3, 2.0, 1.7, 3, 2, 2, 2}, 3, 1.5, true},
                    Case{"most", {1, 2.0, 0.5, 16, 6, 8, 3, 1.0, -1.0}, 2, 1.7, true},
                    Case{"itself", {1, 2.9, 2.4}, 1, 1.9, true},
                    Case{"two_and_images", {2, 3.1, 2.5, 4, 3, 4, 2}, 2, 1.5, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(BondsOf, ManyAtomsOnManyThreads) {
  const Model model({2, 2.0, 1.6});
  const System system(10, 1.5, 2.0, 2);
  const Directions directions(system);
  const Arrays one = evaluate(model, system, directions.weighted());
  for (int threads : {2, 5}) {
    const Arrays many = evaluate(model, system, directions.weighted(), threads);
    EXPECT_EQ(many.energies, one.energies);
    EXPECT_EQ(many.slopes, one.slopes);
    EXPECT_EQ(many.grown, one.grown);
  }
}

TEST(BondsOf, NothingAndNobody) {
  const Model model({1, 2, 1.7});
  const Arrays none = evaluate(model, System());
  EXPECT_EQ(largest(none.grown), 0);
  for (const System& apart : {two(2.0), two(7.0), System(1, 9, 2, 1)}) {
    const Arrays got = evaluate(model, apart, Directions(apart).both());
    for (const Values* values : {&got.energies, &got.slopes, &got.grown}) {
      for (double v : *values) EXPECT_EQ(v, 0);
    }
  }
}

TEST(BondsOf, ABondAlone) {
  Model model({1, 2, 1.5, 3, 2});
  std::fill(model.middle.begin(), model.middle.end(), 0.0);
  for (double r : {0.5, 1.3, 1.6, 1.99}) {
    const double fallen = std::max(r - 1.5, 0.0) / 0.5;
    const double w = 0.5 + 0.5 * std::cos(std::acos(-1.0) * fallen);
    double want = 0;  // nothing is around: 1 is left of m
    for (int a = 0; a < 3; ++a) {
      want += model.C[a * model.columns] * w * std::exp(3 * a * (1 - r / 2));
    }
    for (double energy : evaluate(model, two(0, r)).energies) EXPECT_NEAR(energy, want, 1e-14);
  }
}

TEST(BondsOf, BothEndsSeeTheRim) {
  const Model model({1, 2, 1.7});
  // by rounding within the reach from one end only
  System rim = two(2.0);
  rim.vectors[0] = std::nextafter(2.0, 0);
  const Arrays got = evaluate(model, rim);
  EXPECT_EQ(largest(got.energies), 0);
  EXPECT_EQ(largest(got.slopes), 0);
  EXPECT_LT(largest(evaluate(model, two(2 - 1e-7)).energies), 1e-11);
}

TEST(BondsOf, ShortBondsStayFinite) {
  const Model model({1, 2, 1.7});
  for (double r : {0.0, 1e-200, 1e-9, 2e-3, 9e-3}) {
    const System close = two(0.6 * r, 0, 0.8 * r);
    const Arrays got = evaluate(model, close, Directions(close).both());
    for (const Values* values : {&got.energies, &got.slopes, &got.grown}) {
      for (double v : *values) EXPECT_TRUE(std::isfinite(v)) << r;
    }
  }
}

/// An atom between two that nearly coincide.
TEST(BondsOf, SlopesOfShortBonds) {
  const Model model({1, 2, 1.7});
  System system;
  system.x = {0, 0, 0, 1.1, 0.2, 0, 1.102, 0.2, 0.001};
  system.species = {0, 0, 0};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      if (i == j) continue;
      system.columns.push_back(j);
      for (int k = 0; k < 3; ++k)
        system.vectors.push_back(system.x[3 * j + k] - system.x[3 * i + k]);
    }
    system.offsets.push_back(length(system.columns));
  }
  system.displacements.assign(9, 0.0);
  const Directions directions(system);
  const Arrays got = evaluate(model, system, directions.weighted());
  for (std::size_t k = 0; k < 9; ++k) {
    Values along(9);
    along[k] = 1;
    const Arrays change = difference(model, system, {}, along, 1e-7);
    double want = 0;
    for (int i = 0; i < 3; ++i) want += directions.weights[i] * change.energies[i];
    EXPECT_NEAR(got.slopes[k], want, 1e-5 * largest(got.slopes)) << k;
  }
  const Arrays tangents = evaluate(model, system, directions.both());
  const Arrays want = difference(model, system, directions.weighted(), directions.along, 1e-7);
  expect_near(tangents.energies, want.energies, 1e-5);
  expect_near(tangents.slopes, want.slopes, 1e-5);
  expect_near(tangents.grown, want.grown, 1e-5);
}

TEST(BondsOf, Shapes) {
  const auto shape = mlcore::bond_shape({1, 3.0, 2.0, 6});
  EXPECT_EQ(shape.rows, 6);
  EXPECT_EQ(shape.seen, 6);
  // up to three of five, of four but n alone and mirror images, up to two of two
  EXPECT_EQ(shape.columns, 56 + 15 + 5 * 4);
}

void expect_invalid(const std::string& what, const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "no error: " << what;
  } catch (const mlcore::InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
  }
}

TEST(BondsOf, ErrorsOfTheBasis) {
  const auto shape = [](BondBasis basis) { return [basis] { mlcore::bond_shape(basis); }; };
  for (double reach : {0.0, -1.0, double{NAN}, double{INFINITY}}) {
    expect_invalid("reach must be a length", shape({1, reach}));
  }
  for (double inner : {-0.1, 1.0, double{NAN}}) {
    expect_invalid("inner must be a length from 0 to below the reach, 1", shape({1, 1, inner}));
  }
  expect_invalid("species must lie in 1..16", shape({0, 1}));
  expect_invalid("radial must lie in 1..16", shape({1, 1, 0, 17}));
  expect_invalid("radial must lie in 1..16", shape({1, 1, 0, 0}));
  expect_invalid("order must lie in 1..6", shape({1, 1, 0, 5, 7}));
  expect_invalid("turns must lie in 1..8", shape({1, 1, 0, 5, 3, 9}));
  expect_invalid("degree must lie in 1..3", shape({1, 1, 0, 5, 3, 5, 4}));
  for (double decay : {0.0, 17.0, double{NAN}}) {
    expect_invalid("decay must lie above 0 and up to 16", shape({1, 1, 0, 5, 3, 5, 3, decay}));
  }
  for (double knot : {-1.1, 1.0, double{NAN}}) {
    expect_invalid("knot must lie in -1..1", shape({1, 1, 0, 5, 3, 5, 3, 3, knot}));
  }
  expect_invalid("species * (order + 3) must be at most 64", shape({12, 1}));
  expect_invalid("species * turns must be at most 64", shape({9, 1, 0, 5, 3, 8, 1}));
  expect_invalid("columns of coefficients, at most 4096", shape({8, 1}));
}

TEST(BondsOf, ErrorsNameTheArgument) {
  const auto run = [](const std::function<void(Model&, System&, Directions&)>& change) {
    Model model({2, 2, 1.6});
    System system(2, 1.2, 2.0, 2);
    Directions directions(system);
    change(model, system, directions);
    evaluate(model, system, directions.both());
  };
  run([](Model&, System&, Directions&) {});
  const double nan = NAN;
  expect_invalid("coefficients must be finite, but entry 3",
                 [&] { run([&](Model& m, System&, Directions&) { m.C[3] = nan; }); });
  expect_invalid("middle must be finite",
                 [&] { run([&](Model& m, System&, Directions&) { m.middle[1] = INFINITY; }); });
  expect_invalid("vectors must be finite",
                 [&] { run([&](Model&, System& s, Directions&) { s.vectors[5] = nan; }); });
  expect_invalid("displacements must be finite",
                 [&] { run([&](Model&, System& s, Directions&) { s.displacements[5] = nan; }); });
  expect_invalid("weights must be finite",
                 [&] { run([&](Model&, System&, Directions& d) { d.weights[2] = nan; }); });
  expect_invalid("along must be finite",
                 [&] { run([&](Model&, System&, Directions& d) { d.along[2] = nan; }); });
  expect_invalid("columns must lie in 0..7, but entry 5 is 8",
                 [&] { run([](Model&, System& s, Directions&) { s.columns[5] = 8; }); });
  expect_invalid("columns must lie in 0..7, but entry 6 is -1",
                 [&] { run([](Model&, System& s, Directions&) { s.columns[6] = -1; }); });
  expect_invalid("species must lie in 0..1, but that of atom 3 is 2",
                 [&] { run([](Model&, System& s, Directions&) { s.species[3] = 2; }); });
  expect_invalid("offsets must begin with 0",
                 [&] { run([](Model&, System& s, Directions&) { s.offsets[0] = 1; }); });
  expect_invalid("offsets must begin with 0 and end with",
                 [&] { run([](Model&, System& s, Directions&) { --s.offsets[8]; }); });
  expect_invalid("offsets must not fall, but after row 3",
                 [&] { run([](Model&, System& s, Directions&) { s.offsets[3] += 100000; }); });
  expect_invalid("from both ends",
                 [&] { run([](Model&, System& s, Directions&) { s.vectors[0] *= 0.9; }); });
}

TEST(BondsOf, PairsAreThereOnce) {
  const Model model({1, 2, 1.7});
  System twice = two(1.0);
  twice.offsets = {0, 2, 3};
  twice.columns = {1, 1, 0};
  twice.vectors = {1, 0, 0, 1, 0, 0, -1, 0, 0};
  expect_invalid("is there twice", [&] { evaluate(model, twice); });
}

TEST(BondsOf, ErrorsOfShapes) {
  const Model model({2, 2, 1.6});
  const System system(2, 1.2, 2.0, 2);
  const Directions directions(system);
  struct Call {
    View<const double, 2> coefficients;
    View<const double, 1> middle;
    BondRows rows;
    BondDirections directions;
    BondResults results;
  };
  Arrays arrays(model, system);
  const auto run = [&](const std::function<void(Call&)>& change) {
    return [&, change] {
      Call call{model.coefficients(), model.around(), system.rows(), directions.both(),
                arrays.results()};
      change(call);
      mlcore::evaluate_bonds({}, model.basis, call.coefficients, call.middle, call.rows,
                             call.directions, call.results);
    };
  };
  expect_invalid("coefficients must have the length 20 along axis 0, got 19",
                 run([](Call& c) { --c.coefficients.shape[0]; }));
  expect_invalid("coefficients", run([](Call& c) { ++c.coefficients.shape[1]; }));
  expect_invalid("middle must have the length 12", run([](Call& c) { --c.middle.shape[0]; }));
  expect_invalid("vectors must have the length", run([](Call& c) { --c.rows.columns.shape[0]; }));
  expect_invalid("vectors", run([](Call& c) { c.rows.vectors.shape[1] = 2; }));
  expect_invalid("species must have the length 8", run([](Call& c) { --c.rows.species.shape[0]; }));
  expect_invalid("species are needed", run([](Call& c) { c.rows.species = {}; }));
  expect_invalid("displacements", run([](Call& c) { --c.rows.displacements.shape[0]; }));
  expect_invalid("offsets", run([](Call& c) { c.rows.offsets.shape[0] = 0; }));
  expect_invalid("weights", run([](Call& c) { --c.directions.weights.shape[0]; }));
  expect_invalid("along", run([](Call& c) { --c.directions.along.shape[0]; }));
  expect_invalid("energies", run([](Call& c) { --c.results.energies.shape[0]; }));
  expect_invalid("by_displacements", run([](Call& c) { --c.results.by_displacements.shape[0]; }));
  expect_invalid("by_coefficients", run([](Call& c) { --c.results.by_coefficients.shape[1]; }));
  expect_invalid("same device", run([](Call& c) { c.coefficients.device = mlcore::Device::cuda; }));
}

}  // namespace
