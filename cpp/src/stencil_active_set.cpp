#include "stencil_active_set.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "parallel.hpp"
#include "stencil_active_cuda.hpp"

namespace mlcore {
namespace {

using State = ActiveSet::State;
using detail::RulesView;
using kernels::ActiveWord;

constexpr std::int64_t kMostVoxels = std::int64_t{1} << 33;
constexpr std::int32_t kMagic = 0x61637472;
constexpr std::int64_t kHeader = 8;
/// Outputs of a tile, and 63 more at most: their sums stay in the first cache.
constexpr std::int64_t kTileRows = 256;

std::int64_t wrapped(std::int64_t i, std::int64_t n) { return ((i % n) + n) % n; }

void check_grid(const ActiveGrid& grid) {
  std::int64_t voxels = grid.batches;
  MLCORE_CHECK(grid.batches >= 0, "batches must not be negative, got ", grid.batches);
  for (std::int64_t n : grid.shape) {
    MLCORE_CHECK(n >= 1 && n < (std::int64_t{1} << 31),
                 "grid_shape must hold numbers of voxels, got ", n);
  }
  for (std::int64_t n : grid.shape) {
    MLCORE_CHECK(voxels <= kMostVoxels / n, "the grid must hold at most 2^33 voxels, got ",
                 grid.batches, " of ", grid.shape[0], " x ", grid.shape[1], " x ", grid.shape[2]);
    voxels *= n;
  }
  MLCORE_CHECK(grid.boundary == Boundary::periodic || grid.boundary == Boundary::zero,
               "the boundary of occupied voxels must be periodic or zero");
}

template <class T, int Rank>
void check_on_cpu(const char* name, View<T, Rank> view) {
  if (view.device == Device::cpu) return;
  detail::raise<BackendUnavailable>("sets of occupied voxels are built on the CPU; copy ", name);
}

std::shared_ptr<State> empty_state(const ActiveGrid& grid) {
  check_grid(grid);
  auto state = std::make_shared<State>();
  state->grid = grid;
  state->per_line = (grid.shape[2] + 63) / 64;
  const std::size_t words = state->lines() * state->per_line;
  state->words = Buffer(std::max<std::size_t>(words, 1) * sizeof(std::uint64_t));
  state->before = Buffer(std::max<std::size_t>(words, 1) * sizeof(std::int32_t));
  std::memset(state->words.data(), 0, words * sizeof(std::uint64_t));
  return state;
}

/// Counts the bits.
void finish(State& state) {
  const std::int64_t words = state.lines() * state.per_line;
  const std::uint64_t* bits = state.bits();
  std::int32_t* before = state.ranks();
  std::int64_t count = 0, filled = 0;
  for (std::int64_t w = 0; w < words; ++w) {
    before[w] = static_cast<std::int32_t>(count);
    filled += bits[w] != 0;
    count += std::popcount(bits[w]);
    MLCORE_CHECK(count < (std::int64_t{1} << 31) - 64, "at most 2^31 voxels may be occupied");
  }
  state.count = count;
  state.filled.resize(filled + 1);
  filled = 0;
  for (std::int64_t w = 0; w < words; ++w) {
    state.filled[filled] = w;
    filled += bits[w] != 0;
  }
  state.filled.resize(filled);
}

/// Batch, x, y, z of a row of coordinates.
struct Voxel {
  std::int64_t at[4];

  Voxel(View<const std::int64_t, 2> coordinates, std::int64_t row) {
    const std::int64_t columns = coordinates.shape[1];
    at[0] = columns == 4 ? coordinates(row, 0) : 0;
    for (int axis = 0; axis < 3; ++axis) at[1 + axis] = coordinates(row, columns - 3 + axis);
  }
  std::int64_t word(const State& state) const {
    const auto& shape = state.grid.shape;
    return ((at[0] * shape[0] + at[1]) * shape[1] + at[2]) * state.per_line + at[3] / 64;
  }
  std::uint64_t bit() const { return std::uint64_t{1} << (at[3] % 64); }
};

void check_inside(const ActiveGrid& grid, const Voxel& voxel, std::int64_t row) {
  const auto& n = grid.shape;
  const auto in = [&](int axis, std::int64_t extent) {
    return static_cast<std::uint64_t>(voxel.at[axis]) < static_cast<std::uint64_t>(extent);
  };
  MLCORE_CHECK(in(1, n[0]) && in(2, n[1]) && in(3, n[2]), "coordinates must lie on the grid (",
               n[0], ", ", n[1], ", ", n[2], "), but row ", row, " is (", voxel.at[1], ", ",
               voxel.at[2], ", ", voxel.at[3], ")");
  MLCORE_CHECK(in(0, grid.batches), "the first of four coordinates must lie in 0..",
               grid.batches - 1, ", the number of batches, but that of row ", row, " is ",
               voxel.at[0]);
}

[[noreturn]] void raise_twice(const State& state, View<const std::int64_t, 2> coordinates,
                              std::int64_t row) {
  const Voxel voxel(coordinates, row);
  for (std::int64_t first = 0; first < row; ++first) {
    const Voxel other(coordinates, first);
    if (other.word(state) != voxel.word(state) || other.bit() != voxel.bit()) continue;
    detail::raise<InvalidArgument>("coordinates must be different, but rows ", first, " and ", row,
                                   " are both (", voxel.at[1], ", ", voxel.at[2], ", ", voxel.at[3],
                                   ")");
  }
  detail::raise<InvalidArgument>("coordinates must be different, but row ", row, " comes twice");
}

/// Sets the bits; says whether the rows come in the order of the grid.
bool occupy(State& state, View<const std::int64_t, 2> coordinates) {
  std::int64_t last_word = -1;
  std::uint64_t last_bit = 0;
  bool sorted = true;
  for (std::int64_t row = 0; row < coordinates.shape[0]; ++row) {
    const Voxel voxel(coordinates, row);
    check_inside(state.grid, voxel, row);
    const std::int64_t word = voxel.word(state);
    const std::uint64_t bit = voxel.bit();
    if (state.bits()[word] & bit) raise_twice(state, coordinates, row);
    state.bits()[word] |= bit;
    sorted = sorted && (word > last_word || (word == last_word && bit > last_bit));
    last_word = word;
    last_bit = bit;
  }
  return sorted;
}

void remember_order(State& state, View<const std::int64_t, 2> coordinates) {
  state.rows.resize(state.count);
  for (std::int64_t row = 0; row < coordinates.shape[0]; ++row) {
    const Voxel voxel(coordinates, row);
    const std::int64_t word = voxel.word(state);
    const std::int64_t rank =
        state.ranks()[word] + std::popcount(state.bits()[word] & (voxel.bit() - 1));
    state.rows[rank] = static_cast<std::int32_t>(row);
  }
}

/// Line of batch, x, y seen from `line` at (dx, dy); -1: beyond the edge.
std::int64_t neighbor_line(const ActiveGrid& grid, std::int64_t line, std::int64_t dx,
                           std::int64_t dy) {
  const std::int64_t X = grid.shape[0], Y = grid.shape[1];
  std::int64_t y = line % Y + dy, x = line / Y % X + dx;
  const std::int64_t batch = line / Y / X;
  if (grid.boundary == Boundary::periodic) {
    if (y < 0 || y >= Y) y = wrapped(y, Y);
    if (x < 0 || x >= X) x = wrapped(x, X);
  }
  if (x < 0 || x >= X || y < 0 || y >= Y) return -1;
  return (batch * X + x) * Y + y;
}

/// Sets in `line` of `to` all voxels within `reach` along z of those in a word of `from`.
void dilate_word(const State& from, std::int64_t word, std::int64_t reach, std::int64_t line,
                 std::uint64_t* to) {
  const std::int64_t Z = from.grid.shape[2], start = word % from.per_line * 64;
  for (std::uint64_t bits = from.bits()[word]; bits; bits &= bits - 1) {
    for (std::int64_t dz = -reach; dz <= reach; ++dz) {
      std::int64_t z = start + std::countr_zero(bits) + dz;
      if (from.grid.boundary == Boundary::periodic) z = wrapped(z, Z);
      if (z < 0 || z >= Z) continue;
      to[line * from.per_line + z / 64] |= std::uint64_t{1} << (z % 64);
    }
  }
}

void check_kernel(std::int64_t k) {
  MLCORE_CHECK(k == 1 || k == 3 || k == 5, "kernels must be 1, 3 or 5 voxels wide, got ", k);
}

}  // namespace

ActiveSet::ActiveSet(std::shared_ptr<const State> state) : state_(std::move(state)) {}

ActiveSet::ActiveSet(const Context&, const ActiveGrid& grid,
                     View<const std::int64_t, 2> coordinates) {
  check_on_cpu("the coordinates", coordinates);
  MLCORE_CHECK(coordinates.shape[1] == 3 || coordinates.shape[1] == 4,
               "coordinates must have the shape (M, 3) or (M, 4), got (", coordinates.shape[0],
               ", ", coordinates.shape[1], ")");
  auto state = empty_state(grid);
  const bool sorted = occupy(*state, coordinates);
  finish(*state);
  if (!sorted) remember_order(*state, coordinates);
  state_ = std::move(state);
}

ActiveSet::ActiveSet(const Context&, const ActiveGrid& grid, View<const std::uint8_t, 4> mask) {
  check_on_cpu("the mask", mask);
  auto state = empty_state(grid);
  const auto& n = grid.shape;
  MLCORE_CHECK(mask.shape[0] == grid.batches && mask.shape[1] == n[0] && mask.shape[2] == n[1] &&
                   mask.shape[3] == n[2],
               "the mask must have the shape of the grid");
  for (std::int64_t line = 0; line < state->lines(); ++line) {
    std::uint64_t* bits = state->bits() + line * state->per_line;
    for (std::int64_t z = 0; z < n[2]; ++z) {
      bits[z / 64] |= std::uint64_t{mask.data[line * n[2] + z] != 0} << (z % 64);
    }
  }
  finish(*state);
  state_ = std::move(state);
}

const ActiveGrid& ActiveSet::grid() const { return state_->grid; }

std::int64_t ActiveSet::count() const { return state_->count; }

void ActiveSet::coordinates(View<std::int64_t, 2> out) const {
  MLCORE_CHECK(out.shape[0] == count() && out.shape[1] == 4, "out must have the shape (", count(),
               ", 4)");
  const State& s = *state_;
  const std::int64_t X = s.grid.shape[0], Y = s.grid.shape[1];
  std::int64_t rank = 0;
  for (const std::int64_t word : s.filled) {
    const std::int64_t line = word / s.per_line, start = word % s.per_line * 64;
    for (std::uint64_t bits = s.bits()[word]; bits; bits &= bits - 1, ++rank) {
      const std::int64_t row = s.rows.empty() ? rank : s.rows[rank];
      const std::int64_t values[4] = {line / Y / X, line / Y % X, line % Y,
                                      start + std::countr_zero(bits)};
      std::copy_n(values, 4, out.data + 4 * row);
    }
  }
}

ActiveSet ActiveSet::dilated(std::int64_t k) const {
  check_kernel(k);
  auto state = empty_state(grid());
  const std::int64_t reach = k / 2;
  for (const std::int64_t word : state_->filled) {
    for (std::int64_t d = 0; d < k * k; ++d) {
      const std::int64_t line =
          neighbor_line(grid(), word / state_->per_line, d / k - reach, d % k - reach);
      if (line >= 0) dilate_word(*state_, word, reach, line, state->bits());
    }
  }
  finish(*state);
  return ActiveSet(std::move(state));
}

// --------------------------------------------------------------------------------- rules
namespace {

/// Growing block of numbers.
class Numbers {
 public:
  explicit Numbers(std::int64_t capacity) : memory_(sizeof(std::int32_t) * capacity) {}

  std::int64_t size() const { return size_; }
  std::int32_t* data() const { return static_cast<std::int32_t*>(memory_.data()); }
  std::int32_t* end() const { return data() + size_; }
  void add(std::int64_t count) { size_ += count; }
  Buffer release() { return std::move(memory_); }

  /// Room for so many more.
  void reserve(std::int64_t more) {
    const std::size_t bytes = sizeof(std::int32_t) * (size_ + more);
    if (bytes <= memory_.size()) return;
    Buffer larger(bytes + bytes / 2);
    std::memcpy(larger.data(), memory_.data(), sizeof(std::int32_t) * size_);
    memory_ = std::move(larger);
  }

 private:
  Buffer memory_;
  std::int64_t size_ = 0;
};

/// Words of the outputs, cut into tiles of about kTileRows outputs.
struct Tiles {
  std::vector<std::int64_t> words;  // (tiles + 1) first of the filled words of each
  std::vector<std::int32_t> first;  // (tiles + 1) first output

  explicit Tiles(const State& outputs) {
    std::int64_t rows = kTileRows;
    for (std::size_t w = 0; w < outputs.filled.size(); ++w) {
      if (rows >= kTileRows) {
        words.push_back(static_cast<std::int64_t>(w));
        first.push_back(outputs.ranks()[outputs.filled[w]]);
        rows = 0;
      }
      rows += std::popcount(outputs.bits()[outputs.filled[w]]);
    }
    words.push_back(static_cast<std::int64_t>(outputs.filled.size()));
    first.push_back(static_cast<std::int32_t>(outputs.count));
  }
  std::int64_t count() const { return static_cast<std::int64_t>(words.size()) - 1; }
};

/// Appends the lists of tiles to a block of numbers.
class ListWriter {
 public:
  ListWriter(const State& inputs, const State& outputs, const Tiles& tiles, std::int64_t k)
      : inputs_(inputs), outputs_(outputs), tiles_(tiles), k_(k) {
    bits_ = {inputs.bits(), inputs.ranks(), static_cast<std::int32_t>(inputs.grid.shape[2]),
             static_cast<std::int32_t>(inputs.per_line),
             inputs.grid.boundary == Boundary::periodic};
    x_ = beside(shape()[0]);
    y_ = beside(shape()[1]);
  }

  /// `lengths`: the numbers of each of the k^3 lists.
  void write(std::int64_t tile, Numbers& numbers, std::int32_t* lengths) {
    const std::int64_t rows = tiles_.first[tile + 1] - tiles_.first[tile];
    found_.resize(rows + kernels::kActiveSlack);
    gather_words(tile);
    for (std::int64_t d = 0; d < k_ * k_; ++d) {
      const kernels::ActiveLines lines = {&x_[d / k_ * shape()[0]], &y_[d % k_ * shape()[1]],
                                          shape()[0], shape()[1]};
      const std::int64_t near = MLCORE_DISPATCH(active_near)(
          bits_, lines, static_cast<int>(k_ / 2), static_cast<std::int64_t>(words_.size()),
          words_.data(), near_.data());
      for (std::int64_t dz = 0; dz < k_; ++dz) {
        numbers.reserve(2 * rows + kernels::kActiveSlack);
        const std::int64_t count = MLCORE_DISPATCH(active_pairs)(
            bits_, static_cast<int>(dz - k_ / 2), near, near_.data(), numbers.end(), found_.data());
        if (!inputs_.rows.empty()) {
          for (std::int32_t* p = numbers.end(); p < numbers.end() + count; ++p)
            *p = inputs_.rows[*p];
        }
        std::copy_n(found_.data(), count, numbers.end() + count);
        numbers.add(2 * count);
        *lengths++ = static_cast<std::int32_t>(2 * count);
      }
    }
  }

 private:
  const std::array<std::int64_t, 3>& shape() const { return outputs_.grid.shape; }

  /// Places -k/2..k/2 beside every place of an axis, -1 where there is none.
  std::vector<std::int32_t> beside(std::int64_t n) const {
    std::vector<std::int32_t> places(k_ * n);
    for (std::int64_t d = 0; d < k_; ++d) {
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t other = bits_.periodic ? wrapped(i + d - k_ / 2, n) : i + d - k_ / 2;
        places[d * n + i] = other < n ? static_cast<std::int32_t>(other) : -1;
      }
    }
    return places;
  }

  void gather_words(std::int64_t tile) {
    const std::int64_t begin = tiles_.words[tile], end = tiles_.words[tile + 1];
    words_.resize(end - begin);
    near_.resize(end - begin + 1);
    for (std::int64_t w = begin; w < end; ++w) {
      const std::int64_t word = outputs_.filled[w], line = word / outputs_.per_line;
      const std::int64_t plane = line / shape()[1], batch = plane / shape()[0];
      words_[w - begin] = {outputs_.bits()[word],
                           static_cast<std::int32_t>(batch),
                           static_cast<std::int32_t>(plane - batch * shape()[0]),
                           static_cast<std::int32_t>(line - plane * shape()[1]),
                           static_cast<std::int32_t>(word - line * outputs_.per_line),
                           outputs_.ranks()[word] - tiles_.first[tile]};
    }
  }

  const State& inputs_;
  const State& outputs_;
  const Tiles& tiles_;
  std::int64_t k_;
  kernels::ActiveBits bits_;
  std::vector<std::int32_t> x_, y_;  // (k, X) and (k, Y)
  std::vector<ActiveWord> words_;
  std::vector<kernels::ActiveNear> near_;
  std::vector<std::int32_t> found_;
};

/// Where the parts of the data begin.
struct Layout {
  std::int64_t first, begins, rows, lists;

  Layout(std::int64_t tiles, std::int64_t taps, std::int64_t outputs, bool ordered)
      : first(kHeader),
        begins(first + tiles + 1),
        rows(begins + tiles * taps + 1),
        lists(rows + (ordered ? 0 : outputs)) {}
};

/// About as many numbers as the lists hold, where voxels along z stand for those around.
std::int64_t guessed(const State& in, const State& out, std::int64_t taps) {
  const double voxels = 64.0 * std::max<std::size_t>(in.filled.size(), 1);
  const double share = std::min(1.0, 1.5 * static_cast<double>(in.count) / voxels);
  return static_cast<std::int64_t>(2 * taps * share * static_cast<double>(out.count)) + 4096;
}

/// The lists of all tiles, in the order of the tiles, by the threads; `offset` numbers in front.
std::vector<Numbers> lists(const Context& context, const State& in, const State& out,
                           const Tiles& tiles, std::int64_t k, std::int64_t offset,
                           std::int32_t* lengths) {
  const std::int64_t taps = k * k * k, guess = guessed(in, out, taps);
  const int threads = std::max(1, detail::resolve_threads(context));
  std::vector<Numbers> parts;
  for (int t = 0; t < threads; ++t) parts.emplace_back(t == 0 ? offset + guess / threads : 1);
  parts[0].add(offset);
  detail::parallel_for(context, tiles.count(), 8,
                       [&](std::int64_t begin, std::int64_t end, int chunk) {
                         if (chunk > 0) parts[chunk].reserve(guess / threads);
                         ListWriter writer(in, out, tiles, k);
                         for (std::int64_t t = begin; t < end; ++t) {
                           writer.write(t, parts[chunk], lengths + t * taps);
                         }
                       });
  return parts;
}

/// One after the other.
Numbers joined(const Context& context, std::vector<Numbers> parts) {
  std::vector<std::int64_t> places = {0};
  for (const Numbers& part : parts) places.push_back(places.back() + part.size());
  if (places.back() == parts[0].size()) return std::move(parts[0]);
  Numbers all(places.back());
  all.add(places.back());
  detail::parallel_for(context, static_cast<std::int64_t>(parts.size()), 1,
                       [&](std::int64_t begin, std::int64_t end, int) {
                         for (std::int64_t t = begin; t < end; ++t) {
                           std::copy_n(parts[t].data(), parts[t].size(), all.data() + places[t]);
                         }
                       });
  return all;
}

}  // namespace

ActiveRules::ActiveRules(const Context& context, const ActiveSet& inputs, const ActiveSet& outputs,
                         std::int64_t k) {
  check_kernel(k);
  const State &in = inputs.state(), &out = outputs.state();
  MLCORE_CHECK(in.grid.shape == out.grid.shape && in.grid.batches == out.grid.batches &&
                   in.grid.boundary == out.grid.boundary,
               "inputs and outputs must be voxels of the same grid");
  const Tiles tiles(out);
  const std::int64_t taps = k * k * k, count = tiles.count();
  const Layout layout(count, taps, out.count, out.rows.empty());
  std::vector<std::int32_t> lengths(count * taps);
  Numbers numbers =
      joined(context, lists(context, in, out, tiles, k, layout.lists, lengths.data()));
  size_ = numbers.size();
  MLCORE_CHECK(size_ <= std::numeric_limits<std::int32_t>::max(),
               "there are too many pairs of neighbours (", size_ / 2,
               "): take fewer voxels at a time");
  std::int32_t* data = numbers.data();
  const std::int32_t header[kHeader] = {kMagic,
                                        static_cast<std::int32_t>(k),
                                        static_cast<std::int32_t>(in.count),
                                        static_cast<std::int32_t>(out.count),
                                        static_cast<std::int32_t>(count),
                                        out.rows.empty() ? 0 : 1,
                                        0,
                                        0};
  std::copy_n(header, kHeader, data);
  std::copy_n(tiles.first.data(), count + 1, data + layout.first);
  std::copy_n(out.rows.data(), out.rows.size(), data + layout.rows);
  std::int32_t at = static_cast<std::int32_t>(layout.lists);
  std::int32_t* begins = data + layout.begins;
  for (const std::int32_t length : lengths) {
    *begins++ = at;
    at += length;
  }
  *begins = at;
  memory_ = numbers.release();
}

namespace detail {

RulesView rules_view(View<const std::int32_t, 1> rules) {
  const std::int32_t* data = rules.data;
  const std::int64_t size = rules.shape[0];
  MLCORE_CHECK(size >= kHeader && data[0] == kMagic, "rules must be the data of an ActiveRules");
  RulesView view{data[1], data[2], data[3], data[4], nullptr, nullptr, nullptr, data};
  const Layout layout(view.tiles, view.taps(), view.outputs, data[5] == 0);
  MLCORE_CHECK(layout.lists <= size && data[layout.rows - 1] == size,
               "rules must be the whole data of an ActiveRules");
  view.first = data + layout.first;
  view.begins = data + layout.begins;
  view.rows = data[5] == 0 ? nullptr : data + layout.rows;
  return view;
}

kernels::ActiveLists RulesView::tile(std::int64_t t) const {
  const std::int32_t* lists = begins + t * taps();
  const std::int32_t rows = first[t + 1] - first[t];
  const std::int32_t centre = static_cast<std::int32_t>(taps() / 2);
  const bool whole = lists[centre + 1] - lists[centre] == 2 * rows;
  return {data, lists, static_cast<std::int32_t>(taps()), rows, whole ? centre : -1};
}

}  // namespace detail

void active_neighbors(View<const std::int32_t, 1> rules, View<std::int32_t, 2> out) {
  const RulesView view = detail::rules_view(rules);
  MLCORE_CHECK(out.shape[0] == view.outputs && out.shape[1] == view.taps(),
               "out must have the shape (", view.outputs, ", ", view.taps(), ")");
  std::fill_n(out.data, out.size(), -1);
  for (std::int64_t t = 0; t < view.tiles; ++t) {
    for (std::int64_t tap = 0; tap < view.taps(); ++tap) {
      const std::int32_t* lists = view.begins + t * view.taps() + tap;
      const std::int64_t count = (lists[1] - lists[0]) / 2;
      for (std::int64_t p = lists[0]; p < lists[0] + count; ++p) {
        const std::int64_t row = view.first[t] + view.data[p + count];
        out(view.rows ? view.rows[row] : row, tap) = view.data[p];
      }
    }
  }
}

void active_neighbors(const Context& context, const ActiveGrid& grid,
                      View<const std::int64_t, 2> inputs, View<const std::int64_t, 2> outputs,
                      std::int64_t k, View<std::int32_t, 2> out) {
  check_grid(grid);
  check_kernel(k);
  MLCORE_CHECK(inputs.shape[1] == 4 && outputs.shape[1] == 4,
               "coordinates must have the shape (M, 4)");
  MLCORE_CHECK(out.shape[0] == outputs.shape[0] && out.shape[1] == k * k * k,
               "out must have the shape (", outputs.shape[0], ", ", k * k * k, ")");
  if (out.device == Device::cuda) {
    return cuda::active_neighbors(context, grid, inputs, outputs, k, out);
  }
  const ActiveSet from(context, grid, inputs), to(context, grid, outputs);
  active_neighbors(ActiveRules(context, from, to, k).data(), out);
}

}  // namespace mlcore
