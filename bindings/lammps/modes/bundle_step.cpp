#include "modes/bundle_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace mlmod {

BundleStep::BundleStep(const BundleWords& words, const Surroundings& around)
    : model_(words, around), needs_(model_.needs()) {
  if (!words.forces.empty())
    throw std::runtime_error("keyword 'forces': bundle '" + words.bundle +
                             "' is no splitting, which alone can do without forces");
  needs_.hooks = kInitialIntegrate;
  needs_.integrates = true;
  if (memory() == 0) return;
  needs_.saves = true;
  const bool whole = needs_.sight == Sight::whole;
  if (!whole) needs_.stored = static_cast<int>(kept() + 1);
  memories_.resize(static_cast<std::size_t>(model_.members()));
  for (auto& memory : memories_)
    memory.assign(static_cast<std::size_t>(whole ? this->memory() : 0), 0.0);
}

Output BundleStep::output() const {
  return {.vector = 2, .per_atom = model_.members() > 1 ? 1 : 0};
}

// The state before the move is that of the last step.
void BundleStep::on_whole(const Moment& now, const Configuration& group, Change& change) {
  check_timestep(now.dt);
  model_.evaluate(group, now.time - now.dt, memories_);
  give(change);
  for (std::size_t k = 0; k < memories_.size(); ++k) memories_[k] = model_.results()[k].memory;
}

void BundleStep::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  check_timestep(now.dt);
  take_memories(atoms);
  model_.evaluate(atoms, now.time - now.dt, memories_);
  give(change);
  keep_memories(change);
}

// With an atom goes the number of the step that its memory is of: it begins anew with zeros when
// the atom was not in the group in the step before.
void BundleStep::take_memories(const LocalAtoms& atoms) {
  const std::int64_t size = memory(), width = kept() + 1;
  for (std::size_t k = 0; k < memories_.size(); ++k) {
    std::vector<double>& memory = memories_[k];
    memory.assign(static_cast<std::size_t>(atoms.owned * size), 0.0);
    for (std::int64_t i = 0; i < atoms.owned; ++i) {
      const double* const stored = atoms.stored.data() + width * i;
      if (stored[0] == static_cast<double>(steps_))
        std::copy_n(stored + 1 + size * static_cast<std::int64_t>(k), size,
                    memory.data() + size * i);
    }
  }
}

void BundleStep::keep_memories(Change& change) {
  if (memory() == 0) return;
  ++steps_;
  const std::int64_t size = memory(), width = kept() + 1;
  const auto atoms = static_cast<std::int64_t>(change.dx.size() / 3);
  change.stored.resize(static_cast<std::size_t>(width * atoms));
  for (std::int64_t i = 0; i < atoms; ++i) {
    double* stored = change.stored.data() + width * i;
    *stored++ = static_cast<double>(steps_);
    for (const Evaluation& result : model_.results())
      stored = std::copy_n(result.memory.data() + size * i, size, stored);
  }
}

std::vector<double> BundleStep::save() const {
  if (memory() == 0) return {};
  std::vector<double> state{static_cast<double>(kept()), static_cast<double>(steps_)};
  if (needs_.sight == Sight::whole)
    for (const auto& memory : memories_) state.insert(state.end(), memory.begin(), memory.end());
  return state;
}

void BundleStep::restore(const std::vector<double>& state) {
  const bool whole = needs_.sight == Sight::whole;
  const std::size_t length = memory() == 0 ? 0 : 2 + (whole ? static_cast<std::size_t>(kept()) : 0);
  if (state.size() != length || (length > 0 && state[0] != static_cast<double>(kept())))
    throw std::runtime_error("bundle '" + model_.bundle().folder + "': its model has a memory of " +
                             std::to_string(kept()) + " numbers " + (whole ? "in all" : "an atom") +
                             ", the restart file holds that of another model under this fix ID");
  if (state.empty()) return;
  steps_ = static_cast<std::int64_t>(state[1]);
  auto next = state.begin() + 2;
  for (auto& memory : memories_) {
    std::copy_n(next, memory.size(), memory.begin());  // of atoms they are empty
    next += static_cast<std::ptrdiff_t>(memory.size());
  }
}

void BundleStep::check_timestep(double dt) const {
  const ModelBundle& bundle = model_.bundle();
  if (bundle.timestep == 0 || std::fabs(dt - bundle.timestep) <= 1e-6 * bundle.timestep) return;
  std::ostringstream text;
  text << "bundle '" << bundle.folder << "': its step takes a time of " << bundle.timestep
       << " (manifest: model.timestep), this run has timestep " << dt;
  throw std::runtime_error(text.str());
}

void BundleStep::give(Change& change) const {
  committee_mean(model_.results(), &Evaluation::dx, change.dx);
  committee_mean(model_.results(), &Evaluation::v, change.v);
  std::vector<double> spread;
  committee_spread(model_.results(), &Evaluation::dx, change.dx, 3, spread);
  change.sums = {std::accumulate(spread.begin(), spread.end(), 0.0),
                 static_cast<double>(spread.size())};
  change.maxima = {spread.empty() ? 0.0 : *std::max_element(spread.begin(), spread.end())};
  if (model_.members() > 1) change.per_atom = std::move(spread);
}

void BundleStep::reduced(const std::vector<double>& sums, const std::vector<double>& maxima) {
  if (sums.empty()) return;
  mean_ = sums[1] > 0 ? sums[0] / sums[1] : 0;
  largest_ = maxima[0];
}

}  // namespace mlmod
