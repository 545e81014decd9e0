#pragma once

#include <vector>

#include "modes/bundle_model.h"

namespace mlmod {

/// One step of learned dynamics: x += dx, v = v, at the start of every step.
/// Vector: largest and mean spread of dx over the committee. Per atom, for a committee: that
/// spread.
///
/// A model with a memory starts with zeros. Atoms seen one by one carry theirs along; that of a
/// configuration is the mode's, the same on every rank. Both go on from run to run and through
/// restart files.
class BundleStep final : public Mode {
 public:
  BundleStep(const BundleWords& words, const Surroundings& around);

  const Needs& needs() const override { return needs_; }
  Output output() const override;
  bool acts(const Moment& now) const override { return !now.minimizing; }
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;
  void reduced(const std::vector<double>& sums, const std::vector<double>& maxima) override;
  double vector(int index) const override { return index == 0 ? largest_ : mean_; }
  std::string kind() const override { return "dynamics"; }
  std::vector<double> save() const override;
  void restore(const std::vector<double>& state) override;

 private:
  void check_timestep(double dt) const;
  void give(Change& change) const;
  void take_memories(const LocalAtoms& atoms);
  void keep_memories(Change& change);
  std::int64_t memory() const { return model_.bundle().memory; }
  std::int64_t kept() const { return memory() * model_.members(); }

  BundleModel model_;
  Needs needs_;
  Memories memories_;
  std::int64_t steps_ = 0;  ///< taken since the fix began: tells whose memory is that of the last
  double largest_ = 0, mean_ = 0;
};

}  // namespace mlmod
