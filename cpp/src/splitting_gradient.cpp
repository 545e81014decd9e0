#include "splitting_gradient.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "mlcore/neighbors.hpp"

namespace mlcore::detail {
namespace {

constexpr std::int64_t kAllPairs = 128;  // particles up to which no list is made

/// G of a pair and G' / r.
struct Push {
  double value, slope;
};

class Adjoint {
 public:
  Adjoint(const kernels::SplittingPlan& plan, const SplittingSystem& system, const Cell& cell,
          bool nearest, std::int64_t n)
      : plan_(plan),
        system_(system),
        cell_(cell),
        inverse_(inverse(cell.rows)),
        all_pairs_(nearest && n <= kAllPairs),
        n_(n) {}

  /// The step, keeping the positions of every kick.
  void forward(View<const double, 2> x0, View<const double, 2> v0) {
    std::vector<double> x(x0.begin(), x0.end()), v(v0.begin(), v0.end());
    for (int stage = 0; stage <= plan_.kicks; ++stage) {
      for (std::int64_t e = 0; e < 3 * n_; ++e) x[e] += plan_.drift[stage] * v[e];
      if (stage == plan_.kicks) return;
      kept_.push_back(x);
      each_pair(x, [&](std::int64_t i, std::int64_t j, const double* d) {
        const Push push = push_of(stage, i, j, d);
        for (int k = 0; k < 3; ++k) {
          v[3 * i + k] += push_factor(i) * push.value * d[k];
          v[3 * j + k] -= push_factor(j) * push.value * d[k];
        }
      });
    }
  }

  /// From the adjoints of the end to those of the start.
  void backward(View<double, 2> gx, View<double, 2> gv) const {
    std::vector<double> along(3 * n_);
    for (int stage = plan_.kicks; stage >= 0; --stage) {
      for (std::int64_t e = 0; e < 3 * n_; ++e) gv.data[e] += plan_.drift[stage] * gx.data[e];
      if (stage == 0) return;
      for (std::int64_t e = 0; e < 3 * n_; ++e) along[e] = push_factor(e / 3) * gv.data[e];
      each_pair(kept_[stage - 1], [&](std::int64_t i, std::int64_t j, const double* d) {
        const Push push = push_of(stage - 1, i, j, d);
        double w[3], dot = 0;
        for (int k = 0; k < 3; ++k) {
          w[k] = along[3 * i + k] - along[3 * j + k];
          dot += d[k] * w[k];
        }
        for (int k = 0; k < 3; ++k) {
          const double change = push.value * w[k] + push.slope * dot * d[k];
          gx(i, k) += change;
          gx(j, k) -= change;
        }
      });
    }
  }

 private:
  std::int64_t species(std::int64_t i) const {
    return system_.species.data ? system_.species(i) : 0;
  }
  double push_factor(std::int64_t i) const { return plan_.push[species(i)]; }

  Push push_of(int stage, std::int64_t i, std::int64_t j, const double* d) const {
    const double u = 1 / std::sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]);
    const double s = (std::min(u, plan_.u_hi) - plan_.u_lo) * plan_.per_u;
    const auto k = std::clamp<std::int64_t>(static_cast<std::int64_t>(s), 0, plan_.intervals - 1);
    const double t = s - static_cast<double>(k);
    const std::int64_t start = plan_.start[species(i) * plan_.stride + species(j)];
    const double* c = plan_.rows + 4 * (plan_.table[stage] + start + k);
    const double S = c[0] + t * (c[1] + t * (c[2] + t * c[3]));
    const double bend = u > plan_.u_hi ? 0 : (c[1] + t * (2 * c[2] + t * 3 * c[3])) * plan_.per_u;
    const double u2 = u * u, u8 = u2 * u2 * u2 * u2;
    return {u8 * S, -u8 * u2 * (8 * S + u * bend)};
  }

  /// Calls body(i, j, x_i - x_j) once for each pair within the cutoff.
  template <class Body>
  void each_pair(const std::vector<double>& x, const Body& body) const {
    if (!all_pairs_) return each_listed(x, body);
    for (std::int64_t i = 1; i < n_; ++i) {
      for (std::int64_t j = 0; j < i; ++j) {
        double d[3], square = 0;
        for (int k = 0; k < 3; ++k) d[k] = x[3 * i + k] - x[3 * j + k];
        wrap_displacement(cell_, inverse_, d);
        for (double part : d) square += part * part;
        if (square < plan_.cutoff_square) body(i, j, d);
      }
    }
  }

  template <class Body>
  void each_listed(const std::vector<double>& x, const Body& body) const {
    NeighborOptions options;
    options.half = true;
    NeighborCutoff cutoff;
    cutoff.cutoff = std::sqrt(plan_.cutoff_square);
    const NeighborSearch search(Context{1}, {x.data(), {n_, 3}}, cell_, cutoff, options);
    const std::int64_t count = search.count();
    std::vector<std::int32_t> first(count), second(count);
    std::vector<double> D(3 * count);
    NeighborArrays<std::int32_t> arrays;
    arrays.i = {first.data(), {count}};
    arrays.j = {second.data(), {count}};
    arrays.D = {D.data(), {count, 3}};
    search.fill(Context{1}, arrays);
    for (std::int64_t p = 0; p < count; ++p) body(second[p], first[p], D.data() + 3 * p);
  }

  const kernels::SplittingPlan& plan_;
  const SplittingSystem& system_;
  const Cell& cell_;
  std::array<double, 9> inverse_;
  bool all_pairs_;
  std::int64_t n_;
  std::vector<std::vector<double>> kept_;
};

}  // namespace

void splitting_gradient(const kernels::SplittingPlan& plan, const SplittingSystem& system,
                        const Cell& cell, bool nearest, View<const double, 2> x,
                        View<const double, 2> v, View<double, 2> gx, View<double, 2> gv) {
  Adjoint adjoint(plan, system, cell, nearest, x.shape[0]);
  adjoint.forward(x, v);
  adjoint.backward(gx, gv);
}

}  // namespace mlcore::detail
