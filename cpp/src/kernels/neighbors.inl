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

struct Strip {
  static constexpr std::int64_t size = 64;
  std::int32_t j[size], S[3][size];
  double D[3][size];
};

static void unpack(const std::int64_t* __restrict keys, std::int64_t count, Strip& strip) {
  constexpr std::int64_t mask = (1 << kNeighborCodeBits) - 1;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t key = keys[k];
    strip.j[k] = static_cast<std::int32_t>(key >> (3 * kNeighborCodeBits));
    const std::int32_t code = static_cast<std::int32_t>(key & ((1 << (3 * kNeighborCodeBits)) - 1));
    strip.S[0][k] = (code >> (2 * kNeighborCodeBits)) - kNeighborCodeBias;
    strip.S[1][k] = ((code >> kNeighborCodeBits) & mask) - kNeighborCodeBias;
    strip.S[2][k] = (code & mask) - kNeighborCodeBias;
  }
}

static void add_wraps(const std::int32_t* __restrict wraps, std::int64_t i, std::int64_t count,
                      Strip& strip) {
  for (int axis = 0; axis < 3; ++axis) {
    const std::int32_t own = wraps[3 * i + axis];
    for (std::int64_t k = 0; k < count; ++k) {
      strip.S[axis][k] += own - wraps[3 * static_cast<std::int64_t>(strip.j[k]) + axis];
    }
  }
}

static void displace(const double* __restrict x, std::int64_t i, const double* cell,
                     std::int64_t count, Strip& strip) {
  for (int axis = 0; axis < 3; ++axis) {
    const double own = x[3 * i + axis];
    const double c0 = cell[axis], c1 = cell[3 + axis], c2 = cell[6 + axis];
    for (std::int64_t k = 0; k < count; ++k) {
      const double shift = (strip.S[0][k] * c0 + strip.S[1][k] * c1) + strip.S[2][k] * c2;
      strip.D[axis][k] = (x[3 * static_cast<std::int64_t>(strip.j[k]) + axis] - own) + shift;
    }
  }
}

template <class T>
static void interleave(const T (*__restrict columns)[Strip::size], std::int64_t count,
                       T* __restrict rows) {
  for (std::int64_t k = 0; k < count; ++k) {
    rows[3 * k] = columns[0][k];
    rows[3 * k + 1] = columns[1][k];
    rows[3 * k + 2] = columns[2][k];
  }
}

static void lengths(const Strip& strip, std::int64_t count, double* __restrict d) {
  for (std::int64_t k = 0; k < count; ++k) {
    const double x = strip.D[0][k], y = strip.D[1][k], z = strip.D[2][k];
    d[k] = __builtin_sqrt((x * x + y * y) + z * z);
  }
}

void neighbor_fill(const std::int64_t* keys, std::int64_t count, std::int64_t i, const double* x,
                   const std::int32_t* wraps, const double* cell, std::int32_t* S, double* D,
                   double* d) {
  Strip strip;
  for (std::int64_t first = 0; first < count; first += Strip::size) {
    const std::int64_t size = count - first < Strip::size ? count - first : Strip::size;
    unpack(keys + first, size, strip);
    if (wraps) add_wraps(wraps, i, size, strip);
    if (S) interleave(strip.S, size, S + 3 * first);
    if (!D && !d) continue;
    displace(x, i, cell, size, strip);
    if (D) interleave(strip.D, size, D + 3 * first);
    if (d) lengths(strip, size, d + first);
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
