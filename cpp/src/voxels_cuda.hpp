#pragma once

// The CUDA side of voxels: cuda/voxels.cu, or cuda/stub.cpp without nvcc. Arguments are checked.

#include "kernels/voxel_weights.hpp"
#include "mlcore/voxels.hpp"

namespace mlcore::cuda {

template <class T>
void rasterize(const Context& context, const kernels::VoxelStencil& stencil,
               const VoxelPoints& points, View<const T, 2> features, View<T, 5> field,
               const VoxelOptions& options);
template <class T>
void gather(const Context& context, const kernels::VoxelStencil& stencil, const VoxelPoints& points,
            View<const T, 5> field, View<T, 2> out, const VoxelOptions& options);
template <class T>
void voxel_position_gradient(const Context& context, const kernels::VoxelStencil& stencil,
                             const VoxelPoints& points, View<const T, 2> features,
                             View<const T, 5> field, View<double, 2> out,
                             const VoxelOptions& options);
void bin_atoms(const Context& context, const kernels::VoxelStencil& stencil,
               const std::array<double, 9>& rows, View<const double, 2> x, const VoxelBins& bins);
void unbin_atoms(const Context& context, const kernels::VoxelStencil& stencil,
                 const std::array<double, 9>& rows, View<const std::int64_t, 1> cell,
                 View<const double, 2> offset, View<const std::int32_t, 2> image,
                 View<const std::int64_t, 2> ulps, View<double, 2> x);

}  // namespace mlcore::cuda
