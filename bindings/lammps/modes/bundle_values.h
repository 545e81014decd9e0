#pragma once

#include <vector>

#include "modes/bundle_model.h"

namespace mlmod {

/// Quantities of interest of a bundle, at setup and at the end of every `every`-th step.
///
/// A model of the whole group gives a vector (K values) or an array (K, L); one of atoms or
/// neighbors gives a vector of K means or sums over the group, or, with reduce none, K values per
/// atom. The scalar is the first value. A committee appends to a vector the spread of each value;
/// beside an array or values per atom, the vector is their largest and mean spread.
class BundleValues final : public Mode {
 public:
  BundleValues(const BundleWords& words, const Surroundings& around);

  const Needs& needs() const override { return needs_; }
  Output output() const override;
  bool acts(const Moment& now) const override;
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;
  void reduced(const std::vector<double>& sums, const std::vector<double>& maxima) override;
  double scalar() const override { return values_.empty() ? 0.0 : values_[0]; }
  double vector(int index) const override;
  double array(int row, int column) const override;

 private:
  bool per_atom() const;
  bool is_array() const { return model_.bundle().shape.size() == 2; }
  void take(const std::vector<std::vector<double>>& members);
  void give_per_atom(Change& change) const;

  BundleModel model_;
  Needs needs_;
  std::int64_t every_;
  std::vector<double> values_, spread_;
};

}  // namespace mlmod
