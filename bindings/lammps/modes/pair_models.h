#pragma once

#include <functional>
#include <string>
#include <vector>

#include "mobility_source.h"
#include "torchscript_model.h"

namespace mlmod {

using Warn = std::function<void(const std::string&)>;

/// M from two TorchScript files: M_ii(x_i) on the diagonal, M_ij([x_i ; nearest image of x_j]) for
/// i < j in the order of atom ids and its transpose for (j, i).
class PairModels final : public MobilitySource {
 public:
  /// `cell` bounds the inputs on which vectorised and single calls are compared.
  PairModels(const std::string& m_ii, const std::string& m_ij, const mlcore::Cell& cell,
             const std::vector<double>& origin, Warn warn);

  void evaluate(const Configuration& configuration) override;
  void apply(const std::vector<double>& f, std::vector<double>& v) override;
  void matrix(std::vector<double>& m) override;

 private:
  void prepare(TorchScriptModel& model, const std::vector<float>& samples);
  void fill_inputs(const Configuration& configuration);
  void evaluate_self(const Configuration& configuration);
  void evaluate_pairs(const Configuration& configuration);

  TorchScriptModel self_, pair_;
  Warn warn_;
  bool warned_asymmetry_ = false;
  std::int64_t n_ = 0;
  std::vector<float> self_input_, pair_input_;
  std::vector<double> self_blocks_;     ///< (n, 9), symmetric
  const float* pair_blocks_ = nullptr;  ///< (n (n - 1) / 2, 9)
};

}  // namespace mlmod
