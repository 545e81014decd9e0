#include "pair_geometry.h"

#include <algorithm>

namespace mlmod {

MinimumImage::MinimumImage(const mlcore::Cell& cell) : open_(cell.is_open()) {
  if (open_) return;
  cell_ = mlcore::completed(cell);
  inverse_ = mlcore::inverse(cell_.rows);
  const auto& r = cell_.rows;
  skewed_ = r[1] != 0 || r[2] != 0 || r[3] != 0 || r[5] != 0 || r[6] != 0 || r[7] != 0;
  const std::array<double, 3> height = mlcore::heights(cell_);
  double smallest = 0;
  for (int axis = 0; axis < 3; ++axis)
    if (cell_.pbc[axis]) smallest = smallest == 0 ? height[axis] : std::min(smallest, height[axis]);
  safe_square_ = 0.25 * smallest * smallest;
}

void MinimumImage::search(double d[3]) const {
  const double start[3] = {d[0], d[1], d[2]};
  double best = start[0] * start[0] + start[1] * start[1] + start[2] * start[2];
  const int reach[3] = {cell_.pbc[0] ? 1 : 0, cell_.pbc[1] ? 1 : 0, cell_.pbc[2] ? 1 : 0};
  const auto& r = cell_.rows;
  for (int a = -reach[0]; a <= reach[0]; ++a)
    for (int b = -reach[1]; b <= reach[1]; ++b)
      for (int c = -reach[2]; c <= reach[2]; ++c) {
        double image[3];
        for (int k = 0; k < 3; ++k) image[k] = start[k] + a * r[k] + b * r[3 + k] + c * r[6 + k];
        const double square = image[0] * image[0] + image[1] * image[1] + image[2] * image[2];
        if (square < best) {
          best = square;
          std::copy(image, image + 3, d);
        }
      }
}

}  // namespace mlmod
