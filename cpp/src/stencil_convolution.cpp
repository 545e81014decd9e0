// CPU driver of conv3d and scatter3d. Rows of the field are packed plane by plane; each row of
// results is a sum over taps^2 packed rows. With F(2x2, 3x3) the 2 x 2 rows of results at (x, y),
// ..., (x + 1, y + 1) come from 4 x 4 rows of differences, each summed along z alone: 16 rows of
// products instead of 36.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.hpp"
#include "stencil_rows.hpp"

namespace mlcore::detail {
namespace {

constexpr std::int64_t kRingBytes = std::int64_t{512} << 10;  // of packed planes: they stay in L2
constexpr std::int64_t kFewestRows = 4;
constexpr double kFewestFlops = 1e6;   // of a thread
constexpr std::int64_t kFiltered = 4;  // rows, or planes, F(2, 3) makes of two

bool pays_to_filter(const ConvolutionPlan& plan) {
  return plan.taps == 3 && plan.step == 1 && plan.spread == 1 && plan.group_inputs() >= 4 &&
         plan.group_outputs() >= 4 && plan.out[0] >= 2 && plan.out[1] >= 2;
}

/// Weights in the order the inner loops read them. Filtered ones are 4 x 4 sets, one after another.
template <class T>
class PackedWeights {
 public:
  PackedWeights(const ConvolutionPlan& plan, const T* weight, bool filtered)
      : slots(filtered ? 1 : plan.taps * plan.taps), plan_(plan), weight_(weight) {
    constexpr std::int64_t block = kernels::kStencilBlock;
    const std::int64_t blocks = (plan.group_outputs() + block - 1) / block;
    set_size_ = blocks * slots * plan.group_inputs() * plan.taps * block;
    group_size_ = (filtered ? kFiltered * kFiltered : 1) * set_size_;
    values_.resize(plan.groups * group_size_);
    for (std::int64_t group = 0; group < plan.groups; ++group) {
      for (std::int64_t o = 0; o < plan.group_outputs(); ++o) {
        for (std::int64_t c = 0; c < plan.group_inputs(); ++c) {
          for (std::int64_t z = 0; z < plan.taps; ++z) {
            filtered ? place_filtered(group, o, c, z) : place_plain(group, o, c, z);
          }
        }
      }
    }
  }

  std::int32_t slots;

  const T* set(std::int64_t group, std::int64_t index) const {
    return values_.data() + group * group_size_ + index * set_size_;
  }

 private:
  T* place(std::int64_t group, std::int64_t o, std::int64_t slot, std::int64_t c, std::int64_t z) {
    constexpr std::int64_t block = kernels::kStencilBlock;
    const std::int64_t row = (o / block * slots + slot) * plan_.group_inputs() + c;
    return values_.data() + group * group_size_ + (row * plan_.taps + z) * block + o % block;
  }

  void place_plain(std::int64_t group, std::int64_t o, std::int64_t c, std::int64_t z) {
    for (std::int64_t x = 0; x < plan_.taps; ++x) {
      for (std::int64_t y = 0; y < plan_.taps; ++y) {
        *place(group, o, x * plan_.taps + y, c, z) =
            weight_[plan_.weight_index(group, o, c, x, y, z)];
      }
    }
  }

  void place_filtered(std::int64_t group, std::int64_t o, std::int64_t c, std::int64_t z) {
    T along_y[3][kFiltered];
    for (std::int64_t x = 0; x < 3; ++x) {
      T w[3];
      for (std::int64_t y = 0; y < 3; ++y) w[y] = weight_[plan_.weight_index(group, o, c, x, y, z)];
      filter(w[0], w[1], w[2], along_y[x]);
    }
    T* first = place(group, o, 0, c, z);
    for (std::int64_t t = 0; t < kFiltered; ++t) {
      T along_x[kFiltered];
      filter(along_y[0][t], along_y[1][t], along_y[2][t], along_x);
      for (std::int64_t s = 0; s < kFiltered; ++s) {
        first[(s * kFiltered + t) * set_size_] = along_x[s];
      }
    }
  }

  static void filter(T a, T b, T c, T* set) {
    set[0] = a;
    set[1] = (a + c + b) / 2;
    set[2] = (a + c - b) / 2;
    set[3] = c;
  }

  const ConvolutionPlan& plan_;
  const T* weight_;
  std::int64_t set_size_, group_size_;
  std::vector<T> values_;
};

/// Stores rows of sums as the caller wants them.
template <class T>
class RowFinish {
 public:
  RowFinish(const ConvolutionPlan& plan, const Epilogue<T>& epilogue, T* out)
      : plan_(plan),
        epilogue_(epilogue),
        out_(out),
        strides_(plan.layout, plan.outputs, plan.out) {}

  /// sums: (outputs, pitch), the bias in it.
  void operator()(std::int64_t b, std::int64_t x, std::int64_t y, const T* sums,
                  std::int64_t pitch) const {
    const std::int64_t length = plan_.out[2];
    const std::int64_t at = b * strides_.batch + x * strides_.x + y * strides_.y;
    if (plan_.layout == FieldLayout::channels_last) {
      MLCORE_DISPATCH(stencil_transpose<T>)
      (sums, pitch, plan_.outputs, length, out_ + at, plan_.outputs);
      finish(at, length * plan_.outputs);
      mask(b, x, y, [&](std::int64_t z) { clear(at + z * plan_.outputs, plan_.outputs, 1); });
      return;
    }
    for (std::int64_t o = 0; o < plan_.outputs; ++o) {
      const std::int64_t start = at + o * strides_.channel;
      std::memcpy(out_ + start, sums + o * pitch, static_cast<std::size_t>(length) * sizeof(T));
      finish(start, length);
    }
    mask(b, x, y, [&](std::int64_t z) { clear(at + z, plan_.outputs, strides_.channel); });
  }

 private:
  void finish(std::int64_t start, std::int64_t count) const {
    T* row = out_ + start;
    if (epilogue_.preactivation.data) {
      std::memcpy(epilogue_.preactivation.data + start, row,
                  static_cast<std::size_t>(count) * sizeof(T));
    }
    if (epilogue_.activation != Activation::none) {
      MLCORE_DISPATCH(stencil_activate<T>)(static_cast<int>(epilogue_.activation), count, row);
    }
    if (epilogue_.residual.data) {
      MLCORE_DISPATCH(stencil_add<T>)(count, epilogue_.residual.data + start, row);
    }
  }

  template <class Clear>
  void mask(std::int64_t b, std::int64_t x, std::int64_t y, const Clear& clear) const {
    const auto& m = epilogue_.mask;
    if (!m.data) return;
    const std::int64_t sample = m.shape[0] > 1 ? b : 0;
    const std::uint8_t* row =
        m.data + ((sample * plan_.out[0] + x) * plan_.out[1] + y) * plan_.out[2];
    for (std::int64_t z = 0; z < plan_.out[2]; ++z) {
      if (!row[z]) clear(z);
    }
  }

  void clear(std::int64_t start, std::int64_t count, std::int64_t stride) const {
    for (std::int64_t i = 0; i < count; ++i) out_[start + i * stride] = 0;
  }

  const ConvolutionPlan& plan_;
  const Epilogue<T>& epilogue_;
  T* out_;
  FieldStrides strides_;
};

/// What all threads share.
template <class T>
struct Convolution {
  const ConvolutionPlan& plan;
  const T* bias;
  RowPacker<T> packer;
  PackedWeights<T> weights;
  RowFinish<T> finish;
  std::int64_t rows = 0;                                  // of a block
  std::int64_t pitch = padded_to_vector<T>(plan.out[2]);  // of a row of sums

  /// Packs the row at a position, zeros where there is none.
  void pack(const PlaneBlock& block, std::int64_t x, std::int64_t position, T* out) const {
    const std::int64_t y = plan.place(1, position);
    if (y >= 0) {
      packer.pack(block.b, x, y, out);
    } else {
      std::fill_n(out, packer.row_size, T(0));
    }
  }

  /// Sums over the given rows with one set of weights, for all outputs: (outputs, pitch).
  void sum(std::int64_t set, bool biased, const T* const* rows_of, const std::int32_t* slots,
           std::int32_t count, T* sums) const {
    kernels::StencilRow<T> row;
    row.row_slots = slots;
    row.row_count = count;
    row.slot_count = weights.slots;
    row.taps = plan.taps;
    row.channels = plan.group_inputs();
    row.channel_pitch = packer.channel_pitch;
    row.tap_pitch = packer.tap_pitch;
    row.outputs = plan.group_outputs();
    row.length = plan.out[2];
    row.out_pitch = pitch;
    const T* of_group[25];
    row.rows = of_group;
    for (std::int64_t group = 0; group < plan.groups; ++group) {
      const std::int64_t first = group * plan.group_outputs();
      for (std::int32_t i = 0; i < count; ++i) {
        of_group[i] = rows_of[i] + group * plan.group_inputs() * packer.channel_pitch;
      }
      row.weights = weights.set(group, set);
      row.start = biased && bias ? bias + first : nullptr;
      row.out = sums + first * pitch;
      MLCORE_DISPATCH(stencil_row<T>)(row);
    }
  }
};

/// Memory and work of one thread: any stencil.
template <class T>
class PlainConvolver {
 public:
  static constexpr std::int64_t kPlanes = 1;  // of results in a block

  static std::int64_t packed_rows(const ConvolutionPlan& plan, std::int64_t rows) {
    return (rows - 1) * plan.step + plan.taps;
  }
  static std::int64_t packed_planes(const ConvolutionPlan& plan) { return plan.taps; }

  explicit PlainConvolver(const Convolution<T>& all)
      : all_(all),
        ring_(all.plan, all.plan.taps, packed_rows(all.plan, all.rows) * all.packer.row_size),
        sums_(all.plan.outputs * all.pitch) {
    std::fill_n(ring_.data(), ring_.size(), T(0));
  }

  void run(const PlaneBlock& block) {
    const T* planes[5];
    ring_.provide(block, [&](std::int64_t x, T* plane) { fill(block, x, plane); }, planes);
    for (std::int64_t y = block.begin; y < block.end; ++y) {
      sum(block, y, planes);
      all_.finish(block.b, block.x, y, sums_.get(), all_.pitch);
    }
  }

 private:
  void fill(const PlaneBlock& block, std::int64_t x, T* plane) const {
    const ConvolutionPlan& plan = all_.plan;
    const std::int64_t count = packed_rows(plan, block.end - block.begin);
    for (std::int64_t i = 0; i < count; ++i) {
      all_.pack(block, x, block.begin * plan.step + i - plan.offset,
                plane + i * all_.packer.row_size);
    }
  }

  void sum(const PlaneBlock& block, std::int64_t y, const T* const* planes) const {
    const ConvolutionPlan& plan = all_.plan;
    const T* rows[25];
    std::int32_t slots[25], count = 0;
    for (std::int32_t dx = 0; dx < plan.taps; ++dx) {
      for (std::int32_t dy = 0; planes[dx] && dy < plan.taps; ++dy) {
        if (plan.place(1, y * plan.step + dy - plan.offset) < 0) continue;
        rows[count] = planes[dx] + ((y - block.begin) * plan.step + dy) * all_.packer.row_size;
        slots[count++] = dx * plan.taps + dy;
      }
    }
    all_.sum(0, true, rows, slots, count, sums_.get());
  }

  const Convolution<T>& all_;
  PlaneRing<T> ring_;
  Workspace<T> sums_;
};

/// Memory and work of one thread: F(2x2, 3x3). Packed planes hold, for each pair of rows of
/// results, the four rows F(2, 3) makes along y.
template <class T>
class FilteredConvolver {
 public:
  static constexpr std::int64_t kPlanes = 2;

  static std::int64_t packed_rows(const ConvolutionPlan&, std::int64_t rows) {
    return (rows + 1) / 2 * kFiltered;
  }
  static std::int64_t packed_planes(const ConvolutionPlan&) { return kFiltered; }

  explicit FilteredConvolver(const Convolution<T>& all)
      : all_(all),
        row_size_(all.packer.row_size),
        sums_size_(all.plan.outputs * all.pitch),
        ring_(all.plan, kFiltered, packed_rows(all.plan, all.rows) * row_size_),
        raw_(kFiltered * row_size_),
        none_(kFiltered * row_size_),
        filtered_(kFiltered * kFiltered * row_size_),
        sums_(kFiltered * kFiltered * sums_size_) {
    std::fill_n(raw_.get(), kFiltered * row_size_, T(0));
    std::fill_n(none_.get(), kFiltered * row_size_, T(0));
    std::fill_n(sums_.get(), kFiltered * kFiltered * sums_size_, T(0));
  }

  void run(const PlaneBlock& block) {
    const T* planes[kFiltered];
    ring_.provide(block, [&](std::int64_t x, T* plane) { fill(block, x, plane); }, planes);
    const bool both = block.x + 1 < all_.plan.out[0];
    if (!both) planes[3] = nullptr;  // so that what only the missing plane sees stays out
    for (std::int64_t y = block.begin; y < block.end; y += 2) {
      sum((y - block.begin) / 2, planes);
      for (std::int64_t i = 0; i < (both ? 2 : 1); ++i) {
        for (std::int64_t j = 0; j < 2 && y + j < block.end; ++j) {
          all_.finish(block.b, block.x + i, y + j, set(i * kFiltered + j), all_.pitch);
        }
      }
    }
  }

 private:
  T* set(std::int64_t index) const { return sums_.get() + index * sums_size_; }

  /// Packs rows one after the other and makes of each four the rows of F(2, 3).
  void fill(const PlaneBlock& block, std::int64_t x, T* plane) const {
    const std::int64_t offset = all_.plan.offset;
    T* row[kFiltered];
    for (std::int64_t i = 0; i < kFiltered; ++i) row[i] = raw_.get() + i * row_size_;
    for (std::int64_t i = 0; i < 2; ++i) all_.pack(block, x, block.begin + i - offset, row[i]);
    for (std::int64_t y = block.begin; y < block.end; y += 2) {
      const bool both = y + 1 < block.end;
      all_.pack(block, x, y + 2 - offset, row[2]);
      if (both) all_.pack(block, x, y + 3 - offset, row[3]);
      const T* const four[] = {row[0], row[1], row[2], both ? row[3] : none_.get()};
      MLCORE_DISPATCH(stencil_filter_rows<T>)(four, row_size_, plane, row_size_);
      plane += kFiltered * row_size_;
      std::swap(row[0], row[2]);
      std::swap(row[1], row[3]);
    }
  }

  /// 2 x 2 rows of sums, in the sets 0, 1, kFiltered and kFiltered + 1.
  void sum(std::int64_t pair, const T* const* planes) const {
    constexpr std::int32_t slot = 0;
    const std::int64_t size = kFiltered * row_size_;
    const T* four[kFiltered];
    for (std::int64_t s = 0; s < kFiltered; ++s) {
      four[s] = planes[s] ? planes[s] + pair * size : none_.get();
    }
    MLCORE_DISPATCH(stencil_filter_rows<T>)(four, size, filtered_.get(), size);
    for (std::int64_t i = 0; i < kFiltered * kFiltered; ++i) {
      const T* row = filtered_.get() + i * row_size_;
      all_.sum(i, i == kFiltered + 1, &row, &slot, 1, set(i));
    }
    const auto unfilter = MLCORE_DISPATCH(stencil_unfilter_rows<T>);
    unfilter(set(0), kFiltered * sums_size_, kFiltered * sums_size_, set(0));
    for (std::int64_t i = 0; i < 2; ++i) {
      unfilter(set(i * kFiltered), sums_size_, sums_size_, set(i * kFiltered));
    }
  }

  const Convolution<T>& all_;
  std::int64_t row_size_, sums_size_;
  PlaneRing<T> ring_;
  Workspace<T> raw_, none_, filtered_, sums_;
};

/// Rows of a block: an even number, so that where pairs begin depends on the shape alone.
std::int64_t block_rows(std::int64_t ring_bytes_per_row, std::int64_t height) {
  return std::min(std::max(kRingBytes / ring_bytes_per_row, kFewestRows) / 2 * 2, height);
}

template <class Convolver, class T>
void run_blocks(const Context& context, Convolution<T>& all) {
  const ConvolutionPlan& plan = all.plan;
  constexpr std::int64_t many = 64;
  const std::int64_t packed = Convolver::packed_planes(plan) * Convolver::packed_rows(plan, many) *
                              all.packer.row_size * static_cast<std::int64_t>(sizeof(T));
  all.rows = block_rows(packed / many + 1, plan.out[1]);
  const PlaneBlocks blocks(plan, all.rows, Convolver::kPlanes);
  const double flops = 2.0 * static_cast<double>(all.rows * plan.out[2] * plan.outputs) *
                       static_cast<double>(plan.group_inputs() * plan.taps * plan.taps * plan.taps);
  const auto grain = static_cast<std::int64_t>(kFewestFlops / flops) + 1;
  parallel_for(context, blocks.count, grain, [&](std::int64_t begin, std::int64_t end, int) {
    Convolver convolver(all);
    for (std::int64_t i = begin; i < end; ++i) convolver.run(blocks[i]);
  });
}

}  // namespace

template <class T>
void convolve(const Context& context, const ConvolutionPlan& plan, const T* in, const T* weight,
              const Epilogue<T>& epilogue, T* out) {
  const bool filtered = pays_to_filter(plan);
  Convolution<T> all{plan, epilogue.bias.data, RowPacker<T>(plan, in),
                     PackedWeights<T>(plan, weight, filtered), RowFinish<T>(plan, epilogue, out)};
  if (filtered) {
    run_blocks<FilteredConvolver<T>>(context, all);
  } else {
    run_blocks<PlainConvolver<T>>(context, all);
  }
}

template void convolve<float>(const Context&, const ConvolutionPlan&, const float*, const float*,
                              const Epilogue<float>&, float*);
template void convolve<double>(const Context&, const ConvolutionPlan&, const double*, const double*,
                               const Epilogue<double>&, double*);

}  // namespace mlcore::detail
