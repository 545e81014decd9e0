#pragma once

// Particles as the inner loops of mobilities in a periodic cell take them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "mobility_open.hpp"
#include "mobility_plan.hpp"

namespace mlcore::detail {

using kernels::kTile;

inline std::int64_t tile_count(std::int64_t n) { return (n + kTile - 1) / kTile; }

/// Positions of one configuration as structure of arrays, wrapped into the cell, padded with zeros.
struct Particles {
  std::int64_t n = 0;
  std::vector<double> x[3];
  std::vector<double> fraction[3];
  kernels::PairGeometry geometry;

  void set(const MobilityPlan& plan, View<const double, 2> positions) {
    n = positions.shape[0];
    for (int a = 0; a < 3; ++a) {
      x[a].assign(kTile * tile_count(n), 0.0);
      for (std::int64_t i = 0; i < n; ++i) x[a][i] = positions(i, a);
    }
    const Cell& cell = plan.cell;
    if (!cell.is_open()) wrap(cell, plan.inverse);
    geometry = pair_geometry(plan, x[0].data(), x[1].data(), x[2].data());
  }

 private:
  void wrap(const Cell& cell, const std::array<double, 9>& inverse) {
    for (int a = 0; a < 3; ++a) {
      if (!cell.pbc[a]) continue;
      fraction[a].resize(n);
      for (std::int64_t i = 0; i < n; ++i) {
        double s = x[0][i] * inverse[a] + x[1][i] * inverse[3 + a] + x[2][i] * inverse[6 + a];
        double shift = std::floor(s);
        if (s - shift >= 1.0) shift += 1.0;  // what lies just below 0 is not moved to the far face
        fraction[a][i] = s - shift;
        for (int k = 0; k < 3; ++k) x[k][i] -= shift * cell.rows[3 * a + k];
      }
    }
  }
};

/// Wrapped positions in memory that each thread keeps from call to call.
inline const Particles& prepared(const MobilityModel& model, const MobilityPlan& plan,
                                 View<const double, 2> x) {
  static thread_local Particles kept;
  check_positions(x);
  kept.set(plan, x);
  if (model.kernel == Kernel::oseen) {
    const double* columns[3] = {kept.x[0].data(), kept.x[1].data(), kept.x[2].data()};
    check_apart(columns, kept.n);
  }
  return kept;
}

/// Tile of kTile particles: exp(i n theta) for |n| <= extent along each axis. Lanes beyond the last
/// particle repeat it.
class TilePowers {
 public:
  /// In memory that each thread keeps from call to call.
  static TilePowers& of(const WavePart& waves) {
    static thread_local TilePowers kept;
    for (int a = 0; a < 3; ++a) kept.values_[a].resize(2 * kTile * (2 * waves.extent[a] + 1));
    return kept;
  }

  void fill(const WavePart& waves, const Particles& particles, std::int64_t tile) {
    for (int a = 0; a < 3; ++a) {
      double* middle = values_[a].data() + 2 * kTile * waves.extent[a];
      for (int lane = 0; lane < kTile; ++lane) {
        const std::int64_t i = std::min(tile * kTile + lane, particles.n - 1);
        const double theta = 2.0 * std::numbers::pi * particles.fraction[a][i];
        const double c = std::cos(theta), s = std::sin(theta);
        double pc = 1, ps = 0;
        for (int n = 0; n <= waves.extent[a]; ++n) {
          middle[2 * kTile * n + lane] = middle[-2 * kTile * n + lane] = pc;
          middle[2 * kTile * n + kTile + lane] = ps;
          middle[-2 * kTile * n + kTile + lane] = -ps;
          const double next = pc * c - ps * s;
          ps = pc * s + ps * c;
          pc = next;
        }
      }
      pointers_[a] = values_[a].data();
    }
  }

  const double* const* pointers() const { return pointers_; }

 private:
  std::vector<double> values_[3];
  const double* pointers_[3];
};

/// Vectors of one configuration as structure of arrays, padded with zeros.
struct Components {
  std::vector<double> values[3];
  const double* pointers[3];

  /// In memory that each thread keeps from call to call.
  static const Components& of(View<const double, 2> v) {
    static thread_local Components kept;
    for (int a = 0; a < 3; ++a) {
      kept.values[a].assign(kTile * tile_count(v.shape[0]), 0.0);
      for (std::int64_t i = 0; i < v.shape[0]; ++i) kept.values[a][i] = v(i, a);
      kept.pointers[a] = kept.values[a].data();
    }
    return kept;
  }
};

}  // namespace mlcore::detail
