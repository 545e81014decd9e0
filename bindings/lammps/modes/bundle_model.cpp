#include "modes/bundle_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace mlmod {

namespace {

double chosen_cutoff(const ModelBundle& bundle, const BundleWords& words) {
  if (!words.cutoff) return bundle.cutoff;
  if (bundle.sees != Sees::neighbors)
    throw std::runtime_error("keyword 'cutoff': the model of bundle '" + bundle.folder +
                             "' sees no neighbors");
  if (*words.cutoff < bundle.cutoff)
    throw std::runtime_error("keyword 'cutoff': " + std::to_string(*words.cutoff) +
                             " is less than the cutoff " + std::to_string(bundle.cutoff) +
                             " of bundle '" + bundle.folder + "', whose energy would jump there");
  return *words.cutoff;
}

bool all_finite(const std::vector<double>& values) {
  constexpr std::uint64_t exponent = 0x7FF0000000000000u;
  bool bad = false;
  for (const double value : values) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    bad |= (bits & exponent) == exponent;
  }
  return !bad;
}

std::size_t first_bad(const std::vector<double>& values) {
  const auto place = std::find_if(values.begin(), values.end(),
                                  [](double value) { return !std::isfinite(value); });
  return static_cast<std::size_t>(place - values.begin());
}

/// Positions in the cell whose lower corner is 0, wherever the box has its own.
void fold(const mlcore::Cell& cell, const std::vector<double>& x, std::vector<double>& folded) {
  folded = x;
  if (cell.is_open()) return;
  const mlcore::Cell whole = mlcore::completed(cell);
  const std::array<double, 9> inverse = mlcore::inverse(whole.rows);
  for (std::size_t i = 0; i < x.size(); i += 3)
    for (int axis = 0; axis < 3; ++axis) {
      if (!cell.pbc[axis]) continue;
      double* const place = folded.data() + i;
      const double wraps = std::floor(place[0] * inverse[axis] + place[1] * inverse[3 + axis] +
                                      place[2] * inverse[6 + axis]);
      for (int k = 0; k < 3; ++k) place[k] -= wraps * whole.rows[3 * axis + k];
    }
}

}  // namespace

BundleModel::BundleModel(const BundleWords& words, const Surroundings& around)
    : words_(words), around_(around), bundle_(read_model_bundle(words.bundle, words.mode)) {
  check_units(bundle_, around_.units);
  cutoff_ = chosen_cutoff(bundle_, words_);
  engine_ = make_engine(bundle_, words_.choice, around_.warn);
  results_.resize(static_cast<std::size_t>(bundle_.members));
  tell();
}

void BundleModel::tell() {
  if (words_.verbose == 0) return;
  std::string text = "fix mlcore " + around_.fix_id + ": " + words_.mode + " from bundle " +
                     bundle_.folder + ", engine " + engine_->name() + "\n";
  if (words_.verbose > 1) {
    const auto add = [&](const char* name, const std::string& value) {
      text += std::string("  ") + name + " = " + value + "\n";
    };
    add("dtype", words_.choice.dtype.empty() ? bundle_.dtype : words_.choice.dtype);
    add("members", std::to_string(bundle_.members));
    add("types", std::to_string(bundle_.types));
    if (bundle_.memory > 0) add("memory", std::to_string(bundle_.memory));
    if (cutoff_ > 0) add("cutoff", std::to_string(cutoff_));
    add("units", bundle_.length_unit + " " + bundle_.energy_unit + " " + bundle_.time_unit);
    for (std::int64_t k = 0; k < bundle_.members; ++k)
      add(("member " + std::to_string(k)).c_str(), engine_->label(k));
  }
  around_.log(text);
}

Needs BundleModel::needs() const {
  Needs needs;
  needs.sight = bundle_.sees == Sees::configuration ? Sight::whole : Sight::local;
  needs.v = bundle_.wants("v");
  needs.f = bundle_.wants("f");
  needs.types = bundle_.wants("types") || bundle_.sees == Sees::neighbors;
  if (bundle_.sees == Sees::neighbors) needs.cutoff = cutoff_;
  return needs;
}

void BundleModel::check_atoms(const std::vector<std::int32_t>& types,
                              const std::vector<std::uint32_t>& tags) {
  types_.resize(types.size());
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] > bundle_.types)
      throw std::runtime_error("bundle '" + bundle_.folder + "': atom " + std::to_string(tags[i]) +
                               " has type " + std::to_string(types[i]) +
                               ", the model knows types 1 to " + std::to_string(bundle_.types) +
                               " (manifest: model.types)");
    types_[i] = types[i] - 1;
  }
}

void BundleModel::check_count(std::int64_t count) const {
  if (bundle_.sees != Sees::configuration || bundle_.particles == 0 || bundle_.particles == count)
    return;
  throw std::runtime_error(
      "bundle '" + bundle_.folder + "': the model is for " + std::to_string(bundle_.particles) +
      " particles (manifest: model.particles), the group has " + std::to_string(count));
}

Neighborhood BundleModel::neighborhood(const LocalAtoms& atoms, bool virials) const {
  return {.owned = atoms.owned,
          .all = atoms.members(),
          .x = atoms.x.data(),
          .types = types_.data(),
          .offsets = atoms.first.data(),
          .neighbors = atoms.neighbors.data(),
          .cutoff = cutoff_,
          .virials = virials};
}

void BundleModel::evaluate(const LocalAtoms& atoms, double time, const Memories& memories,
                           bool virials) {
  check_atoms(atoms.types, atoms.tags);
  if (bundle_.sees != Sees::neighbors) fold(atoms.cell, atoms.x, folded_);
  Particles particles{.count = atoms.owned,
                      .x = folded_.data(),
                      .v = atoms.v.data(),
                      .f = atoms.f.data(),
                      .types = types_.data(),
                      .time = time,
                      .cell = atoms.cell.rows,
                      .memory = nullptr};
  for (std::int64_t k = 0; k < bundle_.members; ++k) {
    Evaluation& result = results_[static_cast<std::size_t>(k)];
    if (bundle_.memory > 0) particles.memory = memories.at(static_cast<std::size_t>(k)).data();
    if (bundle_.sees == Sees::neighbors)
      engine_->evaluate(k, neighborhood(atoms, virials), result);
    else
      engine_->evaluate(k, particles, result);
    try {
      check_finite(k, atoms.tags);
    } catch (const std::runtime_error& error) {
      std::string problem = error.what();
      describe_overlap(atoms, problem);
      throw std::runtime_error(problem);
    }
  }
}

void BundleModel::evaluate(const Configuration& group, double time, const Memories& memories) {
  check_atoms(group.types, group.tags);
  check_count(group.size());
  fold(group.cell, group.x, folded_);
  Particles particles{.count = group.size(),
                      .x = folded_.data(),
                      .v = group.v.data(),
                      .f = group.f.data(),
                      .types = types_.data(),
                      .time = time,
                      .cell = group.cell.rows,
                      .memory = nullptr};
  for (std::int64_t k = 0; k < bundle_.members; ++k) {
    if (bundle_.memory > 0) particles.memory = memories.at(static_cast<std::size_t>(k)).data();
    engine_->evaluate(k, particles, results_[static_cast<std::size_t>(k)]);
    check_finite(k, group.tags);
  }
}

void BundleModel::check_finite(std::int64_t member, const std::vector<std::uint32_t>& tags) const {
  const Evaluation& result = results_[static_cast<std::size_t>(member)];
  const bool whole = bundle_.sees == Sees::configuration;
  const auto check = [&](const std::vector<double>& values, const char* what, std::int64_t width) {
    if (all_finite(values)) return;
    const std::size_t row = first_bad(values) / static_cast<std::size_t>(width);
    const std::string where = width == 0 || (whole && width != 3) || row >= tags.size()
                                  ? std::string()
                                  : " for atom " + std::to_string(tags[row]);
    throw std::runtime_error(engine_->label(member) + ": the " + what + where + " is not finite");
  };
  check(result.energies, "energy", 1);
  check(result.forces, "force", 3);
  check(result.dx, "displacement", 3);
  check(result.v, "velocity", 3);
  check(result.values, "value", bundle_.width());
  if (bundle_.memory > 0) check(result.memory, "memory", whole ? 1 : bundle_.memory);
}

/// The usual reason for an output that is not finite: two atoms in one place.
void BundleModel::describe_overlap(const LocalAtoms& atoms, std::string& problem) const {
  if (atoms.first.empty()) return;
  double closest = cutoff_ * cutoff_;
  std::int64_t a = -1, b = -1;
  for (std::int64_t i = 0; i < atoms.owned; ++i)
    for (std::int64_t k = atoms.first[i]; k < atoms.first[i + 1]; ++k) {
      const std::int64_t j = atoms.neighbors[k];
      double square = 0;
      for (int c = 0; c < 3; ++c) {
        const double d = atoms.x[3 * j + c] - atoms.x[3 * i + c];
        square += d * d;
      }
      if (square >= closest) continue;
      closest = square;
      a = i, b = j;
    }
  if (a < 0) return;
  problem += " (closest pair: atoms " + std::to_string(atoms.tags[a]) + " and " +
             std::to_string(atoms.tags[b]) + " at distance " + std::to_string(std::sqrt(closest)) +
             ")";
}

void committee_mean(const std::vector<Evaluation>& members, Column column,
                    std::vector<double>& mean) {
  mean = members[0].*column;
  for (std::size_t k = 1; k < members.size(); ++k)
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += (members[k].*column)[i];
  if (members.size() == 1) return;
  for (double& value : mean) value /= static_cast<double>(members.size());
}

void committee_spread(const std::vector<Evaluation>& members, Column column,
                      const std::vector<double>& mean, std::int64_t width,
                      std::vector<double>& spread) {
  spread.assign(mean.size() / static_cast<std::size_t>(width), 0.0);
  for (const Evaluation& member : members)
    for (std::size_t i = 0; i < mean.size(); ++i) {
      const double difference = (member.*column)[i] - mean[i];
      spread[i / static_cast<std::size_t>(width)] += difference * difference;
    }
  for (double& value : spread) value = std::sqrt(value / static_cast<double>(members.size()));
}

}  // namespace mlmod
