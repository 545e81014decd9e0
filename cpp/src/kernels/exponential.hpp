#pragma once

// Powers of two in a vector, for kernels/*.inl only; see lanes.hpp.

#include "kernels/lanes.hpp"

namespace mlcore::kernels::MLCORE_ISA {
namespace {

/// 2^v for |v| <= 60.
MLCORE_LANES Floats exp2(Floats v) {
  const Floats limit = all(60.0f);
  v = larger(-limit, smaller(limit, v));
  const Floats shifted = v + 0x1.8p23f;
  const Floats f = v - (shifted - 0x1.8p23f), f2 = f * f;
  const Floats low = fma(f, all(0.693147206702832596f), all(1.0f));
  const Floats middle = fma(f, all(0.0555032722667030206f), all(0.240226509222887581f));
  const Floats high = fma(f2, all(0.000154614446985691291f),
                          fma(f, all(0.00134004281776158379f), all(0.00961805667852463808f)));
  const Floats p = fma(f2, fma(f2, high, middle), low);
  return (Floats)((Ints)p + ((Ints)shifted << 23));
}

/// 2^v for |v| <= 400.
MLCORE_LANES Doubles exp2(Doubles v) {
  const Doubles limit = all(400.0);
  v = larger(-limit, smaller(limit, v));
  const Doubles shifted = v + 0x1.8p52;
  const Doubles f = v - (shifted - 0x1.8p52), f2 = f * f, f4 = f2 * f2;
  const Doubles a = fma(f, all(0.693147180559945308), all(1.0));
  const Doubles b = fma(f, all(0.055504108664821699), all(0.240226506959100712));
  const Doubles c = fma(f, all(0.00133335581463903528), all(0.00961812910762848305));
  const Doubles d = fma(f, all(0.0000152527338562934664), all(0.000154035303933627553));
  const Doubles e = fma(f, all(1.0178051192960649e-7), all(1.3215486815999977e-6));
  const Doubles g = fma(f2, all(2.57335683087568912e-11),
                        fma(f, all(4.45667534104920588e-10), all(7.05489438634834804e-9)));
  const Doubles p = fma(f4, fma(f4, fma(f2, g, e), fma(f2, d, c)), fma(f2, b, a));
  return (Doubles)((Longs)p + ((Longs)shifted << 52));
}

}  // namespace
}  // namespace mlcore::kernels::MLCORE_ISA
