#include "mlcore/splitting.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "mlcore/neighbors.hpp"
#include "mlcore/reference/splitting.hpp"

namespace {

using mlcore::Cell;
using mlcore::Context;
using mlcore::InvalidArgument;
using mlcore::PairRows;
using mlcore::PairSplitting;
using mlcore::SplittingState;
using mlcore::SplittingStatus;
using mlcore::SplittingSystem;
using mlcore::SplittingTables;
using mlcore::View;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double noise(int k) { return std::sin(1.7 * k + 0.3 * (k % 5)) * std::cos(0.013 * k); }

/// Repelling tables with bumps, the same at every call.
struct Tables {
  Tables(std::int64_t kicks, std::int64_t species, std::int64_t M, double u_lo = 0.4,
         double u_hi = 1.6) {
    drifts.assign(kicks + 1, 1.0 / static_cast<double>(kicks));
    drifts.front() = drifts.back() = 0.5 / static_cast<double>(kicks);
    for (int s = 0; s < species; ++s) masses.push_back(1 + 0.7 * s);
    const std::int64_t halves = (kicks + 1) / 2, pairs = species * (species + 1) / 2;
    for (int row = 0; row < halves * pairs * M; ++row) {
      const double u = u_lo + (u_hi - u_lo) * static_cast<double>(row % M) / static_cast<double>(M);
      coefficients.push_back(3 * std::pow(u, 6) + 0.3 * noise(row / static_cast<int>(M)));
      for (int k = 1; k < 4; ++k) coefficients.push_back(0.1 * noise(4 * row + k));
    }
    tables = {0.04,
              {drifts.data(), {kicks + 1}},
              {masses.data(), {species}},
              {coefficients.data(), {halves, pairs, M, 4}},
              u_lo,
              u_hi};
  }

  std::vector<double> drifts, masses, coefficients;
  SplittingTables tables;
};

/// Replicas around a lattice.
struct Particles {
  Particles(std::int64_t R, std::int64_t n, std::int64_t kinds, double apart = 1.3) : R(R), n(n) {
    const auto side = static_cast<std::int64_t>(std::ceil(std::cbrt(static_cast<double>(n))));
    edge = apart * static_cast<double>(side);
    int next = 0;
    for (std::int64_t r = 0; r < R; ++r) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t place[3] = {i % side, i / side % side, i / side / side};
        for (std::int64_t at : place) {
          x.push_back(apart * static_cast<double>(at) + 0.05 * noise(++next));
          v.push_back(noise(3 * next));
        }
      }
    }
    for (std::int64_t i = 0; i < n; ++i) species.push_back(static_cast<int>(i * 7 % 5 % kinds));
    done.assign(R, 0);
    closest.assign(R, kInfinity);
    status.assign(R, 0);
  }

  SplittingState state() {
    return {{x.data(), {R, n, 3}},
            {v.data(), {R, n, 3}},
            {done.data(), {R}},
            {closest.data(), {R}},
            {status.data(), {R}}};
  }
  SplittingSystem system(const Cell& cell = Cell::open()) const {
    return {cell, 0, {species.data(), {n}}};
  }

  std::int64_t R, n;
  double edge;
  std::vector<double> x, v, closest;
  std::vector<std::int32_t> species, status;
  std::vector<std::int64_t> done;
};

void run(const PairSplitting& splitting, Particles& particles, const Cell& cell, int steps,
         int threads = 1) {
  splitting.run(Context{threads}, particles.system(cell), particles.state(), steps, 0, 1, {}, {});
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want, double limit) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t k = 0; k < got.size(); ++k) ASSERT_NEAR(got[k], want[k], limit) << k;
}

TEST(Splitting, MatchesTheReference) {
  for (std::int64_t species : {1, 2, 3}) {
    for (std::int64_t n : {1, 2, 7, 8, 9, 17, 33, 128, 129, 140}) {
      for (bool periodic : {false, true}) {
        const Tables tables(3, species, 9);
        const PairSplitting splitting(tables.tables);
        Particles got(1, n, species), want = got;
        Cell cell = periodic ? Cell::cubic(std::max(got.edge, 3.0)) : Cell::open();
        if (periodic) cell.rows[3] = 0.3;
        run(splitting, got, cell, 2);
        double closest = kInfinity;
        for (int step = 0; step < 2; ++step) {
          closest = std::min(
              closest, mlcore::reference::splitting_step(tables.tables, want.system(cell),
                                                         want.state().x[0], want.state().v[0]));
        }
        EXPECT_EQ(got.done[0], 2);
        expect_near(got.x, want.x, 1e-12);
        expect_near(got.v, want.v, 1e-12);
        EXPECT_TRUE(got.closest[0] == closest || std::fabs(got.closest[0] - closest) < 1e-12);
      }
    }
  }
}

TEST(Splitting, IsReversible) {
  const Tables tables(5, 2, 9);
  const PairSplitting splitting(tables.tables);
  for (std::int64_t n : {16, 200}) {
    const Particles start(2, n, 2);
    Particles moving = start;
    const Cell cell = Cell::cubic(start.edge);
    run(splitting, moving, cell, 10);
    for (double& speed : moving.v) speed = -speed;
    run(splitting, moving, cell, 10);
    for (double& speed : moving.v) speed = -speed;
    EXPECT_EQ(moving.done[1], 20);
    expect_near(moving.x, start.x, 1e-11);
    expect_near(moving.v, start.v, 1e-10);
  }
}

TEST(Splitting, ThreadsAndPiecesDoNotShow) {
  const Tables tables(4, 2, 9);
  const PairSplitting splitting(tables.tables);
  for (std::int64_t n : {16, 700}) {
    const Particles start(3, n, 2);
    const Cell cell = Cell::cubic(start.edge);
    Particles one = start;
    run(splitting, one, cell, 6);
    for (int threads : {2, 5}) {
      Particles many = start;
      mlcore::SplittingLists lists;
      for (int piece = 0; piece < 3; ++piece) {
        splitting.run(Context{threads}, many.system(cell), many.state(), 2, 0, 1, {}, {}, &lists);
      }
      EXPECT_EQ(many.x, one.x);
      EXPECT_EQ(many.v, one.v);
      EXPECT_EQ(many.done, one.done);
      EXPECT_EQ(many.closest, one.closest);
    }
  }
}

TEST(Splitting, StopsAtTheLastGoodState) {
  const Tables tables(2, 1, 9);
  const PairSplitting splitting(tables.tables);
  for (std::int64_t n : {16, 200}) {
    Particles particles(2, n, 1);
    for (int k = 0; k < 3; ++k) particles.x[3 + k] = particles.x[k] + (k == 0 ? 0.7 : 0);
    for (int k = 0; k < 3; ++k) particles.v[3 + k] = particles.v[k] - (k == 0 ? 20 : 0);
    const Particles start = particles;
    std::vector<double> frames(2 * 3 * n * 3, 1.0), speeds = frames;
    splitting.run(Context{1}, particles.system(), particles.state(), 1, 0, 2,
                  {frames.data(), {2, 3, n, 3}}, {speeds.data(), {2, 3, n, 3}});
    EXPECT_EQ(particles.status[0], static_cast<int>(SplittingStatus::too_close));
    EXPECT_EQ(particles.status[1], static_cast<int>(SplittingStatus::running));
    EXPECT_EQ(particles.done, (std::vector<std::int64_t>{0, 2}));
    EXPECT_LT(particles.closest[0], splitting.closest());
    EXPECT_GE(particles.closest[1], splitting.closest());
    for (std::int64_t k = 0; k < 3 * n; ++k) {
      EXPECT_EQ(particles.x[k], start.x[k]);
      EXPECT_EQ(particles.v[k], start.v[k]);
      EXPECT_TRUE(std::isnan(frames[3 * n + k]) && std::isnan(speeds[6 * n + k]));
      EXPECT_EQ(frames[k], 1.0);  // frame 0 is the caller's
      EXPECT_EQ(frames[5 * 3 * n + k], particles.x[3 * n + k]);
    }
  }
}

TEST(Splitting, KicksOfRowsAreThoseOfARun) {
  const Tables tables(3, 2, 9);
  const PairSplitting splitting(tables.tables);
  Particles want(1, 300, 2), got = want;
  run(splitting, want, Cell::open(), 1);
  const View<double, 2> x = got.state().x[0], v = got.state().v[0];
  const auto drift = [&](int k) {
    for (std::int64_t e = 0; e < x.size(); ++e) {
      x.data[e] += tables.drifts[k] * tables.tables.step * v.data[e];
    }
  };
  drift(0);
  double closest = kInfinity;
  for (int stage = 0; stage < splitting.kicks(); ++stage) {
    mlcore::NeighborCutoff cutoff;
    cutoff.cutoff = splitting.cutoff() + 0.4;
    const mlcore::NeighborSearch search(Context{1}, x, Cell::open(), cutoff);
    std::vector<std::int32_t> columns(search.count());
    mlcore::NeighborArrays<std::int32_t> arrays;
    arrays.j = {columns.data(), {search.count()}};
    search.fill(Context{1}, arrays);
    PairRows rows;
    rows.x = x;
    rows.types = {got.species.data(), {300}};
    rows.offsets = search.offsets();
    rows.columns = {columns.data(), {search.count()}};
    closest = std::min(closest, splitting.kick(Context{2}, stage, rows, v));
    drift(stage + 1);
  }
  EXPECT_NEAR(closest, want.closest[0], 1e-14);
  expect_near(got.x, want.x, 1e-13);
  expect_near(got.v, want.v, 1e-12);
}

TEST(Splitting, LongRowsAreReadInPieces) {
  const Tables tables(1, 1, 9, 0.05);
  const PairSplitting splitting(tables.tables);
  Particles got(1, 1000, 1), want = got;
  run(splitting, got, Cell::open(), 1);
  mlcore::reference::splitting_step(tables.tables, want.system(), want.state().x[0],
                                    want.state().v[0]);
  expect_near(got.x, want.x, 1e-12);
  expect_near(got.v, want.v, 1e-11);
}

TEST(Splitting, NamesWhatIsWrong) {
  const auto message = [](const SplittingTables& tables) -> std::string {
    try {
      const PairSplitting splitting(tables);
    } catch (const InvalidArgument& error) {
      return error.what();
    }
    return "";
  };
  const auto told = [&](auto&& change, const char* name) {
    Tables tables(2, 2, 5);
    change(tables);
    EXPECT_NE(message(tables.tables).find(name), std::string::npos) << name;
  };
  told([](Tables& t) { t.tables.step = 0; }, "h must");
  told([](Tables& t) { t.drifts[0] = 0.3; }, "drifts");
  told([](Tables& t) { t.drifts[1] = 0.6; }, "drifts");
  told([](Tables& t) { t.masses[1] = -1; }, "masses");
  told([](Tables& t) { t.coefficients[3] = kInfinity; }, "coefficients");
  told([](Tables& t) { t.tables.coefficients.shape[1] = 2; }, "coefficients");
  told([](Tables& t) { t.tables.u_lo = -1; }, "u_lo");
  told([](Tables& t) { t.tables.u_hi = t.tables.u_lo; }, "u_hi");
  const Tables tables(2, 2, 5);
  const PairSplitting splitting(tables.tables);
  Particles particles(1, 4, 2);
  particles.species[2] = 2;
  EXPECT_THROW(run(splitting, particles, Cell::open(), 1), InvalidArgument);
  particles.species[2] = 1;
  particles.x[4] = kInfinity;
  EXPECT_THROW(run(splitting, particles, Cell::open(), 1), InvalidArgument);
  particles.x[4] = 0;
  SplittingSystem walled = particles.system(Cell::cubic(9));
  walled.wall = 3;
  EXPECT_THROW(splitting.run(Context{1}, walled, particles.state(), 1, 0, 1, {}, {}, nullptr),
               InvalidArgument);
  EXPECT_THROW(splitting.kick(Context{1}, 0, PairRows{}, {}), InvalidArgument);
}

}  // namespace
