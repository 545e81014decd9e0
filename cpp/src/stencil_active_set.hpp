#pragma once

#include <cstdint>
#include <vector>

#include "kernels/stencil_active.hpp"
#include "mlcore/stencil_active.hpp"

namespace mlcore {

/// A bit per voxel, lines along z padded to whole words.
struct ActiveSet::State {
  ActiveGrid grid;
  std::int64_t per_line = 0;  // words
  std::int64_t count = 0;
  Buffer words;                      // (lines * per_line) uint64
  Buffer before;                     // (lines * per_line) int32: voxels in front of the word
  std::vector<std::int64_t> filled;  // words that are not zero
  std::vector<std::int32_t> rows;    // row of the caller of each voxel; empty: in grid order

  std::uint64_t* bits() const { return static_cast<std::uint64_t*>(words.data()); }
  std::int32_t* ranks() const { return static_cast<std::int32_t*>(before.data()); }
  std::int64_t lines() const { return grid.batches * grid.shape[0] * grid.shape[1]; }
};

namespace detail {

/// The parts of the data of an ActiveRules.
struct RulesView {
  std::int64_t k, inputs, outputs, tiles;
  const std::int32_t* first;   // (tiles + 1) first output of each tile
  const std::int32_t* begins;  // (tiles * k^3 + 1) places in data
  const std::int32_t* rows;    // (outputs) row of the caller of each output; null: in order
  const std::int32_t* data;

  std::int64_t taps() const { return k * k * k; }
  kernels::ActiveLists tile(std::int64_t t) const;
  /// Pairs of tiles before t.
  std::int64_t pairs(std::int64_t t) const { return (begins[t * taps()] - begins[0]) / 2; }
};

/// Throws InvalidArgument where these are no rules.
RulesView rules_view(View<const std::int32_t, 1> rules);

}  // namespace detail
}  // namespace mlcore
