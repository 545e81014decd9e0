#pragma once

#include <vector>

#include "modes/bundle_model.h"

namespace mlmod {

/// One step of learned dynamics: x += dx, v = v, at the start of every step.
/// Vector: largest and mean spread of dx over the committee. Per atom, for a committee: that
/// spread.
class BundleStep final : public Mode {
 public:
  BundleStep(const BundleWords& words, const Surroundings& around);

  const Needs& needs() const override { return needs_; }
  Output output() const override;
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;
  void reduced(const std::vector<double>& sums, const std::vector<double>& maxima) override;
  double vector(int index) const override { return index == 0 ? largest_ : mean_; }

 private:
  void check_timestep(double dt) const;
  void give(Change& change) const;

  BundleModel model_;
  Needs needs_;
  double largest_ = 0, mean_ = 0;
};

}  // namespace mlmod
