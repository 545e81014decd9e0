#include "mlcore/reference/voxels.hpp"

#include <algorithm>
#include <cmath>

namespace mlcore::reference {
namespace {

using Vector = std::array<double, 3>;

/// Value, first and second derivative.
struct Jet {
  double value, first, second;
};

/// Weight of a sample point at distance d along one axis; derivatives by d.
Jet axis_weight(VoxelScheme scheme, double d) {
  const double a = std::fabs(d), side = d > 0 ? 1 : -1;
  if (scheme == VoxelScheme::nearest) return {1, 0, 0};
  if (scheme == VoxelScheme::cic) return a < 1 ? Jet{1 - a, -side, 0} : Jet{0, 0, 0};
  if (a < 0.5) return {0.75 - d * d, -2 * d, -2};
  return a < 1.5 ? Jet{0.5 * (1.5 - a) * (1.5 - a), -side * (1.5 - a), 1} : Jet{0, 0, 0};
}

/// Weight of a sample point at distance r, not normalised; derivatives by r.
Jet radial_weight(const VoxelKernel& kernel, double r) {
  if (kernel.scheme == VoxelScheme::gaussian) {
    const double s2 = kernel.sigma * kernel.sigma, p = std::exp(-0.5 * r * r / s2);
    return {p, -p * r / s2, p * (r * r / s2 - 1) / s2};
  }
  if (kernel.edge == 0) return {r <= kernel.radius * (1 + 1e-9) ? 1.0 : 0.0, 0, 0};
  const double t = (kernel.radius + 0.5 * kernel.edge - r) / kernel.edge;
  if (t <= 0) return {0, 0, 0};
  if (t >= 1) return {1, 0, 0};
  const double first = 30 * t * t * (1 - t) * (1 - t), second = 60 * t * (1 - t) * (1 - 2 * t);
  return {t * t * t * (10 - 15 * t + 6 * t * t), -first / kernel.edge,
          second / (kernel.edge * kernel.edge)};
}

/// Sample points taken along each axis: the fewest that always cover the kernel.
int window(const VoxelKernel& kernel, double height, std::int64_t n) {
  if (kernel.scheme < VoxelScheme::gaussian) return static_cast<int>(kernel.scheme) + 1;
  const double reach = kernel.scheme == VoxelScheme::gaussian ? kernel.truncation * kernel.sigma
                                                              : kernel.radius + 0.5 * kernel.edge;
  return static_cast<int>(std::floor(2 * reach * static_cast<double>(n) / height * (1 + 2e-9))) + 1;
}

/// A sample point of the window, perhaps outside the grid.
struct Sample {
  std::array<std::int64_t, 3> index;
  double weight;
  Vector gradient;
  std::array<double, 9> hessian;
};

void tensor_sample(VoxelScheme scheme, const Vector& d, const std::array<double, 9>& to_grid,
                   Sample& s) {
  Jet w[3];
  for (int a = 0; a < 3; ++a) w[a] = axis_weight(scheme, d[a]);
  s.weight = w[0].value * w[1].value * w[2].value;
  for (int k = 0; k < 3; ++k) {
    s.gradient[k] = 0;
    for (int a = 0; a < 3; ++a) {  // d falls where u rises
      const double others = w[(a + 1) % 3].value * w[(a + 2) % 3].value;
      s.gradient[k] -= to_grid[3 * k + a] * w[a].first * others;
    }
    for (int l = 0; l < 3; ++l) {
      double sum = 0;
      for (int a = 0; a < 3; ++a) {
        for (int b = 0; b < 3; ++b) {
          const double part = a == b ? w[a].second * w[(a + 1) % 3].value * w[(a + 2) % 3].value
                                     : w[a].first * w[b].first * w[3 - a - b].value;
          sum += to_grid[3 * k + a] * to_grid[3 * l + b] * part;
        }
      }
      s.hessian[3 * k + l] = sum;
    }
  }
}

void radial_sample(const VoxelKernel& kernel, const Vector& away, Sample& s) {
  const double r = std::sqrt(away[0] * away[0] + away[1] * away[1] + away[2] * away[2]);
  const Jet w = radial_weight(kernel, r);
  s.weight = w.value;
  const double slope = r > 0 ? w.first / r : w.second;  // both kernels are flat at the centre
  for (int k = 0; k < 3; ++k) {
    s.gradient[k] = -slope * away[k];
    for (int l = 0; l < 3; ++l) {
      const double nn = r > 0 ? away[k] * away[l] / (r * r) : 0;
      s.hessian[3 * k + l] = w.second * nn + slope * ((k == l) - nn);
    }
  }
}

/// Divides by the sum of the weights.
void normalise(std::vector<Sample>& samples) {
  double z = 0;
  Vector dz{};
  std::array<double, 9> ddz{};
  for (const Sample& s : samples) {
    z += s.weight;
    for (int k = 0; k < 3; ++k) dz[k] += s.gradient[k];
    for (int k = 0; k < 9; ++k) ddz[k] += s.hessian[k];
  }
  for (Sample& s : samples) {
    const double p = s.weight;
    const Vector dp = s.gradient;
    s.weight = p / z;
    for (int k = 0; k < 3; ++k) s.gradient[k] = (dp[k] - s.weight * dz[k]) / z;
    for (int k = 0; k < 3; ++k) {
      for (int l = 0; l < 3; ++l) {
        s.hessian[3 * k + l] =
            (s.hessian[3 * k + l] - (dp[k] * dz[l] + dp[l] * dz[k] + p * ddz[3 * k + l]) / z +
             2 * p * dz[k] * dz[l] / (z * z)) /
            z;
      }
    }
  }
}

/// Share of a point in a voxel, or its derivative along the direction of the point.
double share(const VoxelTap& tap, const VoxelPoints& points, std::int64_t p) {
  if (!points.direction.data) return tap.weight;
  double sum = 0;
  for (int k = 0; k < 3; ++k) sum += tap.gradient[k] * points.direction(p, k);
  return sum;
}

std::int64_t flat(const VoxelGrid& grid, const VoxelTap& tap) {
  return (tap.voxel[0] * grid.shape[1] + tap.voxel[1]) * grid.shape[2] + tap.voxel[2];
}

}  // namespace

std::vector<VoxelTap> voxel_taps(const VoxelGrid& grid, const VoxelKernel& kernel,
                                 const double* x) {
  const std::array<double, 9> inverse_rows = inverse(grid.cell.rows);
  const std::array<double, 3> height = heights(grid.cell);
  std::array<double, 9> to_grid;
  Vector u{};
  int count[3];
  std::int64_t first[3];
  for (int a = 0; a < 3; ++a) {
    const double n = static_cast<double>(grid.shape[a]);
    for (int k = 0; k < 3; ++k) {
      to_grid[3 * k + a] = inverse_rows[3 * k + a] * n;
      u[a] += x[k] * to_grid[3 * k + a];
    }
    count[a] = window(kernel, height[a], grid.shape[a]);
    first[a] = static_cast<std::int64_t>(std::floor(u[a] - 0.5 * (count[a] - 1)));
  }
  std::vector<Sample> samples;
  for (int i = 0; i < count[0]; ++i) {
    for (int j = 0; j < count[1]; ++j) {
      for (int k = 0; k < count[2]; ++k) {
        Sample s;
        s.index = {first[0] + i, first[1] + j, first[2] + k};
        Vector d, away{};
        for (int a = 0; a < 3; ++a) d[a] = static_cast<double>(s.index[a]) + 0.5 - u[a];
        for (int a = 0; a < 3; ++a) {
          const double n = static_cast<double>(grid.shape[a]);
          for (int c = 0; c < 3; ++c) away[c] += d[a] / n * grid.cell.rows[3 * a + c];
        }
        if (kernel.scheme < VoxelScheme::gaussian) {
          tensor_sample(kernel.scheme, d, to_grid, s);
        } else {
          radial_sample(kernel, away, s);
        }
        samples.push_back(s);
      }
    }
  }
  double sum = 0;
  for (const Sample& s : samples) sum += s.weight;
  if (sum > 0) {
    normalise(samples);
  } else {
    Sample whole{};
    for (int a = 0; a < 3; ++a) whole.index[a] = static_cast<std::int64_t>(std::floor(u[a]));
    whole.weight = 1;
    samples = {whole};
  }
  std::vector<VoxelTap> taps;
  for (const Sample& s : samples) {
    VoxelTap tap{s.index, s.weight, s.gradient, s.hessian};
    bool inside = true;
    for (int a = 0; a < 3; ++a) {
      const std::int64_t n = grid.shape[a];
      if (grid.cell.pbc[a]) tap.voxel[a] = ((s.index[a] % n) + n) % n;
      inside = inside && tap.voxel[a] >= 0 && tap.voxel[a] < n;
    }
    if (inside) taps.push_back(tap);
  }
  return taps;
}

void rasterize(const VoxelGrid& grid, const VoxelKernel& kernel, const VoxelPoints& points,
               View<const double, 2> features, View<double, 2> field) {
  std::fill(field.begin(), field.end(), 0.0);
  for (std::int64_t p = 0; p < points.x.shape[0]; ++p) {
    for (const VoxelTap& tap : voxel_taps(grid, kernel, &points.x(p, 0))) {
      const double w = share(tap, points, p);
      for (std::int64_t c = 0; c < features.shape[1]; ++c) {
        field(flat(grid, tap), c) += w * features(p, c);
      }
    }
  }
}

void gather(const VoxelGrid& grid, const VoxelKernel& kernel, const VoxelPoints& points,
            View<const double, 2> field, View<double, 2> out) {
  std::fill(out.begin(), out.end(), 0.0);
  for (std::int64_t p = 0; p < points.x.shape[0]; ++p) {
    for (const VoxelTap& tap : voxel_taps(grid, kernel, &points.x(p, 0))) {
      const double w = share(tap, points, p);
      for (std::int64_t c = 0; c < out.shape[1]; ++c) out(p, c) += w * field(flat(grid, tap), c);
    }
  }
}

void voxel_position_gradient(const VoxelGrid& grid, const VoxelKernel& kernel,
                             const VoxelPoints& points, View<const double, 2> features,
                             View<const double, 2> field, View<double, 2> out) {
  std::fill(out.begin(), out.end(), 0.0);
  for (std::int64_t p = 0; p < points.x.shape[0]; ++p) {
    for (const VoxelTap& tap : voxel_taps(grid, kernel, &points.x(p, 0))) {
      double dot = 0;
      for (std::int64_t c = 0; c < features.shape[1]; ++c) {
        dot += features(p, c) * field(flat(grid, tap), c);
      }
      for (int k = 0; k < 3; ++k) {
        double derivative = tap.gradient[k];
        if (points.direction.data) {
          derivative = 0;
          for (int l = 0; l < 3; ++l) {
            derivative += tap.hessian[3 * k + l] * points.direction(p, l);
          }
        }
        out(p, k) += derivative * dot;
      }
    }
  }
}

}  // namespace mlcore::reference
