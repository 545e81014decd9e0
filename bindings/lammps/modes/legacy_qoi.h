#pragma once

#include <string>
#include <vector>

#include "masked_input.h"
#include "mode.h"
#include "torchscript_model.h"

namespace mlmod {

/// QoI_ML1: a model maps the masked state of the group to a matrix, which LAMMPS reads as the fix's
/// global array and which is written to one XML file per hook and step.
class LegacyValues final : public Mode {
 public:
  struct Choices {
    std::string path;
    std::string base_name, base_folder;
    unsigned hooks = 0;
    InputMask mask;
    long every = 1;
    bool legacy = false;  ///< order of memory; nothing is computed at setup
    bool writes = true;   ///< on one rank
  };

  explicit LegacyValues(const Choices& choices);

  const Needs& needs() const override { return needs_; }
  Output output() const override;
  bool acts(const Moment& now) const override;
  void on_whole(const Moment& now, const Configuration& group, Change& change) override;
  double array(int row, int column) const override;

 private:
  void check_shape(const Moment& now, std::int64_t rows, std::int64_t columns) const;
  void check_finite(const float* output) const;
  void write(const Moment& now) const;

  TorchScriptModel model_;
  Choices choices_;
  Needs needs_;
  std::int64_t rows_ = 0, columns_ = 0;
  std::vector<float> input_, values_;
};

}  // namespace mlmod
