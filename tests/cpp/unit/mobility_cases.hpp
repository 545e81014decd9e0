#pragma once

// Models, boxes and configurations for the tests of the mobilities.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "mlcore/mobility.hpp"
#include "mlcore/reference/mobility.hpp"

namespace mobility_cases {

using mlcore::Cell;
using mlcore::Context;
using mlcore::Kernel;
using mlcore::MobilityModel;

using Values = std::vector<double>;

inline mlcore::View<const double, 2> vectors(const Values& x) {
  return {x.data(), {static_cast<std::int64_t>(x.size() / 3), 3}};
}

inline Values random_vectors(int n, double scale, unsigned seed = 1) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> uniform(0, scale);
  Values x(3 * n);
  for (double& v : x) v = uniform(engine);
  return x;
}

inline Values matrix(const MobilityModel& model, const Cell& cell, const Values& x,
                     int threads = 1) {
  const auto m = static_cast<std::int64_t>(x.size());
  Values M(m * m, std::numeric_limits<double>::quiet_NaN());
  mlcore::mobility_matrix(Context{threads}, model, cell, vectors(x), {M.data(), {m, m}});
  return M;
}

inline Values reference_matrix(const MobilityModel& model, const Cell& cell, const Values& x) {
  const auto m = static_cast<std::int64_t>(x.size());
  Values M(m * m);
  mlcore::reference::mobility_matrix(model, cell, vectors(x), {M.data(), {m, m}});
  return M;
}

inline Values apply(const MobilityModel& model, const Cell& cell, const Values& x, const Values& F,
                    int threads = 1) {
  Values V(x.size(), std::numeric_limits<double>::quiet_NaN());
  mlcore::mobility_apply(Context{threads}, model, cell, vectors(x), vectors(F),
                         {V.data(), {static_cast<std::int64_t>(x.size() / 3), 3}});
  return V;
}

inline Values divergence(const MobilityModel& model, const Cell& cell, const Values& x,
                         int threads = 1) {
  Values D(x.size(), std::numeric_limits<double>::quiet_NaN());
  mlcore::mobility_divergence(Context{threads}, model, cell, vectors(x),
                              {D.data(), {static_cast<std::int64_t>(x.size() / 3), 3}});
  return D;
}

inline Values product(const Values& M, const Values& F) {
  const std::size_t m = F.size();
  Values V(m, 0.0);
  for (std::size_t p = 0; p < m; ++p) {
    for (std::size_t q = 0; q < m; ++q) V[p] += M[p * m + q] * F[q];
  }
  return V;
}

inline double largest(const Values& a) {
  double m = 0;
  for (double v : a) m = std::max(m, std::fabs(v));
  return m;
}

inline double difference(const Values& a, const Values& b) {
  EXPECT_EQ(a.size(), b.size());
  double m = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    if (!(std::fabs(a[k] - b[k]) <= m)) m = std::fabs(a[k] - b[k]);  // NaN stays
  }
  return m;
}

inline Cell triclinic() { return {{9, 0.5, -1, 2, 8, 0.3, -1.5, 2.5, 10}, {true, true, true}}; }

/// Table of 1e-2 exp(-r) like functions with all derivatives.
struct Table {
  Values par, dpar, perp, dperp;
  double cutoff;

  Table(double cutoff, int knots) : cutoff(cutoff) {
    for (int k = 0; k < knots; ++k) {
      const double r = cutoff * k / (knots - 1), s = 1 - r * r / (cutoff * cutoff);
      const double ds = -2 * r / (cutoff * cutoff), e = std::exp(-0.3 * r * r);
      par.push_back(s * s * e);
      dpar.push_back(2 * s * ds * e - 0.6 * r * s * s * e);
      perp.push_back(s * s * e * (1 - 0.2 * r * r));
      dperp.push_back((2 * s * ds * e - 0.6 * r * s * s * e) * (1 - 0.2 * r * r) -
                      0.4 * r * s * s * e);
    }
  }

  mlcore::PairTable view() const {
    const auto n = static_cast<std::int64_t>(par.size());
    return {{par.data(), {n}}, {dpar.data(), {n}}, {perp.data(), {n}}, {dperp.data(), {n}}, cutoff};
  }
};

inline MobilityModel rpy(double radius = 1.1, double viscosity = 0.7) {
  MobilityModel model;
  model.kernel = Kernel::rpy;
  model.radius = radius;
  model.viscosity = viscosity;
  return model;
}

inline MobilityModel oseen() {
  MobilityModel model = rpy();
  model.kernel = Kernel::oseen;
  return model;
}

inline MobilityModel regularized() {
  MobilityModel model = rpy();
  model.kernel = Kernel::regularized_oseen;
  return model;
}

inline MobilityModel wall() {
  MobilityModel model = rpy();
  model.kernel = Kernel::rpy_wall;
  return model;
}

/// Radii for up to 100 particles, far apart from each other.
inline MobilityModel unequal(int n) {
  static const Values radii = [] {
    Values r = random_vectors(34, 2.5, 21);
    for (double& v : r) v += 0.1;
    return r;
  }();
  MobilityModel model = rpy();
  model.radii = {radii.data(), {n}};
  return model;
}

inline const Table& shared_table() {
  static const Table table(6.5, 100);
  return table;
}

struct Case {
  const char* name;
  MobilityModel model;
  Cell cell;
};

inline std::vector<Case> cases() {
  MobilityModel table;
  table.table = shared_table().view();
  table.self = 1.5;
  MobilityModel both = rpy();
  both.table = table.table;
  both.self = 1.5;
  const Cell slab = {{7, 0, 0, 1, 8, 0, 3, 1, 5}, {true, true, false}};
  const Cell tall = {{4, 0, 0, 0, 5, 0, 0, 0, 30}, {true, true, true}};
  return {{"rpy open", rpy(), Cell::open()},
          {"oseen open", oseen(), Cell::open()},
          {"table open", table, Cell::open()},
          {"both open", both, Cell::open()},
          {"rpy cubic", rpy(), Cell::cubic(9)},
          {"rpy triclinic", rpy(), triclinic()},
          {"oseen triclinic", oseen(), triclinic()},
          {"rpy tall", rpy(), tall},
          {"table slab", table, slab},
          {"table triclinic", table, triclinic()},
          {"both triclinic", both, triclinic()}};
}

/// Kernels of open space, some with a table, for n particles above the wall.
inline std::vector<Case> open_cases(int n) {
  std::vector<Case> open = {{"regularised", regularized(), Cell::open()},
                            {"wall", wall(), Cell::open()},
                            {"unequal", unequal(n), Cell::open()}};
  for (int k = 0; k < 3; ++k) {
    Case with_table = open[k];
    with_table.model.table = shared_table().view();
    with_table.model.self = 0.4;
    open.push_back(with_table);
  }
  return open;
}

inline Values above_wall(int n, unsigned seed = 3) {
  Values x = random_vectors(n, 9, seed);
  for (int i = 0; i < n; ++i) x[3 * i + 2] += 1.1;
  return x;
}

}  // namespace mobility_cases
