#include "modes/bundle_values.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mlmod {

BundleValues::BundleValues(const BundleWords& words, const Surroundings& around)
    : model_(words, around), needs_(model_.needs()), every_(words.every) {
  needs_.hooks = kSetup | kEndOfStep;
  const auto count = static_cast<std::size_t>(model_.bundle().width());
  values_.assign(per_atom() ? 0 : count, 0.0);
  spread_.assign(per_atom() ? 0 : count, 0.0);
}

bool BundleValues::per_atom() const {
  return model_.bundle().sees != Sees::configuration && model_.bundle().reduce == Reduce::none;
}

Output BundleValues::output() const {
  const bool committee = model_.members() > 1;
  const auto& shape = model_.bundle().shape;
  const int width = static_cast<int>(model_.bundle().width());
  Output output;
  output.every = every_;
  if (per_atom()) {
    output.per_atom = width;
    output.vector = output.spreads = committee ? 2 : 0;
    return output;
  }
  output.scalar = true;
  output.array = is_array();
  if (is_array()) {
    output.rows = static_cast<int>(shape[0]);
    output.columns = static_cast<int>(shape[1]);
    output.vector = output.spreads = committee ? 2 : 0;
  } else {
    output.vector = committee ? 2 * width : width;
    output.spreads = committee ? width : 0;
  }
  return output;
}

bool BundleValues::acts(const Moment& now) const {
  return now.hook == kSetup || now.step % every_ == 0;
}

void BundleValues::on_whole(const Moment& now, const Configuration& group, Change&) {
  model_.evaluate(group, now.time);
  std::vector<std::vector<double>> members;
  for (const Evaluation& result : model_.results()) members.push_back(result.values);
  take(members);
}

void BundleValues::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  model_.evaluate(atoms, now.time);
  if (per_atom()) return give_per_atom(change);
  const auto width = static_cast<std::size_t>(model_.bundle().width());
  for (const Evaluation& result : model_.results()) {
    std::vector<double> sum(width, 0.0);
    for (std::size_t i = 0; i < result.values.size(); ++i) sum[i % width] += result.values[i];
    change.sums.insert(change.sums.end(), sum.begin(), sum.end());
  }
  change.sums.push_back(static_cast<double>(atoms.owned));
}

void BundleValues::give_per_atom(Change& change) const {
  committee_mean(model_.results(), &Evaluation::values, change.per_atom);
  std::vector<double> spread;
  committee_spread(model_.results(), &Evaluation::values, change.per_atom, model_.bundle().width(),
                   spread);
  change.sums = {std::accumulate(spread.begin(), spread.end(), 0.0),
                 static_cast<double>(spread.size())};
  change.maxima = {spread.empty() ? 0.0 : *std::max_element(spread.begin(), spread.end())};
}

void BundleValues::reduced(const std::vector<double>& sums, const std::vector<double>& maxima) {
  if (sums.empty()) return;
  if (per_atom()) {
    spread_ = {maxima[0], sums[1] > 0 ? sums[0] / sums[1] : 0.0};
    return;
  }
  const double count = sums.back();
  const bool mean = model_.bundle().reduce == Reduce::mean && count > 0;
  const auto width = static_cast<std::ptrdiff_t>(model_.bundle().width());
  std::vector<std::vector<double>> members;
  for (auto at = sums.begin(); at != sums.end() - 1; at += width) {
    members.emplace_back(at, at + width);
    if (mean)
      for (double& value : members.back()) value /= count;
  }
  take(members);
}

void BundleValues::take(const std::vector<std::vector<double>>& members) {
  const auto count = static_cast<double>(members.size());
  for (std::size_t i = 0; i < values_.size(); ++i) {
    double mean = 0, square = 0;
    for (const auto& member : members) mean += member[i] / count;
    for (const auto& member : members) square += (member[i] - mean) * (member[i] - mean) / count;
    values_[i] = mean;
    spread_[i] = std::sqrt(square);
  }
}

double BundleValues::vector(int index) const {
  const auto place = static_cast<std::size_t>(index);
  if (per_atom()) return place < spread_.size() ? spread_[place] : 0.0;
  if (!is_array()) return place < values_.size() ? values_[place] : spread_[place - values_.size()];
  if (index == 0) return *std::max_element(spread_.begin(), spread_.end());
  return std::accumulate(spread_.begin(), spread_.end(), 0.0) / static_cast<double>(spread_.size());
}

double BundleValues::array(int row, int column) const {
  return values_[static_cast<std::size_t>(row * model_.bundle().shape[1] + column)];
}

}  // namespace mlmod
