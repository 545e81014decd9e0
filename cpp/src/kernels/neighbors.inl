// Compiled once per instruction set; see simd.hpp.

#include "kernels/neighbors.hpp"

#if defined(MLCORE_ISA_IS_avx2) || defined(MLCORE_ISA_IS_avx512)
#include <immintrin.h>
#endif

namespace mlcore::kernels::MLCORE_ISA {

// Not-a-number (from coordinates beyond single precision) counts as undecided everywhere below.

#if defined(MLCORE_ISA_IS_avx512)

static std::int64_t scan_segment(const float* x, const float* y, const float* z,
                                 const NeighborSegment& segment, const float* centre, float inside,
                                 float outside, std::uint32_t* index, std::uint32_t* code,
                                 bool* undecided) {
  const __m512 cx = _mm512_set1_ps(centre[0] - segment.shift[0]);
  const __m512 cy = _mm512_set1_ps(centre[1] - segment.shift[1]);
  const __m512 cz = _mm512_set1_ps(centre[2] - segment.shift[2]);
  const __m512 low = _mm512_set1_ps(inside);
  const __m512 high = _mm512_set1_ps(outside);
  const __m512i codes = _mm512_set1_epi32(static_cast<int>(segment.code));
  const __m512i flag = _mm512_set1_epi32(static_cast<int>(kNeighborUndecided));
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::int64_t found = 0;
  for (std::int32_t p = segment.begin; p < segment.end; p += 16) {
    const int left = segment.end - p;
    const __mmask16 valid = __mmask16((1u << (left < 16 ? left : 16)) - 1u);
    const __m512 dx = _mm512_sub_ps(_mm512_loadu_ps(x + p), cx);
    const __m512 dy = _mm512_sub_ps(_mm512_loadu_ps(y + p), cy);
    const __m512 dz = _mm512_sub_ps(_mm512_loadu_ps(z + p), cz);
    const __m512 square = _mm512_fmadd_ps(dx, dx, _mm512_fmadd_ps(dy, dy, _mm512_mul_ps(dz, dz)));
    const __mmask16 hit = _mm512_mask_cmp_ps_mask(valid, square, high, _CMP_NGT_UQ);
    const __mmask16 unsure = _mm512_mask_cmp_ps_mask(hit, square, low, _CMP_NLE_UQ);
    __m512i where = _mm512_add_epi32(_mm512_set1_epi32(p), lanes);
    if (unsure) {
      where = _mm512_mask_or_epi32(where, unsure, where, flag);
      *undecided = true;
    }
    _mm512_storeu_si512(index + found, _mm512_maskz_compress_epi32(hit, where));
    _mm512_storeu_si512(code + found, codes);
    found += __builtin_popcount(hit);
  }
  return found;
}

#elif defined(MLCORE_ISA_IS_avx2)

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

static std::int64_t scan_segment(const float* x, const float* y, const float* z,
                                 const NeighborSegment& segment, const float* centre, float inside,
                                 float outside, std::uint32_t* index, std::uint32_t* code,
                                 bool* undecided) {
  const __m256 cx = _mm256_set1_ps(centre[0] - segment.shift[0]);
  const __m256 cy = _mm256_set1_ps(centre[1] - segment.shift[1]);
  const __m256 cz = _mm256_set1_ps(centre[2] - segment.shift[2]);
  const __m256 low = _mm256_set1_ps(inside);
  const __m256 high = _mm256_set1_ps(outside);
  const __m256i codes = _mm256_set1_epi32(static_cast<int>(segment.code));
  const __m256i flag = _mm256_set1_epi32(static_cast<int>(kNeighborUndecided));
  std::int64_t found = 0;
  for (std::int32_t p = segment.begin; p < segment.end; p += 8) {
    const int left = segment.end - p;
    const unsigned valid = (1u << (left < 8 ? left : 8)) - 1u;
    const __m256 dx = _mm256_sub_ps(_mm256_loadu_ps(x + p), cx);
    const __m256 dy = _mm256_sub_ps(_mm256_loadu_ps(y + p), cy);
    const __m256 dz = _mm256_sub_ps(_mm256_loadu_ps(z + p), cz);
    const __m256 square = _mm256_fmadd_ps(dx, dx, _mm256_fmadd_ps(dy, dy, _mm256_mul_ps(dz, dz)));
    const __m256 near = _mm256_cmp_ps(square, high, _CMP_NGT_UQ);
    const __m256 unsure = _mm256_and_ps(near, _mm256_cmp_ps(square, low, _CMP_NLE_UQ));
    const unsigned hit = valid & static_cast<unsigned>(_mm256_movemask_ps(near));
    *undecided |= (hit & static_cast<unsigned>(_mm256_movemask_ps(unsure))) != 0;
    const __m256i lanes =
        _mm256_load_si256(reinterpret_cast<const __m256i*>(kLaneTable.lanes[hit]));
    const __m256i flags = _mm256_and_si256(_mm256_castps_si256(unsure), flag);
    const __m256i where = _mm256_or_si256(_mm256_add_epi32(_mm256_set1_epi32(p), lanes),
                                          _mm256_permutevar8x32_epi32(flags, lanes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(index + found), where);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(code + found), codes);
    found += __builtin_popcount(hit);
  }
  return found;
}

#else

static std::int64_t scan_segment(const float* x, const float* y, const float* z,
                                 const NeighborSegment& segment, const float* centre, float inside,
                                 float outside, std::uint32_t* index, std::uint32_t* code,
                                 bool* undecided) {
  const float cx = centre[0] - segment.shift[0];
  const float cy = centre[1] - segment.shift[1];
  const float cz = centre[2] - segment.shift[2];
  std::int64_t found = 0;
  for (std::int32_t p = segment.begin; p < segment.end; ++p) {
    const float dx = x[p] - cx, dy = y[p] - cy, dz = z[p] - cz;
    const float square = dx * dx + dy * dy + dz * dz;
    const bool hit = !(square > outside);
    const bool unsure = hit && !(square <= inside);
    index[found] = static_cast<std::uint32_t>(p) | (unsure ? kNeighborUndecided : 0u);
    code[found] = segment.code;
    found += hit;
    *undecided |= unsure;
  }
  return found;
}

#endif

std::int64_t neighbor_row(const float* x, const float* y, const float* z,
                          const NeighborSegment* segments, std::int64_t segment_count,
                          const float* centre, float inside, float outside, std::uint32_t* index,
                          std::uint32_t* code, bool* undecided) {
  std::int64_t found = 0;
  *undecided = false;
  for (std::int64_t s = 0; s < segment_count; ++s) {
    found += scan_segment(x, y, z, segments[s], centre, inside, outside, index + found,
                          code + found, undecided);
  }
  return found;
}

void neighbor_keys(const std::uint32_t* index, const std::uint32_t* code, std::int64_t found,
                   const std::int32_t* order, std::int64_t* keys) {
  for (std::int64_t k = 0; k < found; ++k) {
    const std::int64_t particle = order[static_cast<std::int32_t>(index[k])];
    keys[k] = (particle << (3 * kNeighborCodeBits)) | code[k];
  }
}

static std::int64_t padded(std::int64_t count) {
  return (count + kNeighborSlack - 1) / kNeighborSlack * kNeighborSlack;
}

// values[count .. padded) exceed all others.
#if defined(MLCORE_ISA_IS_avx512)

static void place_by_rank(const std::int32_t* values, const std::int64_t* keys, std::int64_t count,
                          std::int64_t* out) {
  for (std::int64_t a = 0; a < count; a += 16) {
    const __m512i own = _mm512_loadu_si512(values + a);
    const __m512i one = _mm512_set1_epi32(1);
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (std::int64_t b = 0; b < padded(count); b += 2) {
      const __mmask16 first = _mm512_cmplt_epi32_mask(_mm512_set1_epi32(values[b]), own);
      const __mmask16 second = _mm512_cmplt_epi32_mask(_mm512_set1_epi32(values[b + 1]), own);
      even = _mm512_mask_add_epi32(even, first, even, one);
      odd = _mm512_mask_add_epi32(odd, second, odd, one);
    }
    const __m512i rank = _mm512_add_epi32(even, odd);
    const std::int64_t left = count - a;
    const unsigned valid = (1u << (left < 16 ? left : 16)) - 1u;
    _mm512_mask_i32scatter_epi64(out, __mmask8(valid), _mm512_castsi512_si256(rank),
                                 _mm512_loadu_si512(keys + a), 8);
    _mm512_mask_i32scatter_epi64(out, __mmask8(valid >> 8), _mm512_extracti64x4_epi64(rank, 1),
                                 _mm512_loadu_si512(keys + a + 8), 8);
  }
}

#endif

// A strip of values is ranked at a time.
template <class T>
static void place_by_rank(const T* __restrict values, const std::int64_t* __restrict keys,
                          std::int64_t count, std::int64_t* __restrict out) {
  for (std::int64_t a = 0; a < count; a += kNeighborSlack) {
    T rank[kNeighborSlack] = {};
    for (std::int64_t b = 0; b < count; ++b) {
      const T other = values[b];
      for (std::int64_t lane = 0; lane < kNeighborSlack; ++lane) {
        rank[lane] += other < values[a + lane];
      }
    }
    const std::int64_t strip = count - a < kNeighborSlack ? count - a : kNeighborSlack;
    for (std::int64_t lane = 0; lane < strip; ++lane) out[rank[lane]] = keys[a + lane];
  }
}

void rank_sort(std::int64_t* keys, std::int64_t count, bool unique_particles,
               std::int32_t* particles, std::int64_t* out) {
  for (std::int64_t k = count; k < padded(count); ++k) keys[k] = INT64_MAX;
  if (!unique_particles) {
    place_by_rank(keys, keys, count, out);
    return;
  }
  for (std::int64_t k = 0; k < count; ++k) {
    particles[k] = static_cast<std::int32_t>(keys[k] >> (3 * kNeighborCodeBits));
  }
  for (std::int64_t k = count; k < padded(count); ++k) particles[k] = INT32_MAX;
  place_by_rank(particles, keys, count, out);
}

static constexpr std::int64_t kCodeMask = (1 << kNeighborCodeBits) - 1;
static constexpr std::int64_t kKeyCodeMask = (1 << (3 * kNeighborCodeBits)) - 1;

#if defined(MLCORE_ISA_IS_avx2) || defined(MLCORE_ISA_IS_avx512)

// One pair at a time: its three numbers (and a zero) are the lanes of one register.
struct PairVectors {
  const double* x;
  const std::int32_t* wraps;
  __m256d own, cell[3];
  __m128i own_wraps;

  PairVectors(std::int64_t i, const double* x, const std::int32_t* wraps, const double* rows)
      : x(x), wraps(wraps), own(_mm256_loadu_pd(x + 4 * i)) {
    for (int k = 0; k < 3; ++k) {
      cell[k] = _mm256_setr_pd(rows[3 * k], rows[3 * k + 1], rows[3 * k + 2], 0);
    }
    own_wraps = wraps ? triple(wraps + 3 * i) : _mm_setzero_si128();
  }

  static __m128i triple(const std::int32_t* values) {
    return _mm_setr_epi32(values[0], values[1], values[2], 0);
  }

  __m128i images(std::int64_t key) const {
    const __m128i code = _mm_set1_epi32(static_cast<int>(key & kKeyCodeMask));
    const __m128i parts = _mm_srlv_epi32(
        code, _mm_setr_epi32(2 * kNeighborCodeBits, kNeighborCodeBits, 0, 3 * kNeighborCodeBits));
    constexpr int bias = kNeighborCodeBias;
    __m128i S = _mm_sub_epi32(_mm_and_si128(parts, _mm_set1_epi32(kCodeMask)),
                              _mm_setr_epi32(bias, bias, bias, 0));
    if (!wraps) return S;
    const __m128i other = triple(wraps + 3 * (key >> (3 * kNeighborCodeBits)));
    return _mm_add_epi32(S, _mm_sub_epi32(own_wraps, other));
  }

  __m256d displacement(std::int64_t key, __m128i S) const {
    const __m256d s = _mm256_cvtepi32_pd(S);
    const __m256d s0 = _mm256_permute4x64_pd(s, 0x00);
    const __m256d s1 = _mm256_permute4x64_pd(s, 0x55);
    const __m256d s2 = _mm256_permute4x64_pd(s, 0xaa);
    const __m256d shift =
        _mm256_add_pd(_mm256_add_pd(_mm256_mul_pd(s0, cell[0]), _mm256_mul_pd(s1, cell[1])),
                      _mm256_mul_pd(s2, cell[2]));
    const __m256d other = _mm256_loadu_pd(x + 4 * (key >> (3 * kNeighborCodeBits)));
    return _mm256_add_pd(_mm256_sub_pd(other, own), shift);
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

static void store_three(double* out, __m256d v) {
  _mm_storeu_pd(out, _mm256_castpd256_pd128(v));
  _mm_store_sd(out + 2, _mm256_extractf128_pd(v, 1));
}

static void store_three(std::int32_t* out, __m128i v) {
  _mm_storel_epi64(reinterpret_cast<__m128i*>(out), v);
  out[2] = _mm_extract_epi32(v, 2);
}

// `size` <= 4 pairs; the last key is repeated for the missing ones.
static void fill_four(const PairVectors& pair, const std::int64_t* keys, std::int64_t size,
                      std::int32_t* S, double* D, double* d) {
  __m256d vectors[4];
  for (std::int64_t k = 0; k < 4; ++k) {
    const std::int64_t key = keys[k < size ? k : size - 1];
    const __m128i images = pair.images(key);
    if (S && k < size) store_three(S + 3 * k, images);
    vectors[k] = pair.displacement(key, images);
    if (D && k < size) store_three(D + 3 * k, vectors[k]);
  }
  if (!d) return;
  double lengths[4];
  _mm256_storeu_pd(lengths, four_lengths(vectors));
  for (std::int64_t k = 0; k < size; ++k) d[k] = lengths[k];
}

void neighbor_fill(const std::int64_t* keys, std::int64_t count, std::int64_t i, const double* x,
                   const std::int32_t* wraps, const double* cell, std::int32_t* S, double* D,
                   double* d) {
  const PairVectors pair(i, x, wraps, cell);
  std::int64_t k = 0;
  // Each store reaches one entry into the next pair, which is written after it.
  for (; k + 4 < count; k += 4) {
    __m256d vectors[4];
    for (int lane = 0; lane < 4; ++lane) {
      const std::int64_t key = keys[k + lane];
      const __m128i images = pair.images(key);
      if (S) _mm_storeu_si128(reinterpret_cast<__m128i*>(S + 3 * (k + lane)), images);
      vectors[lane] = pair.displacement(key, images);
      if (D) _mm256_storeu_pd(D + 3 * (k + lane), vectors[lane]);
    }
    if (d) _mm256_storeu_pd(d + k, four_lengths(vectors));
  }
  if (k < count) {
    fill_four(pair, keys + k, count - k, S ? S + 3 * k : S, D ? D + 3 * k : D, d ? d + k : d);
  }
}

#else

void neighbor_fill(const std::int64_t* keys, std::int64_t count, std::int64_t i, const double* x,
                   const std::int32_t* wraps, const double* cell, std::int32_t* S, double* D,
                   double* d) {
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t j = keys[k] >> (3 * kNeighborCodeBits), code = keys[k] & kKeyCodeMask;
    std::int32_t images[3];
    for (int axis = 0; axis < 3; ++axis) {
      const int part = static_cast<int>(code >> ((2 - axis) * kNeighborCodeBits) & kCodeMask);
      images[axis] = part - kNeighborCodeBias;
      if (wraps) images[axis] += wraps[3 * i + axis] - wraps[3 * j + axis];
      if (S) S[3 * k + axis] = images[axis];
    }
    double v[3];
    for (int axis = 0; axis < 3; ++axis) {
      const double shift =
          (images[0] * cell[axis] + images[1] * cell[3 + axis]) + images[2] * cell[6 + axis];
      v[axis] = (x[4 * j + axis] - x[4 * i + axis]) + shift;
      if (D) D[3 * k + axis] = v[axis];
    }
    if (d) d[k] = __builtin_sqrt((v[0] * v[0] + v[1] * v[1]) + v[2] * v[2]);
  }
}

#endif

}  // namespace mlcore::kernels::MLCORE_ISA
