// Compiled once per instruction set; see simd.hpp.

#include "kernels/voxel_places.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

constexpr double kFar = 0x1p30;

/// floor(x) for |x| < 2^51.
inline __attribute__((always_inline)) double low(double x) {
#if defined(__SSE4_1__)
  return __builtin_floor(x);  // one instruction
#endif
  const double nearest = (x + 0x1.8p52) - 0x1.8p52;
  return nearest > x ? nearest - 1.0 : nearest;
}

inline __attribute__((always_inline)) double coordinate(const VoxelStencil& s, int axis, double x,
                                                        double y, double z) {
  return (x * s.to_grid[axis] + y * s.to_grid[3 + axis]) + z * s.to_grid[6 + axis];
}

/// Sets what is not finite, or too far away along a periodic axis, to 0. Returns how many were.
inline __attribute__((always_inline)) std::int64_t admit(const VoxelStencil& s, int axis, int count,
                                                         double* u) {
  const double inverse_n = s.periodic[axis] ? s.inverse_n[axis] : 0.0;
  std::int64_t bad = 0;
  for (int p = 0; p < count; ++p) {
    const double images = u[p] * inverse_n;  // NaN for infinities, too
    const bool good = images > -kFar && images < kFar;
    u[p] = good ? u[p] : 0.0;
    bad += good ? 0 : 1;
  }
  return bad;
}

/// u without the images of the cell.
inline __attribute__((always_inline)) double wrapped(double u, double n, double inverse_n,
                                                     double& image) {
  const double k0 = low(u * inverse_n);
  const double w0 = u - k0 * n;
  const double k1 = w0 < 0.0 ? k0 - 1.0 : k0;
  const double w1 = w0 < 0.0 ? w0 + n : w0;
  image = w1 >= n ? k1 + 1.0 : k1;
  return w1 >= n ? w1 - n : w1;
}

/// First sample point and fraction along one axis for `count` points at u.
inline __attribute__((always_inline)) void place_axis(const VoxelStencil& s, int axis, int count,
                                                      const double* u, std::int32_t* first,
                                                      double* fraction) {
  const double n = s.n[axis], inverse_n = s.inverse_n[axis], offset = s.offset[axis];
  if (s.periodic[axis] && offset <= n) {
    for (int p = 0; p < count; ++p) {
      double image;
      const double v = wrapped(u[p], n, inverse_n, image) - offset;
      const double i = low(v);
      fraction[p] = v - i;
      first[p] = static_cast<std::int32_t>(i < 0.0 ? i + n : i);
    }
  } else if (s.periodic[axis]) {
    for (int p = 0; p < count; ++p) {
      double image;
      const double v = wrapped(u[p], n, inverse_n, image) - offset;
      const double i = low(v);
      const double j0 = i - n * low(i * inverse_n);
      const double j1 = j0 < 0.0 ? j0 + n : j0;
      fraction[p] = v - i;
      first[p] = static_cast<std::int32_t>(j1 >= n ? j1 - n : j1);
    }
  } else {
    const double least = -s.taps[axis], most = n;
    for (int p = 0; p < count; ++p) {
      const double v0 = u[p] - offset;
      const double v1 = v0 < least ? least : v0;
      const double v = v1 > most ? most : v1;
      const double i = low(v);
      fraction[p] = v - i;
      first[p] = static_cast<std::int32_t>(i);
    }
  }
}

/// Order-preserving integer of a double; its own inverse.
inline __attribute__((always_inline)) std::uint64_t ordered(std::uint64_t bits) {
  return bits ^ (static_cast<std::uint64_t>(static_cast<std::int64_t>(bits) >> 63) >> 1);
}

inline __attribute__((always_inline)) std::uint64_t bits_of(double x) {
  std::uint64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

/// Position of a place in a voxel.
inline __attribute__((always_inline)) void position(const VoxelStencil& s, const double* rows,
                                                    const std::int64_t* cell, const double* offset,
                                                    const std::int32_t* image, double* x) {
  double f[3];
  for (int a = 0; a < 3; ++a) {
    f[a] = (static_cast<double>(cell[a]) + offset[a]) * s.inverse_n[a] + image[a];
  }
  for (int k = 0; k < 3; ++k) x[k] = (f[0] * rows[k] + f[1] * rows[3 + k]) + f[2] * rows[6 + k];
}

}  // namespace

bool voxel_places(const VoxelStencil& stencil, const double* x, const std::int32_t* list,
                  std::int64_t begin, int count, VoxelPlaces* places) {
  alignas(64) double r[3][kVoxelBlock], u[kVoxelBlock];
  if (list) {
    for (int p = 0; p < count; ++p) {
      const double* point = x + 3 * static_cast<std::int64_t>(list[begin + p]);
      for (int k = 0; k < 3; ++k) r[k][p] = point[k];
    }
  } else {
    const double* point = x + 3 * begin;
    for (int p = 0; p < count; ++p) {
      for (int k = 0; k < 3; ++k) r[k][p] = point[3 * p + k];
    }
  }
  std::int64_t bad = 0;
  for (int axis = 0; axis < 3; ++axis) {
    for (int p = 0; p < count; ++p) u[p] = coordinate(stencil, axis, r[0][p], r[1][p], r[2][p]);
    bad += admit(stencil, axis, count, u);
    place_axis(stencil, axis, count, u, places->first[axis], places->fraction[axis]);
  }
  return bad == 0;
}

bool voxel_planes(const VoxelStencil& stencil, const double* x, std::int64_t begin,
                  std::int64_t end, std::int32_t* first) {
  alignas(64) double u[kVoxelBlock], fraction[kVoxelBlock];
  std::int64_t bad = 0;
  for (std::int64_t b = begin; b < end; b += kVoxelBlock) {
    const int count = end - b < kVoxelBlock ? static_cast<int>(end - b) : kVoxelBlock;
    const double* point = x + 3 * b;
    for (int p = 0; p < count; ++p) {
      u[p] = coordinate(stencil, 0, point[3 * p], point[3 * p + 1], point[3 * p + 2]);
    }
    bad += admit(stencil, 0, count, u);
    place_axis(stencil, 0, count, u, first + b, fraction);
  }
  return bad == 0;
}

bool voxel_bins(const VoxelStencil& stencil, const double* rows, const double* x,
                std::int64_t begin, std::int64_t end, std::int64_t* cell, double* offset,
                std::int32_t* image, std::int64_t* ulps) {
  std::int64_t bad = 0;
  for (std::int64_t p = begin; p < end; ++p) {
    const double* point = x + 3 * p;
    std::int64_t voxel[3];
    for (int axis = 0; axis < 3; ++axis) {
      double u = coordinate(stencil, axis, point[0], point[1], point[2]), k = 0.0;
      const double n = stencil.n[axis];
      bad += admit(stencil, axis, 1, &u);
      if (stencil.periodic[axis]) {
        u = wrapped(u, n, stencil.inverse_n[axis], k);
      } else if (!(u >= 0.0 && u < n)) {
        ++bad;
        u = 0.0;
      }
      const double i = low(u);
      voxel[axis] = static_cast<std::int64_t>(i);
      offset[3 * p + axis] = u - i;
      image[3 * p + axis] = static_cast<std::int32_t>(k);
    }
    cell[p] = (voxel[0] * stencil.n[1] + voxel[1]) * stencil.n[2] + voxel[2];
    double back[3];
    position(stencil, rows, voxel, offset + 3 * p, image + 3 * p, back);
    for (int k = 0; k < 3; ++k) {
      ulps[3 * p + k] =
          static_cast<std::int64_t>(ordered(bits_of(point[k])) - ordered(bits_of(back[k])));
    }
  }
  return bad == 0;
}

void voxel_unbin(const VoxelStencil& stencil, const double* rows, std::int64_t begin,
                 std::int64_t end, const std::int64_t* cell, const double* offset,
                 const std::int32_t* image, const std::int64_t* ulps, double* x) {
  const std::int64_t ny = stencil.n[1], nz = stencil.n[2];
  for (std::int64_t p = begin; p < end; ++p) {
    const std::int64_t row = cell[p] / nz;
    const std::int64_t voxel[3] = {row / ny, row % ny, cell[p] % nz};
    double* point = x + 3 * p;
    position(stencil, rows, voxel, offset + 3 * p, image + 3 * p, point);
    if (!ulps) continue;
    for (int k = 0; k < 3; ++k) {
      const std::uint64_t bits = ordered(ordered(bits_of(point[k])) + ulps[3 * p + k]);
      __builtin_memcpy(point + k, &bits, sizeof bits);
    }
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
