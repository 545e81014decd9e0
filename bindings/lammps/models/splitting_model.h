#pragma once

#include <string>
#include <vector>

#include "mlcore/splitting.hpp"
#include "models/model_bundle.h"
#include "modes/bundle_words.h"

namespace mlmod {

/// Whether the manifest in a folder tells of a splitting; false where it cannot be read.
bool holds_splitting(const std::string& folder);

/// The steps of a bundle whose native engine is of kind "splitting": that of model.timestep and
/// those of half its length, a quarter, ... for steps that are not good.
class SplittingModel {
 public:
  /// Throws std::runtime_error naming the file and the field, or the word, that is wrong.
  SplittingModel(const BundleWords& words, const std::string& units);

  const ModelBundle& bundle() const { return bundle_; }
  std::string name() const { return "bundle '" + bundle_.folder + "'"; }
  int halvings() const { return static_cast<int>(steps_.size()) - 1; }
  const mlcore::PairSplitting& step(int halving) const { return steps_[halving]; }
  /// (K + 1,) parts of a step between its kicks.
  const std::vector<double>& drifts() const {
    return bundle_.native->tensors.at("m0.drifts").values;
  }
  /// Of the types, from the first on.
  const std::vector<double>& masses() const {
    return bundle_.native->tensors.at("m0.masses").values;
  }

  /// Throws std::runtime_error unless a run's timestep is that of the bundle.
  void check_timestep(double dt) const;
  /// Throws std::runtime_error unless an atom of this type and mass is one that the model knows.
  void check_atom(std::int64_t id, int type, double mass) const;

 private:
  ModelBundle bundle_;
  std::vector<mlcore::PairSplitting> steps_;
};

}  // namespace mlmod
