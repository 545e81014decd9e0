#include "mlcore/stencil_active.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/stencil.hpp"
#include "kernels/stencil_active.hpp"
#include "parallel.hpp"
#include "stencil_active_cuda.hpp"
#include "stencil_active_set.hpp"

namespace mlcore {
namespace {

using detail::RulesView;
using kernels::kActiveLanes;

/// Multiply-adds that are worth waking another thread for.
constexpr std::int64_t kGrain = 1 << 19;
/// Partial sums of the weights' gradient: a fixed number, so that threads do not change the result.
constexpr std::int64_t kPartialSums = 8;

template <class T>
std::int64_t blocks_of(std::int64_t outputs) {
  return (outputs + kActiveLanes<T> - 1) / kActiveLanes<T>;
}

template <class T>
T* memory_of(const Buffer& buffer) {
  return static_cast<T*>(buffer.data());
}

template <class T, int Rank>
void check_shape(const char* name, View<T, Rank> view, std::array<std::int64_t, Rank> expected) {
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(view.shape[axis] == expected[axis], name, " must have the length ", expected[axis],
                 " along axis ", axis, ", got ", view.shape[axis]);
  }
}

template <class T>
void check_weight(const char* name, const RulesView& rules, View<T, 5> weight) {
  for (int axis = 2; axis < 5; ++axis) {
    MLCORE_CHECK(weight.shape[axis] == rules.k, name, " must have the shape (O, C, ", rules.k, ", ",
                 rules.k, ", ", rules.k, ") of the rules, got the length ", weight.shape[axis],
                 " along axis ", axis);
  }
}

/// One device for all that is there.
template <class Out, class... Views>
void check_devices(const Out& out, const Views&... views) {
  const auto there = [&](const auto& view) { return !view.data || view.device == out.device; };
  MLCORE_CHECK((there(views) && ...),
               "all arrays, and the set of voxels, must live on the device of out");
}

/// Results are written while inputs are still read.
template <class T, int Rank, class U, int OutRank>
void check_apart(const char* name, View<T, Rank> input, View<U, OutRank> out) {
  MLCORE_CHECK(
      input.empty() || out.empty() || input.end() <= out.begin() || out.end() <= input.begin(),
      "out must not overlap ", name);
}

/// Weights as the kernels read them, (blocks, taps, inner, kActiveLanes), zero beyond the outputs.
template <class T>
class PackedWeights {
 public:
  /// Of a convolution; `transposed`: of a scatter.
  PackedWeights(View<const T, 5> weight, bool transposed) {
    const std::int64_t O = weight.shape[0], C = weight.shape[1];
    taps_ = weight.shape[2] * weight.shape[3] * weight.shape[4];
    inner_ = transposed ? O : C;
    const std::int64_t outputs = transposed ? C : O, blocks = blocks_of<T>(outputs);
    const std::size_t bytes = blocks * block_size() * sizeof(T);
    memory_ = Buffer(std::max<std::size_t>(bytes, 64));
    if (outputs % kActiveLanes<T> != 0) std::memset(memory_.data(), 0, bytes);
    for (std::int64_t o = 0; o < O; ++o) {
      for (std::int64_t c = 0; c < C; ++c) {
        const T* from = weight.data + (o * C + c) * taps_;
        transposed ? place(from + taps_ - 1, -1, c, o) : place(from, 1, o, c);
      }
    }
  }

  const T* block(std::int64_t b) const { return memory_of<T>(memory_) + b * block_size(); }

 private:
  std::int64_t block_size() const { return taps_ * inner_ * kActiveLanes<T>; }

  void place(const T* from, std::int64_t step, std::int64_t output, std::int64_t input) {
    constexpr std::int64_t lanes = kActiveLanes<T>;
    T* to = memory_of<T>(memory_) + output / lanes * block_size() + input * lanes + output % lanes;
    for (std::int64_t t = 0; t < taps_; ++t) to[t * inner_ * lanes] = from[t * step];
  }

  std::int64_t taps_, inner_;
  Buffer memory_;
};

/// Work of the tiles before t.
std::int64_t work_before(const RulesView& rules, std::int64_t t) {
  return rules.pairs(t) + rules.first[t];
}

/// First tile of which at least half lies beyond so much work.
std::int64_t tile_at(const RulesView& rules, std::int64_t work) {
  std::int64_t low = 0, high = rules.tiles;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (work_before(rules, middle) + work_before(rules, middle + 1) < 2 * work) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/// Calls body(first tile, last tile) for parts of equal work.
template <class Body>
void for_tiles(const Context& context, const RulesView& rules, std::int64_t products,
               const Body& body) {
  const std::int64_t grain = kGrain / std::max<std::int64_t>(products, 1) + 1;
  detail::parallel_for(context, work_before(rules, rules.tiles), grain,
                       [&](std::int64_t begin, std::int64_t end, int) {
                         body(tile_at(rules, begin), tile_at(rules, end));
                       });
}

std::int64_t most_rows(const RulesView& rules) {
  std::int32_t most = 0;
  for (std::int64_t t = 0; t < rules.tiles; ++t) {
    most = std::max(most, rules.first[t + 1] - rules.first[t]);
  }
  return most;
}

/// Rows of the caller of the outputs of a tile, of which `width` columns from `column` are meant.
template <class T>
struct TileRows {
  const RulesView& rules;
  std::int64_t first, count, column, width;

  template <class Move>
  void each(View<T, 2> array, const Move& move) const {
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t row = rules.rows ? rules.rows[first + r] : first + r;
      move(array.data + row * array.shape[1] + column, r * kActiveLanes<std::remove_const_t<T>>);
    }
  }
};

template <class T>
void copy_out(const RulesView& rules, TileRows<T> tile, const T* sums, View<T, 2> out) {
  (void)rules;
  tile.each(out, [&](T* row, std::int64_t at) { std::copy_n(sums + at, tile.width, row); });
}

template <class T>
void add_rows(const TileRows<const T>& tile, View<const T, 2> other, T* sums) {
  tile.each(other, [&](const T* row, std::int64_t at) {
    for (std::int64_t i = 0; i < tile.width; ++i) sums[at + i] += row[i];
  });
}

/// Sums of every output: convolution or scatter, as the weights are packed.
template <class T>
void accumulate(const Context& context, const RulesView& rules, View<const T, 2> features,
                const PackedWeights<T>& weights, const ActiveEpilogue<T>& epilogue,
                View<T, 2> out) {
  constexpr std::int64_t lanes = kActiveLanes<T>;
  const std::int64_t outputs = out.shape[1], channels = features.shape[1];
  std::vector<T> start(blocks_of<T>(outputs) * lanes, T(0));
  if (epilogue.bias.data) std::copy_n(epilogue.bias.data, outputs, start.data());
  const bool in_place = outputs == lanes && !rules.rows;
  const std::int64_t scratch = in_place ? 0 : most_rows(rules) * lanes;
  for_tiles(context, rules, channels * outputs, [&](std::int64_t begin, std::int64_t end) {
    const Buffer memory(std::max<std::int64_t>(scratch, 1) * sizeof(T));
    for (std::int64_t t = begin; t < end; ++t) {
      const kernels::ActiveLists lists = rules.tile(t);
      for (std::int64_t column = 0; column < outputs; column += lanes) {
        const std::int64_t b = column / lanes, width = std::min(lanes, outputs - column);
        T* sums = in_place ? out.data + rules.first[t] * outputs : memory_of<T>(memory);
        MLCORE_DISPATCH(active_products<T>)
        (lists, channels, features.data, weights.block(b), start.data() + column, sums);
        const TileRows<T> to{rules, rules.first[t], lists.rows, column, width};
        if (epilogue.preactivation.data) copy_out(rules, to, sums, epilogue.preactivation);
        if (epilogue.activation != Activation::none) {
          MLCORE_DISPATCH(stencil_activate<T>)
          (static_cast<int>(epilogue.activation), lists.rows * lanes, sums);
        }
        if (epilogue.residual.data) {
          add_rows<T>({rules, to.first, to.count, column, width}, epilogue.residual, sums);
        }
        if (!in_place) copy_out(rules, to, sums, out);
      }
    }
  });
}

template <class T>
void convolve(const Context& context, View<const std::int32_t, 1> data, View<const T, 2> features,
              View<const T, 5> weight, const ActiveEpilogue<T>& epilogue, View<T, 2> out) {
  check_devices(out, data, features, weight, epilogue.bias, epilogue.residual,
                epilogue.preactivation);
  if (out.device == Device::cuda) {
    return cuda::conv3d_active(context, data, features, weight, epilogue, out);
  }
  const RulesView rules = detail::rules_view(data);
  check_weight("weight", rules, weight);
  const std::int64_t O = weight.shape[0], C = weight.shape[1];
  check_shape("features", features, {rules.inputs, C});
  check_shape("out", out, {rules.outputs, O});
  if (epilogue.bias.data) check_shape("bias", epilogue.bias, {O});
  if (epilogue.residual.data) check_shape("residual", epilogue.residual, {rules.outputs, O});
  if (epilogue.preactivation.data) {
    check_shape("preactivation", epilogue.preactivation, {rules.outputs, O});
  }
  check_apart("features", features, out);
  if (epilogue.residual.data) check_apart("residual", epilogue.residual, out);
  if (out.empty()) return;
  accumulate(context, rules, features, PackedWeights<T>(weight, false), epilogue, out);
}

template <class T>
void scatter(const Context& context, View<const std::int32_t, 1> data, View<const T, 2> values,
             View<const T, 5> weight, View<T, 2> out) {
  check_devices(out, data, values, weight);
  if (out.device == Device::cuda) {
    return cuda::scatter3d_active(context, data, values, weight, out);
  }
  const RulesView rules = detail::rules_view(data);
  check_weight("weight", rules, weight);
  check_shape("values", values, {rules.inputs, weight.shape[0]});
  check_shape("out", out, {rules.outputs, weight.shape[1]});
  check_apart("values", values, out);
  if (out.empty()) return;
  accumulate(context, rules, values, PackedWeights<T>(weight, true), {}, out);
}

/// Sums over some tiles, (blocks, taps, channels, kActiveLanes).
template <class T>
void sum_weights(const RulesView& rules, std::int64_t begin, std::int64_t end,
                 View<const T, 2> features, View<const T, 2> values, T* scratch, T* sums) {
  constexpr std::int64_t lanes = kActiveLanes<T>;
  const std::int64_t outputs = values.shape[1], channels = features.shape[1];
  for (std::int64_t t = begin; t < end; ++t) {
    const kernels::ActiveLists lists = rules.tile(t);
    T* block = sums;
    for (std::int64_t column = 0; column < outputs; column += lanes) {
      const std::int64_t width = std::min(lanes, outputs - column);
      const TileRows<const T> tile{rules, rules.first[t], lists.rows, column, width};
      if (width < lanes) std::fill_n(scratch, lists.rows * lanes, T(0));
      tile.each(values,
                [&](const T* row, std::int64_t at) { std::copy_n(row, width, scratch + at); });
      MLCORE_DISPATCH(active_weight_products<T>)(lists, channels, features.data, scratch, block);
      block += rules.taps() * channels * lanes;
    }
  }
}

template <class T>
void weight_gradient(const Context& context, View<const std::int32_t, 1> data,
                     View<const T, 2> features, View<const T, 2> values, View<T, 5> out) {
  check_devices(out, data, features, values);
  if (out.device == Device::cuda) {
    return cuda::conv3d_active_weight_gradient(context, data, features, values, out);
  }
  constexpr std::int64_t lanes = kActiveLanes<T>;
  const RulesView rules = detail::rules_view(data);
  check_weight("out", rules, out);
  const std::int64_t O = out.shape[0], C = out.shape[1], taps = rules.taps();
  check_shape("features", features, {rules.inputs, C});
  check_shape("values", values, {rules.outputs, O});
  if (out.empty()) return;
  const std::int64_t size = blocks_of<T>(O) * taps * C * lanes;
  const std::int64_t parts = std::clamp<std::int64_t>(rules.tiles, 1, kPartialSums);
  const Buffer memory(parts * size * sizeof(T));
  T* sums = memory_of<T>(memory);
  const std::int64_t total = work_before(rules, rules.tiles), rows = most_rows(rules);
  const std::int64_t grain = total * C * O < 2 * kGrain ? parts : 1;
  detail::parallel_for(context, parts, grain, [&](std::int64_t begin, std::int64_t end, int) {
    const Buffer scratch(std::max<std::int64_t>(rows, 1) * lanes * sizeof(T));
    std::fill(sums + begin * size, sums + end * size, T(0));
    for (std::int64_t p = begin; p < end; ++p) {
      sum_weights(rules, tile_at(rules, total * p / parts), tile_at(rules, total * (p + 1) / parts),
                  features, values, memory_of<T>(scratch), sums + p * size);
    }
  });
  for (std::int64_t p = 1; p < parts; ++p) {
    for (std::int64_t i = 0; i < size; ++i) sums[i] += sums[p * size + i];
  }
  for (std::int64_t o = 0; o < O; ++o) {
    for (std::int64_t c = 0; c < C; ++c) {
      const T* from = sums + (o / lanes * taps * C + c) * lanes + o % lanes;
      T* to = out.data + (o * C + c) * taps;
      for (std::int64_t t = 0; t < taps; ++t) to[t] = from[t * C * lanes];
    }
  }
}

}  // namespace

void conv3d_active(const Context& context, View<const std::int32_t, 1> rules,
                   View<const double, 2> features, View<const double, 5> weight,
                   const ActiveEpilogue<double>& epilogue, View<double, 2> out) {
  convolve(context, rules, features, weight, epilogue, out);
}

void conv3d_active(const Context& context, View<const std::int32_t, 1> rules,
                   View<const float, 2> features, View<const float, 5> weight,
                   const ActiveEpilogue<float>& epilogue, View<float, 2> out) {
  convolve(context, rules, features, weight, epilogue, out);
}

void scatter3d_active(const Context& context, View<const std::int32_t, 1> rules,
                      View<const double, 2> values, View<const double, 5> weight,
                      View<double, 2> out) {
  scatter(context, rules, values, weight, out);
}

void scatter3d_active(const Context& context, View<const std::int32_t, 1> rules,
                      View<const float, 2> values, View<const float, 5> weight,
                      View<float, 2> out) {
  scatter(context, rules, values, weight, out);
}

void conv3d_active_weight_gradient(const Context& context, View<const std::int32_t, 1> rules,
                                   View<const double, 2> features, View<const double, 2> values,
                                   View<double, 5> out) {
  weight_gradient(context, rules, features, values, out);
}

void conv3d_active_weight_gradient(const Context& context, View<const std::int32_t, 1> rules,
                                   View<const float, 2> features, View<const float, 2> values,
                                   View<float, 5> out) {
  weight_gradient(context, rules, features, values, out);
}

}  // namespace mlcore
