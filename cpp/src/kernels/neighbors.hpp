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

/// A key is particle << (3 * kNeighborCodeBits) | image code; a code holds the three numbers of the
/// image, each plus kNeighborCodeBias. So keys sort by particle, then by image.
inline constexpr int kNeighborCodeBits = 10;
inline constexpr int kNeighborCodeBias = 1 << (kNeighborCodeBits - 1);

/// Room the row kernel may write past the last entry it reports.
inline constexpr std::int64_t kNeighborSlack = 16;

/// Set in an index whose single-precision distance is too close to the cutoff to decide.
inline constexpr std::uint32_t kNeighborUndecided = 0x80000000u;

// Candidates of one particle at `centre`: position in the sorted order (perhaps with
// kNeighborUndecided) and image code, in the order of the segments. Squared distances up to
// `inside` are neighbors for sure, those above `outside` are not. Coordinates x, y, z are readable
// for kNeighborSlack entries past the end. Returns their number; *undecided tells if any is.
MLCORE_DECLARE_PER_ISA(
    std::int64_t neighbor_row(const float* x, const float* y, const float* z,
                              const NeighborSegment* segments, std::int64_t segment_count,
                              const float* centre, float inside, float outside,
                              std::uint32_t* index, std::uint32_t* code, bool* undecided);

    // Keys (particle << (3 * kNeighborCodeBits) | code) of `found` decided candidates.
    void neighbor_keys(const std::uint32_t* index, const std::uint32_t* code, std::int64_t found,
                       const std::int32_t* order, std::int64_t* keys);

    // Sorts distinct keys by counting, for each, how many are smaller. Writes to keys and to
    // `particles` (scratch) up to the next multiple of kNeighborSlack. `unique_particles`: no
    // particle is in two keys.
    void rank_sort(std::int64_t* keys, std::int64_t count, bool unique_particles,
                   std::int32_t* particles, std::int64_t* out);

    // Image numbers, vectors and distances of the pairs of particle i; null: not wanted.
    // x: (n, 4), the last column zero. wraps: (n, 3) or null. D is (x_j - x_i) + ((S_0 c_0 + S_1
    // c_1) + S_2 c_2), each operation rounded once.
    void neighbor_fill(const std::int64_t* keys, std::int64_t count, std::int64_t i,
                       const double* x, const std::int32_t* wraps, const double* cell,
                       std::int32_t* S, double* D, double* d);)

}  // namespace mlcore::kernels
