#pragma once

// A vector register of the instruction set at hand, for kernels/*.inl only: everything has internal
// linkage, so each instruction set keeps its own copy. Multiply-adds are explicit, so that the same
// formula gives the same bits wherever it is inlined (compile with -ffp-contract=off).

#include <cstdint>
#if defined(MLCORE_ISA_IS_avx512) || defined(MLCORE_ISA_IS_avx2)
#include <immintrin.h>
#endif

#define MLCORE_LANES static inline __attribute__((always_inline, unused))

namespace mlcore::kernels::MLCORE_ISA {
namespace {

#if defined(MLCORE_ISA_IS_avx512)
constexpr int kRegister = 64;
#elif defined(MLCORE_ISA_IS_avx2)
constexpr int kRegister = 32;
#else
constexpr int kRegister = 16;
#endif

typedef float Floats __attribute__((vector_size(kRegister)));
typedef double Doubles __attribute__((vector_size(kRegister)));
typedef std::int32_t Ints __attribute__((vector_size(kRegister)));
typedef std::int64_t Longs __attribute__((vector_size(kRegister)));
typedef float PackedFloats __attribute__((vector_size(kRegister), aligned(4), may_alias));
typedef double PackedDoubles __attribute__((vector_size(kRegister), aligned(8), may_alias));

template <class T>
struct LanesOf;
template <>
struct LanesOf<float> {
  using Vector = Floats;
  using Packed = PackedFloats;
};
template <>
struct LanesOf<double> {
  using Vector = Doubles;
  using Packed = PackedDoubles;
};
template <class T>
using Vector = typename LanesOf<T>::Vector;
template <class T>
constexpr int kLanesOf = kRegister / static_cast<int>(sizeof(T));

template <class T>
MLCORE_LANES Vector<T> load(const T* p) {
  return *reinterpret_cast<const typename LanesOf<T>::Packed*>(p);
}
template <class T>
MLCORE_LANES void store(T* p, Vector<T> v) {
  *reinterpret_cast<typename LanesOf<T>::Packed*>(p) = v;
}
template <class T>
MLCORE_LANES Vector<T> all(T value) {
  return value - Vector<T>{};
}

// fma: a b + c; fnma: c - a b. One rounding where the instruction set has it.
MLCORE_LANES Floats fma(Floats a, Floats b, Floats c) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
MLCORE_LANES Doubles fma(Doubles a, Doubles b, Doubles c) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Doubles)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Doubles)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return a * b + c;
#endif
}
MLCORE_LANES Floats fnma(Floats a, Floats b, Floats c) { return fma(-a, b, c); }
MLCORE_LANES Doubles fnma(Doubles a, Doubles b, Doubles c) { return fma(-a, b, c); }

// smaller: a < b ? a : b; larger: a > b ? a : b, lane by lane.
MLCORE_LANES Floats smaller(Floats a, Floats b) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Floats)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Floats)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
MLCORE_LANES Doubles smaller(Doubles a, Doubles b) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Doubles)_mm512_maskz_min_pd(0xff, (__m512d)a, (__m512d)b);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Doubles)_mm256_min_pd((__m256d)a, (__m256d)b);
#else
  return a < b ? a : b;
#endif
}
MLCORE_LANES Floats larger(Floats a, Floats b) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Floats)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
MLCORE_LANES Doubles larger(Doubles a, Doubles b) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Doubles)_mm512_maskz_max_pd(0xff, (__m512d)a, (__m512d)b);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Doubles)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
  return a > b ? a : b;
#endif
}

/// Sum of the lanes, always in the same order.
template <class T>
MLCORE_LANES T added_lanes(Vector<T> v) {
  T parts[kLanesOf<T>];
  store(parts, v);
  for (int width = kLanesOf<T> / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) parts[lane] += parts[lane + width];
  }
  return parts[0];
}
MLCORE_LANES float lane_sum(Floats v) { return added_lanes<float>(v); }
MLCORE_LANES double lane_sum(Doubles v) { return added_lanes<double>(v); }

/// 1 / v to about the last bit.
MLCORE_LANES Floats reciprocal(Floats v) {
#if defined(MLCORE_ISA_IS_avx512)
  const Floats y = (Floats)_mm512_maskz_rcp14_ps(0xffff, (__m512)v);
  return fma(fnma(v, y, all(1.0f)), y, y);
#else
  return 1.0f / v;
#endif
}
MLCORE_LANES Doubles reciprocal(Doubles v) {
#if defined(MLCORE_ISA_IS_avx512)
  const Doubles y = (Doubles)_mm512_maskz_rcp14_pd(0xff, (__m512d)v);
  const Doubles e = fnma(v, y, all(1.0));
  const Doubles t = fma(y, e, y);
  return fma(t, e * e, t);
#else
  return 1.0 / v;
#endif
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
