#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Outputs side by side in packed weights and sums: 64 bytes.
template <class T>
constexpr int kActiveLanes = 64 / static_cast<int>(sizeof(T));

/// Room the rule kernel may write past the last entry it reports.
constexpr std::int64_t kActiveSlack = 16;

/// 64 voxels along z of a line of outputs.
struct ActiveWord {
  std::uint64_t bits;        // which are occupied
  std::int32_t batch, x, y;  // of the line
  std::int32_t place;        // of the word along its line
  std::int32_t first;        // index of the first occupied voxel, counted from that of its tile
};

/// A word of outputs, and the word of the same z in a line of inputs.
struct ActiveNear {
  std::uint64_t bits;
  std::int64_t source;
  std::int32_t place, first;
};

/// The occupied voxels of a grid: per line along z so many words, each with the number of voxels
/// before it.
struct ActiveBits {
  const std::uint64_t* words;
  const std::int32_t* before;
  std::int32_t length;  // of a line, in voxels
  std::int32_t per_line;
  bool periodic;
};

/// The line of inputs at some distance from that of x, y: -1 where there is none.
struct ActiveLines {
  const std::int32_t* x;  // of every x of the outputs
  const std::int32_t* y;  // of every y
  std::int64_t size_x, size_y;
};

/// Lists of one tile: of weight t the inputs data[begins[t]...], then as many outputs.
struct ActiveLists {
  const std::int32_t* data;
  const std::int32_t* begins;
  std::int32_t taps;
  std::int32_t rows;   // outputs of the tile
  std::int32_t whole;  // a weight whose list holds every output in order; -1: none
};

// Instantiated for float and double.
MLCORE_DECLARE_PER_ISA(
    // The words that may have a neighbour within `reach` along their input line; returns how many.
    std::int64_t active_near(const ActiveBits& in, const ActiveLines& lines, int reach,
                             std::int64_t count, const ActiveWord* words, ActiveNear* near);
    // Inputs and outputs of the pairs at distance dz along z; returns how many.
    std::int64_t active_pairs(const ActiveBits& in, int dz, std::int64_t count,
                              const ActiveNear* words, std::int32_t* inputs, std::int32_t* outputs);
    // sums (rows, kActiveLanes) = start (kActiveLanes) + the products of one block of outputs;
    // weights (taps, channels, kActiveLanes).
    template <class T>
    void active_products(const ActiveLists& lists, std::int64_t channels, const T* features,
                         const T* weights, const T* start, T* sums);
    // sums (taps, channels, kActiveLanes) += features times values (rows, kActiveLanes).
    template <class T> void active_weight_products(const ActiveLists& lists, std::int64_t channels,
                                                   const T* features, const T* values, T* sums);)

}  // namespace mlcore::kernels
