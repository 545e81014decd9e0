#pragma once

#include <memory>
#include <vector>

#include "modes/bundle_model.h"

namespace mlmod {

/// Forces of a bundle, added to those of the force field.
///
/// Scalar: energy, where the model gives one. Vector: energy, largest and mean spread of the forces
/// over the committee, spread of the energy. Per atom, for a committee: spread of the force.
class BundleForce final : public Mode {
 public:
  BundleForce(const BundleWords& words, const Surroundings& around);

  const Needs& needs() const override { return needs_; }
  Output output() const override;
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;
  void on_complete(const Moment& now, const std::vector<double>& complete, Change& change) override;
  void reduced(const std::vector<double>& sums, const std::vector<double>& maxima) override;
  double vector(int index) const override;

 private:
  void add_energies(Change& change) const;
  void add_spread(const std::vector<double>& spread, Change& change) const;

  BundleModel model_;
  Needs needs_;
  double energy_ = 0, energy_spread_ = 0, largest_ = 0, mean_ = 0;
};

}  // namespace mlmod
