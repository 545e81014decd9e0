#pragma once

// Forward-mode derivatives in vectors: a value and its derivatives along kDirections directions,
// and the functions that kernels/*.inl write once for vectors and for these; see lanes.hpp.

#include "kernels/elementary.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

template <int K>
struct Dual {
  Doubles v;
  Doubles t[K];
};

#define MLCORE_DUAL \
  template <int K>  \
  MLCORE_LANES Dual<K>

// ------------------------------------------------------------------------------------ arithmetic

/// The function of value `v` and slope `slope` at a.
MLCORE_DUAL along(const Dual<K>& a, Doubles v, Doubles slope) {
  Dual<K> r;
  r.v = v;
  for (int k = 0; k < K; ++k) r.t[k] = slope * a.t[k];
  return r;
}
MLCORE_DUAL operator+(const Dual<K>& a, const Dual<K>& b) {
  Dual<K> r;
  r.v = a.v + b.v;
  for (int k = 0; k < K; ++k) r.t[k] = a.t[k] + b.t[k];
  return r;
}
MLCORE_DUAL operator-(const Dual<K>& a, const Dual<K>& b) {
  Dual<K> r;
  r.v = a.v - b.v;
  for (int k = 0; k < K; ++k) r.t[k] = a.t[k] - b.t[k];
  return r;
}
MLCORE_DUAL operator*(const Dual<K>& a, const Dual<K>& b) {
  Dual<K> r;
  r.v = a.v * b.v;
  for (int k = 0; k < K; ++k) r.t[k] = fma(a.v, b.t[k], b.v * a.t[k]);
  return r;
}
MLCORE_DUAL operator-(const Dual<K>& a) {
  Dual<K> r;
  r.v = -a.v;
  for (int k = 0; k < K; ++k) r.t[k] = -a.t[k];
  return r;
}
MLCORE_DUAL operator+(const Dual<K>& a, Doubles b) {
  Dual<K> r = a;
  r.v += b;
  return r;
}
MLCORE_DUAL operator-(const Dual<K>& a, Doubles b) {
  Dual<K> r = a;
  r.v -= b;
  return r;
}
MLCORE_DUAL operator*(const Dual<K>& a, Doubles b) { return along(a, a.v * b, b); }
MLCORE_DUAL operator+(Doubles a, const Dual<K>& b) { return b + a; }
MLCORE_DUAL operator-(Doubles a, const Dual<K>& b) { return -b + a; }
MLCORE_DUAL operator*(Doubles a, const Dual<K>& b) { return b * a; }
MLCORE_DUAL operator+(const Dual<K>& a, double b) { return a + all(b); }
MLCORE_DUAL operator-(const Dual<K>& a, double b) { return a - all(b); }
MLCORE_DUAL operator*(const Dual<K>& a, double b) { return a * all(b); }
MLCORE_DUAL operator+(double a, const Dual<K>& b) { return b + all(a); }
MLCORE_DUAL operator-(double a, const Dual<K>& b) { return -b + all(a); }
MLCORE_DUAL operator*(double a, const Dual<K>& b) { return b * all(a); }

template <int K>
MLCORE_LANES void operator+=(Dual<K>& a, const Dual<K>& b) {
  a = a + b;
}
template <int K>
MLCORE_LANES void operator-=(Dual<K>& a, const Dual<K>& b) {
  a = a - b;
}

// ------------------------------------------------------------------------------------ functions

MLCORE_DUAL reciprocal(const Dual<K>& a) {
  const Doubles r = reciprocal(a.v);
  return along(a, r, -(r * r));
}
/// a / b, the value correctly rounded.
MLCORE_LANES Doubles divided(Doubles a, Doubles b) { return a / b; }
MLCORE_DUAL divided(const Dual<K>& a, const Dual<K>& b) {
  Dual<K> r;
  r.v = a.v / b.v;
  const Doubles inverse = reciprocal(b.v);
  for (int k = 0; k < K; ++k) r.t[k] = fnma(r.v, b.t[k], a.t[k]) * inverse;
  return r;
}
MLCORE_DUAL exponential(const Dual<K>& a) {
  const Doubles e = exponential(a.v);
  return along(a, e, e);
}
MLCORE_DUAL logarithm(const Dual<K>& a) { return along(a, logarithm(a.v), reciprocal(a.v)); }
MLCORE_DUAL logarithm_of_one_plus(const Dual<K>& a) {
  return along(a, logarithm_of_one_plus(a.v), reciprocal(1.0 + a.v));
}
/// Sine and cosine of 0 <= a <= pi / 2.
MLCORE_LANES void sine_cosine(Doubles a, Doubles& s, Doubles& c) {
  s = sine(a);
  c = cosine(a);
}
template <int K>
MLCORE_LANES void sine_cosine(const Dual<K>& a, Dual<K>& s, Dual<K>& c) {
  const Doubles sv = sine(a.v), cv = cosine(a.v);
  s = along(a, sv, cv);
  c = along(a, cv, -sv);
}

// -------------------------------------------------------------------------------------- choices

MLCORE_LANES Doubles value_of(Doubles a) { return a; }
template <int K>
MLCORE_LANES Doubles value_of(const Dual<K>& a) {
  return a.v;
}
/// a where the mask is set, else b.
MLCORE_LANES Doubles choose(Longs mask, Doubles a, Doubles b) { return mask ? a : b; }
MLCORE_DUAL choose(Longs mask, const Dual<K>& a, const Dual<K>& b) {
  Dual<K> r;
  r.v = mask ? a.v : b.v;
  for (int k = 0; k < K; ++k) r.t[k] = mask ? a.t[k] : b.t[k];
  return r;
}
/// A constant in place of a value, its derivatives zero.
template <class T>
MLCORE_LANES T constant(double value) {
  T r{};
  return r + value;
}
/// Whether values and derivatives of all lanes are zero.
MLCORE_LANES bool all_zero(Doubles a) {
  for (int lane = 0; lane < kLanesOf<double>; ++lane) {
    if (a[lane] != 0) return false;
  }
  return true;
}
template <int K>
MLCORE_LANES bool all_zero(const Dual<K>& a) {
  for (int k = 0; k < K; ++k) {
    if (!all_zero(a.t[k])) return false;
  }
  return all_zero(a.v);
}

#undef MLCORE_DUAL

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
