#include "mlcore/dynamics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "mlcore/random.hpp"
#include "mlcore/reference/dynamics.hpp"

namespace {

using mlcore::BrownianOptions;
using mlcore::Cell;
using mlcore::ForceField;
using mlcore::PairForce;
using mlcore::Scheme;
using Values = std::vector<double>;

const Cell kSkewed{{5, 0, 0, 1.5, 4.5, 0, -1, 0.7, 4}, {true, true, true}};
const Cell kSlab{{5, 0, 0, 1.5, 4.5, 0, 0, 0, 0}, {true, true, false}};

/// Distorted lattice: no two particles nearer than about 1.5.
Values lattice(std::int64_t n) {
  Values x;
  for (std::int64_t i = 0; i < n; ++i) {
    x.insert(x.end(), {2.2 * (i % 3) + 0.2 * std::sin(i), 2.1 * (i / 3 % 3) + 0.2 * std::cos(i),
                       2.3 * (i / 9) + 0.1 * std::sin(3.0 * i)});
  }
  return x;
}

/// A field with every kind of force in it.
struct FullField {
  explicit FullField(std::int64_t n) : constant(3 * n), centres(3 * n) {
    for (std::size_t k = 0; k < constant.size(); ++k) {
      constant[k] = 0.1 * std::sin(2.0 * k);
      centres[k] = std::cos(1.0 * k);
    }
    field.constant = {constant.data(), {n, 3}};
    field.centres = {centres.data(), {n, 3}};
    field.stiffness = 0.7;
    field.pairs = {pairs.data(), {2}};
  }
  Values constant, centres;
  std::vector<PairForce> pairs = {{PairForce::Kind::yukawa, 1.3, 0.8, 3.7},
                                  {PairForce::Kind::lennard_jones, 0.9, 1.1, 2.9}};
  ForceField field;
};

mlcore::View<const double, 2> view(const Values& x) {
  return {x.data(), {static_cast<std::int64_t>(x.size() / 3), 3}};
}

double evaluate(const ForceField& field, const Cell& cell, const Values& x, Values& F,
                int threads = 1) {
  F.resize(x.size());
  return mlcore::force_field({threads}, field, cell, view(x), {F.data(), view(x).shape});
}

TEST(Dynamics, ForcesMatchReferenceAndDoNotDependOnThreads) {
  for (std::int64_t n : {1, 2, 7, 200}) {
    const FullField full(n);
    const Values x = lattice(n);
    for (const Cell& cell : {Cell::open(), Cell::cubic(30), kSkewed, kSlab}) {
      Values F, again, expected(x.size());
      if (n > 7 && !cell.is_open() && cell.rows[0] < 10) continue;  // would overlap
      const double energy = evaluate(full.field, cell, x, F);
      const double reference = mlcore::reference::force_field(full.field, cell, view(x),
                                                              {expected.data(), view(x).shape});
      EXPECT_NEAR(energy, reference, 1e-11 * std::fabs(reference) + 1e-11);
      for (std::size_t k = 0; k < F.size(); ++k) {
        EXPECT_NEAR(F[k], expected[k], 1e-10 * (1 + std::fabs(expected[k])));
      }
      for (int threads : {2, 7}) {
        EXPECT_EQ(evaluate(full.field, cell, x, again, threads), energy);
        EXPECT_EQ(again, F);
      }
    }
  }
}

TEST(Dynamics, ForcesAreTheSlopeOfTheEnergy) {
  const FullField full(5);
  const double h = 1e-5;
  for (const Cell& cell : {Cell::open(), kSkewed, kSlab}) {
    Values x = lattice(5), F, unused;
    evaluate(full.field, cell, x, F);
    for (std::size_t k = 0; k < x.size(); ++k) {
      Values up = x, down = x;
      up[k] += h;
      down[k] -= h;
      const double slope =
          (evaluate(full.field, cell, up, unused) - evaluate(full.field, cell, down, unused)) /
          (2 * h);
      EXPECT_NEAR(-slope, F[k], 1e-6 * (1 + std::fabs(F[k])));
    }
  }
}

TEST(Dynamics, CoincidingParticlesAreNamed) {
  const FullField full(3);
  Values F;
  try {
    evaluate(full.field, Cell::open(), {0, 0, 0, 1, 1, 1, 0, 0, 0}, F);
    FAIL() << "no error";
  } catch (const mlcore::InvalidArgument& error) {
    EXPECT_NE(std::string(error.what()).find("particles 0 and 2"), std::string::npos);
  }
}

/// RPY plus a table with a divergence.
struct Model {
  Model() {
    const int knots = 401;
    const double cutoff = 8;
    for (int k = 0; k < knots; ++k) {
      const double r = cutoff * k / (knots - 1), u = 1 - r / cutoff;
      par.push_back(0.02 * u * u);
      dpar.push_back(-0.04 * u / cutoff);
      perp.push_back(0.01 * u * u * u);
      dperp.push_back(-0.03 * u * u / cutoff);
    }
    model.kernel = mlcore::Kernel::rpy;
    model.self = 0.05;
    model.table = {{par.data(), {knots}},
                   {dpar.data(), {knots}},
                   {perp.data(), {knots}},
                   {dperp.data(), {knots}},
                   cutoff};
  }
  Values par, dpar, perp, dperp;
  mlcore::MobilityModel model;
};

BrownianOptions options(Scheme scheme) {
  BrownianOptions result;
  result.dt = 0.02;
  result.kT = 0.8;
  result.every = 3;
  result.scheme = scheme;
  result.seed = 99;
  result.stream = 4;
  return result;
}

struct Frames {
  Frames(std::int64_t replicas, std::int64_t frames, std::int64_t n)
      : data(replicas * frames * n * 3), view(data.data(), {replicas, frames, n, 3}) {
    const Values x = lattice(n);
    for (std::int64_t r = 0; r < replicas; ++r) {
      std::copy(x.begin(), x.end(), view[r][0].begin());
    }
  }
  Values data;
  mlcore::View<double, 4> view;
};

TEST(Dynamics, TrajectoriesMatchReference) {
  const std::int64_t n = 5, frames = 5, replicas = 3;
  const FullField full(n);
  const Model mobility;
  for (const Cell& cell : {Cell::open(), Cell::cubic(9)}) {
    for (Scheme scheme : {Scheme::euler_maruyama, Scheme::midpoint}) {
      for (bool drift : {true, false}) {
        BrownianOptions o = options(scheme);
        if (scheme == Scheme::euler_maruyama) o.drift = drift;
        Frames run(replicas, frames, n);
        mlcore::brownian({}, mobility.model, cell, full.field, o, run.view, 0, frames - 1);
        for (std::int64_t r = 0; r < replicas; ++r) {
          Frames expected(1, frames, n);
          BrownianOptions one = o;
          one.stream += static_cast<std::uint32_t>(r);
          mlcore::reference::brownian(mobility.model, cell, full.field, one, expected.view[0]);
          for (std::int64_t k = 0; k < frames * n * 3; ++k) {
            EXPECT_NEAR(run.view[r].data[k], expected.data[k], 1e-7);
          }
        }
      }
    }
  }
}

TEST(Dynamics, PiecesThreadsAndReplicaCountChangeNothing) {
  const std::int64_t n = 12, frames = 7, replicas = 5;
  const FullField full(n);
  const Model mobility;
  for (Scheme scheme : {Scheme::euler_maruyama, Scheme::midpoint}) {
    const BrownianOptions o = options(scheme);
    Frames whole(replicas, frames, n);
    mlcore::brownian({1}, mobility.model, Cell::cubic(12), full.field, o, whole.view, 0,
                     frames - 1);
    for (int threads : {1, 2, 7}) {
      Frames pieces(replicas, frames, n);
      for (std::int64_t first : {0, 1, 4}) {
        const std::int64_t last = first == 0 ? 1 : first == 1 ? 4 : frames - 1;
        mlcore::brownian({threads}, mobility.model, Cell::cubic(12), full.field, o, pieces.view,
                         first, last);
      }
      EXPECT_EQ(pieces.data, whole.data) << threads;
    }
    Frames third(1, frames, n);
    BrownianOptions shifted = o;
    shifted.stream += 2;
    mlcore::brownian({2}, mobility.model, Cell::cubic(12), full.field, shifted, third.view, 0,
                     frames - 1);
    EXPECT_TRUE(std::equal(third.data.begin(), third.data.end(), whole.view[2].begin()));
  }
}

/// A step by Lanczos is that with the symmetric root of sqrt_apply; pieces and threads do nothing.
TEST(Dynamics, MatrixFreeStepsAreThoseOfTheSymmetricRoot) {
  const std::int64_t n = 12, frames = 5, replicas = 3;
  const FullField full(n);
  const Model mobility;
  for (const Cell& cell : {Cell::open(), Cell::cubic(12)}) {
    BrownianOptions o = options(Scheme::euler_maruyama);
    o.every = 1;
    o.noise = mlcore::SqrtMethod::lanczos;
    o.noise_tolerance = 1e-9;
    Frames run(replicas, frames, n);
    mlcore::brownian({1}, mobility.model, cell, full.field, o, run.view, 0, frames - 1);
    for (int threads : {2, 7}) {
      Frames pieces(replicas, frames, n);
      mlcore::brownian({threads}, mobility.model, cell, full.field, o, pieces.view, 0, 1);
      mlcore::brownian({threads}, mobility.model, cell, full.field, o, pieces.view, 1, frames - 1);
      EXPECT_EQ(pieces.data, run.data) << threads;
    }
    mlcore::SqrtOptions root;
    root.method = mlcore::SqrtMethod::chebyshev;
    root.tolerance = 1e-10;
    std::vector<std::uint32_t> tags(n);
    for (std::int64_t i = 0; i < n; ++i) tags[i] = static_cast<std::uint32_t>(i);
    Values F(3 * n), V(3 * n), D(3 * n), xi(3 * n), g(3 * n);
    const mlcore::View<double, 2> f(F.data(), {n, 3}), v(V.data(), {n, 3}), d(D.data(), {n, 3}),
        random(xi.data(), {n, 3});
    for (std::int64_t r = 0; r < replicas; ++r) {
      for (std::int64_t step = 0; step + 1 < frames; ++step) {
        const mlcore::View<const double, 2> x(run.view[r][step]);
        mlcore::force_field({}, full.field, cell, x, f);
        mlcore::mobility_apply({}, mobility.model, cell, x, mlcore::View<const double, 2>(f), v);
        mlcore::mobility_divergence({}, mobility.model, cell, x, d);
        mlcore::random_normal({}, o.seed, o.stream + static_cast<std::uint32_t>(r), step,
                              {tags.data(), {n}}, random);
        mlcore::sqrt_apply({}, mobility.model, cell, x,
                           mlcore::View<const double, 3>(xi.data(), {1, n, 3}),
                           mlcore::View<double, 3>(g.data(), {1, n, 3}), root);
        for (std::int64_t k = 0; k < 3 * n; ++k) {
          const double want =
              x.data[k] + o.dt * (V[k] + o.kT * D[k]) + std::sqrt(2 * o.kT * o.dt) * g[k];
          EXPECT_NEAR(run.view[r][step + 1].data[k], want, 1e-8);
        }
      }
    }
  }
}

TEST(Dynamics, OneFreeStepIsTheRandomNumber) {
  mlcore::MobilityModel model;
  model.self = 2;
  BrownianOptions o = options(Scheme::euler_maruyama);
  o.every = 1;
  Frames run(1, 4, 6);
  mlcore::brownian({}, model, Cell::open(), {}, o, run.view, 0, 3);
  const std::uint32_t tags[] = {0, 1, 2, 3, 4, 5};
  for (std::int64_t step = 0; step < 3; ++step) {
    Values xi(18);
    mlcore::random_normal({}, o.seed, o.stream, step, {tags, {6}}, {xi.data(), {6, 3}});
    for (int k = 0; k < 18; ++k) {
      const double moved = run.view[0][step + 1].data[k] - run.view[0][step].data[k];
      EXPECT_NEAR(moved, std::sqrt(2 * o.kT * o.dt * 2) * xi[k], 1e-13);
    }
  }
}

TEST(Dynamics, WithoutTemperatureNothingIsRandom) {
  mlcore::MobilityModel model;
  model.self = 1;
  ForceField trap;
  trap.stiffness = 1;
  for (Scheme scheme : {Scheme::euler_maruyama, Scheme::midpoint}) {
    BrownianOptions o = options(scheme);
    o.kT = 0;
    o.dt = 0.1;
    Frames run(1, 2, 2);
    mlcore::brownian({}, model, Cell::open(), trap, o, run.view, 0, 1);
    const double factor = scheme == Scheme::midpoint ? 1 - 0.1 + 0.005 : 1 - 0.1;
    for (int k = 0; k < 6; ++k) {
      EXPECT_NEAR(run.data[6 + k], run.data[k] * std::pow(factor, 3), 1e-14);
    }
  }
}

TEST(Dynamics, BlowUpNamesReplicaStepAndParticle) {
  mlcore::MobilityModel model;
  model.self = 1;
  const std::vector<PairForce> pairs = {{PairForce::Kind::lennard_jones, 1, 1, 2.5}};
  ForceField field;
  field.pairs = {pairs.data(), {1}};
  BrownianOptions o;
  o.dt = 0.001;
  o.kT = 0;
  Values data(2 * 3 * 3 * 3);
  const mlcore::View<double, 4> frames(data.data(), {2, 3, 3, 3});
  const Values apart = {0, 0, 0, 5, 0, 0, 9, 0, 0}, overlapping = {0, 0, 0, 5, 0, 0, 5.3, 0, 0};
  std::copy(apart.begin(), apart.end(), frames[0][0].begin());
  std::copy(overlapping.begin(), overlapping.end(), frames[1][0].begin());
  try {
    mlcore::brownian({}, model, Cell::open(), field, o, frames, 0, 2);
    FAIL() << "no error";
  } catch (const mlcore::Error& error) {
    EXPECT_NE(std::string(error.what()).find("at step 0 of replica 1: particle 1 would move by"),
              std::string::npos)
        << error.what();
  }
}

TEST(Dynamics, IndefiniteMobilityIsAnErrorOrRepaired) {
  mlcore::MobilityModel model;
  model.kernel = mlcore::Kernel::oseen;
  BrownianOptions o;
  o.dt = 1e-6;
  Values data = {0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0, 0};
  const mlcore::View<double, 4> frames(data.data(), {1, 2, 2, 3});
  try {
    mlcore::brownian({}, model, Cell::open(), {}, o, frames, 0, 1);
    FAIL() << "no error";
  } catch (const mlcore::NotPositiveDefinite& error) {
    EXPECT_LT(error.smallest_eigenvalue, 0);
    EXPECT_EQ(error.second, 1);
    EXPECT_NE(std::string(error.what()).find("at step 0"), std::string::npos);
  }
  o.psd = mlcore::Indefinite::repair;
  EXPECT_NO_THROW(mlcore::brownian({}, model, Cell::open(), {}, o, frames, 0, 1));
  o.noise = mlcore::SqrtMethod::lanczos;
  EXPECT_NO_THROW(mlcore::brownian({}, model, Cell::open(), {}, o, frames, 0, 1));
  o.psd = mlcore::Indefinite::error;
  EXPECT_THROW(mlcore::brownian({}, model, Cell::open(), {}, o, frames, 0, 1),
               mlcore::NotPositiveDefinite);
}

TEST(Dynamics, RejectsBadArguments) {
  const Model mobility;
  const auto attempt = [&](auto change) {
    BrownianOptions o = options(Scheme::euler_maruyama);
    ForceField field;
    Frames run(2, 3, 4);
    std::int64_t last = 2;
    change(o, field, run, last);
    EXPECT_THROW(mlcore::brownian({}, mobility.model, Cell::open(), field, o, run.view, 0, last),
                 mlcore::InvalidArgument);
  };
  using O = BrownianOptions;
  using L = std::int64_t;
  attempt([](O& o, ForceField&, Frames&, L&) { o.dt = 0; });
  attempt([](O& o, ForceField&, Frames&, L&) { o.kT = -1; });
  attempt([](O& o, ForceField&, Frames&, L&) { o.every = 0; });
  attempt([](O& o, ForceField&, Frames&, L&) { o.stream = (1u << 30) - 1; });
  attempt([](O& o, ForceField&, Frames&, L&) { o.drift = false, o.scheme = Scheme::midpoint; });
  attempt([](O& o, ForceField&, Frames&, L&) { o.noise_tolerance = 0; });
  attempt([](O& o, ForceField&, Frames&, L&) { o.noise_tolerance = NAN; });
  attempt([](O& o, ForceField&, Frames&, L&) {
    o.noise = mlcore::SqrtMethod::lanczos, o.scheme = Scheme::midpoint;
  });
  attempt([](O&, ForceField&, Frames&, L& last) { last = 3; });
  attempt([](O&, ForceField&, Frames& run, L&) { run.data[4] = NAN; });
  attempt([](O&, ForceField& field, Frames&, L&) {
    static const double three[3] = {};
    field.constant = {three, {1, 3}};
  });
  for (PairForce bad :
       {PairForce{PairForce::Kind::yukawa, 1, 0, 1}, PairForce{PairForce::Kind::yukawa, 1, 1, 0},
        PairForce{PairForce::Kind::yukawa, NAN, 1, 1}}) {
    attempt([&](O&, ForceField& field, Frames&, L&) { field.pairs = {&bad, {1}}; });
  }
}

/// CPU memory passed for a GPU's: refused, with CUDA (where it lies) and without (no backend).
TEST(Dynamics, NothingRunsOnAGpuThatIsNotThere) {
  std::vector<double> values(6);
  const mlcore::View<double, 2> x(values.data(), {2, 3}, mlcore::Device::cuda);
  const mlcore::View<double, 3> batch(values.data(), {1, 2, 3}, mlcore::Device::cuda);
  const mlcore::View<double, 4> frames(values.data(), {1, 2, 1, 3}, mlcore::Device::cuda);
  mlcore::ForceField field;
  EXPECT_THROW(mlcore::force_field({}, field, mlcore::Cell::open(), x, x), mlcore::Error);
  EXPECT_THROW(mlcore::system_forces({}, {}, batch, batch, {}), mlcore::Error);
  EXPECT_THROW(mlcore::system_force_gradient({}, {}, batch, batch, batch), mlcore::Error);
  mlcore::BrownianOptions options;
  options.dt = 1;
  mlcore::MobilityModel model;
  model.kernel = mlcore::Kernel::rpy;
  EXPECT_THROW(mlcore::brownian({}, model, mlcore::Cell::open(), field, options, frames, 0, 1),
               mlcore::Error);
  options.scheme = mlcore::Scheme::midpoint;
  EXPECT_THROW(mlcore::brownian({}, model, mlcore::Cell::open(), field, options, frames, 0, 1),
               mlcore::Error);
  const mlcore::View<double, 2> on_cpu(values.data(), {2, 3});
  EXPECT_THROW(mlcore::force_field({}, field, mlcore::Cell::open(), x, on_cpu),
               mlcore::InvalidArgument);
}

}  // namespace
