#pragma once

// Elementary functions of vectors, to one or two units in the last place, for kernels/*.inl only;
// see lanes.hpp.

#include "kernels/lanes.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

MLCORE_LANES Doubles square_root(Doubles v) {
#if defined(MLCORE_ISA_IS_avx512)
  return (Doubles)_mm512_maskz_sqrt_pd(0xff, (__m512d)v);
#elif defined(MLCORE_ISA_IS_avx2)
  return (Doubles)_mm256_sqrt_pd((__m256d)v);
#else
  for (int lane = 0; lane < kLanesOf<double>; ++lane) v[lane] = __builtin_sqrt(v[lane]);
  return v;
#endif
}

/// e^v; v is taken as -708 below it and as 708 above.
MLCORE_LANES Doubles exponential(Doubles v) {
  const Doubles limit = all(708.0);
  v = larger(-limit, smaller(limit, v));  // in this order NaN stays
  const Doubles shifted = fma(v, all(1.44269504088896340736), all(0x1.8p52));
  const Doubles k = shifted - 0x1.8p52;
  const Doubles f =
      fnma(k, all(1.90821492927058770002e-10), fnma(k, all(6.93147180369123816490e-01), v));
  const Doubles f2 = f * f, f4 = f2 * f2, f8 = f4 * f4;
  const Doubles a = fma(f2, fma(f, all(1.0 / 6), all(0.5)), f);
  const Doubles b = fma(f, all(1.0 / 120), all(1.0 / 24));
  const Doubles c = fma(f, all(1.0 / 5040), all(1.0 / 720));
  const Doubles d = fma(f, all(1.0 / 362880), all(1.0 / 40320));
  const Doubles e = fma(f, all(1.0 / 39916800), all(1.0 / 3628800));
  const Doubles g = fma(f, all(1.0 / 6227020800), all(1.0 / 479001600));
  const Doubles high = fma(f4, g, fma(f2, e, d));
  const Doubles p = fma(f8, high, fma(f4, fma(f2, c, b), a)) + 1.0;
  return (Doubles)((Longs)p + ((Longs)shifted << 52));
}

/// log(v) of v > 0; a finite -709 at 0, NaN below.
MLCORE_LANES Doubles logarithm(Doubles v) {
  constexpr std::int64_t kRootHalf = 0x3fe6a09e667f3bcd;
  const Longs bits = (Longs)v, exponent = (bits - kRootHalf) >> 52;
  const Doubles k = (Doubles)(exponent + (Longs)all(0x1.8p52)) - 0x1.8p52;
  const Doubles f = (Doubles)(bits - (exponent << 52)) - 1.0;
  const Doubles s = f / (2.0 + f), z = s * s, w = z * z, half = 0.5 * f * f;
  const Doubles even =
      w * fma(w, fma(w, all(1.531383769920937332e-01), all(2.222219843214978396e-01)),
              all(3.999999999940941908e-01));
  const Doubles odd =
      z * fma(w,
              fma(w, fma(w, all(1.479819860511658591e-01), all(1.818357216161805012e-01)),
                  all(2.857142874366239149e-01)),
              all(6.666666666666735130e-01));
  const Doubles low = fma(s, half + (even + odd), k * 1.90821492927058770002e-10);
  const Doubles result = k * 6.93147180369123816490e-01 - ((half - low) - f);
  return v >= 0.0 ? result : all(__builtin_nan(""));
}

/// log(1 + v) of v >= 0.
MLCORE_LANES Doubles logarithm_of_one_plus(Doubles v) {
  const Doubles u = 1.0 + v, lost = v - (u - 1.0);
  return logarithm(u) + (u < 1e15 ? lost / u : Doubles{});
}

/// Sine of 0 <= v <= pi / 2.
MLCORE_LANES Doubles sine(Doubles v) {
  constexpr double kTerms[] = {-1.0 / 51090942171709440000.0,
                               1.0 / 121645100408832000.0,
                               -1.0 / 355687428096000.0,
                               1.0 / 1307674368000.0,
                               -1.0 / 6227020800.0,
                               1.0 / 39916800,
                               -1.0 / 362880,
                               1.0 / 5040,
                               -1.0 / 120,
                               1.0 / 6};
  const Doubles square = v * v;
  Doubles sum = all(-kTerms[0]);
  for (int k = 1; k < 10; ++k) sum = fma(sum, square, all(-kTerms[k]));
  return fma(v * square, sum, v);
}

/// Cosine of 0 <= v <= pi / 2.
MLCORE_LANES Doubles cosine(Doubles v) {
  return sine((1.57079632679489661923 - v) + 6.12323399573676603587e-17);
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
