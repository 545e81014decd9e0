#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Room the kernels may write past the last entry they report, and read past
/// the last particle.
inline constexpr std::int64_t kNeighborSlack = 16;

/// An image of the cell is one number: its three, each plus a bias, as three
/// groups of bits. Where a search meets few images, they are counted through
/// instead, so that a byte holds one.
inline constexpr int kNeighborImageBits = 10;
inline constexpr int kNeighborImageBias = 1 << (kNeighborImageBits - 1);

struct NeighborImage {
  double shift[4];    ///< image numbers times cell vectors, and a zero
  std::int32_t S[4];  ///< image numbers, and a zero
  double unused[2];
};
static_assert(sizeof(NeighborImage) == 64);

/// Particles begin..end-1 of the cell order, all seen through one image of the
/// cell.
struct NeighborSegment {
  std::int32_t begin, end;
  std::int32_t image;
  float shift[3];  ///< in units of the single-precision copies
};

/// All particles in the caller's order, as far as the definition of pairs goes.
struct NeighborParticles {
  const double* position;       ///< (n, 4) the last column holds wraps, as four int16, if packed
  const std::int32_t* wraps;    ///< (n, 4) cells they were moved by, or null: none
  const double* rows;           ///< (3, 3) cell vectors
  const NeighborImage* images;  ///< by number, or null: images are groups of bits
  bool packed;
};

/// Single-precision copies, sorted by cell.
struct NeighborCopies {
  const float *x, *y, *z;
  const std::int32_t* number;  ///< in the caller's order
};

/// Particles that may be neighbors of those of one cell.
struct NeighborCandidates {
  float *x, *y, *z;  ///< followed by kNeighborSlack infinities
  std::int32_t* number;
  std::int32_t* image;
};

/// The candidates of a cell as they are kept while particles move: places in the cell order, and
/// images, whose shifts are those of the single-precision copies.
struct NeighborKept {
  const std::int32_t* place;
  const std::uint8_t* image;
  std::int64_t count;
  const float* shifts;  ///< (images, 4)
};

/// What decides whether a candidate is a neighbor.
struct NeighborRule {
  float inside,
      outside;  ///< of single-precision squares: surely a neighbor, surely none
  double cutoff;
  const double* radii;  ///< per particle, or null
  const std::int32_t* types;
  const double* table;  ///< (kinds, kinds) or null
  std::int64_t kinds;
};

/// One particle and its candidates.
struct NeighborQuery {
  const NeighborParticles* particles;
  const NeighborRule* rule;
  NeighborCandidates candidates;
  std::int64_t count;
  std::int64_t particle;
  float x, y, z;          ///< of the particle
  std::int64_t first;     ///< candidates before this one are left out
  std::int64_t excluded;  ///< one candidate that is left out, or -1
};

/// Where candidates are sorted by number.
struct NeighborOrder {
  std::int32_t digits, width;       ///< of a number, and bits of each
  std::uint32_t* counts;            ///< (digits, 2^width)
  std::uint64_t *keys, *more_keys;  ///< (count,)
};

/// A row of the list: neighbors and images of particle i. One of the images is
/// null, or both where they were not wanted.
struct NeighborRow {
  std::int64_t i, size;
  const std::int32_t* j;
  const std::uint8_t* image;
  const std::int32_t* wide_image;
};

MLCORE_DECLARE_PER_ISA(
    // Candidates out of `segments` not surely farther than `outside` from the
    // box (low x, y, z, high x, y, z); returns their number.
    std::int64_t neighbor_gather(const NeighborCopies& copies, const NeighborSegment* segments,
                                 std::int64_t segment_count, const float* box, float outside,
                                 const NeighborCandidates& out);

    // Candidates in the order of `keys` (anything << 32 | where it is), and
    // where each went.
    void neighbor_permute(const NeighborCandidates& from, const std::uint64_t* keys,
                          std::int64_t count, const NeighborCandidates& to, std::int32_t* rank);

    // The same sorted by number; those of equal numbers stay in their order.
    void neighbor_sort(const NeighborOrder& order, const NeighborCandidates& from,
                       std::int64_t count, const NeighborCandidates& to, std::int32_t* rank);

    // Candidates that were kept, where their particles are now.
    void neighbor_collect(const NeighborCopies& copies, const NeighborKept& kept,
                          const NeighborCandidates& out);

    // Neighbors among the candidates, in their order; returns how many. No
    // images are written where `image` is null.
    std::int64_t neighbor_hits(const NeighborQuery& query, std::int32_t* number,
                               std::int32_t* image);

    // How many there are.
    std::int64_t neighbor_count(const NeighborQuery& query);

    // Low bytes; reads and writes up to kNeighborSlack entries too many.
    void neighbor_narrow(const std::int32_t* values, std::int64_t count, std::uint8_t* out);

    // Image numbers, vectors and distances of a row; null: not wanted.
    // D is (x_j - x_i) + ((S_0 c_0 + S_1 c_1) + S_2 c_2), each operation
    // rounded once.
    void neighbor_fill(const NeighborParticles& particles, const NeighborRow& row, std::int32_t* S,
                       double* D, double* d);
    void neighbor_fill_single(const NeighborParticles& particles, const NeighborRow& row,
                              std::int32_t* S, float* D, float* d);

    // Copies whole lines of 64 bytes past the caches; `to` is a multiple of 64.
    // neighbor_stream_end() comes after the last copy of a thread.
    void neighbor_stream(char* to, const char* from, std::int64_t lines);
    void neighbor_stream_end();)

}  // namespace mlcore::kernels
