#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "mlcore/buffer.hpp"
#include "mlcore/context.hpp"
#include "mlcore/stencil.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// The grid on which voxels are occupied.
struct ActiveGrid {
  std::array<std::int64_t, 3> shape{};     ///< (X, Y, Z)
  std::int64_t batches = 1;                ///< independent grids of this shape
  Boundary boundary = Boundary::periodic;  ///< periodic or zero
};

/// The occupied voxels of a grid, in the order of the caller.
///
/// Holds 1.5 bits per voxel of the grid, of at most 2^33 voxels.
class MLCORE_API ActiveSet {
 public:
  /// @param coordinates  (M, 3) x, y, z or (M, 4) batch, x, y, z; each voxel at most once
  /// @throws InvalidArgument  naming the row that lies outside of the grid or comes twice
  ActiveSet(const Context& context, const ActiveGrid& grid,
            View<const std::int64_t, 2> coordinates);
  /// Voxels where the mask (B, X, Y, Z) is not zero, in the order of the mask.
  ActiveSet(const Context& context, const ActiveGrid& grid, View<const std::uint8_t, 4> mask);

  const ActiveGrid& grid() const;
  std::int64_t count() const;
  /// @param out  (M, 4) batch, x, y, z in the order of the set
  void coordinates(View<std::int64_t, 2> out) const;
  /// All voxels that a kernel of k^3 weights reaches from these, in the order of the grid.
  ActiveSet dilated(std::int64_t k) const;

  struct State;
  const State& state() const { return *state_; }

 private:
  explicit ActiveSet(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

/// The rule book of a kernel of k^3 weights: which voxel of `inputs` meets which weight at which
/// voxel of `outputs`.
///
/// One block of int32, which may be copied: a header of 8 numbers, the first output of every tile,
/// where each list begins, the order of the outputs, and per tile and weight a list of inputs
/// followed by the outputs, counted from the first one of the tile, they contribute to: 8 bytes per
/// pair of neighbours.
class MLCORE_API ActiveRules {
 public:
  /// @param k  1, 3 or 5
  /// @throws InvalidArgument  the sets lie on different grids, or k is something else
  ActiveRules(const Context& context, const ActiveSet& inputs, const ActiveSet& outputs,
              std::int64_t k);

  View<const std::int32_t, 1> data() const {
    return {static_cast<const std::int32_t*>(memory_.data()), {size_}};
  }
  /// The memory behind data(), for whoever keeps it longer than this.
  Buffer release() && { return std::move(memory_); }

 private:
  Buffer memory_;
  std::int64_t size_ = 0;
};

/// Index of the input (-1: none) that every weight meets at every output.
///
/// @param rules  data of an ActiveRules
/// @param out    (M outputs, k^3)
MLCORE_API void active_neighbors(View<const std::int32_t, 1> rules, View<std::int32_t, 2> out);

/// The same from coordinates, worked out where they lie. On the GPU this table, flattened, takes
/// the place of the data of an ActiveRules.
///
/// @param inputs   (M, 4) batch, x, y, z on the grid, each voxel once (not checked on the GPU)
/// @param outputs  (M', 4)
/// @param out      (M', k^3)
/// @throws InvalidArgument  naming the argument
MLCORE_API void active_neighbors(const Context& context, const ActiveGrid& grid,
                                 View<const std::int64_t, 2> inputs,
                                 View<const std::int64_t, 2> outputs, std::int64_t k,
                                 View<std::int32_t, 2> out);

/// What happens to a sum s before it is stored: s + bias, then the activation, then + residual.
/// Views without data are left out.
template <class T>
struct ActiveEpilogue {
  View<const T, 1> bias;  ///< (O,)
  Activation activation = Activation::none;
  View<const T, 2> residual;  ///< (M outputs, O)
  View<T, 2> preactivation;   ///< (M outputs, O), filled with s + bias
};

/// conv3d on occupied voxels: all others hold zeros and, unless among the outputs, get no result.
/// out[x] = sum_d weight[d] features[x + d - k / 2], and the epilogue.
///
/// @param rules     data of ActiveRules(context, inputs, outputs, k), or a table (see above) on the
/// GPU
/// @param features  (M inputs, C)
/// @param weight    (O, C, k, k, k)
/// @param out       (M outputs, O); may not overlap the inputs
/// @throws InvalidArgument  naming the argument
MLCORE_API void conv3d_active(const Context& context, View<const std::int32_t, 1> rules,
                              View<const double, 2> features, View<const double, 5> weight,
                              const ActiveEpilogue<double>& epilogue, View<double, 2> out);
MLCORE_API void conv3d_active(const Context& context, View<const std::int32_t, 1> rules,
                              View<const float, 2> features, View<const float, 5> weight,
                              const ActiveEpilogue<float>& epilogue, View<float, 2> out);

/// The transpose of conv3d_active in its features.
///
/// @param rules   data of ActiveRules(context, outputs, inputs, k) of the convolution's sets
/// @param values  (M outputs, O)
/// @param weight  (O, C, k, k, k)
/// @param out     (M inputs, C)
/// @throws InvalidArgument  naming the argument
MLCORE_API void scatter3d_active(const Context& context, View<const std::int32_t, 1> rules,
                                 View<const double, 2> values, View<const double, 5> weight,
                                 View<double, 2> out);
MLCORE_API void scatter3d_active(const Context& context, View<const std::int32_t, 1> rules,
                                 View<const float, 2> values, View<const float, 5> weight,
                                 View<float, 2> out);

/// The transpose of conv3d_active in its weights.
///
/// @param rules     as for conv3d_active
/// @param features  (M inputs, C)
/// @param values    (M outputs, O)
/// @param out       (O, C, k, k, k)
/// @throws InvalidArgument  naming the argument
MLCORE_API void conv3d_active_weight_gradient(const Context& context,
                                              View<const std::int32_t, 1> rules,
                                              View<const double, 2> features,
                                              View<const double, 2> values, View<double, 5> out);
MLCORE_API void conv3d_active_weight_gradient(const Context& context,
                                              View<const std::int32_t, 1> rules,
                                              View<const float, 2> features,
                                              View<const float, 2> values, View<float, 5> out);

}  // namespace mlcore
