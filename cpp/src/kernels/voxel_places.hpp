#pragma once

#include <cstdint>

#include "../simd.hpp"
#include "voxel_weights.hpp"

namespace mlcore::kernels {

/// Points handled at a time.
inline constexpr int kVoxelBlock = 64;

/// Where a block of points lies: along each axis the first sample point of the window, inside the
/// grid along periodic axes and held to -taps .. n along open ones, and u - offset - first.
struct VoxelPlaces {
  alignas(64) std::int32_t first[3][kVoxelBlock];
  alignas(64) double fraction[3][kVoxelBlock];
};

// These are compiled without contraction: which voxel holds a point does not depend on the
// instruction set.
MLCORE_DECLARE_PER_ISA(
    // Places of `count` points: list[k] for k in begin .. begin + count - 1, or k itself without a
    // list. False: a position is not finite or too far away (its place is then 0).
    bool voxel_places(const VoxelStencil& stencil, const double* x, const std::int32_t* list,
                      std::int64_t begin, int count, VoxelPlaces* places);
    // Along the first axis alone, for all of begin .. end - 1.
    bool voxel_planes(const VoxelStencil& stencil, const double* x, std::int64_t begin,
                      std::int64_t end, std::int32_t* first);
    // Voxel, place in it, image of points and ulps. False also when a point lies outside an open
    // axis.
    bool voxel_bins(const VoxelStencil& stencil, const double* rows, const double* x,
                    std::int64_t begin, std::int64_t end, std::int64_t* cell, double* offset,
                    std::int32_t* image, std::int64_t* ulps);
    // Positions from voxels; ulps may be null.
    void voxel_unbin(const VoxelStencil& stencil, const double* rows, std::int64_t begin,
                     std::int64_t end, const std::int64_t* cell, const double* offset,
                     const std::int32_t* image, const std::int64_t* ulps, double* x);)

}  // namespace mlcore::kernels
