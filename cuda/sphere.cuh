#pragma once

// A sphere that reflects particles.

namespace mlcore::cuda {
namespace {

constexpr int kMostBounces = 10'000;

struct Vec {
  double x, y, z;
};

__device__ Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
__device__ Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
__device__ Vec operator*(double s, Vec a) { return {s * a.x, s * a.y, s * a.z}; }
__device__ double dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

/// Free flight with bounces; see fly in kernels/sphere.hpp.
__device__ void fly(double radius, Vec& x, Vec& v, double time) {
  const double sign = time < 0 ? -1 : 1;
  double left = sign * time;
  for (int bounce = 0; bounce < kMostBounces; ++bounce) {
    const double a = dot(v, v), b = sign * dot(x, v), c = fmin(dot(x, x) - radius * radius, 0.0);
    const double root = sqrt(b * b - a * c);
    const double hit = b > 0 ? -c / (b + root) : (a > 0 ? (root - b) / a : left);
    x = x + (fmin(hit, left) * sign) * v;
    if (!(hit < left)) return;
    left -= hit;
    v = v - (2 * dot(x, v) / dot(x, x)) * x;
  }
  x.x = nan("");
}

}  // namespace
}  // namespace mlcore::cuda
