#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "masked_input.h"
#include "mode.h"
#include "torchscript_model.h"

namespace mlmod {

/// Dyn_ML1: a model maps the masked state of the group to its new positions and velocities,
/// (6n, 1) = [X; V]; one model before the forces of a step, one after them.
class LegacyDynamics final : public Mode {
 public:
  struct Choices {
    std::string before, after;  ///< files of the two models
    bool use_before = false, use_after = false;
    InputMask mask;
    bool legacy = false;  ///< order of memory; positions taken as they come, whatever their image
  };

  explicit LegacyDynamics(const Choices& choices);

  const Needs& needs() const override { return needs_; }
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;

 private:
  void check(const TorchScriptModel& model, const float* output, const Configuration& group) const;

  TorchScriptModel before_, after_;
  InputMask mask_;
  bool legacy_;
  Needs needs_;
  std::vector<float> input_;
};

}  // namespace mlmod
