#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Particles begin..end-1 of the sorted order, all seen through one image of the cell.
struct NeighborSegment {
  std::int32_t begin, end;
  float shift[3];
  std::uint32_t code;
};

/// Room the row kernel may write past the last entry it reports.
inline constexpr std::int64_t kNeighborSlack = 16;

/// Set in an index whose single-precision distance is too close to the cutoff to decide.
inline constexpr std::uint32_t kNeighborUndecided = 0x80000000u;

// Candidates of one particle at `centre`: position in the sorted order (perhaps with
// kNeighborUndecided) and image code, in the order of the segments. Squared distances up to
// `inside` are neighbors for sure, those above `outside` are not. Coordinates x, y, z are readable
// for kNeighborSlack entries past the end. Returns their number; *undecided tells if any is.
MLCORE_DECLARE_PER_ISA(std::int64_t neighbor_row(const float* x, const float* y, const float* z,
                                                 const NeighborSegment* segments,
                                                 std::int64_t segment_count, const float* centre,
                                                 float inside, float outside, std::uint32_t* index,
                                                 std::uint32_t* code, bool* undecided);

                       // Sorts distinct keys by counting, for each, how many are smaller.
                       void rank_sort(const std::int64_t* keys, std::int64_t count,
                                      std::int64_t* out);)

}  // namespace mlcore::kernels
