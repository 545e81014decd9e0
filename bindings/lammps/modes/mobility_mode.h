#pragma once

#include <functional>
#include <memory>

#include "mobility.h"
#include "mode.h"

namespace mlmod {

struct MobilityChoices {
  bool two_stages = false;  ///< predictor and corrector; else one stage after the forces
  bool noise = false;       ///< one stage: x += dt (M f + kT div M) + noise; else x += dt M f
  bool legacy = false;      ///< MLMOD: force that setup leaves, noise in the velocities
  std::uint64_t seed = 1;
  bool seed_given = false;           ///< a restart file's seed does not replace it
  std::function<double()> kbt = {};  ///< of the present step; none: as the stepper has it
};

/// Overdamped motion of the whole group. Vector: shift of the last repair, number of repaired
/// steps.
class MobilityMode final : public Mode {
 public:
  MobilityMode(std::unique_ptr<MobilityStepper> stepper, MobilityChoices choices,
               MobilityStepper::Warn warn);

  const Needs& needs() const override { return needs_; }
  Output output() const override { return {.vector = 2}; }
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  double vector(int index) const override;
  std::string kind() const override { return "mobility"; }
  std::vector<double> save() const override;
  void restore(const std::vector<double>& state) override;

 private:
  // Per atom: the force of the last corrector and which one that was.
  static constexpr int kStored = 4;
  static constexpr int kStamp = 3;

  void euler(const Moment& now, const Configuration& group, Change& change);
  void predict(const Moment& now, const Configuration& group, Change& change);
  void correct(const Moment& now, const Configuration& group, Change& change);
  void set_temperature();
  void use_last_forces();

  std::unique_ptr<MobilityStepper> stepper_;
  MobilityChoices choices_;
  MobilityStepper::Warn warn_;
  Needs needs_;
  Configuration first_stage_;
  std::int64_t steps_ = 0;  ///< taken since the fix began: tells whose force is that of the last
};

}  // namespace mlmod
