#pragma once

#include "mlcore/cell.hpp"

namespace mlmod {

/// Nearest images of displacements in one cell.
class MinimumImage {
 public:
  explicit MinimumImage(const mlcore::Cell& cell);

  /// Replaces d by its shortest periodic image.
  void operator()(double d[3]) const {
    if (open_) return;
    mlcore::wrap_displacement(cell_, inverse_, d);
    if (skewed_ && d[0] * d[0] + d[1] * d[1] + d[2] * d[2] > safe_square_) search(d);
  }

 private:
  void search(double d[3]) const;

  bool open_;
  bool skewed_ = false;
  double safe_square_ = 0;  ///< shorter displacements are the nearest images already
  mlcore::Cell cell_;
  std::array<double, 9> inverse_{};
};

}  // namespace mlmod
