#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "mlcore/voxels.hpp"

namespace mlcore::reference {

/// One voxel a point has a share in.
struct VoxelTap {
  std::array<std::int64_t, 3> voxel;  ///< inside the grid
  double weight;                      ///< sums to 1 over the taps, unless some were dropped
  std::array<double, 3> gradient;     ///< by the position
  std::array<double, 9> hessian;      ///< by the position
};

/// Weights of one point by the formulas of mlcore/voxels.hpp, voxel by voxel.
MLCORE_API std::vector<VoxelTap> voxel_taps(const VoxelGrid& grid, const VoxelKernel& kernel,
                                            const double* x);

/// The operations of mlcore/voxels.hpp for one system in channels-last layout, voxels flattened,
/// sums in double.
MLCORE_API void rasterize(const VoxelGrid& grid, const VoxelKernel& kernel,
                          const VoxelPoints& points, View<const double, 2> features,
                          View<double, 2> field);
MLCORE_API void gather(const VoxelGrid& grid, const VoxelKernel& kernel, const VoxelPoints& points,
                       View<const double, 2> field, View<double, 2> out);
MLCORE_API void voxel_position_gradient(const VoxelGrid& grid, const VoxelKernel& kernel,
                                        const VoxelPoints& points, View<const double, 2> features,
                                        View<const double, 2> field, View<double, 2> out);

}  // namespace mlcore::reference
