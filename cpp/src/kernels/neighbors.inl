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
    const __mmask16 valid = left >= 16 ? __mmask16(0xffff) : __mmask16((1u << left) - 1u);
    const __m512 dx = _mm512_sub_ps(_mm512_loadu_ps(x + p), cx);
    const __m512 dy = _mm512_sub_ps(_mm512_loadu_ps(y + p), cy);
    const __m512 dz = _mm512_sub_ps(_mm512_loadu_ps(z + p), cz);
    const __m512 square = _mm512_fmadd_ps(dx, dx, _mm512_fmadd_ps(dy, dy, _mm512_mul_ps(dz, dz)));
    const __mmask16 hit = _mm512_mask_cmp_ps_mask(valid, square, high, _CMP_NGT_UQ);
    if (!hit) continue;
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

static std::int64_t scan_segment(const float* x, const float* y, const float* z,
                                 const NeighborSegment& segment, const float* centre, float inside,
                                 float outside, std::uint32_t* index, std::uint32_t* code,
                                 bool* undecided) {
  const __m256 cx = _mm256_set1_ps(centre[0] - segment.shift[0]);
  const __m256 cy = _mm256_set1_ps(centre[1] - segment.shift[1]);
  const __m256 cz = _mm256_set1_ps(centre[2] - segment.shift[2]);
  const __m256 low = _mm256_set1_ps(inside);
  const __m256 high = _mm256_set1_ps(outside);
  std::int64_t found = 0;
  for (std::int32_t p = segment.begin; p < segment.end; p += 8) {
    const int left = segment.end - p;
    const unsigned valid = left >= 8 ? 0xffu : (1u << left) - 1u;
    const __m256 dx = _mm256_sub_ps(_mm256_loadu_ps(x + p), cx);
    const __m256 dy = _mm256_sub_ps(_mm256_loadu_ps(y + p), cy);
    const __m256 dz = _mm256_sub_ps(_mm256_loadu_ps(z + p), cz);
    const __m256 square = _mm256_fmadd_ps(dx, dx, _mm256_fmadd_ps(dy, dy, _mm256_mul_ps(dz, dz)));
    unsigned hit =
        valid & static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(square, high, _CMP_NGT_UQ)));
    const unsigned unsure =
        hit & static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(square, low, _CMP_NLE_UQ)));
    if (unsure) *undecided = true;
    for (; hit; hit &= hit - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(hit));
      index[found] =
          (static_cast<std::uint32_t>(p) + lane) | (((unsure >> lane) & 1u) * kNeighborUndecided);
      code[found] = segment.code;
      ++found;
    }
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

void rank_sort(const std::int64_t* keys, std::int64_t count, std::int64_t* out) {
  for (std::int64_t a = 0; a < count; ++a) {
    const std::int64_t key = keys[a];
    std::int64_t rank = 0;
    for (std::int64_t b = 0; b < count; ++b) rank += keys[b] < key;
    out[rank] = key;
  }
}

}  // namespace mlcore::kernels::MLCORE_ISA
