// Compiled once per instruction set; see simd.hpp.

#include "kernels/stencil_active.hpp"

#if defined(MLCORE_ISA_IS_avx512)
#pragma GCC target("bmi,bmi2,popcnt")
#include <immintrin.h>
#endif

#define MLCORE_INLINE static inline __attribute__((always_inline))

namespace mlcore::kernels::MLCORE_ISA {
namespace {

#if defined(MLCORE_ISA_IS_avx512)
constexpr int kBytes = 64, kMostChannels = 16, kMostPairs = 8;
#elif defined(MLCORE_ISA_IS_avx2)
constexpr int kBytes = 32, kMostChannels = 8, kMostPairs = 4;
#else
constexpr int kBytes = 16, kMostChannels = 8, kMostPairs = 4;
#endif

template <class T>
struct Simd {
  static constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  typedef T Vector __attribute__((vector_size(kBytes)));
  typedef T Packed __attribute__((vector_size(kBytes), aligned(sizeof(T)), may_alias));
};

template <class T>
MLCORE_INLINE typename Simd<T>::Vector load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::Packed*>(p);
}

template <class T>
MLCORE_INLINE void store(T* p, typename Simd<T>::Vector v) {
  *reinterpret_cast<typename Simd<T>::Packed*>(p) = v;
}

// --------------------------------------------------------------------------------- rules

MLCORE_INLINE std::uint64_t below(int bit) { return (std::uint64_t{1} << bit) - 1; }

MLCORE_INLINE int ones(std::uint64_t bits) { return __builtin_popcountll(bits); }

/// Input voxels dz further along z than those of a word, without any wrap.
MLCORE_INLINE std::uint64_t shifted(const ActiveBits& in, const ActiveNear& word, int dz) {
  const std::uint64_t* at = in.words + word.source;
  if (dz == 0) return *at;
  if (dz > 0) {
    const std::uint64_t next = word.place + 1 < in.per_line ? at[1] : 0;
    return *at >> dz | next << (64 - dz);
  }
  const std::uint64_t last = word.place > 0 ? at[-1] : 0;
  return *at << -dz | last >> (64 + dz);
}

/// Number of input voxels before the first one of `shifted`.
MLCORE_INLINE std::int32_t shifted_before(const ActiveBits& in, const ActiveNear& word, int dz) {
  const std::int32_t before = in.before[word.source];
  if (dz >= 0) return before + ones(in.words[word.source] & below(dz));
  return word.place > 0 ? before - ones(in.words[word.source - 1] >> (64 + dz)) : before;
}

/// Voxels of a word within `reach` of an end of its line that continues on the other side.
MLCORE_INLINE std::uint64_t edges(const ActiveBits& in, const ActiveNear& word, int reach) {
  if (!in.periodic) return 0;
  const int last = in.length - reach - 64 * word.place;
  const std::uint64_t head = word.place == 0 ? word.bits & below(reach) : 0;
  return head | (last >= 64 ? 0 : last > 0 ? word.bits >> last : word.bits);
}

/// Voxels of a word whose neighbour at dz is found beyond the end of the line: begin..end-1.
struct Wrapping {
  int begin, end;
};
MLCORE_INLINE Wrapping wrapping(const ActiveBits& in, const ActiveNear& word, int dz) {
  if (!in.periodic || dz == 0) return {0, 0};
  const int start = 64 * word.place, length = in.length;
  int begin = dz > 0 ? length - dz : 0, end = dz > 0 ? length : -dz;
  begin = (begin < 0 ? 0 : begin) - start;
  end = (end > length ? length : end) - start;
  return {begin < 0 ? 0 : begin, end > 64 ? 64 : end};
}

MLCORE_INLINE std::int64_t wrapped_pairs(const ActiveBits& in, const ActiveNear& word, int dz,
                                         std::int32_t* inputs, std::int32_t* outputs) {
  const Wrapping range = wrapping(in, word, dz);
  std::int64_t found = 0;
  for (int i = range.begin; i < range.end; ++i) {
    if (!(word.bits >> i & 1)) continue;
    int z = (64 * word.place + i + dz) % in.length;
    if (z < 0) z += in.length;
    const std::int64_t source = word.source - word.place + z / 64;
    if (!(in.words[source] >> z % 64 & 1)) continue;
    inputs[found] = in.before[source] + ones(in.words[source] & below(z % 64));
    outputs[found++] = word.first + ones(word.bits & below(i));
  }
  return found;
}

#if defined(MLCORE_ISA_IS_avx512)

/// Positions of the set bits of `mask`, plus `first`; writes up to kActiveSlack past the end.
MLCORE_INLINE void positions(std::uint64_t mask, std::int32_t first, std::int32_t* out) {
  __m512i index =
      _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                       _mm512_set1_epi32(first));
  for (; mask; mask >>= 16) {
    const __mmask16 some = static_cast<__mmask16>(mask);
    _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(some, index));
    out += __builtin_popcount(some);
    index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
  }
}

#endif

MLCORE_INLINE std::int64_t inner_pairs(const ActiveBits& in, const ActiveNear& word, int dz,
                                       std::int32_t* inputs, std::int32_t* outputs) {
  const std::uint64_t near = shifted(in, word, dz);
  const std::int32_t before = shifted_before(in, word, dz);
  std::uint64_t both = word.bits & near;
  const int count = ones(both);
#if defined(MLCORE_ISA_IS_avx512)
  if (count > 4) {
    positions(_pext_u64(both, near), before, inputs);
    positions(_pext_u64(both, word.bits), word.first, outputs);
    return count;
  }
#endif
  // The first two without asking whether there are any: a branch would be a matter of chance.
  int found = 0;
  do {
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k, both &= both - 1) {
      const std::uint64_t under = (both & -both) - 1;
      inputs[found + k] = before + ones(near & under);
      outputs[found + k] = word.first + ones(word.bits & under);
    }
    found += 2;
  } while (found < count);
  return count;
}

// ------------------------------------------------------------------------------ products

/// Adds Channels x Pairs products of pairs p..p+Pairs-1 to their sums; `fresh`: sets those of the
/// outputs p... to start + products.
template <bool Fresh, int Pairs, int Channels, class T>
MLCORE_INLINE void products(const std::int32_t* inputs, const std::int32_t* outputs, std::int64_t p,
                            std::int64_t pitch, const T* features,
                            const typename Simd<T>::Vector (&weights)[Channels],
                            typename Simd<T>::Vector start, T* sums) {
  const T* rows[Pairs];
  typename Simd<T>::Vector acc[Pairs];
#pragma GCC unroll 8
  for (int u = 0; u < Pairs; ++u) {
    rows[u] = features + inputs[p + u] * pitch;
    const std::int64_t row = Fresh ? p + u : outputs[p + u];
    acc[u] = Fresh ? start : load(sums + row * kActiveLanes<T>);
  }
#pragma GCC unroll 16
  for (int c = 0; c < Channels; ++c) {
#pragma GCC unroll 8
    for (int u = 0; u < Pairs; ++u) acc[u] += weights[c] * rows[u][c];
  }
#pragma GCC unroll 8
  for (int u = 0; u < Pairs; ++u) {
    store(sums + (Fresh ? p + u : outputs[p + u]) * kActiveLanes<T>, acc[u]);
  }
}

/// All pairs of one list, Channels channels.
template <bool Fresh, int Channels, class T>
void list_products(const std::int32_t* inputs, std::int64_t count, std::int64_t pitch,
                   const T* features, const T* weights, const T* start, T* sums) {
  typename Simd<T>::Vector w[Channels];
#pragma GCC unroll 16
  for (int c = 0; c < Channels; ++c) w[c] = load(weights + c * kActiveLanes<T>);
  const typename Simd<T>::Vector s = load(start);
  const std::int32_t* outputs = inputs + count;
  std::int64_t p = 0;
  for (; p + kMostPairs <= count; p += kMostPairs) {
    products<Fresh, kMostPairs, Channels>(inputs, outputs, p, pitch, features, w, s, sums);
  }
  if (kMostPairs > 4 && p + 4 <= count) {
    products<Fresh, 4, Channels>(inputs, outputs, p, pitch, features, w, s, sums);
    p += 4;
  }
  if (p + 2 <= count) {
    products<Fresh, 2, Channels>(inputs, outputs, p, pitch, features, w, s, sums);
    p += 2;
  }
  if (p < count) products<Fresh, 1, Channels>(inputs, outputs, p, pitch, features, w, s, sums);
}

/// All pairs of one list, all channels of one vector of outputs.
template <bool Fresh, class T>
void tap_products(const std::int32_t* inputs, std::int64_t count, std::int64_t channels,
                  const T* features, const T* weights, const T* start, T* sums) {
  std::int64_t c = 0;
  bool fresh = Fresh;
  const auto step = [&]<int Channels>() {
    const T* w = weights + c * kActiveLanes<T>;
    if (fresh) {
      list_products<Fresh, Channels>(inputs, count, channels, features + c, w, start, sums);
    } else {
      list_products<false, Channels>(inputs, count, channels, features + c, w, start, sums);
    }
    c += Channels;
    fresh = false;
  };
  while (c + kMostChannels <= channels) step.template operator()<kMostChannels>();
  if (kMostChannels > 8 && channels - c >= 8) step.template operator()<8>();
  if (channels - c >= 4) step.template operator()<4>();
  if (channels - c >= 2) step.template operator()<2>();
  if (channels - c >= 1) step.template operator()<1>();
}

template <int Channels, class T>
void list_weight_products(const std::int32_t* inputs, std::int64_t count, std::int64_t pitch,
                          const T* features, const T* values, T* sums) {
  typename Simd<T>::Vector acc[Channels];
#pragma GCC unroll 16
  for (int c = 0; c < Channels; ++c) acc[c] = load(sums + c * kActiveLanes<T>);
  const std::int32_t* outputs = inputs + count;
  for (std::int64_t p = 0; p < count; ++p) {
    const T* row = features + inputs[p] * pitch;
    const typename Simd<T>::Vector value = load(values + outputs[p] * kActiveLanes<T>);
#pragma GCC unroll 16
    for (int c = 0; c < Channels; ++c) acc[c] += value * row[c];
  }
#pragma GCC unroll 16
  for (int c = 0; c < Channels; ++c) store(sums + c * kActiveLanes<T>, acc[c]);
}

}  // namespace

std::int64_t active_near(const ActiveBits& in, const ActiveLines& lines, int reach,
                         std::int64_t count, const ActiveWord* words, ActiveNear* near) {
  std::int64_t found = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    const ActiveWord& word = words[k];
    const std::int64_t x = lines.x[word.x], y = lines.y[word.y];
    if (x < 0 || y < 0) continue;
    const std::int64_t line = (word.batch * lines.size_x + x) * lines.size_y + y;
    const ActiveNear candidate = {word.bits, line * in.per_line + word.place, word.place,
                                  word.first};
    std::uint64_t others = 0;
    for (int dz = -reach; dz <= reach; ++dz) others |= shifted(in, candidate, dz);
    near[found] = candidate;
    found += ((word.bits & others) | edges(in, candidate, reach)) != 0;
  }
  return found;
}

std::int64_t active_pairs(const ActiveBits& in, int dz, std::int64_t count, const ActiveNear* words,
                          std::int32_t* inputs, std::int32_t* outputs) {
  const int reach = dz < 0 ? -dz : dz;
  std::int64_t found = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    found += inner_pairs(in, words[k], dz, inputs + found, outputs + found);
    if (edges(in, words[k], reach)) {
      found += wrapped_pairs(in, words[k], dz, inputs + found, outputs + found);
    }
  }
  return found;
}

template <class T>
void active_products(const ActiveLists& lists, std::int64_t channels, const T* features,
                     const T* weights, const T* start, T* sums) {
  constexpr int lanes = kActiveLanes<T>;
  const bool whole = lists.whole >= 0 && channels > 0;
  for (int v = 0; v < lanes; v += Simd<T>::lanes) {
    if (whole) {
      const std::int32_t* inputs = lists.data + lists.begins[lists.whole];
      tap_products<true>(inputs, lists.rows, channels, features,
                         weights + lists.whole * channels * lanes + v, start + v, sums + v);
    } else {
      const typename Simd<T>::Vector s = load(start + v);
      for (std::int64_t r = 0; r < lists.rows; ++r) store(sums + r * lanes + v, s);
    }
    for (int t = 0; t < lists.taps; ++t) {
      const std::int64_t count = (lists.begins[t + 1] - lists.begins[t]) / 2;
      if (count == 0 || t == lists.whole) continue;
      tap_products<false>(lists.data + lists.begins[t], count, channels, features,
                          weights + t * channels * lanes + v, start + v, sums + v);
    }
  }
}

template <class T>
void active_weight_products(const ActiveLists& lists, std::int64_t channels, const T* features,
                            const T* values, T* sums) {
  constexpr int lanes = kActiveLanes<T>;
  for (int t = 0; t < lists.taps; ++t) {
    const std::int32_t* inputs = lists.data + lists.begins[t];
    const std::int64_t count = (lists.begins[t + 1] - lists.begins[t]) / 2;
    for (int v = 0; v < lanes && count > 0; v += Simd<T>::lanes) {
      std::int64_t c = 0;
      const auto step = [&]<int Channels>() {
        list_weight_products<Channels>(inputs, count, channels, features + c, values + v,
                                       sums + (t * channels + c) * lanes + v);
        c += Channels;
      };
      while (c + kMostChannels <= channels) step.template operator()<kMostChannels>();
      if (kMostChannels > 8 && channels - c >= 8) step.template operator()<8>();
      if (channels - c >= 4) step.template operator()<4>();
      if (channels - c >= 2) step.template operator()<2>();
      if (channels - c >= 1) step.template operator()<1>();
    }
  }
}

template void active_products<float>(const ActiveLists&, std::int64_t, const float*, const float*,
                                     const float*, float*);
template void active_products<double>(const ActiveLists&, std::int64_t, const double*,
                                      const double*, const double*, double*);
template void active_weight_products<float>(const ActiveLists&, std::int64_t, const float*,
                                            const float*, float*);
template void active_weight_products<double>(const ActiveLists&, std::int64_t, const double*,
                                             const double*, double*);

}  // namespace mlcore::kernels::MLCORE_ISA
