#include <array>
#include <numbers>
#include <vector>

#include "mobility_gradient.hpp"
#include "parallel.hpp"

namespace mlcore::detail {
namespace {

using Vector = std::array<double, 3>;

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

Vector row_of(View<const double, 2> v, std::int64_t i) { return {v(i, 0), v(i, 1), v(i, 2)}; }

/// The weight tensor of a wave vector times a vector.
Vector weighted(const double* w, const Vector& v) {
  return {w[0] * v[0] + w[1] * v[1] + w[2] * v[2], w[1] * v[0] + w[3] * v[1] + w[4] * v[2],
          w[2] * v[0] + w[4] * v[1] + w[5] * v[2]};
}

std::vector<Vector> wave_vectors(const MobilityPlan& plan) {
  std::vector<Vector> k;
  for (const kernels::WaveRow& row : plan.ewald->waves.rows) {
    for (std::int32_t n1 = row.begin; n1 < row.end; ++n1) {
      Vector v;
      for (int c = 0; c < 3; ++c) {
        v[c] = 2.0 * std::numbers::pi *
               (n1 * plan.inverse[3 * c] + row.n2 * plan.inverse[3 * c + 1] +
                row.n3 * plan.inverse[3 * c + 2]);
      }
      k.push_back(v);
    }
  }
  return k;
}

/// sum_j v_j cos k.x_j and sum_j v_j sin k.x_j.
struct Wave {
  Vector c{}, s{};

  void add(const Vector& v, double cosine, double sine) {
    for (int a = 0; a < 3; ++a) {
      c[a] += v[a] * cosine;
      s[a] += v[a] * sine;
    }
  }
  Wave weighted_by(const double* w) const { return {weighted(w, c), weighted(w, s)}; }
  /// v . (s cos - c sin): the slope of v . (c cos + s sin) along k.
  double slope(const Vector& v, double cosine, double sine) const {
    return dot(v, s) * cosine - dot(v, c) * sine;
  }
  double value(const Vector& v, double cosine, double sine) const {
    return dot(v, c) * cosine + dot(v, s) * sine;
  }
  Vector vector(double cosine, double sine) const {
    return {c[0] * cosine + s[0] * sine, c[1] * cosine + s[1] * sine, c[2] * cosine + s[2] * sine};
  }
  Vector slope_vector(double cosine, double sine) const {
    return {s[0] * cosine - c[0] * sine, s[1] * cosine - c[1] * sine, s[2] * cosine - c[2] * sine};
  }
};

class Waves {
 public:
  Waves(const Context& context, const MobilityPlan& plan, const Particles& particles)
      : k(wave_vectors(plan)),
        context_(context),
        part_(plan.ewald->waves),
        view_(part_.view()),
        particles_(particles) {}

  const double* weights(std::int64_t index) const { return view_.weights + 6 * index; }

  /// Sums over the particles of v, and with a motion those of its change: v (k.H) (-sin, cos).
  std::vector<Wave> sums(View<const double, 2> v, const View<const double, 2>* motion) const {
    std::vector<Wave> waves(view_.count);
    // Threads share the wave vectors, so the order of summation does not depend on their number.
    parallel_for(context_, view_.row_count, 8, [&](std::int64_t begin, std::int64_t end, int) {
      const std::int64_t first = view_.rows[begin].first;
      const std::int64_t last = end < view_.row_count ? view_.rows[end].first : view_.count;
      kernels::WaveVectors some = view_;
      some.rows += begin;
      some.row_count = end - begin;
      std::vector<double> phases(2 * kTile * (last - first));
      for (std::int64_t t = 0; t < tile_count(particles_.n); ++t) {
        fill(some, t, phases.data() - 2 * kTile * first);
        for (std::int64_t m = first; m < last; ++m) {
          const double* p = phases.data() + 2 * kTile * (m - first);
          for (int lane = 0; lane < kTile && t * kTile + lane < particles_.n; ++lane) {
            const std::int64_t j = t * kTile + lane;
            const double rate = motion ? dot(k[m], row_of(*motion, j)) : 0.0;
            const double c = p[lane], s = p[kTile + lane];
            waves[m].add(row_of(v, j), motion ? -rate * s : c, motion ? rate * c : s);
          }
        }
      }
    });
    return waves;
  }

  /// Calls body(i, m, cos, sin) for every particle and wave vector; threads share the particles.
  template <class Body>
  void for_each(const Body& body) const {
    parallel_for(context_, tile_count(particles_.n), 1,
                 [&](std::int64_t begin, std::int64_t end, int) {
                   std::vector<double> phases(2 * kTile * view_.count);
                   for (std::int64_t t = begin; t < end; ++t) {
                     fill(view_, t, phases.data());
                     for (int lane = 0; lane < kTile && t * kTile + lane < particles_.n; ++lane) {
                       for (std::int64_t m = 0; m < view_.count; ++m) {
                         const double* p = phases.data() + 2 * kTile * m + lane;
                         body(t * kTile + lane, m, p[0], p[kTile]);
                       }
                     }
                   }
                 });
  }

  std::vector<Wave> weighted(const std::vector<Wave>& sums) const {
    std::vector<Wave> out;
    for (std::size_t m = 0; m < sums.size(); ++m) out.push_back(sums[m].weighted_by(weights(m)));
    return out;
  }

  const std::vector<Vector> k;

 private:
  void fill(const kernels::WaveVectors& waves, std::int64_t tile, double* phases) const {
    TilePowers& powers = TilePowers::of(part_);
    powers.fill(part_, particles_, tile);
    MLCORE_DISPATCH(mobility_phases)(waves, powers.pointers(), phases);
  }

  const Context& context_;
  const WavePart& part_;
  kernels::WaveVectors view_;
  const Particles& particles_;
};

void add_to(View<double, 2> X, std::int64_t i, double factor, const Vector& k) {
  for (int a = 0; a < 3; ++a) X(i, a) += factor * k[a];
}

}  // namespace

WaveGradients add_wave_gradients(const Context& context, const MobilityModel& model,
                                 const MobilityPlan& plan, const Particles& particles,
                                 View<const double, 2> F, View<const double, 2> G,
                                 View<double, 2> X) {
  const Waves waves(context, plan, particles);
  const std::vector<Wave> f = waves.sums(F, nullptr), g = waves.sums(G, nullptr);
  const std::vector<Wave> wf = waves.weighted(f), wg = waves.weighted(g);
  WaveGradients out;
  const double volume = std::fabs(determinant(plan.cell.rows));
  for (std::size_t m = 0; m < f.size(); ++m) {
    out.value += dot(g[m].c, wf[m].c) + dot(g[m].s, wf[m].s);
    if (model.kernel != Kernel::rpy) continue;
    const Vector& k = waves.k[m];
    const double k2 = dot(k, k), y = k2 / (4.0 * plan.ewald->radial.xi2);
    const double slope = -4.0 * model.radius / 3.0 / (model.viscosity * volume) * (1.0 + y) *
                         std::exp(-y);  // of the weight in the radius
    const auto transverse = [&](const Vector& a, const Vector& b) {
      return dot(a, b) - dot(k, a) * dot(k, b) / k2;
    };
    out.radius += slope * (transverse(g[m].c, f[m].c) + transverse(g[m].s, f[m].s));
  }
  waves.for_each([&](std::int64_t i, std::int64_t m, double c, double s) {
    const double slope = wf[m].slope(row_of(G, i), c, s) + wg[m].slope(row_of(F, i), c, s);
    add_to(X, i, slope, waves.k[m]);
  });
  return out;
}

void add_wave_tangents(const Context& context, const MobilityPlan& plan, const Particles& particles,
                       View<const double, 2> F, View<const double, 2> H, View<double, 2> dV) {
  const Waves waves(context, plan, particles);
  const std::vector<Wave> wf = waves.weighted(waves.sums(F, nullptr));
  const std::vector<Wave> wdf = waves.weighted(waves.sums(F, &H));
  waves.for_each([&](std::int64_t i, std::int64_t m, double c, double s) {
    add_to(dV, i, 1.0, wdf[m].vector(c, s));
    add_to(dV, i, dot(waves.k[m], row_of(H, i)), wf[m].slope_vector(c, s));
  });
}

void add_wave_hessian(const Context& context, const MobilityPlan& plan, const Particles& particles,
                      View<const double, 2> F, View<const double, 2> G, View<const double, 2> H,
                      View<double, 2> dX) {
  const Waves waves(context, plan, particles);
  const std::vector<Wave> wf = waves.weighted(waves.sums(F, nullptr));
  const std::vector<Wave> wg = waves.weighted(waves.sums(G, nullptr));
  const std::vector<Wave> wdf = waves.weighted(waves.sums(F, &H));
  const std::vector<Wave> wdg = waves.weighted(waves.sums(G, &H));
  waves.for_each([&](std::int64_t i, std::int64_t m, double c, double s) {
    const Vector f = row_of(F, i), g = row_of(G, i);
    const double rate = dot(waves.k[m], row_of(H, i));
    const double change = wdf[m].slope(g, c, s) + wdg[m].slope(f, c, s) -
                          rate * (wf[m].value(g, c, s) + wg[m].value(f, c, s));
    add_to(dX, i, change, waves.k[m]);
  });
}

}  // namespace mlcore::detail
