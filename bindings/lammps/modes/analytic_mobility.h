#pragma once

#include <vector>

#include "mobility_source.h"

namespace mlmod {

/// Softened Oseen tensor, MLMOD's dX_MF: M_ii = I / (6 pi eta a),
/// M_ij = (I + r r^T / (r^2 + 1e-12)) / (8 pi eta (r + epsilon)) of nearest images.
class AnalyticMobility final : public MobilitySource {
 public:
  struct Constants {
    double viscosity, radius, softening;
    bool without_pi;  ///< MLMOD's pair term, which lacks the factor pi
  };

  explicit AnalyticMobility(const Constants& constants);

  void evaluate(const Configuration& configuration) override;
  void apply(const std::vector<double>& f, std::vector<double>& v) override;
  void matrix(std::vector<double>& m) override;

 private:
  template <class Visit>
  void for_pairs(Visit&& visit) const;

  double self_, pair_, softening_;
  Configuration now_;
};

}  // namespace mlmod
