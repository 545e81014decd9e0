#include "analytic_mobility.h"

#include <cmath>
#include <numbers>

#include "pair_geometry.h"

namespace mlmod {

AnalyticMobility::AnalyticMobility(const Constants& constants)
    : self_(1 / (6 * std::numbers::pi * constants.viscosity * constants.radius)),
      pair_(1 / (8 * (constants.without_pi ? 1.0 : std::numbers::pi) * constants.viscosity)),
      softening_(constants.softening) {}

void AnalyticMobility::evaluate(const Configuration& configuration) { now_ = configuration; }

/// visit(i, j, block): i < j, the symmetric 3 x 3 block of both (i, j) and (j, i).
template <class Visit>
void AnalyticMobility::for_pairs(Visit&& visit) const {
  const MinimumImage nearest(now_.cell);
  for (std::int64_t i = 0; i < now_.size(); ++i)
    for (std::int64_t j = i + 1; j < now_.size(); ++j) {
      double d[3];
      for (int k = 0; k < 3; ++k) d[k] = now_.x[3 * j + k] - now_.x[3 * i + k];
      nearest(d);
      const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
      const double scale = pair_ / (std::sqrt(square) + softening_);
      double block[9];
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b)
          block[3 * a + b] = scale * ((a == b) + d[a] * d[b] / (square + 1e-12));
      visit(i, j, block);
    }
}

void AnalyticMobility::apply(const std::vector<double>& f, std::vector<double>& v) {
  v.resize(f.size());
  for (std::size_t k = 0; k < f.size(); ++k) v[k] = self_ * f[k];
  for_pairs([&](std::int64_t i, std::int64_t j, const double* block) {
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) {
        v[3 * i + a] += block[3 * a + b] * f[3 * j + b];
        v[3 * j + a] += block[3 * a + b] * f[3 * i + b];
      }
  });
}

void AnalyticMobility::matrix(std::vector<double>& m) {
  const std::int64_t width = 3 * now_.size();
  m.assign(static_cast<std::size_t>(width * width), 0.0);
  for (std::int64_t k = 0; k < width; ++k) m[k * width + k] = self_;
  for_pairs([&](std::int64_t i, std::int64_t j, const double* block) {
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) {
        m[(3 * i + a) * width + 3 * j + b] = block[3 * a + b];
        m[(3 * j + a) * width + 3 * i + b] = block[3 * a + b];
      }
  });
}

}  // namespace mlmod
