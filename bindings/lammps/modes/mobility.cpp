#include "mobility.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "mlcore/linalg.hpp"
#include "mlcore/random.hpp"
#include "pair_geometry.h"

namespace mlmod {

namespace {

constexpr mlcore::Context kOneThread{.threads = 1};

std::uint32_t fnv1a(const std::string& text) {
  std::uint32_t hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

std::vector<double> normals(std::uint64_t seed, std::uint32_t stream, std::int64_t step,
                            const std::vector<std::uint32_t>& tags) {
  const auto n = static_cast<std::int64_t>(tags.size());
  std::vector<double> numbers(static_cast<std::size_t>(3 * n));
  mlcore::random_normal(kOneThread, seed, stream, static_cast<std::uint64_t>(step),
                        {tags.data(), {n}}, {numbers.data(), {n, 3}});
  return numbers;
}

struct ClosestPair {
  std::size_t first = 0, second = 0;
  double distance = std::numeric_limits<double>::infinity();
};

ClosestPair closest_pair(const Configuration& now) {
  const MinimumImage nearest(now.cell);
  ClosestPair closest;
  for (std::size_t i = 0; i < now.tags.size(); ++i)
    for (std::size_t j = i + 1; j < now.tags.size(); ++j) {
      double d[3];
      for (int k = 0; k < 3; ++k) d[k] = now.x[3 * j + k] - now.x[3 * i + k];
      nearest(d);
      const double distance = std::hypot(d[0], d[1], d[2]);
      if (distance < closest.distance) closest = {i, j, distance};
    }
  return closest;
}

}  // namespace

NoiseKey noise_key(std::uint64_t seed, const std::string& fix_id) {
  const std::uint32_t stream = fnv1a(fix_id) & 0x1FFFFFFFu;  // streams are below 2^30
  return {.seed = seed, .stream = 2 * stream, .drift_stream = 2 * stream + 1};
}

MobilityStepper::MobilityStepper(MobilityParameters parameters,
                                 std::unique_ptr<MobilitySource> source, NoiseKey key, bool repair,
                                 Warn warn)
    : parameters_(std::move(parameters)),
      source_(std::move(source)),
      key_(key),
      repair_(repair),
      warn_(std::move(warn)) {}

void MobilityStepper::velocities(const Configuration& now, std::vector<double>& v) {
  source_->evaluate(now);
  source_->apply(now.f, v);
}

void MobilityStepper::predict(const Configuration& now, std::int64_t step, double dt,
                              std::vector<double>& u) {
  shift_ = 0;
  tags_ = now.tags;
  extra_.assign(now.x.size(), 0.0);
  source_->evaluate(now);
  if (parameters_.has_noise()) add_noise(now, step, dt);
  source_->apply(now.f, deterministic_);
  for (std::size_t i = 0; i < now.f.size(); ++i) deterministic_[i] += shift_ * now.f[i];
  if (parameters_.has_drift()) add_drift(now, step);
  u.resize(now.x.size());
  for (std::size_t i = 0; i < u.size(); ++i) u[i] = deterministic_[i] + extra_[i];
}

void MobilityStepper::add_noise(const Configuration& now, std::int64_t step, double dt) {
  factorize(now, step);
  const std::vector<double> xi = normals(key_.seed, key_.stream, step, now.tags);
  const std::int64_t width = 3 * now.size();
  mlcore::lower_multiply(kOneThread, {matrix_.data(), {width, width}}, {xi.data(), {1, width}},
                         {extra_.data(), {1, width}});
  const double scale = std::sqrt(2.0 * parameters_.kbt / dt);
  for (double& value : extra_) value *= scale;
}

void MobilityStepper::factorize(const Configuration& now, std::int64_t step) {
  const std::int64_t width = 3 * now.size();
  source_->matrix(matrix_);
  try {
    mlcore::cholesky(kOneThread, {matrix_.data(), {width, width}});
  } catch (const mlcore::NotPositiveDefinite& error) {
    if (!repair_) throw std::runtime_error(not_positive(now, step, error.smallest_eigenvalue));
    repair(now, step, error.smallest_eigenvalue);
  }
}

void MobilityStepper::repair(const Configuration& now, std::int64_t step, double smallest) {
  const std::int64_t width = 3 * now.size();
  double largest = 0;
  for (std::int64_t i = 0; i < width; ++i) largest = std::max(largest, matrix_[i * width + i]);
  shift_ = 1e-6 * largest - smallest;
  for (std::int64_t i = 0; i < width; ++i) matrix_[i * width + i] += shift_;
  mlcore::cholesky(kOneThread, {matrix_.data(), {width, width}});
  if (repaired_steps_++ > 0) return;
  std::ostringstream text;
  text << not_positive(now, step, smallest) << "; psd repair adds " << shift_
       << " to its diagonal (said once; element 1 of the fix's vector is the shift of the last "
          "step, element 2 the number of steps with a shift)";
  warn_(text.str());
}

std::string MobilityStepper::not_positive(const Configuration& now, std::int64_t step,
                                          double smallest) const {
  const ClosestPair pair = closest_pair(now);
  std::ostringstream text;
  text << parameters_.source << ": the mobility matrix of " << now.size() << " atoms at step "
       << step << " is not positive definite: smallest eigenvalue " << smallest;
  if (std::isfinite(pair.distance))
    text << ", closest pair atoms " << now.tags[pair.first] << " and " << now.tags[pair.second]
         << " at distance " << pair.distance;
  if (!repair_) text << " (psd repair shifts the spectrum)";
  return text.str();
}

void MobilityStepper::add_drift(const Configuration& now, std::int64_t step) {
  std::vector<double> divergence;
  if (!source_->divergence(divergence)) random_difference(now, step, divergence);
  for (std::size_t i = 0; i < extra_.size(); ++i) extra_[i] += parameters_.kbt * divergence[i];
}

// E[(M(x + delta w / 2) - M(x - delta w / 2)) w] / delta = div M + O(delta^2) for random signs w.
void MobilityStepper::random_difference(const Configuration& now, std::int64_t step,
                                        std::vector<double>& d) {
  std::vector<double> w = normals(key_.seed, key_.drift_stream, step, now.tags);
  for (double& sign : w) sign = sign < 0 ? -1.0 : 1.0;
  std::vector<double> ahead, behind;
  Configuration moved = now;
  for (const double side : {0.5, -0.5}) {
    for (std::size_t i = 0; i < w.size(); ++i)
      moved.x[i] = now.x[i] + side * parameters_.delta * w[i];
    source_->evaluate(moved);
    source_->apply(w, side > 0 ? ahead : behind);
  }
  d.resize(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) d[i] = (ahead[i] - behind[i]) / parameters_.delta;
}

void MobilityStepper::correct(const Configuration& now, bool with_noise,
                              std::vector<double>& change, std::vector<double>& v) {
  velocities(now, v);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] += shift_ * now.f[i];
  change.assign(v.size(), 0.0);
  for (std::int64_t i = 0; i < now.size(); ++i) {
    const std::int64_t row = row_in_first_stage(now.tags[i], i);
    if (row < 0) continue;
    for (int k = 0; k < 3; ++k) {
      change[3 * i + k] = 0.5 * (v[3 * i + k] - deterministic_[3 * row + k]);
      if (with_noise) v[3 * i + k] += extra_[3 * row + k];
    }
  }
}

std::int64_t MobilityStepper::row_in_first_stage(std::uint32_t tag, std::int64_t guess) const {
  if (guess < static_cast<std::int64_t>(tags_.size()) && tags_[guess] == tag) return guess;
  const auto place = std::find(tags_.begin(), tags_.end(), tag);
  return place != tags_.end() ? place - tags_.begin() : -1;
}

}  // namespace mlmod
