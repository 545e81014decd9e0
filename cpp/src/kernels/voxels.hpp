#pragma once

#include <cstdint>

#include "../simd.hpp"
#include "voxel_weights.hpp"

namespace mlcore::kernels {

/// Points list[k] (k itself without a list), k in begin .. end - 1, on a channels-last field that
/// holds the planes plane_begin .. plane_end - 1 of the first axis; others are passed over.
template <class T>
struct VoxelJob {
  const VoxelStencil* stencil;
  const double* x;
  const double* direction;  // (n, 3) or null
  const std::int32_t* list;
  std::int64_t begin, end;
  std::int32_t plane_begin, plane_end;
  // (nearest, CIC, TSC) Plane of the first tap of each of begin .. end - 1, where there is no list
  // and many of them are of no concern; or null.
  const std::int32_t* planes;
  T* field;
  T* features;                  // of point p at features + p * feature_stride
  std::int64_t feature_stride;  // in numbers
  std::int32_t channels;
  double* gradient;  // (n, 3)
  double* norms;     // (n, 3) what voxel_norms gives, or null
  void* scratch;     // voxel_scratch bytes
};

// They return false when a position is not finite or too far away.
MLCORE_DECLARE_PER_ISA(
    // field += sum of weight x features
    bool voxel_spread_f32(const VoxelJob<float>& job);
    bool voxel_spread_f64(const VoxelJob<double>& job);
    // Sums over the window of each point that normalise a kernel of the distance: the least
    // squared distance, the weights, their derivatives along the direction.
    bool voxel_norms(const VoxelJob<float>& job);
    // features = sum of weight x field
    bool voxel_gather_f32(const VoxelJob<float>& job);
    bool voxel_gather_f64(const VoxelJob<double>& job);
    // gradient = sum of the gradients of the weights x (features . field)
    bool voxel_gradient_f32(const VoxelJob<float>& job);
    bool voxel_gradient_f64(const VoxelJob<double>& job);
    // (count, channels) to (channels, stride), count of each channel
    void voxel_transpose_f32(const float* from, std::int64_t count, std::int64_t channels,
                             float* to, std::int64_t stride);
    void voxel_transpose_f64(const double* from, std::int64_t count, std::int64_t channels,
                             double* to, std::int64_t stride);
    // and back
    void voxel_untranspose_f32(const float* from, std::int64_t stride, std::int64_t count,
                               std::int64_t channels, float* to);
    void voxel_untranspose_f64(const double* from, std::int64_t stride, std::int64_t count,
                               std::int64_t channels, double* to);)

/// Bytes a job needs besides: tables of the weights of one point.
inline std::int64_t voxel_scratch(const VoxelStencil& s) {
  const std::int64_t taps = std::int64_t{s.taps[0]} * s.taps[1] * s.taps[2];
  return 8 * (5 * taps + 16 * (s.taps[0] + s.taps[1] + s.taps[2]));
}

}  // namespace mlcore::kernels
