#pragma once

#include <cstdint>

#include "../simd.hpp"

namespace mlcore::kernels {

/// Outputs side by side in packed weights.
constexpr std::int64_t kStencilBlock = 4;

/// Entries by which packed rows and rows of sums are padded: the widest vector, in bytes.
constexpr std::int64_t kStencilVector = 64;

/// One row of sums along z, for all outputs of a group.
///
/// A packed row holds (channels, channel_pitch) values; tap d of voxel z of channel c lies at
/// c channel_pitch + d tap_pitch + z. Packed weights are (blocks of outputs, row_slots, channels,
/// taps, kStencilBlock), zero where a block is not full.
template <class T>
struct StencilRow {
  const T* const* rows;           // those that are not zero
  const std::int32_t* row_slots;  // place of each among the weights
  std::int32_t row_count;
  std::int32_t slot_count;
  std::int32_t taps;  // 1, 3 or 5
  std::int64_t channels;
  std::int64_t channel_pitch;
  std::int64_t tap_pitch;
  const T* weights;
  const T* start;  // (outputs,) first term of every sum; null: zero
  std::int64_t outputs;
  std::int64_t length;  // voxels; rows are read and sums written up to the next kStencilVector
  T* out;               // (outputs, out_pitch)
  std::int64_t out_pitch;
};

/// Sums over rows of values of one output block times rows of a field, see stencil_weight_block.
template <class T>
struct StencilWeightBlock {
  const T* field;  // row y at y * field_step, laid out as in StencilRow
  std::int64_t field_step, channel_pitch, tap_pitch;
  const T* values;  // row y at y * values_step: (outputs, values_pitch), zero beyond the length
  std::int64_t values_step, values_pitch;
  std::int64_t rows, length;
  std::int64_t outputs, channels;
  std::int32_t taps;
  T* sums;  // (outputs, channels, taps, one vector of kStencilVector bytes)
};

/// A value next to a voxel and its weight.
template <class T>
struct StencilTap {
  const T* values;
  T weight;
};

// Instantiated for float and double.
MLCORE_DECLARE_PER_ISA(
    template <class T> void stencil_row(const StencilRow<T>& row);
    // sums += values x field over all rows and voxels, one sum per lane.
    template <class T> void stencil_weight_block(const StencilWeightBlock<T>& block);
    // The four rows of F(2, 3) from rows y..y+3, all of `count` values.
    template <class T>
    void stencil_filter_rows(const T* const* in, std::int64_t count, T* out, std::int64_t pitch);
    // The sums of rows y and y+1 from those of the four.
    template <class T>
    void stencil_unfilter_rows(const T* sums, std::int64_t pitch, std::int64_t count, T* out);
    // out[j, i] = in[i, j] of a (rows, columns) matrix.
    template <class T> void stencil_transpose(const T* in, std::int64_t in_pitch, std::int64_t rows,
                                              std::int64_t columns, T* out, std::int64_t out_pitch);
    // `activation` as numbered in mlcore::Activation.
    template <class T> void stencil_activate(int activation, std::int64_t count, T* values);
    template <class T> void stencil_add(std::int64_t count, const T* other, T* values);
    // out[z] = sum of the taps.
    template <class T>
    void stencil_star(const StencilTap<T>* taps, int count, std::int64_t length, T* out);)

}  // namespace mlcore::kernels
