#include "mobility_mode.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace mlmod {

MobilityMode::MobilityMode(std::unique_ptr<MobilityStepper> stepper, MobilityChoices choices,
                           MobilityStepper::Warn warn)
    : stepper_(std::move(stepper)), choices_(choices), warn_(std::move(warn)) {
  needs_.hooks = kFinalIntegrate;
  needs_.f = true;
  needs_.integrates = true;
  needs_.local_order = choices_.legacy;
  needs_.saves = choices_.two_stages || choices_.noise;
  if (!choices_.two_stages) return;
  needs_.hooks |= kInitialIntegrate;
  needs_.stored = kStored;
  needs_.last_forces = !choices_.legacy;
}

void MobilityMode::on_whole(const Moment& now, const Configuration& group, Change& change) {
  if (now.hook == kInitialIntegrate)
    predict(now, group, change);
  else if (choices_.two_stages)
    correct(now, group, change);
  else
    euler(now, group, change);
}

void MobilityMode::euler(const Moment& now, const Configuration& group, Change& change) {
  set_temperature();
  if (choices_.noise)
    stepper_->predict(group, now.step, now.dt, change.v);
  else
    stepper_->velocities(group, change.v);
  change.dx = change.v;
  for (double& value : change.dx) value *= now.dt;
}

void MobilityMode::predict(const Moment& now, const Configuration& group, Change& change) {
  first_stage_ = group;
  set_temperature();
  if (!choices_.legacy) use_last_forces();
  stepper_->predict(first_stage_, now.step, now.dt, change.v);
  change.dx = change.v;
  for (double& value : change.dx) value *= now.dt;
}

void MobilityMode::set_temperature() {
  if (choices_.kbt) stepper_->set_temperature(choices_.kbt());
}

// Setup computes forces at x_n; the scheme goes on with the last ones.
void MobilityMode::use_last_forces() {
  for (std::int64_t i = 0; i < first_stage_.size(); ++i) {
    const double* stored = first_stage_.stored.data() + kStored * i;
    if (stored[kStamp] == static_cast<double>(steps_))
      std::copy(stored, stored + 3, first_stage_.f.begin() + 3 * i);
  }
}

// Adds to the present position, so that a box length added by wrapping since the first stage, with
// its image flag, stays where it is.
void MobilityMode::correct(const Moment& now, const Configuration& group, Change& change) {
  stepper_->correct(group, choices_.legacy, change.dx, change.v);
  for (double& value : change.dx) value *= now.dt;
  ++steps_;
  change.stored.resize(static_cast<std::size_t>(kStored * group.size()));
  for (std::int64_t i = 0; i < group.size(); ++i) {
    double* stored = change.stored.data() + kStored * i;
    std::copy_n(group.f.begin() + 3 * i, 3, stored);
    stored[kStamp] = static_cast<double>(steps_);
  }
}

double MobilityMode::vector(int index) const {
  return index == 0 ? stepper_->last_shift() : static_cast<double>(stepper_->repaired_steps());
}

std::vector<double> MobilityMode::save() const {
  return {static_cast<double>(choices_.seed), static_cast<double>(steps_)};
}

void MobilityMode::restore(const std::vector<double>& state) {
  if (state.size() != 2)
    throw std::runtime_error("the restart file holds " + std::to_string(state.size()) +
                             " numbers of this fix, expected 2: it was written by another version");
  steps_ = static_cast<std::int64_t>(state[1]);
  const auto stored = static_cast<std::uint64_t>(state[0]);
  if (!choices_.seed_given) {
    choices_.seed = stored;
    stepper_->set_seed(stored);
  } else if (choices_.seed != stored) {
    warn_("seed " + std::to_string(choices_.seed) + " replaces seed " + std::to_string(stored) +
          " of the restart file");
  }
}

}  // namespace mlmod
