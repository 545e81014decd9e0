#include "modes/bundle_force.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace mlmod {

BundleForce::BundleForce(const BundleWords& words, const Surroundings& around)
    : model_(words, around), needs_(model_.needs()) {
  const ModelBundle& bundle = model_.bundle();
  needs_.hooks = kSetup | kPostForce;
  needs_.forces = true;
  needs_.energy = bundle.gives == Gives::energy;
  needs_.virial = needs_.energy && bundle.sees == Sees::neighbors;
  needs_.external = bundle.sees != Sees::neighbors;
  needs_.atom_energy = needs_.energy && bundle.sees != Sees::configuration;
  needs_.atom_virial = needs_.virial;
  needs_.complete = bundle.sees == Sees::neighbors && model_.complete();
  // The spread is that of whole forces: parts that members push on ghosts go home first.
  if (bundle.sees == Sees::neighbors && model_.members() > 1 && !needs_.complete)
    needs_.partial = static_cast<int>(3 * model_.members());
}

Output BundleForce::output() const {
  return {.vector = 4, .per_atom = model_.members() > 1 ? 1 : 0};
}

void BundleForce::on_whole(const Moment& now, const Configuration& group, Change& change) {
  model_.evaluate(group, now.time);
  committee_mean(model_.results(), &Evaluation::forces, change.f);
  add_energies(change);
  std::vector<double> spread;
  committee_spread(model_.results(), &Evaluation::forces, change.f, 3, spread);
  add_spread(spread, change);
}

void BundleForce::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  model_.evaluate(atoms, now.time, {}, now.atom_virial);
  add_energies(change);
  if (now.atom_energy && needs_.atom_energy)
    committee_mean(model_.results(), &Evaluation::energies, change.energies);
  if (now.atom_virial && needs_.atom_virial)
    committee_mean(model_.results(), &Evaluation::virials, change.virials);
  if (needs_.partial > 0) {
    const auto width = static_cast<std::size_t>(needs_.partial);
    change.partial.assign(width * static_cast<std::size_t>(atoms.members()), 0.0);
    for (std::size_t k = 0; k < model_.results().size(); ++k) {
      const std::vector<double>& forces = model_.results()[k].forces;
      for (std::size_t row = 0; 3 * row < forces.size(); ++row)
        std::copy_n(forces.data() + 3 * row, 3, change.partial.data() + width * row + 3 * k);
    }
    return;
  }
  committee_mean(model_.results(), &Evaluation::forces, change.f);
  std::vector<double> spread;
  committee_spread(model_.results(), &Evaluation::forces, change.f, 3, spread);
  spread.resize(static_cast<std::size_t>(atoms.owned));
  add_spread(spread, change);
}

void BundleForce::on_complete(const Moment&, const std::vector<double>& complete, Change& change) {
  const auto width = static_cast<std::size_t>(needs_.partial);
  const std::size_t rows = complete.size() / width;
  const std::size_t members = width / 3;
  change.f.assign(3 * rows, 0.0);
  std::vector<double> spread(rows, 0.0);
  for (std::size_t row = 0; row < rows; ++row) {
    const double* forces = complete.data() + width * row;
    double* mean = change.f.data() + 3 * row;
    for (std::size_t i = 0; i < width; ++i) mean[i % 3] += forces[i] / static_cast<double>(members);
    double square = 0;
    for (std::size_t i = 0; i < width; ++i)
      square += (forces[i] - mean[i % 3]) * (forces[i] - mean[i % 3]);
    spread[row] = std::sqrt(square / static_cast<double>(members));
  }
  add_spread(spread, change);
}

/// Energy and virial of this rank; sums: energies of the members, sum and number of the spreads.
void BundleForce::add_energies(Change& change) const {
  const auto members = static_cast<double>(model_.members());
  change.sums.assign(static_cast<std::size_t>(model_.members()) + 2, 0.0);
  if (model_.members() > 1) change.maxima.assign(1, 0.0);  // one less sum over ranks
  for (std::size_t k = 0; k < model_.results().size(); ++k) {
    const Evaluation& result = model_.results()[k];
    change.sums[k] = std::accumulate(result.energies.begin(), result.energies.end(), 0.0);
    change.energy += change.sums[k] / members;
    for (int c = 0; c < 6; ++c) change.virial[c] += result.virial[c] / members;
  }
}

void BundleForce::add_spread(const std::vector<double>& spread, Change& change) const {
  const std::size_t members = model_.results().size();
  if (members == 1) return;
  change.sums[members] = std::accumulate(spread.begin(), spread.end(), 0.0);
  change.sums[members + 1] = static_cast<double>(spread.size());
  for (const double value : spread) change.maxima[0] = std::max(change.maxima[0], value);
  change.per_atom = spread;
}

void BundleForce::reduced(const std::vector<double>& sums, const std::vector<double>& maxima) {
  const std::size_t members = sums.size() - 2;
  energy_ =
      std::accumulate(sums.begin(), sums.begin() + static_cast<std::ptrdiff_t>(members), 0.0) /
      static_cast<double>(members);
  double square = 0;
  for (std::size_t k = 0; k < members; ++k) square += (sums[k] - energy_) * (sums[k] - energy_);
  energy_spread_ = std::sqrt(square / static_cast<double>(members));
  mean_ = sums[members + 1] > 0 ? sums[members] / sums[members + 1] : 0;
  largest_ = maxima.empty() ? 0 : maxima[0];
}

double BundleForce::vector(int index) const {
  const double values[] = {energy_, largest_, mean_, energy_spread_};
  return values[index];
}

}  // namespace mlmod
