// CPU driver of conv3d and scatter3d. Rows of the field are packed plane by plane; each row of
// results is a sum over taps^2 packed rows. With F(2, 3) two rows of results come from four rows of
// differences, each a sum over 3 rows: two thirds of the products.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.hpp"
#include "stencil_rows.hpp"

namespace mlcore::detail {
namespace {

constexpr std::int64_t kRingBytes = std::int64_t{768} << 10;  // of packed planes: they stay in L2
constexpr std::int64_t kFewestRows = 8;
constexpr double kFewestFlops = 1e6;   // of a thread
constexpr std::int64_t kFiltered = 4;  // rows F(2, 3) makes of two

bool pays_to_filter(const ConvolutionPlan& plan) {
  return plan.taps == 3 && plan.step == 1 && plan.spread == 1 && plan.group_inputs() >= 4 &&
         plan.group_outputs() >= 4;
}

/// Weights in the order the inner loops read them; filtered ones are 4 sets after another.
template <class T>
class PackedWeights {
 public:
  PackedWeights(const ConvolutionPlan& plan, const T* weight, bool filtered) {
    constexpr std::int64_t block = kernels::kStencilBlock;
    const std::int64_t k = plan.taps, channels = plan.group_inputs();
    const std::int64_t blocks = (plan.group_outputs() + block - 1) / block;
    const std::int64_t sets = filtered ? kFiltered : 1;
    slots = static_cast<std::int32_t>(filtered ? k : k * k);
    set_size_ = blocks * slots * channels * k * block;
    group_size_ = sets * set_size_;
    values_.resize(plan.groups * group_size_);
    for (std::int64_t group = 0; group < plan.groups; ++group) {
      for (std::int64_t o = 0; o < plan.group_outputs(); ++o) {
        for (std::int64_t i = 0; i < channels * k * k; ++i) {
          const std::int64_t c = i / (k * k), x = i / k % k, z = i % k;
          T along_y[5];
          for (std::int64_t y = 0; y < k; ++y) {
            along_y[y] = weight[plan.weight_index(group, o, c, x, y, z)];
          }
          T* const start = values_.data() + group * group_size_ + o % block;
          const auto place = [&](std::int64_t slot) {
            return start + (((o / block * slots + slot) * channels + c) * k + z) * block;
          };
          if (filtered) {
            T set[kFiltered];
            filter(along_y, set);
            for (std::int64_t t = 0; t < kFiltered; ++t) place(x)[t * set_size_] = set[t];
          } else {
            for (std::int64_t y = 0; y < k; ++y) *place(x * k + y) = along_y[y];
          }
        }
      }
    }
  }

  std::int32_t slots;

  const T* set(std::int64_t group, std::int64_t t) const {
    return values_.data() + group * group_size_ + t * set_size_;
  }

 private:
  static void filter(const T* w, T* set) {
    set[0] = w[0];
    set[1] = (w[0] + w[2] + w[1]) / 2;
    set[2] = (w[0] + w[2] - w[1]) / 2;
    set[3] = w[2];
  }

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

/// What one thread needs.
template <class T>
class Convolver {
 public:
  Convolver(const ConvolutionPlan& plan, const RowPacker<T>& packer,
            const PackedWeights<T>& weights, const RowFinish<T>& finish, const T* bias,
            bool filtered, std::int64_t rows)
      : plan_(plan),
        packer_(packer),
        weights_(weights),
        finish_(finish),
        bias_(bias),
        filtered_(filtered),
        pitch_(padded_to_vector<T>(plan.out[2])),
        ring_(plan, packed_rows(plan, filtered, rows) * packer.row_size),
        raw_((kFiltered + 1) * packer.row_size),
        sums_(kFiltered * plan.outputs * pitch_) {
    std::fill_n(raw_.get(), (kFiltered + 1) * packer.row_size, T(0));
    std::fill_n(sums_.get(), kFiltered * plan.outputs * pitch_, T(0));
    if (!filtered) std::fill_n(ring_.data(), ring_.size(), T(0));
  }

  /// Rows of a packed plane that serve `rows` rows of results.
  static std::int64_t packed_rows(const ConvolutionPlan& plan, bool filtered, std::int64_t rows) {
    return filtered ? (rows + 1) / 2 * kFiltered : (rows - 1) * plan.step + plan.taps;
  }

  void run(const PlaneBlock& block) {
    const T* planes[5];
    ring_.provide(
        block,
        [&](std::int64_t x, T* plane) {
          if (filtered_) {
            fill_filtered(block, x, plane);
          } else {
            fill_plain(block, x, plane);
          }
        },
        planes);
    if (filtered_) {
      for (std::int64_t y = block.begin; y < block.end; y += 2) filtered_rows(block, y, planes);
    } else {
      for (std::int64_t y = block.begin; y < block.end; ++y) plain_row(block, y, planes);
    }
  }

 private:
  /// Packs the row at a position, zeros where there is none.
  void pack(const PlaneBlock& block, std::int64_t x, std::int64_t position, T* out) const {
    const std::int64_t y = plan_.place(1, position);
    if (y >= 0) {
      packer_.pack(block.b, x, y, out);
    } else {
      std::fill_n(out, packer_.row_size, T(0));
    }
  }

  void fill_plain(const PlaneBlock& block, std::int64_t x, T* plane) const {
    const std::int64_t count = packed_rows(plan_, false, block.end - block.begin);
    for (std::int64_t i = 0; i < count; ++i) {
      pack(block, x, block.begin * plan_.step + i - plan_.offset, plane + i * packer_.row_size);
    }
  }

  /// Packs rows one after the other and makes of each four the rows of F(2, 3).
  void fill_filtered(const PlaneBlock& block, std::int64_t x, T* plane) const {
    const std::int64_t size = packer_.row_size;
    T* row[kFiltered];
    for (std::int64_t i = 0; i < kFiltered; ++i) row[i] = raw_.get() + i * size;
    const T* const none = raw_.get() + kFiltered * size;
    for (std::int64_t i = 0; i < 2; ++i) pack(block, x, block.begin + i - plan_.offset, row[i]);
    for (std::int64_t y = block.begin; y < block.end; y += 2) {
      const bool both = y + 1 < block.end;
      pack(block, x, y + 2 - plan_.offset, row[2]);
      if (both) pack(block, x, y + 3 - plan_.offset, row[3]);
      const T* const four[] = {row[0], row[1], row[2], both ? row[3] : none};
      MLCORE_DISPATCH(stencil_filter_rows<T>)(four, size, plane, size);
      plane += kFiltered * size;
      std::swap(row[0], row[2]);
      std::swap(row[1], row[3]);
    }
  }

  kernels::StencilRow<T> group_row(std::int64_t group, const T* const* rows,
                                   const std::int32_t* slots, std::int32_t count,
                                   std::int64_t set) const {
    const std::int64_t first = group * plan_.group_outputs();
    kernels::StencilRow<T> row;
    row.rows = rows;
    row.row_slots = slots;
    row.row_count = count;
    row.slot_count = weights_.slots;
    row.taps = plan_.taps;
    row.channels = plan_.group_inputs();
    row.channel_pitch = packer_.channel_pitch;
    row.tap_pitch = packer_.tap_pitch;
    row.weights = weights_.set(group, set);
    row.start = bias_ && (!filtered_ || set == 1) ? bias_ + first : nullptr;
    row.outputs = plan_.group_outputs();
    row.length = plan_.out[2];
    row.out = sums_.get() + (set * plan_.outputs + first) * pitch_;
    row.out_pitch = pitch_;
    return row;
  }

  void plain_row(const PlaneBlock& block, std::int64_t y, const T* const* planes) const {
    const T* rows[25];
    std::int32_t slots[25], count = 0;
    for (std::int32_t dx = 0; dx < plan_.taps; ++dx) {
      for (std::int32_t dy = 0; planes[dx] && dy < plan_.taps; ++dy) {
        if (plan_.place(1, y * plan_.step + dy - plan_.offset) < 0) continue;
        rows[count] = planes[dx] + ((y - block.begin) * plan_.step + dy) * packer_.row_size;
        slots[count++] = dx * plan_.taps + dy;
      }
    }
    for (std::int64_t group = 0; group < plan_.groups; ++group) {
      const T* of_group[25];
      shift(rows, count, group, of_group);
      MLCORE_DISPATCH(stencil_row<T>)(group_row(group, of_group, slots, count, 0));
    }
    finish_(block.b, block.x, y, sums_.get(), pitch_);
  }

  void filtered_rows(const PlaneBlock& block, std::int64_t y, const T* const* planes) const {
    const std::int64_t set_size = plan_.outputs * pitch_;
    for (std::int64_t set = 0; set < kFiltered; ++set) {
      const T* rows[3];
      std::int32_t slots[3], count = 0;
      for (std::int32_t dx = 0; dx < 3; ++dx) {
        if (!planes[dx]) continue;
        rows[count] = planes[dx] + ((y - block.begin) / 2 * kFiltered + set) * packer_.row_size;
        slots[count++] = dx;
      }
      for (std::int64_t group = 0; group < plan_.groups; ++group) {
        const T* of_group[3];
        shift(rows, count, group, of_group);
        MLCORE_DISPATCH(stencil_row<T>)(group_row(group, of_group, slots, count, set));
      }
    }
    T* sums = sums_.get();
    MLCORE_DISPATCH(stencil_unfilter_rows<T>)(sums, set_size, set_size, sums);
    for (std::int64_t i = 0; i < 2 && y + i < block.end; ++i) {
      finish_(block.b, block.x, y + i, sums + i * set_size, pitch_);
    }
  }

  void shift(const T* const* rows, std::int32_t count, std::int64_t group, const T** out) const {
    const std::int64_t by = group * plan_.group_inputs() * packer_.channel_pitch;
    for (std::int32_t i = 0; i < count; ++i) out[i] = rows[i] + by;
  }

  const ConvolutionPlan& plan_;
  const RowPacker<T>& packer_;
  const PackedWeights<T>& weights_;
  const RowFinish<T>& finish_;
  const T* bias_;
  bool filtered_;
  std::int64_t pitch_;
  PlaneRing<T> ring_;
  Workspace<T> raw_, sums_;
};

/// Rows of a block: an even number, so that where pairs begin depends on the shape alone.
std::int64_t block_rows(const ConvolutionPlan& plan, bool filtered, std::int64_t row_bytes) {
  const std::int64_t per_row = plan.taps * row_bytes * (filtered ? 2 : plan.step);
  const std::int64_t rows = std::max(kRingBytes / per_row, kFewestRows) / 2 * 2;
  return std::min(rows, plan.out[1]);
}

}  // namespace

template <class T>
void convolve(const Context& context, const ConvolutionPlan& plan, const T* in, const T* weight,
              const Epilogue<T>& epilogue, T* out) {
  const bool filtered = pays_to_filter(plan);
  const PackedWeights<T> weights(plan, weight, filtered);
  const RowPacker<T> packer(plan, in);
  const RowFinish<T> finish(plan, epilogue, out);
  const std::int64_t rows =
      block_rows(plan, filtered, packer.row_size * static_cast<std::int64_t>(sizeof(T)));
  const PlaneBlocks blocks(plan, rows);
  const double flops = 2.0 * static_cast<double>(rows * plan.out[2] * plan.outputs) *
                       static_cast<double>(plan.group_inputs() * plan.taps * plan.taps * plan.taps);
  const auto grain = static_cast<std::int64_t>(kFewestFlops / flops) + 1;
  parallel_for(context, blocks.count, grain, [&](std::int64_t begin, std::int64_t end, int) {
    Convolver<T> convolver(plan, packer, weights, finish, epilogue.bias.data, filtered, rows);
    for (std::int64_t i = begin; i < end; ++i) convolver.run(blocks[i]);
  });
}

template void convolve<float>(const Context&, const ConvolutionPlan&, const float*, const float*,
                              const Epilogue<float>&, float*);
template void convolve<double>(const Context&, const ConvolutionPlan&, const double*, const double*,
                               const Epilogue<double>&, double*);

}  // namespace mlcore::detail
