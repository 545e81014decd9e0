// Compiled once per instruction set; see simd.hpp.

#include "kernels/neighbors.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace mlcore::kernels::MLCORE_ISA {

// Not-a-number (from coordinates beyond single precision) counts as undecided
// everywhere below.

// ------------------------------------------------------------------------------------------
// exact

static constexpr int kImageMask = (1 << kNeighborImageBits) - 1;

struct PairVector {
  std::int32_t S[3];
  double D[3], square;
};

static PairVector pair_vector(const NeighborParticles& all, std::int64_t i, std::int64_t j,
                              std::int32_t image) {
  const double *xi = all.position + 4 * i, *xj = all.position + 4 * j, *rows = all.rows;
  PairVector v;
  for (int k = 0; k < 3; ++k) {
    v.S[k] = all.images
                 ? all.images[image].S[k]
                 : (image >> ((2 - k) * kNeighborImageBits) & kImageMask) - kNeighborImageBias;
    if (all.wraps) v.S[k] += all.wraps[4 * i + k] - all.wraps[4 * j + k];
  }
  for (int k = 0; k < 3; ++k) {
    v.D[k] = (xj[k] - xi[k]) + ((v.S[0] * rows[k] + v.S[1] * rows[3 + k]) + v.S[2] * rows[6 + k]);
  }
  v.square = (v.D[0] * v.D[0] + v.D[1] * v.D[1]) + v.D[2] * v.D[2];
  return v;
}

static double pair_cutoff(const NeighborRule& rule, std::int64_t i, std::int64_t j) {
  double result = rule.cutoff;
  if (rule.radii) {
    const double sum = rule.radii[i] + rule.radii[j];
    result = sum < result ? sum : result;
  }
  if (rule.table) {
    const double entry = rule.table[rule.types[i] * rule.kinds + rule.types[j]];
    result = entry < result ? entry : result;
  }
  return result;
}

// What single precision left open, of the candidates number k + bit.
static unsigned decide(const NeighborQuery& q, std::int64_t k, unsigned undecided) {
  unsigned neighbors = 0;
  for (; undecided; undecided &= undecided - 1) {
    const std::int64_t at = k + __builtin_ctz(undecided);
    if (at >= q.count) continue;
    const std::int64_t i = q.particle, j = q.candidates.number[at];
    const double square = pair_vector(*q.particles, i, j, q.candidates.image[at]).square;
    if (__builtin_sqrt(square) < pair_cutoff(*q.rule, i, j)) neighbors |= undecided & -undecided;
  }
  return neighbors;
}

// -------------------------------------------------------------------------------------------
// scan

#if defined(MLCORE_ISA_IS_avx512)

static constexpr std::int64_t kLanes = 16;

// Which of kLanes candidates from number k on are neighbors.
struct Scanner {
  const NeighborQuery& q;
  const float *xs, *ys, *zs;
  __m512 x, y, z, inside, outside;

  explicit Scanner(const NeighborQuery& q)
      : q(q),
        xs(q.candidates.x),
        ys(q.candidates.y),
        zs(q.candidates.z),
        x(_mm512_set1_ps(q.x)),
        y(_mm512_set1_ps(q.y)),
        z(_mm512_set1_ps(q.z)),
        inside(_mm512_set1_ps(q.rule->inside)),
        outside(_mm512_set1_ps(q.rule->outside)) {}

  unsigned operator()(std::int64_t k) const {
    const __m512 dx = _mm512_sub_ps(_mm512_loadu_ps(xs + k), x);
    const __m512 dy = _mm512_sub_ps(_mm512_loadu_ps(ys + k), y);
    const __m512 dz = _mm512_sub_ps(_mm512_loadu_ps(zs + k), z);
    const __m512 square = _mm512_fmadd_ps(dx, dx, _mm512_fmadd_ps(dy, dy, _mm512_mul_ps(dz, dz)));
    const unsigned near = _mm512_cmp_ps_mask(square, outside, _CMP_NGT_UQ);
    const unsigned sure = _mm512_cmp_ps_mask(square, inside, _CMP_LE_OQ);
    if (__builtin_expect(near != sure, 0)) return sure | decide(q, k, near & ~sure);
    return near;
  }
};

// The values whose bit is set; rarely are there more than eight.
static void store_lanes(std::int32_t* out, const std::int32_t* values, unsigned mask, int count) {
  const __m512i all = _mm512_loadu_si512(values);
  const __m512i chosen = _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), all);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(chosen));
  if (__builtin_expect(count > 8, 0)) _mm512_storeu_si512(out, chosen);
}

#elif defined(MLCORE_ISA_IS_avx2)

static constexpr std::int64_t kLanes = 8;

// Row m: the lanes whose bit is set in m, in order.
struct LaneTable {
  alignas(32) std::int32_t lanes[256][8] = {};
  constexpr LaneTable() {
    for (int mask = 0; mask < 256; ++mask) {
      int next = 0;
      for (int lane = 0; lane < 8; ++lane) {
        if (mask >> lane & 1) lanes[mask][next++] = lane;
      }
    }
  }
};
static constexpr LaneTable kLaneTable;

static __m256i chosen_lanes(unsigned mask) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneTable.lanes[mask]));
}

struct Scanner {
  const NeighborQuery& q;
  const float *xs, *ys, *zs;
  __m256 x, y, z, inside, outside;

  explicit Scanner(const NeighborQuery& q)
      : q(q),
        xs(q.candidates.x),
        ys(q.candidates.y),
        zs(q.candidates.z),
        x(_mm256_set1_ps(q.x)),
        y(_mm256_set1_ps(q.y)),
        z(_mm256_set1_ps(q.z)),
        inside(_mm256_set1_ps(q.rule->inside)),
        outside(_mm256_set1_ps(q.rule->outside)) {}

  unsigned operator()(std::int64_t k) const {
    const __m256 dx = _mm256_sub_ps(_mm256_loadu_ps(xs + k), x);
    const __m256 dy = _mm256_sub_ps(_mm256_loadu_ps(ys + k), y);
    const __m256 dz = _mm256_sub_ps(_mm256_loadu_ps(zs + k), z);
    const __m256 square = _mm256_fmadd_ps(dx, dx, _mm256_fmadd_ps(dy, dy, _mm256_mul_ps(dz, dz)));
    const unsigned near = _mm256_movemask_ps(_mm256_cmp_ps(square, outside, _CMP_NGT_UQ));
    const unsigned sure = _mm256_movemask_ps(_mm256_cmp_ps(square, inside, _CMP_LE_OQ));
    if (__builtin_expect(near != sure, 0)) return sure | decide(q, k, near & ~sure);
    return near;
  }
};

static void store_lanes(std::int32_t* out, const std::int32_t* values, unsigned mask, int) {
  const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                      _mm256_permutevar8x32_epi32(all, chosen_lanes(mask)));
}

#else

static constexpr std::int64_t kLanes = 4;

struct Scanner {
  const NeighborQuery& q;
  float x, y, z;

  explicit Scanner(const NeighborQuery& q) : q(q), x(q.x), y(q.y), z(q.z) {}

  unsigned operator()(std::int64_t k) const {
    unsigned near = 0, sure = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const float dx = q.candidates.x[k + lane] - x;
      const float dy = q.candidates.y[k + lane] - y;
      const float dz = q.candidates.z[k + lane] - z;
      const float square = dx * dx + (dy * dy + dz * dz);
      near |= unsigned{!(square > q.rule->outside)} << lane;
      sure |= unsigned{square <= q.rule->inside} << lane;
    }
    return near == sure ? near : sure | decide(q, k, near & ~sure);
  }
};

static void store_lanes(std::int32_t* out, const std::int32_t* values, unsigned mask, int) {
  for (; mask; mask &= mask - 1) *out++ = values[__builtin_ctz(mask)];
}

#endif

enum class Wanted { count, numbers, images };

template <Wanted wanted_of_them>
static std::int64_t hits(const NeighborQuery& q, std::int32_t* number, std::int32_t* image) {
  const Scanner scanner(q);
  const std::int32_t *numbers = q.candidates.number, *images = q.candidates.image;
  const std::int64_t end = q.count;
  const std::int64_t excluded_group = q.excluded / kLanes * kLanes;
  const unsigned others = q.excluded < 0 ? ~0u : ~(1u << (q.excluded % kLanes));
  std::int64_t found = 0;
  unsigned wanted = ~0u << (q.first % kLanes);
  for (std::int64_t k = q.first / kLanes * kLanes; k < end; k += kLanes) {
    const unsigned mask = scanner(k) & wanted & (k == excluded_group ? others : ~0u);
    const int count = __builtin_popcount(mask);
    if constexpr (wanted_of_them != Wanted::count) {
      store_lanes(number + found, numbers + k, mask, count);
    }
    if constexpr (wanted_of_them == Wanted::images) {
      store_lanes(image + found, images + k, mask, count);
    }
    found += count;
    wanted = ~0u;
  }
  return found;
}

std::int64_t neighbor_hits(const NeighborQuery& q, std::int32_t* number, std::int32_t* image) {
  return image ? hits<Wanted::images>(q, number, image) : hits<Wanted::numbers>(q, number, nullptr);
}

std::int64_t neighbor_count(const NeighborQuery& q) {
  return hits<Wanted::count>(q, nullptr, nullptr);
}

void neighbor_narrow(const std::int32_t* __restrict values, std::int64_t count,
                     std::uint8_t* __restrict out) {
  for (std::int64_t k = 0; k < count; k += 16) {
    for (int lane = 0; lane < 16; ++lane) {
      out[k + lane] = static_cast<std::uint8_t>(values[k + lane]);
    }
  }
}

// -----------------------------------------------------------------------------------------
// gather

static void pad(float* x, float* y, float* z, std::int64_t count) {
  for (std::int64_t k = count; k < count + kNeighborSlack; ++k) {
    x[k] = y[k] = z[k] = __builtin_inff();
  }
}

#if defined(MLCORE_ISA_IS_avx512)

static __m512 outward(__m512 x, float low, float high) {
  const __m512 below = _mm512_sub_ps(_mm512_set1_ps(low), x);
  const __m512 above = _mm512_sub_ps(x, _mm512_set1_ps(high));
  return _mm512_max_ps(_mm512_max_ps(below, above), _mm512_setzero_ps());
}

static std::int64_t gather_segment(const NeighborCopies& from, const NeighborSegment& segment,
                                   const float* box, float outside, const NeighborCandidates& out,
                                   std::int64_t count) {
  for (std::int32_t p = segment.begin; p < segment.end; p += 16) {
    const int left = segment.end - p;
    const __mmask16 valid = __mmask16((1u << (left < 16 ? left : 16)) - 1u);
    const __m512 x = _mm512_add_ps(_mm512_loadu_ps(from.x + p), _mm512_set1_ps(segment.shift[0]));
    const __m512 y = _mm512_add_ps(_mm512_loadu_ps(from.y + p), _mm512_set1_ps(segment.shift[1]));
    const __m512 z = _mm512_add_ps(_mm512_loadu_ps(from.z + p), _mm512_set1_ps(segment.shift[2]));
    const __m512 dx = outward(x, box[0], box[3]);
    const __m512 dy = outward(y, box[1], box[4]);
    const __m512 dz = outward(z, box[2], box[5]);
    const __m512 square = _mm512_fmadd_ps(dx, dx, _mm512_fmadd_ps(dy, dy, _mm512_mul_ps(dz, dz)));
    const __mmask16 near =
        _mm512_mask_cmp_ps_mask(valid, square, _mm512_set1_ps(outside), _CMP_NGT_UQ);
    const __m512i numbers = _mm512_loadu_si512(from.number + p);
    _mm512_storeu_ps(out.x + count, _mm512_maskz_compress_ps(near, x));
    _mm512_storeu_ps(out.y + count, _mm512_maskz_compress_ps(near, y));
    _mm512_storeu_ps(out.z + count, _mm512_maskz_compress_ps(near, z));
    _mm512_storeu_si512(out.number + count, _mm512_maskz_compress_epi32(near, numbers));
    _mm512_storeu_si512(out.image + count, _mm512_set1_epi32(segment.image));
    count += __builtin_popcount(near);
  }
  return count;
}

#elif defined(MLCORE_ISA_IS_avx2)

static __m256 outward(__m256 x, float low, float high) {
  const __m256 below = _mm256_sub_ps(_mm256_set1_ps(low), x);
  const __m256 above = _mm256_sub_ps(x, _mm256_set1_ps(high));
  return _mm256_max_ps(_mm256_max_ps(below, above), _mm256_setzero_ps());
}

static std::int64_t gather_segment(const NeighborCopies& from, const NeighborSegment& segment,
                                   const float* box, float outside, const NeighborCandidates& out,
                                   std::int64_t count) {
  for (std::int32_t p = segment.begin; p < segment.end; p += 8) {
    const int left = segment.end - p;
    const unsigned valid = (1u << (left < 8 ? left : 8)) - 1u;
    const __m256 x = _mm256_add_ps(_mm256_loadu_ps(from.x + p), _mm256_set1_ps(segment.shift[0]));
    const __m256 y = _mm256_add_ps(_mm256_loadu_ps(from.y + p), _mm256_set1_ps(segment.shift[1]));
    const __m256 z = _mm256_add_ps(_mm256_loadu_ps(from.z + p), _mm256_set1_ps(segment.shift[2]));
    const __m256 dx = outward(x, box[0], box[3]);
    const __m256 dy = outward(y, box[1], box[4]);
    const __m256 dz = outward(z, box[2], box[5]);
    const __m256 square = _mm256_fmadd_ps(dx, dx, _mm256_fmadd_ps(dy, dy, _mm256_mul_ps(dz, dz)));
    const unsigned near = valid & static_cast<unsigned>(_mm256_movemask_ps(
                                      _mm256_cmp_ps(square, _mm256_set1_ps(outside), _CMP_NGT_UQ)));
    const __m256i lanes = chosen_lanes(near);
    _mm256_storeu_ps(out.x + count, _mm256_permutevar8x32_ps(x, lanes));
    _mm256_storeu_ps(out.y + count, _mm256_permutevar8x32_ps(y, lanes));
    _mm256_storeu_ps(out.z + count, _mm256_permutevar8x32_ps(z, lanes));
    const __m256i numbers = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.number + p));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.number + count),
                        _mm256_permutevar8x32_epi32(numbers, lanes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.image + count),
                        _mm256_set1_epi32(segment.image));
    count += __builtin_popcount(near);
  }
  return count;
}

#else

static float outward(float x, float low, float high) {
  const float below = low - x, above = x - high;
  const float most = below > above ? below : above;
  return most > 0 ? most : 0.0f;
}

static std::int64_t gather_segment(const NeighborCopies& from, const NeighborSegment& segment,
                                   const float* box, float outside, const NeighborCandidates& out,
                                   std::int64_t count) {
  for (std::int32_t p = segment.begin; p < segment.end; ++p) {
    const float x = from.x[p] + segment.shift[0];
    const float y = from.y[p] + segment.shift[1];
    const float z = from.z[p] + segment.shift[2];
    const float dx = outward(x, box[0], box[3]);
    const float dy = outward(y, box[1], box[4]);
    const float dz = outward(z, box[2], box[5]);
    out.x[count] = x, out.y[count] = y, out.z[count] = z;
    out.number[count] = from.number[p], out.image[count] = segment.image;
    count += !(dx * dx + (dy * dy + dz * dz) > outside);
  }
  return count;
}

#endif

std::int64_t neighbor_gather(const NeighborCopies& copies, const NeighborSegment* segments,
                             std::int64_t segment_count, const float* box, float outside,
                             const NeighborCandidates& out) {
  std::int64_t count = 0;
  for (std::int64_t s = 0; s < segment_count; ++s) {
    count = gather_segment(copies, segments[s], box, outside, out, count);
  }
  pad(out.x, out.y, out.z, count);
  return count;
}

void neighbor_collect(const NeighborCopies& copies, const NeighborKept& kept,
                      const NeighborCandidates& to) {
  const NeighborCopies from = copies;
  const NeighborCandidates out = to;
  for (std::int64_t k = 0; k < kept.count; ++k) {
    const std::int64_t place = kept.place[k];
    const float* shift = kept.shifts + 4 * kept.image[k];
    out.x[k] = from.x[place] + shift[0];
    out.y[k] = from.y[place] + shift[1];
    out.z[k] = from.z[place] + shift[2];
    out.number[k] = from.number[place];
    out.image[k] = kept.image[k];
  }
  pad(out.x, out.y, out.z, kept.count);
}

void neighbor_permute(const NeighborCandidates& from, const std::uint64_t* keys, std::int64_t count,
                      const NeighborCandidates& to, std::int32_t* rank) {
  const NeighborCandidates in = from, out = to;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::uint32_t s = static_cast<std::uint32_t>(keys[k]);
    out.x[k] = in.x[s], out.y[k] = in.y[s], out.z[k] = in.z[s];
    out.number[k] = in.number[s], out.image[k] = in.image[s];
    rank[s] = static_cast<std::int32_t>(k);
  }
  pad(out.x, out.y, out.z, count);
}

// Replaces counts by the sums of those before.
#if defined(MLCORE_ISA_IS_avx512)
static void accumulate(std::uint32_t* counts, std::int64_t size) {
  const __m512i zero = _mm512_setzero_si512(), last = _mm512_set1_epi32(15);
  __m512i before = zero;
  for (std::int64_t k = 0; k < size; k += 16) {
    const __m512i own = _mm512_loadu_si512(counts + k);
    __m512i sum = _mm512_add_epi32(own, _mm512_alignr_epi32(own, zero, 15));
    sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 14));
    sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 12));
    sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 8));
    _mm512_storeu_si512(counts + k, _mm512_add_epi32(before, _mm512_sub_epi32(sum, own)));
    before = _mm512_add_epi32(before, _mm512_permutexvar_epi32(last, sum));
  }
}
#else
static void accumulate(std::uint32_t* counts, std::int64_t size) {
  std::uint32_t before = 0;
  for (std::int64_t k = 0; k < size; ++k) {
    const std::uint32_t own = counts[k];
    counts[k] = before;
    before += own;
  }
}
#endif

template <int digits>
static void count_digits(const NeighborOrder& order, const std::int32_t* numbers,
                         std::int64_t count) {
  const std::int64_t values = std::int64_t{1} << order.width;
  const std::uint32_t mask = static_cast<std::uint32_t>(values - 1);
  std::uint32_t* counts[digits];
  for (int digit = 0; digit < digits; ++digit) counts[digit] = order.counts + digit * values;
  for (std::int64_t k = 0; k < digits * values; ++k) order.counts[k] = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::uint32_t number = static_cast<std::uint32_t>(numbers[k]);
    for (int digit = 0; digit < digits; ++digit) {
      ++counts[digit][number >> (digit * order.width) & mask];
    }
  }
  for (int digit = 0; digit < digits; ++digit) accumulate(counts[digit], values);
}

// A counting sort per digit, the lowest first. The first pass makes keys
// (number << 32 | slot), the last one places the candidates themselves.
template <int digits>
static void sort_digits(const NeighborOrder& order, const NeighborCandidates& from,
                        std::int64_t count, const NeighborCandidates& to, std::int32_t* rank) {
  const NeighborCandidates in = from, out = to;
  const int width = order.width;
  const std::uint64_t mask = (std::uint64_t{1} << width) - 1;
  count_digits<digits>(order, in.number, count);
  std::uint32_t* place = order.counts;
  std::uint64_t *keys = order.keys, *more = order.more_keys;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::uint64_t number = static_cast<std::uint32_t>(in.number[k]);
    keys[place[number & mask]++] = number << 32 | static_cast<std::uint64_t>(k);
  }
  for (int digit = 1; digit < digits - 1; ++digit) {
    place += mask + 1;
    for (std::int64_t k = 0; k < count; ++k) {
      more[place[keys[k] >> (32 + digit * width) & mask]++] = keys[k];
    }
    std::uint64_t* const sorted = more;
    more = keys, keys = sorted;
  }
  place += mask + 1;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::uint32_t at = place[keys[k] >> (32 + (digits - 1) * width)]++;
    const std::uint32_t s = static_cast<std::uint32_t>(keys[k]);
    out.x[at] = in.x[s], out.y[at] = in.y[s], out.z[at] = in.z[s];
    out.number[at] = static_cast<std::int32_t>(keys[k] >> 32), out.image[at] = in.image[s];
    rank[s] = static_cast<std::int32_t>(at);
  }
  pad(out.x, out.y, out.z, count);
}

void neighbor_sort(const NeighborOrder& order, const NeighborCandidates& from, std::int64_t count,
                   const NeighborCandidates& to, std::int32_t* rank) {
  if (order.digits == 2) return sort_digits<2>(order, from, count, to, rank);
  sort_digits<3>(order, from, count, to, rank);
}

// -------------------------------------------------------------------------------------------
// fill

#if defined(MLCORE_ISA_IS_avx2) || defined(MLCORE_ISA_IS_avx512)

// How the images of a row are written down.
enum class Images { counted, counted_packed, counted_wrapped, bits };

// One pair at a time: its three numbers (and a zero) are the lanes of one
// register.
template <Images kind>
struct PairVectors {
  const double* position;
  const std::int32_t *wraps, *j, *wide_image;
  const std::uint8_t* image;
  const NeighborImage* images;
  __m256d own, rows[3];
  __m128i own_wraps;

  PairVectors(const NeighborParticles& all, const NeighborRow& row)
      : position(all.position),
        wraps(all.wraps),
        j(row.j),
        wide_image(row.wide_image),
        image(row.image),
        images(all.images),
        own(_mm256_loadu_pd(all.position + 4 * row.i)) {
    if constexpr (kind == Images::counted) return;
    for (int k = 0; k < 3; ++k) {
      rows[k] = _mm256_setr_pd(all.rows[3 * k], all.rows[3 * k + 1], all.rows[3 * k + 2], 0);
    }
    own_wraps = wraps ? four(wraps + 4 * row.i) : _mm_setzero_si128();
    own = _mm256_blend_pd(own, _mm256_setzero_pd(), 8);
  }

  static __m128i four(const std::int32_t* values) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  }

  static __m128i from_bits(std::int32_t code) {
    constexpr int bits = kNeighborImageBits, bias = kNeighborImageBias;
    const __m128i parts =
        _mm_srlv_epi32(_mm_set1_epi32(code), _mm_setr_epi32(2 * bits, bits, 0, 3 * bits));
    return _mm_sub_epi32(_mm_and_si128(parts, _mm_set1_epi32(kImageMask)),
                         _mm_setr_epi32(bias, bias, bias, 0));
  }

  __m128i numbers(std::int64_t k) const {
    if constexpr (kind == Images::counted) return four(images[image[k]].S);
    const __m128i S = kind == Images::bits ? from_bits(wide_image[k]) : four(images[image[k]].S);
    if (kind == Images::bits && !wraps) return S;
    if constexpr (kind == Images::counted_packed) {
      const double* last = position + 4 * std::int64_t{j[k]} + 3;
      const __m128i packed = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(last));
      return _mm_add_epi32(S, _mm_sub_epi32(own_wraps, _mm_cvtepi16_epi32(packed)));
    }
    return _mm_add_epi32(S, _mm_sub_epi32(own_wraps, four(wraps + 4 * std::int64_t{j[k]})));
  }

  __m256d displacement(std::int64_t k, __m128i S) const {
    __m256d other = _mm256_loadu_pd(position + 4 * std::int64_t{j[k]});
    if constexpr (kind == Images::counted_packed) {
      other = _mm256_blend_pd(other, _mm256_setzero_pd(), 8);
    }
    const __m256d apart = _mm256_sub_pd(other, own);
    if constexpr (kind == Images::counted) {
      return _mm256_add_pd(apart, _mm256_loadu_pd(images[image[k]].shift));
    }
    const __m256d s = _mm256_cvtepi32_pd(S);
    const __m256d s0 = _mm256_permute4x64_pd(s, 0x00);
    const __m256d s1 = _mm256_permute4x64_pd(s, 0x55);
    const __m256d s2 = _mm256_permute4x64_pd(s, 0xaa);
    const __m256d shift =
        _mm256_add_pd(_mm256_add_pd(_mm256_mul_pd(s0, rows[0]), _mm256_mul_pd(s1, rows[1])),
                      _mm256_mul_pd(s2, rows[2]));
    return _mm256_add_pd(apart, shift);
  }
};

// Lengths of four vectors whose last lanes are zero: (x^2 + y^2) + z^2.
static __m256d four_lengths(const __m256d* D) {
  __m256d square[4];
  for (int k = 0; k < 4; ++k) square[k] = _mm256_mul_pd(D[k], D[k]);
  const __m256d low = _mm256_add_pd(_mm256_unpacklo_pd(square[0], square[1]),
                                    _mm256_unpackhi_pd(square[0], square[1]));
  const __m256d high = _mm256_add_pd(_mm256_unpacklo_pd(square[2], square[3]),
                                     _mm256_unpackhi_pd(square[2], square[3]));
  return _mm256_sqrt_pd(_mm256_add_pd(_mm256_permute2f128_pd(low, high, 0x20),
                                      _mm256_permute2f128_pd(low, high, 0x31)));
}

static void store_four(double* out, __m256d v) { _mm256_storeu_pd(out, v); }
static void store_four(float* out, __m256d v) { _mm_storeu_ps(out, _mm256_cvtpd_ps(v)); }
static void store_four(std::int32_t* out, __m128i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), v);
}

template <class T, class Vector>
static void store_some(T* out, Vector v, std::int64_t size) {
  T values[4];
  store_four(values, v);
  for (std::int64_t k = 0; k < size; ++k) out[k] = values[k];
}

// The last group, up to four pairs from number k on; the last pair stands in
// for missing ones.
template <Images kind, class Real>
static void fill_last(const PairVectors<kind>& pair, std::int64_t k, std::int64_t size,
                      std::int32_t* S, Real* D, Real* d) {
  __m256d vectors[4];
  for (std::int64_t lane = 0; lane < 4; ++lane) {
    const std::int64_t at = k + lane < size ? k + lane : size - 1;
    const __m128i numbers = pair.numbers(at);
    vectors[lane] = pair.displacement(at, numbers);
    if (S) store_some(S + 3 * at, numbers, 3);
    if (D) store_some(D + 3 * at, vectors[lane], 3);
  }
  if (d) store_some(d + k, four_lengths(vectors), size - k);
}

// The four pairs from number k on. Each store reaches one entry into the next
// pair, which is written after it.
template <Images kind, class Real>
static inline __attribute__((always_inline)) void fill_four(const PairVectors<kind>& pair,
                                                            std::int64_t k, std::int32_t* S,
                                                            Real* D, Real* d) {
  __m256d vectors[4];
  for (int lane = 0; lane < 4; ++lane) {
    const __m128i numbers = pair.numbers(k + lane);
    if (S) store_four(S + 3 * (k + lane), numbers);
    vectors[lane] = pair.displacement(k + lane, numbers);
    if (D) store_four(D + 3 * (k + lane), vectors[lane]);
  }
  if (d) store_four(d + k, four_lengths(vectors));
}

// Whether the four particles have packed wraps of zero.
static bool four_inside(const double* position, const std::int32_t* j) {
  const auto bits = [&](int k) {
    return _mm256_castpd_si256(_mm256_loadu_pd(position + 4 * std::int64_t{j[k]}));
  };
  const __m256i any =
      _mm256_or_si256(_mm256_or_si256(bits(0), bits(1)), _mm256_or_si256(bits(2), bits(3)));
  return _mm256_testz_si256(any, _mm256_setr_epi64x(0, 0, 0, -1));
}

template <Images kind, class Real>
static void fill(const NeighborParticles& all, const NeighborRow& row, std::int32_t* S, Real* D,
                 Real* d) {
  const PairVectors<kind> pair(all, row);
  const std::int64_t size = row.size;
  std::int64_t k = 0;
  if constexpr (kind == Images::counted_packed) {
    // Few particles have left the cell since they were sorted.
    const PairVectors<Images::counted> unwrapped(all, row);
    const bool inside = _mm_testz_si128(pair.own_wraps, pair.own_wraps);
    for (; k + 4 < size; k += 4) {
      if (inside && four_inside(all.position, row.j + k)) {
        fill_four(unwrapped, k, S, D, d);
      } else {
        fill_four(pair, k, S, D, d);
      }
    }
  } else {
    for (; k + 4 < size; k += 4) fill_four(pair, k, S, D, d);
  }
  if (k < size) fill_last(pair, k, size, S, D, d);
}

template <class Real>
static void fill_any(const NeighborParticles& all, const NeighborRow& row, std::int32_t* S, Real* D,
                     Real* d) {
  if (!all.images) return fill<Images::bits>(all, row, S, D, d);
  if (all.wraps && all.packed) return fill<Images::counted_packed>(all, row, S, D, d);
  if (all.wraps) return fill<Images::counted_wrapped>(all, row, S, D, d);
  fill<Images::counted>(all, row, S, D, d);
}

#else

template <class Real>
static void fill_any(const NeighborParticles& all, const NeighborRow& row, std::int32_t* S, Real* D,
                     Real* d) {
  for (std::int64_t k = 0; k < row.size; ++k) {
    const std::int32_t image = row.image ? row.image[k] : row.wide_image[k];
    const PairVector v = pair_vector(all, row.i, row.j[k], image);
    for (int axis = 0; axis < 3; ++axis) {
      if (S) S[3 * k + axis] = v.S[axis];
      if (D) D[3 * k + axis] = static_cast<Real>(v.D[axis]);
    }
    if (d) d[k] = static_cast<Real>(__builtin_sqrt(v.square));
  }
}

#endif

void neighbor_fill(const NeighborParticles& particles, const NeighborRow& row, std::int32_t* S,
                   double* D, double* d) {
  fill_any(particles, row, S, D, d);
}

void neighbor_fill_single(const NeighborParticles& particles, const NeighborRow& row,
                          std::int32_t* S, float* D, float* d) {
  fill_any(particles, row, S, D, d);
}

// -----------------------------------------------------------------------------------------
// stream

#if defined(__SSE2__)
#if defined(MLCORE_ISA_IS_avx512)
static void stream_line(char* to, const char* from) {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
}
#elif defined(MLCORE_ISA_IS_avx2)
static void stream_line(char* to, const char* from) {
  for (int k = 0; k < 64; k += 32) {
    const __m256i part = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + k), part);
  }
}
#else
static void stream_line(char* to, const char* from) {
  for (int k = 0; k < 64; k += 16) {
    const __m128i part = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k));
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + k), part);
  }
}
#endif

void neighbor_stream(char* to, const char* from, std::int64_t lines) {
  for (std::int64_t k = 0; k < lines; ++k) stream_line(to + 64 * k, from + 64 * k);
}

void neighbor_stream_end() { _mm_sfence(); }

#else

void neighbor_stream(char* to, const char* from, std::int64_t lines) {
  __builtin_memcpy(to, from, 64 * lines);
}
void neighbor_stream_end() {}

#endif

}  // namespace mlcore::kernels::MLCORE_ISA
