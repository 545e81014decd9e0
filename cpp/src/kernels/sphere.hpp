#pragma once

// A sphere that reflects particles, for kernels/*.inl only; see lanes.hpp.

#include "kernels/lanes.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

/// Bounces of one flight after which it is given up.
constexpr int kMostBounces = 10'000;

MLCORE_LANES bool any(Longs mask) {
  std::int64_t bits = 0;
  for (int lane = 0; lane < kLanesOf<double>; ++lane) bits |= mask[lane];
  return bits != 0;
}

/// Free flight of one particle inside a specular sphere for `time`, which may be negative: every
/// bounce at its exact place (Newtonian event, |v| and x cross v are kept).
void fly(double radius, int d, double* x, double* v, std::int64_t stride, double time) {
  const double sign = time < 0 ? -1 : 1;
  double left = sign * time;
  for (int bounce = 0; bounce < kMostBounces; ++bounce) {
    double a = 0, b = 0, c = -radius * radius;
    for (int k = 0; k < d; ++k) {
      const double xk = x[k * stride], vk = sign * v[k * stride];
      a += vk * vk;
      b += xk * vk;
      c += xk * xk;
    }
    if (c > 0) c = 0;
    const double root = __builtin_sqrt(b * b - a * c);
    const double hit = b > 0 ? -c / (b + root) : (a > 0 ? (root - b) / a : left);
    const double part = hit < left ? hit : left;
    for (int k = 0; k < d; ++k) x[k * stride] += part * sign * v[k * stride];
    if (!(hit < left)) return;
    left -= part;
    double along = 0, square = 0;
    for (int k = 0; k < d; ++k) {
      along += x[k * stride] * v[k * stride];
      square += x[k * stride] * x[k * stride];
    }
    for (int k = 0; k < d; ++k) v[k * stride] -= 2 * along / square * x[k * stride];
  }
  for (int k = 0; k < d; ++k) x[k * stride] = __builtin_nan("");
}

/// x += drift v for kLanesOf<double> particles whose coordinates lie `stride` apart, with bounces.
MLCORE_LANES void drift_inside(double radius, int d, double drift, double* x, double* v,
                               std::int64_t stride) {
  Doubles square{};
  for (int k = 0; k < d; ++k) {
    const Doubles to = fma(all(drift), load(v + k * stride), load(x + k * stride));
    square = fma(to, to, square);
  }
  const Doubles limit = all(radius * radius);
  const Longs out = square > limit;
  Doubles flown[3];
  for (int k = 0; k < d; ++k) {
    flown[k] = fma(all(drift), load(v + k * stride), load(x + k * stride));
  }
  if (any(out)) {
    for (int lane = 0; lane < kLanesOf<double>; ++lane) {
      if (!out[lane]) continue;
      fly(radius, d, x + lane, v + lane, stride, drift);
      for (int k = 0; k < d; ++k) flown[k][lane] = x[k * stride + lane];
    }
  }
  for (int k = 0; k < d; ++k) store(x + k * stride, flown[k]);
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
