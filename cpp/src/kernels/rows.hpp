#pragma once

// Rows of memory read lane by lane and lanes kept in memory, for kernels/*.inl only; see lanes.hpp.

#include "kernels/lanes.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

/// 1 / sqrt(v) to about the last bit.
MLCORE_LANES Doubles inverse_root(Doubles v) {
#if defined(MLCORE_ISA_IS_avx512)
  const Doubles y = (Doubles)_mm512_maskz_rsqrt14_pd(0xff, (__m512d)v);
  const Doubles e = fnma(v * y, y, all(1.0));
  const Doubles p = fma(e, fma(e, all(0.3125), all(0.375)), all(0.5));
  return fma(y * e, p, y);
#elif defined(MLCORE_ISA_IS_avx2)
  return 1.0 / (Doubles)_mm256_sqrt_pd((__m256d)v);
#else
  Doubles root;
  for (int lane = 0; lane < kLanesOf<double>; ++lane) root[lane] = __builtin_sqrt(v[lane]);
  return 1.0 / root;
#endif
}

/// Bit per lane where a < b.
MLCORE_LANES unsigned less(Doubles a, Doubles b) {
#if defined(MLCORE_ISA_IS_avx512)
  return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
#elif defined(MLCORE_ISA_IS_avx2)
  return _mm256_movemask_pd(_mm256_cmp_pd((__m256d)a, (__m256d)b, _CMP_LT_OQ));
#else
  unsigned bits = 0;
  for (int lane = 0; lane < kLanesOf<double>; ++lane) bits |= (a[lane] < b[lane] ? 1u : 0u) << lane;
  return bits;
#endif
}

/// The first four numbers of a row of memory per lane, row(lane) pointing to it, as four vectors.
template <class Row>
MLCORE_LANES void columns_of(const Row& row, Doubles (&out)[4]) {
#if defined(MLCORE_ISA_IS_avx512)
  const auto two = [&](int first, int second) __attribute__((always_inline)) {
    return _mm512_maskz_insertf64x4(0xff, _mm512_castpd256_pd512(_mm256_loadu_pd(row(first))),
                                    _mm256_loadu_pd(row(second)), 1);
  };
  const __m512d a = two(0, 2), b = two(1, 3), c = two(4, 6), d = two(5, 7);
  const __m512d even_ab = _mm512_maskz_unpacklo_pd(0xff, a, b);
  const __m512d even_cd = _mm512_maskz_unpacklo_pd(0xff, c, d);
  const __m512d odd_ab = _mm512_maskz_unpackhi_pd(0xff, a, b);
  const __m512d odd_cd = _mm512_maskz_unpackhi_pd(0xff, c, d);
  out[0] = (Doubles)_mm512_maskz_shuffle_f64x2(0xff, even_ab, even_cd, 0x88);
  out[1] = (Doubles)_mm512_maskz_shuffle_f64x2(0xff, odd_ab, odd_cd, 0x88);
  out[2] = (Doubles)_mm512_maskz_shuffle_f64x2(0xff, even_ab, even_cd, 0xdd);
  out[3] = (Doubles)_mm512_maskz_shuffle_f64x2(0xff, odd_ab, odd_cd, 0xdd);
#elif defined(MLCORE_ISA_IS_avx2)
  const __m256d a = _mm256_loadu_pd(row(0)), b = _mm256_loadu_pd(row(1));
  const __m256d c = _mm256_loadu_pd(row(2)), d = _mm256_loadu_pd(row(3));
  const __m256d even_ab = _mm256_unpacklo_pd(a, b), even_cd = _mm256_unpacklo_pd(c, d);
  const __m256d odd_ab = _mm256_unpackhi_pd(a, b), odd_cd = _mm256_unpackhi_pd(c, d);
  out[0] = (Doubles)_mm256_permute2f128_pd(even_ab, even_cd, 0x20);
  out[1] = (Doubles)_mm256_permute2f128_pd(odd_ab, odd_cd, 0x20);
  out[2] = (Doubles)_mm256_permute2f128_pd(even_ab, even_cd, 0x31);
  out[3] = (Doubles)_mm256_permute2f128_pd(odd_ab, odd_cd, 0x31);
#else
  double parts[4][kLanesOf<double>];
  for (int lane = 0; lane < kLanesOf<double>; ++lane) {
    for (int k = 0; k < 4; ++k) parts[k][lane] = row(lane)[k];
  }
  for (int k = 0; k < 4; ++k) out[k] = load(parts[k]);
#endif
}

#if defined(MLCORE_ISA_IS_avx2)
/// Row m: the pairs of 32-bit lanes of the doubles whose bit is set in m, in order.
struct Chosen {
  alignas(32) std::int32_t lanes[16][8] = {};
  constexpr Chosen() {
    for (int mask = 0; mask < 16; ++mask) {
      int next = 0;
      for (int k = 0; k < 8; ++k) lanes[mask][k] = k % 2;
      for (int lane = 0; lane < 4; ++lane) {
        if (!(mask >> lane & 1)) continue;
        lanes[mask][2 * next] = 2 * lane;
        lanes[mask][2 * next + 1] = 2 * lane + 1;
        ++next;
      }
    }
  }
};
constexpr Chosen kChosen;
#endif

/// Appends the lanes whose bit is set to n others.
MLCORE_LANES void keep(double* to, Doubles values, unsigned bits) {
#if defined(MLCORE_ISA_IS_avx512)
  _mm512_storeu_pd(to, _mm512_maskz_compress_pd(static_cast<__mmask8>(bits), (__m512d)values));
#elif defined(MLCORE_ISA_IS_avx2)
  const __m256i lanes = _mm256_load_si256(reinterpret_cast<const __m256i*>(kChosen.lanes[bits]));
  const __m256i chosen = _mm256_permutevar8x32_epi32((__m256i)values, lanes);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), chosen);
#else
  int next = 0;
  for (int lane = 0; lane < kLanesOf<double>; ++lane) {
    to[next] = values[lane];
    next += bits >> lane & 1;
  }
#endif
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
