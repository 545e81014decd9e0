#include "modes/bundle_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>
#include <stdexcept>

namespace mlmod {

BundleStep::BundleStep(const BundleWords& words, const Surroundings& around)
    : model_(words, around), needs_(model_.needs()) {
  needs_.hooks = kInitialIntegrate;
  if (needs_.sight == Sight::whole) needs_.hooks |= kSetup;  // to tell the cost
  needs_.integrates = true;
}

Output BundleStep::output() const {
  return {.vector = 2, .per_atom = model_.members() > 1 ? 1 : 0};
}

// The state before the move is that of the last step.
void BundleStep::on_whole(const Moment& now, const Configuration& group, Change& change) {
  check_timestep(now.dt);
  if (now.hook == kSetup) return model_.tell_cost(group);
  model_.evaluate(group, now.time - now.dt);
  give(change);
}

void BundleStep::on_local(const Moment& now, const LocalAtoms& atoms, Change& change) {
  check_timestep(now.dt);
  model_.evaluate(atoms, now.time - now.dt);
  give(change);
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
