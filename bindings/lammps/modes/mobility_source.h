#pragma once

#include <vector>

#include "configuration.h"

namespace mlmod {

/// Something that gives the symmetric (3n, 3n) mobility matrix M of a configuration.
class MobilitySource {
 public:
  virtual ~MobilitySource() = default;

  /// Evaluates M(x); the other functions refer to it.
  virtual void evaluate(const Configuration& configuration) = 0;

  /// v = M f, both (n, 3).
  virtual void apply(const std::vector<double>& f, std::vector<double>& v) = 0;

  /// All of M, row-major.
  virtual void matrix(std::vector<double>& m) = 0;

  /// Exact sum_j d/dx_j . M_ij, (n, 3); false when this source does not know it.
  virtual bool divergence(std::vector<double>& /*d*/) { return false; }
};

}  // namespace mlmod
