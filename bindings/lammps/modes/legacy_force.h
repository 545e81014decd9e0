#pragma once

#include <memory>
#include <string>
#include <vector>

#include "masked_input.h"
#include "mode.h"
#include "surroundings.h"
#include "torchscript_model.h"

namespace mlmod {

/// MLMOD's force models: columns of float32 in, columns out, added to the forces of the group.
/// They see the forces as they are before this fix adds its own.
class LegacyForce : public Mode {
 public:
  struct Choices {
    std::string path;
    InputMask mask;
    bool at_setup = true;  ///< MLMOD leaves the forces of setup without the model's
  };

  const Needs& needs() const override { return needs_; }

 protected:
  LegacyForce(const Choices& choices, Sight sight);

  /// Whether what was computed now is added to the forces.
  bool counts(const Moment& now) const { return now.hook == kPostForce || at_setup_; }
  void prepare(int atoms, const Surroundings& around);

  TorchScriptModel model_;
  InputMask mask_;
  bool at_setup_;
  Needs needs_;
  std::vector<float> input_;
};

/// F_ML1: one call, all atoms of the group in, forces of all atoms out.
class WholeForce final : public LegacyForce {
 public:
  WholeForce(const Choices& choices, bool local_order);
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
};

/// F_X_ML1: one row per atom.
class AtomForce final : public LegacyForce {
 public:
  AtomForce(const Choices& choices, const Surroundings& around);
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;
};

/// F_Pair_ML1 without a cutoff: one row per pair of nearest images, shared out to the ranks.
class PairForce final : public LegacyForce {
 public:
  PairForce(const Choices& choices, bool local_order, const Surroundings& around);
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;

 private:
  struct Pair {
    std::int64_t i, j;
  };
  static Pair pair_at(std::int64_t place, std::int64_t n);
  void add_pairs(const Moment& now, const Configuration& group, Pair first, std::int64_t count,
                 std::vector<double>& f);

  int rank_, ranks_;
};

/// F_Pair_ML1 with a cutoff: one row per pair nearer than it, the atom of the lower id first.
class NearPairForce final : public LegacyForce {
 public:
  NearPairForce(const Choices& choices, double cutoff, const Surroundings& around);
  void on_local(const Moment& now, const LocalAtoms& atoms, Change& change) override;

 private:
  void find_pairs(const LocalAtoms& atoms);
  void add_pairs(const Moment& now, const LocalAtoms& atoms, std::int64_t begin, std::int64_t count,
                 std::vector<double>& f);

  std::vector<std::int32_t> pairs_;  ///< i, j, i, j, ...
};

}  // namespace mlmod
