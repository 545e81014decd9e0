#include "mlcore/reference/neighbors.hpp"

#include <cmath>

namespace mlcore::reference {
namespace {

double pair_cutoff(const NeighborCutoff& cutoff, std::int64_t i, std::int64_t j) {
  double result = cutoff.cutoff;
  if (cutoff.radii.data) result = std::fmin(result, cutoff.radii(i) + cutoff.radii(j));
  if (cutoff.table.data) {
    result = std::fmin(result, cutoff.table(cutoff.types(i), cutoff.types(j)));
  }
  return result;
}

/// First of a pair that a half list names once.
bool counts_in_half(std::int64_t i, std::int64_t j, const std::array<std::int32_t, 3>& S) {
  if (i != j) return i < j;
  for (int axis = 0; axis < 3; ++axis) {
    if (S[axis] != 0) return S[axis] > 0;
  }
  return true;
}

struct Range {
  int first, last;
};

/// Numbers of images that can bring j within the cutoff of i, one to spare on each side.
Range images(const Cell& full, const std::array<double, 9>& inv, int axis, const double* xi,
             const double* xj, double cutoff) {
  if (!full.pbc[axis]) return {0, 0};
  double fraction = 0, norm = 0;
  for (int k = 0; k < 3; ++k) {
    fraction += (xj[k] - xi[k]) * inv[3 * k + axis];
    norm += inv[3 * k + axis] * inv[3 * k + axis];
  }
  const double reach = cutoff * std::sqrt(norm) + 1;
  return {static_cast<int>(std::floor(-fraction - reach)),
          static_cast<int>(std::ceil(-fraction + reach))};
}

}  // namespace

std::vector<NeighborPair> neighbor_pairs(View<const double, 2> x, const Cell& cell,
                                         const NeighborCutoff& cutoff,
                                         const NeighborOptions& options) {
  Cell full = cell;
  for (int axis = 0; axis < 3; ++axis) {
    for (int k = 0; k < 3 && !cell.pbc[axis]; ++k) full.rows[3 * axis + k] = 0;
  }
  full = completed(full);
  const auto inv = inverse(full.rows);
  std::vector<NeighborPair> pairs;
  for (std::int64_t i = 0; i < x.shape[0]; ++i) {
    for (std::int64_t j = 0; j < x.shape[0]; ++j) {
      const double* xi = x.data + 3 * i;
      const double* xj = x.data + 3 * j;
      Range range[3];
      for (int axis = 0; axis < 3; ++axis) {
        range[axis] = images(full, inv, axis, xi, xj, cutoff.cutoff);
      }
      for (int a = range[0].first; a <= range[0].last; ++a) {
        for (int b = range[1].first; b <= range[1].last; ++b) {
          for (int c = range[2].first; c <= range[2].last; ++c) {
            const bool self = i == j && a == 0 && b == 0 && c == 0;
            if (self && !options.self_pairs) continue;
            NeighborPair pair{i, j, {a, b, c}, {}, 0};
            if (options.half && !counts_in_half(i, j, pair.S)) continue;
            for (int k = 0; k < 3; ++k) {
              const double shift = (a * full.rows[k] + b * full.rows[3 + k]) + c * full.rows[6 + k];
              pair.D[k] = (xj[k] - xi[k]) + shift;
            }
            pair.d =
                std::sqrt((pair.D[0] * pair.D[0] + pair.D[1] * pair.D[1]) + pair.D[2] * pair.D[2]);
            if (pair.d < pair_cutoff(cutoff, i, j)) pairs.push_back(pair);
          }
        }
      }
    }
  }
  return pairs;
}

}  // namespace mlcore::reference
