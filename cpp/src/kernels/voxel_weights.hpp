#pragma once

// Weights of voxels, shared by the per-ISA kernels and the CUDA kernels. Everything is static: each
// instruction set keeps its own copy.

#include <cstdint>

#ifdef __CUDACC__
#define MLCORE_VOXEL static __host__ __device__ __forceinline__
#else
#define MLCORE_VOXEL static inline __attribute__((always_inline))
#endif

namespace mlcore::kernels {

/// A kernel on a grid. Along axis a the point at u (in voxels) takes the sample points
/// first .. first + taps - 1, first = floor(u - (taps - 1)/2): those next to it.
struct VoxelStencil {
  double to_grid[9];  // u_a = sum_k x_k to_grid[3k + a]
  double metric[6];   // r^2 = d G d, d in voxels: xx xy xz yy yz zz
  double inverse_n[3];
  double offset[3];     // (taps - 1) / 2
  double scale;         // of all weights
  double decay;         // Gaussian: 1 / (2 sigma^2)
  double outer;         // sphere: radius + edge / 2
  double inverse_edge;  // 0: sharp
  std::int32_t n[3];
  std::int32_t taps[3];
  bool periodic[3];
  std::int32_t scheme;  // of VoxelScheme
  bool separable;       // weights are products over the axes
  bool narrow;          // Gaussian: all weights of a point may vanish in double precision
};

/// Value, first and second derivative of a weight.
struct VoxelJet {
  double p, p1, p2;
};

/// exp(x) for x <= 0; 0 below -700.
MLCORE_VOXEL double voxel_exp(double x) {
#ifdef __CUDA_ARCH__
  return exp(x);
#else
  // x = k ln 2 + r; the polynomial is the Taylor series to r^13, |r| <= ln 2 / 2.
  const double y = x < -700.0 ? -700.0 : x;
  const double shifted = y * 0x1.71547652b82fep+0 + 0x1.8p52;
  const double k = shifted - 0x1.8p52;
  const double r = (y - k * 0x1.62e42fefa3800p-1) - k * 0x1.ef35793c76730p-45;
  double e = 1.0 / 6227020800.0;
  e = e * r + 1.0 / 479001600.0;
  e = e * r + 1.0 / 39916800.0;
  e = e * r + 1.0 / 3628800.0;
  e = e * r + 1.0 / 362880.0;
  e = e * r + 1.0 / 40320.0;
  e = e * r + 1.0 / 5040.0;
  e = e * r + 1.0 / 720.0;
  e = e * r + 1.0 / 120.0;
  e = e * r + 1.0 / 24.0;
  e = e * r + 1.0 / 6.0;
  e = e * r + 0.5;
  e = e * r + 1.0;
  e = e * r + 1.0;
  std::int64_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << 52) + (std::int64_t{1023} << 52);
  double power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return x < -700.0 ? 0.0 : e * power;
#endif
}

MLCORE_VOXEL double voxel_root(double x) {
#ifdef __CUDA_ARCH__
  return sqrt(x);
#else
  return __builtin_sqrt(x);
#endif
}

/// Weights of nearest, CIC and TSC: w[0 .. taps), derivatives by u; f = u - offset - first in [0,
/// 1).
MLCORE_VOXEL void voxel_spline(int taps, double f, double* w, double* w1, double* w2) {
  if (taps == 1) {
    w[0] = 1.0, w1[0] = 0.0, w2[0] = 0.0;
  } else if (taps == 2) {
    w[0] = 1.0 - f, w1[0] = -1.0, w2[0] = 0.0;
    w[1] = f, w1[1] = 1.0, w2[1] = 0.0;
  } else {
    const double t = f - 0.5;
    w[0] = 0.5 * (0.5 - t) * (0.5 - t), w1[0] = t - 0.5, w2[0] = 1.0;
    w[1] = 0.75 - t * t, w1[1] = -2.0 * t, w2[1] = -2.0;
    w[2] = 0.5 * (0.5 + t) * (0.5 + t), w1[2] = 0.5 + t, w2[2] = 1.0;
  }
}

/// Gaussian along one axis, normalised. `decay` is per voxel^2.
MLCORE_VOXEL void voxel_gaussian(int taps, double offset, double f, double decay, double* w,
                                 double* w1, double* w2) {
  double nearest = 1e300;
  for (int j = 0; j < taps; ++j) {
    const double d = j + (0.5 - f - offset);
    nearest = d * d < nearest ? d * d : nearest;
  }
  double z = 0, z1 = 0, z2 = 0;
  for (int j = 0; j < taps; ++j) {
    const double d = j + (0.5 - f - offset);
    const double p = voxel_exp(decay * (nearest - d * d));
    w[j] = p;
    w1[j] = 2.0 * decay * d * p;
    w2[j] = 2.0 * decay * (2.0 * decay * d * d - 1.0) * p;
    z += w[j], z1 += w1[j], z2 += w2[j];
  }
  const double inverse = 1.0 / z;
  z1 *= inverse, z2 *= inverse;
  for (int j = 0; j < taps; ++j) {
    const double p = w[j] * inverse, p1 = w1[j] * inverse, p2 = w2[j] * inverse;
    w[j] = p;
    w1[j] = p1 - p * z1;
    w2[j] = p2 - 2.0 * p1 * z1 - p * z2 + 2.0 * p * z1 * z1;
  }
}

/// Weight at squared distance q, not normalised. `nearest` is the least q of the window, or 0: a
/// common factor that keeps narrow Gaussians from vanishing.
MLCORE_VOXEL double voxel_radial_value(const VoxelStencil& s, double q, double nearest) {
  if (s.decay > 0.0) return voxel_exp(s.decay * (nearest - q));
  const double r = voxel_root(q > 0.0 ? q : 0.0);
  if (s.inverse_edge == 0.0) return r <= s.outer ? 1.0 : 0.0;
  const double rising = (s.outer - r) * s.inverse_edge;
  const double above = rising > 0.0 ? rising : 0.0, t = above < 1.0 ? above : 1.0;
  return t * t * t * (10.0 + t * (6.0 * t - 15.0));
}

/// The same and its derivatives by q.
MLCORE_VOXEL VoxelJet voxel_radial(const VoxelStencil& s, double q, double nearest) {
  const double p = voxel_radial_value(s, q, nearest);
  if (s.decay > 0.0) return {p, -s.decay * p, s.decay * s.decay * p};
  if (s.inverse_edge == 0.0 || p == 0.0 || p == 1.0) return {p, 0.0, 0.0};
  const double r = voxel_root(q), t = (s.outer - r) * s.inverse_edge;
  // by r: -first, second
  const double first = 30.0 * t * t * (1.0 - t) * (1.0 - t) * s.inverse_edge;
  const double second = 60.0 * t * (1.0 - t) * (1.0 - 2.0 * t) * s.inverse_edge * s.inverse_edge;
  return {p, -0.5 * first / r, 0.25 * (second + first / r) / q};
}

/// Along one axis the weights of a separable kernel; derivatives by u.
MLCORE_VOXEL void voxel_axis(const VoxelStencil& s, int axis, double f, double* w, double* w1,
                             double* w2) {
  if (s.decay > 0.0) {
    const double g = axis == 0 ? s.metric[0] : axis == 1 ? s.metric[3] : s.metric[5];
    voxel_gaussian(s.taps[axis], s.offset[axis], f, s.decay * g, w, w1, w2);
  } else {
    voxel_spline(s.taps[axis], f, w, w1, w2);
  }
}

}  // namespace mlcore::kernels
