#include "legacy_force.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "pair_geometry.h"

namespace mlmod {

namespace {

constexpr int kSamples = 16;
// Rows that are filled before the model is called: bounds the memory of large groups.
constexpr std::int64_t kRows = 1 << 16;

[[noreturn]] void not_finite(const TorchScriptModel& model, const std::string& whose) {
  throw std::runtime_error(model.label() + ": output for " + whose + " is not finite");
}

std::string pair_name(std::uint32_t a, std::uint32_t b) {
  return "atoms " + std::to_string(a) + " and " + std::to_string(b);
}

void add_six(const float* six, std::int64_t i, std::int64_t j, std::vector<double>& f) {
  for (int k = 0; k < 3; ++k) {
    f[static_cast<std::size_t>(3 * i + k)] += six[k];
    f[static_cast<std::size_t>(3 * j + k)] += six[3 + k];
  }
}

}  // namespace

LegacyForce::LegacyForce(const Choices& choices, Sight sight)
    : model_("F_filename", choices.path), mask_(choices.mask), at_setup_(choices.at_setup) {
  needs_.hooks = kSetup | kPostForce;
  needs_.sight = sight;
  needs_.forces = true;
  mask_.ask(needs_);
}

void LegacyForce::prepare(int atoms, const Surroundings& around) {
  const std::string reason =
      model_.prepare_batches(sample_columns(mask_, atoms, kSamples, around), kSamples, 3 * atoms);
  if (!reason.empty())
    around.warn(model_.label() + " is called one input at a time, which is slow: " + reason);
}

WholeForce::WholeForce(const Choices& choices, bool local_order)
    : LegacyForce(choices, Sight::whole) {
  needs_.local_order = local_order;
}

void WholeForce::on_whole(const Moment& now, const Configuration& group, Change& change) {
  const std::int64_t n = group.size();
  if (n == 0) return;
  whole_column(mask_, group, now.time, input_);
  const float* output = model_.evaluate(input_, 1, 3 * n);
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, n, 3);
  if (bad >= 0) not_finite(model_, "atom " + std::to_string(group.tags[bad]));
  if (counts(now)) change.f.assign(output, output + 3 * n);
}

AtomForce::AtomForce(const Choices& choices, const Surroundings& around)
    : LegacyForce(choices, Sight::local) {
  prepare(1, around);
}

void AtomForce::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  const std::int64_t n = atoms.owned;
  if (n == 0) return;
  input_.resize(static_cast<std::size_t>(n * mask_.size(1)));
  float* column = input_.data();
  for (std::int64_t i = 0; i < n; ++i) {
    const SeenAtom atom = seen(mask_, atoms, i);
    column = atoms_column(mask_, &atom, 1, now.time, column);
  }
  const float* output = model_.evaluate(input_, n, 3);
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, n, 3);
  if (bad >= 0) not_finite(model_, "atom " + std::to_string(atoms.tags[bad]));
  if (counts(now)) change.f.assign(output, output + 3 * n);
}

PairForce::PairForce(const Choices& choices, bool local_order, const Surroundings& around)
    : LegacyForce(choices, Sight::whole), rank_(around.rank), ranks_(around.ranks) {
  needs_.local_order = local_order;
  needs_.shared = true;
  prepare(2, around);
}

/// Pairs i < j in the order (0,1), (0,2), ..., (1,2), ...
PairForce::Pair PairForce::pair_at(std::int64_t place, std::int64_t n) {
  std::int64_t i = 0;
  for (; place >= n - 1 - i && i < n; ++i) place -= n - 1 - i;
  return {i, i + 1 + place};
}

void PairForce::on_whole(const Moment& now, const Configuration& group, Change& change) {
  const std::int64_t n = group.size(), pairs = n * (n - 1) / 2;
  const std::int64_t begin = pairs * rank_ / ranks_, end = pairs * (rank_ + 1) / ranks_;
  std::vector<double> f(static_cast<std::size_t>(3 * n), 0.0);
  for (std::int64_t place = begin; place < end; place += kRows)
    add_pairs(now, group, pair_at(place, n), std::min(kRows, end - place), f);
  if (counts(now)) change.f = std::move(f);
}

void PairForce::add_pairs(const Moment& now, const Configuration& group, Pair first,
                          std::int64_t count, std::vector<double>& f) {
  const MinimumImage nearest(group.cell);
  const std::int64_t n = group.size();
  input_.resize(static_cast<std::size_t>(count * mask_.size(2)));
  float* column = input_.data();
  const auto for_pairs = [&](auto&& visit) {
    Pair pair = first;
    for (std::int64_t row = 0; row < count; ++row) {
      visit(row, pair.i, pair.j);
      if (++pair.j == n) pair = {pair.i + 1, pair.i + 2};
    }
  };
  for_pairs([&](std::int64_t, std::int64_t i, std::int64_t j) {
    SeenAtom pair[2] = {seen(mask_, group, i), seen(mask_, group, j)};
    double d[3];
    for (int k = 0; k < 3; ++k) d[k] = pair[1].x[k] - pair[0].x[k];
    nearest(d);
    for (int k = 0; k < 3; ++k) d[k] += pair[0].x[k];
    pair[1].x = d;
    column = atoms_column(mask_, pair, 2, now.time, column);
  });
  const float* output = model_.evaluate(input_, count, 6);
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, count, 6);
  for_pairs([&](std::int64_t row, std::int64_t i, std::int64_t j) {
    if (row == bad) not_finite(model_, pair_name(group.tags[i], group.tags[j]));
    add_six(output + 6 * row, i, j, f);
  });
}

NearPairForce::NearPairForce(const Choices& choices, double cutoff, const Surroundings& around)
    : LegacyForce(choices, Sight::local) {
  needs_.cutoff = cutoff;
  needs_.home = mask_.x;
  prepare(2, around);
}

// Every pair of images once, on the rank of the lower id; of an atom and its own image the one that
// lies ahead.
void NearPairForce::find_pairs(const LocalAtoms& atoms) {
  pairs_.clear();
  const double square = needs_.cutoff * needs_.cutoff;
  for (std::int64_t i = 0; i < atoms.owned; ++i)
    for (std::int64_t c = atoms.first[i]; c < atoms.first[i + 1]; ++c) {
      const std::int32_t j = atoms.neighbors[c];
      if (atoms.tags[j] < atoms.tags[i]) continue;
      const double* a = atoms.x.data() + 3 * i;
      const double* b = atoms.x.data() + 3 * static_cast<std::ptrdiff_t>(j);
      const double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
      if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= square) continue;
      if (atoms.tags[j] == atoms.tags[i] && !std::lexicographical_compare(a, a + 3, b, b + 3))
        continue;
      pairs_.push_back(static_cast<std::int32_t>(i));
      pairs_.push_back(j);
    }
}

void NearPairForce::add_pairs(const Moment& now, const LocalAtoms& atoms, std::int64_t begin,
                              std::int64_t count, std::vector<double>& f) {
  input_.resize(static_cast<std::size_t>(count * mask_.size(2)));
  float* column = input_.data();
  const std::int32_t* pairs = pairs_.data() + 2 * begin;
  for (std::int64_t row = 0; row < count; ++row) {
    const std::int64_t i = pairs[2 * row], j = pairs[2 * row + 1];
    SeenAtom pair[2] = {seen(mask_, atoms, i), seen(mask_, atoms, j)};
    double x[3];
    if (mask_.x) {
      const double* home = atoms.home.data() + 3 * i;
      for (int k = 0; k < 3; ++k) x[k] = home[k] + (pair[1].x[k] - pair[0].x[k]);
      pair[0].x = home;
      pair[1].x = x;
    }
    column = atoms_column(mask_, pair, 2, now.time, column);
  }
  const float* output = model_.evaluate(input_, count, 6);
  const std::int64_t bad = TorchScriptModel::first_bad_row(output, count, 6);
  if (bad >= 0)
    not_finite(model_, pair_name(atoms.tags[pairs[2 * bad]], atoms.tags[pairs[2 * bad + 1]]));
  for (std::int64_t row = 0; row < count; ++row)
    add_six(output + 6 * row, pairs[2 * row], pairs[2 * row + 1], f);
}

void NearPairForce::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  find_pairs(atoms);
  std::vector<double> f(static_cast<std::size_t>(3 * atoms.members()), 0.0);
  const auto count = static_cast<std::int64_t>(pairs_.size() / 2);
  for (std::int64_t begin = 0; begin < count; begin += kRows)
    add_pairs(now, atoms, begin, std::min(kRows, count - begin), f);
  if (counts(now)) change.f = std::move(f);
}

}  // namespace mlmod
