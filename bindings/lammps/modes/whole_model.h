#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mobility_source.h"
#include "torchscript_model.h"

namespace mlmod {

/// M from one TorchScript file that maps all positions (3n, 1) to M as (9 n^2, 1), row-major.
/// The symmetric part is used.
class WholeModel final : public MobilitySource {
 public:
  WholeModel(const std::string& path, std::function<void(const std::string&)> warn);

  void evaluate(const Configuration& configuration) override;
  void apply(const std::vector<double>& f, std::vector<double>& v) override;
  void matrix(std::vector<double>& m) override;

 private:
  void symmetrize(const float* output);

  TorchScriptModel model_;
  std::function<void(const std::string&)> warn_;
  bool warned_asymmetry_ = false;
  std::vector<float> input_;
  std::vector<double> matrix_;
};

}  // namespace mlmod
