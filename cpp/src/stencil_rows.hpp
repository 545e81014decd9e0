#pragma once

// Rows of a field along z, packed for the inner loops: one channel after the other, with what the
// boundary adds on both sides.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/stencil.hpp"
#include "mlcore/buffer.hpp"
#include "stencil_plan.hpp"

namespace mlcore::detail {

template <class T>
constexpr std::int64_t padded_to_vector(std::int64_t count) {
  constexpr std::int64_t lanes = kernels::kStencilVector / static_cast<std::int64_t>(sizeof(T));
  return (count + lanes - 1) / lanes * lanes;
}

/// Scratch memory of `count` values.
template <class T>
class Workspace {
 public:
  explicit Workspace(std::int64_t count)
      : buffer_(static_cast<std::size_t>(std::max<std::int64_t>(count, 1)) * sizeof(T)) {}
  T* get() const { return static_cast<T*>(buffer_.data()); }

 private:
  Buffer buffer_;
};

template <class T>
class RowPacker {
 public:
  RowPacker(const ConvolutionPlan& plan, const T* in)
      : plan_(plan), in_(in), strides_(plan.layout, plan.inputs, plan.in) {
    const std::int64_t length = plan.out[2], taps = plan.taps;
    const bool strided = plan.step > 1;
    tap_pitch = strided ? padded_to_vector<T>(length) : 1;
    channel_pitch =
        strided ? taps * tap_pitch : padded_to_vector<T>(padded_to_vector<T>(length) + taps - 1);
    row_size = plan.inputs * channel_pitch;
    if (!strided && plan.spread == 1) {
      run_begin_ = std::clamp<std::int64_t>(plan.offset, 0, length + taps - 1);
      run_end_ = std::clamp<std::int64_t>(plan.offset + plan.in[2], 0, length + taps - 1);
    }
    for (std::int64_t tap = 0; tap < (strided ? taps : 1); ++tap) {
      const std::int64_t count = strided ? length : length + taps - 1;
      for (std::int64_t j = 0; j < count; ++j) {
        if (j >= run_begin_ && j < run_end_) continue;
        const std::int64_t z = plan.place(2, j * plan.step + tap - plan.offset);
        if (z >= 0) others_.push_back({tap * tap_pitch + j, z});
      }
    }
  }

  std::int64_t tap_pitch, channel_pitch, row_size;

  /// Packs row (x, y) of sample b. `out` holds zeros or an earlier row.
  void pack(std::int64_t b, std::int64_t x, std::int64_t y, T* out) const {
    const T* row = in_ + b * strides_.batch + x * strides_.x + y * strides_.y;
    const std::int64_t run = run_end_ - run_begin_, from = run_begin_ - plan_.offset;
    if (plan_.layout == FieldLayout::channels_first) {
      for (std::int64_t c = 0; c < plan_.inputs; ++c) {
        if (run > 0) {
          std::memcpy(out + c * channel_pitch + run_begin_, row + c * strides_.channel + from,
                      static_cast<std::size_t>(run) * sizeof(T));
        }
      }
    } else if (run > 0) {
      MLCORE_DISPATCH(stencil_transpose<T>)
      (row + from * strides_.z, strides_.z, run, plan_.inputs, out + run_begin_, channel_pitch);
    }
    if (others_.empty()) return;
    for (std::int64_t c = 0; c < plan_.inputs; ++c) {
      T* const to = out + c * channel_pitch;
      const T* const source = row + c * strides_.channel;
      for (const Other& other : others_) to[other.to] = source[other.from * strides_.z];
    }
  }

 private:
  struct Other {
    std::int64_t to, from;
  };

  const ConvolutionPlan& plan_;
  const T* in_;
  FieldStrides strides_;
  std::int64_t run_begin_ = 0, run_end_ = 0;  // entries that lie side by side in the field
  std::vector<Other> others_;                 // and those that do not
};

/// A part of the results worked on at once: rows begin..end-1 of plane x of sample b, and perhaps
/// of planes after it.
struct PlaneBlock {
  std::int64_t b, x, begin, end;
};

/// Cuts the results into blocks of `rows` rows of `planes` planes, planes next to each other first.
class PlaneBlocks {
 public:
  PlaneBlocks(const ConvolutionPlan& plan, std::int64_t rows, std::int64_t planes = 1)
      : count(plan.batch * parts(plan.out[1], rows) * parts(plan.out[0], planes)),
        height_(plan.out[1]),
        rows_(rows),
        planes_(planes),
        in_column_(parts(plan.out[0], planes)),
        columns_(parts(plan.out[1], rows)) {}

  PlaneBlock operator[](std::int64_t index) const {
    const std::int64_t column = index / in_column_, begin = column % columns_ * rows_;
    return {column / columns_, index % in_column_ * planes_, begin,
            std::min(begin + rows_, height_)};
  }

  std::int64_t count;

 private:
  static std::int64_t parts(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

  std::int64_t height_, rows_, planes_, in_column_, columns_;
};

/// The planes of packed rows that one block needs; those of the block before are kept.
template <class T>
class PlaneRing {
 public:
  /// @param planes  at positions step x - offset, + 1, ... for results at x
  /// @param plane_size  values of a packed plane
  PlaneRing(const ConvolutionPlan& plan, std::int64_t planes, std::int64_t plane_size)
      : plan_(plan),
        count_(planes),
        plane_size_(plane_size),
        memory_(planes * plane_size),
        keys_(planes) {}

  T* data() const { return memory_.get(); }
  std::int64_t size() const { return count_ * plane_size_; }

  /// planes[d]: packed by fill(x of the field, T* plane), or null where there is none.
  template <class Fill>
  void provide(const PlaneBlock& block, const Fill& fill, const T** planes) {
    for (std::int64_t d = 0; d < count_; ++d) {
      const std::int64_t position = block.x * plan_.step + d - plan_.offset;
      const std::int64_t x = plan_.place(0, position);
      planes[d] = nullptr;
      if (x < 0) continue;
      const std::int64_t slot = ((position % count_) + count_) % count_;
      T* plane = data() + slot * plane_size_;
      Key& key = keys_[slot];
      if (!(key.valid && key.b == block.b && key.begin == block.begin && key.x == position)) {
        fill(x, plane);
        key = {block.b, block.begin, position, true};
      }
      planes[d] = plane;
    }
  }

 private:
  struct Key {
    std::int64_t b = 0, begin = 0, x = 0;
    bool valid = false;
  };

  const ConvolutionPlan& plan_;
  std::int64_t count_, plane_size_;
  Workspace<T> memory_;
  std::vector<Key> keys_;
};

}  // namespace mlcore::detail
