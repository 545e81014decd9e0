// CPU driver of the gradient of the weights. The results are cut into slabs whose number depends on
// the shape alone; every slab has sums of its own, added up in order at the end.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "parallel.hpp"
#include "stencil_rows.hpp"

namespace mlcore::detail {
namespace {

constexpr std::int64_t kRingBytes = std::int64_t{1} << 20;
constexpr std::int64_t kFewestRows = 8;
constexpr std::int64_t kMostSlabs = 16;
constexpr double kFewestFlops = 1e6;  // of a slab

/// Rows of the values, packed as (outputs, pitch).
ConvolutionPlan identity_of(const ConvolutionPlan& plan) {
  ConvolutionPlan identity;
  identity.layout = plan.layout;
  identity.batch = plan.batch;
  identity.inputs = identity.outputs = plan.outputs;
  for (int axis = 0; axis < 3; ++axis) {
    identity.in[axis] = identity.out[axis] = identity.grid[axis] = plan.out[axis];
  }
  return identity;
}

template <class T>
class WeightSums {
 public:
  WeightSums(const ConvolutionPlan& plan, const RowPacker<T>& field, const RowPacker<T>& values,
             std::int64_t rows)
      : plan_(plan),
        field_(field),
        values_(values),
        ring_(plan, plan.taps, ((rows - 1) * plan.step + plan.taps) * field.row_size),
        packed_values_(rows * values.row_size),
        size_(plan.outputs * plan.group_inputs() * plan.taps * plan.taps * plan.taps),
        sums_(size_ * kLanes) {
    std::fill_n(ring_.data(), ring_.size(), T(0));
    std::fill_n(packed_values_.get(), rows * values.row_size, T(0));
  }

  void clear() { std::fill_n(sums_.get(), size_ * kLanes, T(0)); }

  void add(const PlaneBlock& block) {
    const T* planes[5];
    ring_.provide(block, [&](std::int64_t x, T* plane) { fill(block, x, plane); }, planes);
    for (std::int64_t y = block.begin; y < block.end; ++y) {
      values_.pack(block.b, block.x, y,
                   packed_values_.get() + (y - block.begin) * values_.row_size);
    }
    for (std::int64_t group = 0; group < plan_.groups; ++group) {
      for (std::int64_t dx = 0; dx < plan_.taps; ++dx) {
        for (std::int64_t dy = 0; planes[dx] && dy < plan_.taps; ++dy) {
          MLCORE_DISPATCH(stencil_weight_block<T>)(products(block, group, planes[dx], dx, dy));
        }
      }
    }
  }

  /// out[o, c, dx, dy, dz] = the sums so far.
  void reduce(double* out) const {
    const std::int64_t k = plan_.taps, channels = plan_.group_inputs();
    const std::int64_t of_group = plan_.group_outputs();
    const T* sum = sums_.get();
    for (std::int64_t group = 0; group < plan_.groups; ++group) {
      for (std::int64_t xy = 0; xy < k * k; ++xy) {
        for (std::int64_t oc = 0; oc < of_group * channels; ++oc) {
          for (std::int64_t z = 0; z < k; ++z, sum += kLanes) {
            double total = 0;
            for (std::int64_t lane = 0; lane < kLanes; ++lane) total += sum[lane];
            out[((group * of_group * channels + oc) * k * k + xy) * k + z] = total;
          }
        }
      }
    }
  }

  std::int64_t size() const { return size_; }

 private:
  static constexpr std::int64_t kLanes =
      kernels::kStencilVector / static_cast<std::int64_t>(sizeof(T));

  void fill(const PlaneBlock& block, std::int64_t x, T* plane) const {
    const std::int64_t count = (block.end - block.begin - 1) * plan_.step + plan_.taps;
    for (std::int64_t i = 0; i < count; ++i, plane += field_.row_size) {
      const std::int64_t y = plan_.place(1, block.begin * plan_.step + i - plan_.offset);
      if (y >= 0) {
        field_.pack(block.b, x, y, plane);
      } else {
        std::fill_n(plane, field_.row_size, T(0));
      }
    }
  }

  kernels::StencilWeightBlock<T> products(const PlaneBlock& block, std::int64_t group,
                                          const T* plane, std::int64_t dx, std::int64_t dy) const {
    const std::int64_t k = plan_.taps;
    const std::int64_t set = plan_.group_outputs() * plan_.group_inputs() * k * kLanes;
    kernels::StencilWeightBlock<T> b;
    b.field = plane + dy * field_.row_size + group * plan_.group_inputs() * field_.channel_pitch;
    b.field_step = plan_.step * field_.row_size;
    b.channel_pitch = field_.channel_pitch;
    b.tap_pitch = field_.tap_pitch;
    b.values = packed_values_.get() + group * plan_.group_outputs() * values_.channel_pitch;
    b.values_step = values_.row_size;
    b.values_pitch = values_.channel_pitch;
    b.rows = block.end - block.begin;
    b.length = plan_.out[2];
    b.outputs = plan_.group_outputs();
    b.channels = plan_.group_inputs();
    b.taps = plan_.taps;
    b.sums = sums_.get() + (group * k * k + dx * k + dy) * set;
    return b;
  }

  const ConvolutionPlan& plan_;
  const RowPacker<T>&field_, &values_;
  PlaneRing<T> ring_;
  Workspace<T> packed_values_;
  std::int64_t size_;
  Workspace<T> sums_;
};

}  // namespace

template <class T>
void weight_gradient(const Context& context, const ConvolutionPlan& plan, const T* in,
                     const T* values, T* out) {
  const std::int64_t k3 = plan.taps * plan.taps * plan.taps;
  const std::int64_t size = plan.outputs * plan.group_inputs() * k3;
  if (plan.batch * plan.out[0] * plan.out[1] * plan.out[2] == 0) {
    std::fill_n(out, size, T(0));
    return;
  }
  const ConvolutionPlan identity = identity_of(plan);
  const RowPacker<T> field(plan, in), packed(identity, values);
  const std::int64_t plane_row =
      plan.taps * plan.step * field.row_size * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t rows = std::min(std::max(kRingBytes / plane_row, kFewestRows), plan.out[1]);
  const PlaneBlocks blocks(plan, rows);
  const double flops =
      2.0 * static_cast<double>(blocks.count * rows * plan.out[2]) * static_cast<double>(size);
  const std::int64_t slabs =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(std::min(flops / kFewestFlops, 1e6)), 1,
                               std::min(kMostSlabs, blocks.count));
  std::vector<double> partial(slabs * size);
  parallel_for(context, slabs, 1, [&](std::int64_t begin, std::int64_t end, int) {
    WeightSums<T> sums(plan, field, packed, rows);
    for (std::int64_t slab = begin; slab < end; ++slab) {
      sums.clear();
      const std::int64_t last = blocks.count * (slab + 1) / slabs;
      for (std::int64_t i = blocks.count * slab / slabs; i < last; ++i) sums.add(blocks[i]);
      sums.reduce(partial.data() + slab * size);
    }
  });
  for (std::int64_t i = 0; i < size; ++i) {
    double total = 0;
    for (std::int64_t slab = 0; slab < slabs; ++slab) total += partial[slab * size + i];
    out[i] = static_cast<T>(total);
  }
}

template void weight_gradient<float>(const Context&, const ConvolutionPlan&, const float*,
                                     const float*, float*);
template void weight_gradient<double>(const Context&, const ConvolutionPlan&, const double*,
                                      const double*, double*);

}  // namespace mlcore::detail
