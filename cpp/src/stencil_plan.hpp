#pragma once

// What conv3d and scatter3d have in common. Shared by the CPU and the CUDA driver.

#include <cstdint>

#include "mlcore/stencil.hpp"

namespace mlcore::detail {

/// out[b, o, p] = sum_{c, d} w[o, c, d] in[b, c, q] with q = place(step p + d - offset) along every
/// axis; terms without a place are zero.
struct ConvolutionPlan {
  FieldLayout layout = FieldLayout::channels_first;
  std::int64_t batch = 0, groups = 1;
  std::int64_t inputs = 0, outputs = 0;  // channels
  std::int64_t in[3] = {}, out[3] = {};
  std::int64_t grid[3] = {};  // extents of the grid that positions count on
  std::int64_t step = 1;      // positions between results
  std::int64_t spread = 1;    // positions between inputs
  std::int64_t offset = 0;
  std::int32_t taps = 1;
  bool wrap = false;
  bool transposed = false;  // w[o, c, d] is weight[c, o, taps - 1 - d]

  constexpr std::int64_t group_inputs() const { return inputs / groups; }
  constexpr std::int64_t group_outputs() const { return outputs / groups; }

  /// Index of the input at a position, or -1.
  constexpr std::int64_t place(int axis, std::int64_t position) const {
    if (wrap) position = ((position % grid[axis]) + grid[axis]) % grid[axis];
    if (position < 0 || position >= grid[axis] || position % spread != 0) return -1;
    return position / spread;
  }

  /// Where w[o, c, (x, y, z)] of a group lies in the weights of conv3d.
  constexpr std::int64_t weight_index(std::int64_t group, std::int64_t o, std::int64_t c,
                                      std::int64_t x, std::int64_t y, std::int64_t z) const {
    const std::int64_t k = taps, last = k - 1;
    if (!transposed) {
      const std::int64_t row = (group * (outputs / groups) + o) * (inputs / groups) + c;
      return ((row * k + x) * k + y) * k + z;
    }
    const std::int64_t row = (group * (inputs / groups) + c) * (outputs / groups) + o;
    return ((row * k + last - x) * k + last - y) * k + last - z;
  }
};

/// Distances between the entries of a field of `channels` and these extents.
struct FieldStrides {
  std::int64_t batch, channel, x, y, z;

  constexpr FieldStrides(FieldLayout layout, std::int64_t channels, const std::int64_t extents[3])
      : batch(channels * extents[0] * extents[1] * extents[2]),
        channel(layout == FieldLayout::channels_first ? extents[0] * extents[1] * extents[2] : 1),
        x(0),
        y(0),
        z(layout == FieldLayout::channels_first ? 1 : channels) {
    y = z * extents[2];
    x = y * extents[1];
  }
};

/// Finite differences and their transposes: out[n, j, p] = sum over the axes a of this j and over d
/// of weight[a][d] in[n, source(a), p + shift + (d - reach) e_a].
struct DifferencePlan {
  bool gradient = false, adjoint = false, wrap = false;
  std::int64_t batch = 0;
  std::int64_t in[3] = {}, out[3] = {};
  std::int64_t shift = 0;
  std::int32_t reach = 1;
  double weight[3][7] = {};  // the first 2 reach + 1

  constexpr std::int64_t sources() const { return gradient && adjoint ? 3 : 1; }
  constexpr std::int64_t results() const { return gradient && !adjoint ? 3 : 1; }

  constexpr std::int64_t place(int axis, std::int64_t position) const {
    const std::int64_t n = in[axis];
    if (wrap) position = ((position % n) + n) % n;
    return position < 0 || position >= n ? -1 : position;
  }
};

// The CPU drivers. Arguments are checked.
template <class T>
void convolve(const Context& context, const ConvolutionPlan& plan, const T* in, const T* weight,
              const Epilogue<T>& epilogue, T* out);
template <class T>
void weight_gradient(const Context& context, const ConvolutionPlan& plan, const T* in,
                     const T* values, T* out);
template <class T>
void differentiate(const Context& context, const DifferencePlan& plan, const T* in, T* out);

}  // namespace mlcore::detail
