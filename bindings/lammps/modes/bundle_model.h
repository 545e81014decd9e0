#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/engine.h"
#include "modes/bundle_words.h"
#include "modes/mode.h"
#include "surroundings.h"

namespace mlmod {

/// What the members of a committee keep from step to step: (atoms, memory) each, of a configuration
/// (1, memory). Without a memory there is nothing.
using Memories = std::vector<std::vector<double>>;

/// A bundle of kind force, dynamics or qoi with the engine that evaluates it: what the modes that
/// run one have in common. Errors name the bundle or the model file, and the atom.
class BundleModel {
 public:
  BundleModel(const BundleWords& words, const Surroundings& around);

  const ModelBundle& bundle() const { return bundle_; }
  std::int64_t members() const { return bundle_.members; }
  bool complete() const { return engine_->complete(); }
  /// What seeing the model's inputs needs.
  Needs needs() const;

  /// Evaluates all members of the committee.
  void evaluate(const LocalAtoms& atoms, double time, const Memories& memories = {},
                bool virials = false);
  void evaluate(const Configuration& group, double time, const Memories& memories = {});
  const std::vector<Evaluation>& results() const { return results_; }

 private:
  void tell();
  void check_atoms(const std::vector<std::int32_t>& types, const std::vector<std::uint32_t>& tags);
  void check_count(std::int64_t count) const;
  void check_finite(std::int64_t member, const std::vector<std::uint32_t>& tags) const;
  void describe_overlap(const LocalAtoms& atoms, std::string& problem) const;
  Neighborhood neighborhood(const LocalAtoms& atoms, bool virials) const;

  BundleWords words_;
  Surroundings around_;
  ModelBundle bundle_;
  double cutoff_ = 0;
  std::unique_ptr<Engine> engine_;
  std::vector<std::int32_t> types_;
  std::vector<double> folded_;
  std::vector<Evaluation> results_;
};

using Column = std::vector<double> Evaluation::*;

/// Mean of one column over the committee.
void committee_mean(const std::vector<Evaluation>& members, Column column,
                    std::vector<double>& mean);

/// sqrt of the mean over the committee of |a - mean|^2, for every row of `width` numbers.
void committee_spread(const std::vector<Evaluation>& members, Column column,
                      const std::vector<double>& mean, std::int64_t width,
                      std::vector<double>& spread);

}  // namespace mlmod
