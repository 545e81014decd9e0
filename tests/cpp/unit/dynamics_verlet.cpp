#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "mlcore/dynamics.hpp"
#include "mlcore/reference/dynamics.hpp"

namespace {

using mlcore::Integrator;
using mlcore::Landscape;
using mlcore::ParticleSystem;
using mlcore::SphericalWall;
using mlcore::VerletOptions;
using mlcore::View;
using Values = std::vector<double>;

/// Frames of R replicas that start on distorted lattices.
struct Frames {
  Frames(std::int64_t R, std::int64_t T, std::int64_t n, std::int64_t d, double apart = 1.12)
      : x(R * T * n * d),
        v(x.size()),
        E(R * T * 2),
        m(R * n),
        positions(x.data(), {R, T, n, d}),
        velocities(v.data(), {R, T, n, d}),
        energies(E.data(), {R, T, 2}),
        masses(m.data(), {R, n}) {
    std::int64_t side = 1;
    while (std::pow(side, d) < n) ++side;
    for (std::int64_t r = 0; r < R; ++r) {
      for (std::int64_t i = 0; i < n; ++i) {
        masses(r, i) = 1 + 0.3 * std::sin(1.0 * i + r);
        for (std::int64_t k = 0, rest = i; k < d; ++k, rest /= side) {
          const double jitter = 0.03 * std::sin(12.9 * i + 7.7 * k + 3.1 * r);
          positions[r][0](i, k) = apart * (rest % side - 0.5 * (side - 1)) + jitter;
          velocities[r][0](i, k) = std::cos(5.3 * i + 2.9 * k + r);
        }
      }
    }
  }
  Values x, v, E, m;
  View<double, 4> positions, velocities;
  View<double, 3> energies;
  View<double, 2> masses;
};

VerletOptions options(std::int64_t every = 10, double dt = 1e-3) {
  VerletOptions o;
  o.dt = dt;
  o.every = every;
  return o;
}

void run(const ParticleSystem& system, const VerletOptions& o, Frames& f, int threads = 1) {
  mlcore::verlet({threads}, system, o, f.masses, f.positions, f.velocities, f.energies, 0,
                 f.positions.shape[1] - 1);
}

std::vector<ParticleSystem> systems(std::int64_t d) {
  ParticleSystem open;
  open.epsilon = 1;
  open.trap = 0.8;
  ParticleSystem cut;
  cut.epsilon = 1.3;
  cut.sigma = 0.95;
  cut.cutoff = 1.9;
  ParticleSystem box = cut, tight = cut, specular = cut, soft = cut;
  box.box = 9;
  tight.box = 3.4;
  specular.wall = {SphericalWall::Kind::specular, 4.5};
  soft.wall = {SphericalWall::Kind::wca, 5.2, 1.1, 0.9};
  std::vector<ParticleSystem> all{open, cut, box, specular, soft};
  if (d == 3) all.push_back(tight);
  return all;
}

TEST(Verlet, MatchesReference) {
  for (std::int64_t d : {1, 2, 3}) {
    for (const ParticleSystem& system : systems(d)) {
      for (std::int64_t n : {1, 2, 3, 4, 7, 8, 9, 17, 40}) {
        const double span = 1.12 * std::ceil(std::pow(n, 1.0 / d));
        const bool walled = system.wall.kind != SphericalWall::Kind::none;
        if ((d == 1 && n > 6) || (walled && span * std::sqrt(d) > 7.5)) continue;
        if (system.box > 0 && system.box < span) continue;
        Frames got(1, 3, n, d), want(1, 3, n, d);
        run(system, options(4), got);
        mlcore::reference::verlet(system, options(4), want.masses[0], want.positions[0],
                                  want.velocities[0], want.energies[0]);
        for (std::size_t k = 0; k < got.x.size(); ++k) {
          ASSERT_NEAR(got.x[k], want.x[k], 1e-11) << "n " << n << " d " << d;
          ASSERT_NEAR(got.v[k], want.v[k], 1e-9);
        }
        for (std::size_t k = 0; k < got.E.size(); ++k) {
          ASSERT_NEAR(got.E[k], want.E[k], 1e-9 * (1 + std::fabs(want.E[k])));
        }
      }
    }
  }
}

TEST(Verlet, LandscapesMatchReference) {
  for (auto kind :
       {Landscape::Kind::lennard_jones, Landscape::Kind::double_well, Landscape::Kind::rugged}) {
    for (std::int64_t n : {1, 5}) {
      ParticleSystem system;
      system.landscape = {kind, 0.9, 1.05};
      system.trap = 0.1;
      Frames got(1, 4, n, 1), want(1, 4, n, 1);
      for (Frames* f : {&got, &want}) {
        for (std::int64_t i = 0; i < n; ++i) f->x[i] = 1.2 + 0.7 * i;
      }
      run(system, options(200), got);
      mlcore::reference::verlet(system, options(200), want.masses[0], want.positions[0],
                                want.velocities[0], want.energies[0]);
      for (std::size_t k = 0; k < got.x.size(); ++k) ASSERT_NEAR(got.x[k], want.x[k], 1e-9);
      for (std::size_t k = 0; k < got.E.size(); ++k) ASSERT_NEAR(got.E[k], want.E[k], 1e-8);
    }
  }
}

TEST(Verlet, ReplicasThreadsAndPiecesChangeNothing) {
  for (Integrator integrator : {Integrator::velocity_verlet, Integrator::order8}) {
    for (const ParticleSystem& system : systems(2)) {
      for (std::int64_t n : {1, 2, 3, 5, 12}) {
        VerletOptions o = options(4);
        o.integrator = integrator;
        Frames whole(19, 4, n, 2);
        run(system, o, whole);
        for (int threads : {2, 7}) {
          Frames again(19, 4, n, 2);
          for (std::int64_t first : {0, 2}) {
            mlcore::verlet({threads}, system, o, again.masses, again.positions, again.velocities,
                           again.energies, first, first == 0 ? 2 : 3);
          }
          ASSERT_EQ(again.x, whole.x);
          ASSERT_EQ(again.v, whole.v);
          ASSERT_EQ(again.E, whole.E);
        }
        for (std::int64_t r : {0, 18}) {
          Frames one(1, 4, n, 2);
          std::copy_n(whole.positions[r][0].data, 2 * n, one.x.data());
          std::copy_n(whole.velocities[r][0].data, 2 * n, one.v.data());
          std::copy_n(whole.masses[r].data, n, one.m.data());
          run(system, o, one);
          ASSERT_TRUE(std::equal(one.x.begin(), one.x.end(), whole.positions[r].data));
          ASSERT_TRUE(std::equal(one.v.begin(), one.v.end(), whole.velocities[r].data));
        }
      }
    }
  }
}

TEST(Verlet, NeighborListMatchesReference) {
  for (double box : {0.0, 6.8}) {
    for (double skin : {0.05, 1.3}) {
      ParticleSystem system;
      system.epsilon = 1;
      system.cutoff = 2.2;
      system.box = box;
      VerletOptions o = options(8, 5e-3);
      o.skin = skin;
      Frames got(1, 2, 140, 3), want(1, 2, 140, 3);
      run(system, o, got);
      mlcore::reference::verlet(system, o, want.masses[0], want.positions[0], want.velocities[0],
                                want.energies[0]);
      for (std::size_t k = 0; k < got.x.size(); ++k) ASSERT_NEAR(got.x[k], want.x[k], 1e-10);
      EXPECT_NEAR(got.E[2], want.E[2], 1e-9 * std::fabs(want.E[2]));
      Frames threaded(1, 2, 140, 3);
      run(system, o, threaded, 7);
      EXPECT_EQ(threaded.x, got.x);
    }
  }
}

TEST(Verlet, LoneLargeSystemsDoNotDependOnThreads) {
  ParticleSystem system;
  system.epsilon = 1;
  system.cutoff = 2.5;
  system.box = 1.12 * 13;
  Frames one(1, 2, 2197, 3), many(1, 2, 2197, 3);
  run(system, options(30, 2e-3), one, 1);
  run(system, options(30, 2e-3), many, 3);
  EXPECT_EQ(one.x, many.x);
  EXPECT_EQ(one.v, many.v);
  EXPECT_NEAR(one.E[2] + one.E[3], one.E[0] + one.E[1], 0.01 * std::fabs(one.E[0]));
}

TEST(Verlet, ManyParticlesWithoutCutoff) {
  ParticleSystem system;
  system.epsilon = 1;
  Frames got(1, 2, 150, 3), want(1, 2, 150, 3);
  run(system, options(5), got);
  mlcore::reference::verlet(system, options(5), want.masses[0], want.positions[0],
                            want.velocities[0], want.energies[0]);
  for (std::size_t k = 0; k < got.x.size(); ++k) ASSERT_NEAR(got.x[k], want.x[k], 1e-12);
}

TEST(Verlet, Order8Converges) {
  ParticleSystem system;
  system.landscape.kind = Landscape::Kind::double_well;
  double end[3];
  for (int k = 0; k < 3; ++k) {
    const std::int64_t steps = k == 2 ? 400 : 32 << k;
    VerletOptions o = options(steps, 4.0 / steps);
    o.integrator = Integrator::order8;
    Frames f(1, 2, 1, 1);
    f.x[0] = -2;
    f.v[0] = 0;
    f.m[0] = 1;
    run(system, o, f);
    end[k] = f.x[1];
  }
  EXPECT_NEAR(std::log2(std::fabs((end[0] - end[2]) / (end[1] - end[2]))), 8, 0.6);
}

TEST(Verlet, NothingToDo) {
  ParticleSystem system;
  system.epsilon = 1;
  Frames none(3, 2, 0, 3), no_replicas(0, 2, 4, 3), still(2, 1, 4, 3);
  run(system, options(), none);
  run(system, options(), no_replicas);
  run(system, options(), still);
  EXPECT_NE(still.E[0], 0);
  EXPECT_EQ(none.E[3], 0);
}

TEST(Verlet, ErrorsNameTheArgument) {
  const auto attempt = [](const std::string& what,
                          const std::function<void(ParticleSystem&, VerletOptions&, Frames&)>& f) {
    ParticleSystem system;
    system.epsilon = 1;
    VerletOptions o = options();
    Frames frames(2, 2, 4, 3);
    f(system, o, frames);
    try {
      run(system, o, frames);
      ADD_FAILURE() << "no error: " << what;
    } catch (const mlcore::Error& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  using S = ParticleSystem;
  using O = VerletOptions;
  using F = Frames;
  attempt("dt must be positive", [](S&, O& o, F&) { o.dt = 0; });
  attempt("every must be at least 1", [](S&, O& o, F&) { o.every = 0; });
  attempt("skin must not be negative", [](S&, O& o, F&) { o.skin = NAN; });
  attempt("sigma must be positive", [](S& s, O&, F&) { s.sigma = 0; });
  attempt("epsilon must be finite", [](S& s, O&, F&) { s.epsilon = INFINITY; });
  attempt("need a cutoff", [](S& s, O&, F&) { s.box = 5; });
  attempt("one dimension", [](S& s, O&, F&) { s.landscape.kind = Landscape::Kind::rugged; });
  attempt("radius must be positive",
          [](S& s, O&, F&) { s.wall.kind = SphericalWall::Kind::specular; });
  attempt("particle 0 of replica 0 lies outside",
          [](S& s, O&, F&) { s.wall = {SphericalWall::Kind::wca, 0.1}; });
  attempt("mass must be positive", [](S&, O&, F& f) { f.m[5] = -1; });
  attempt("masses must have the shape", [](S&, O&, F& f) { f.masses.shape[1] = 3; });
  attempt("first positions must be finite", [](S&, O&, F& f) { f.x[3] = NAN; });
  attempt("at frame 1 of replica 1",
          [](S&, O&, F& f) { std::copy_n(&f.positions[1][0](1, 0), 3, &f.positions[1][0](0, 0)); });
  attempt("energies must have the shape", [](S&, O&, F& f) { f.energies.shape[2] = 3; });
}

}  // namespace
