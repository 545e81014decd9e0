#include "neighbor_search.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>
#include <vector>

#include "parallel.hpp"

// The candidates of a cell, those in reach of the box around its particles, are
// gathered once into contiguous memory. Where rows are ordered, they are sorted
// by particle number there, again once for all particles of the cell: every row
// then comes out sorted, and a half list is its tail. Scans work in single
// precision and decide all but the pairs within its rounding error of the
// cutoff; those are decided in double, which defines the pair set.

namespace mlcore::detail {
namespace {

using kernels::kNeighborSlack;
using kernels::NeighborCandidates;
using kernels::NeighborCopies;
using kernels::NeighborParticles;
using kernels::NeighborQuery;
using kernels::NeighborRule;
using kernels::NeighborSegment;

/// Sorts keys (number << 32 | slot) by number; equal numbers keep their order.
class KeySort {
 public:
  explicit KeySort(std::int64_t particles) {
    const int bits =
        std::max(1, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(particles))));
    digits_ = bits <= 17 ? 2 : bits <= 24 ? 3 : 4;
    width_ = (bits + digits_ - 1) / digits_;
    for (int digit = 0; digit < digits_; ++digit) counts_[digit].resize(std::size_t{1} << width_);
  }

  /// Returns the sorted keys, which are in `keys` or in `other`, scratch of the same length.
  const std::uint64_t* operator()(std::uint64_t* keys, std::uint64_t* other, std::int64_t count) {
    if (count <= kFew) {
      std::sort(keys, keys + count);
      return keys;
    }
    for (int digit = 0; digit < digits_; ++digit) {
      distribute(keys, other, count, 32 + digit * width_, counts_[digit]);
      std::swap(keys, other);
    }
    return keys;
  }

 private:
  static constexpr std::int64_t kFew = 48;

  static void distribute(const std::uint64_t* from, std::uint64_t* to, std::int64_t count,
                         int shift, std::vector<std::uint32_t>& counts) {
    std::uint32_t* const place = counts.data();
    const std::size_t values = counts.size();
    const std::uint64_t mask = values - 1;
    std::fill_n(place, values, 0);
    for (std::int64_t k = 0; k < count; ++k) ++place[from[k] >> shift & mask];
    std::uint32_t total = 0;
    for (std::size_t value = 0; value < values; ++value) {
      total += std::exchange(place[value], total);
    }
    for (std::int64_t k = 0; k < count; ++k) to[place[from[k] >> shift & mask]++] = from[k];
  }

  int digits_ = 0, width_ = 0;
  std::array<std::vector<std::uint32_t>, 4> counts_;
};

/// Memory for candidates.
class CandidateArrays {
 public:
  void resize(std::size_t size) {
    for (auto& values : floats_) values.resize(size);
    for (auto& values : integers_) values.resize(size);
  }
  NeighborCandidates view() {
    return {floats_[0].data(), floats_[1].data(), floats_[2].data(), integers_[0].data(),
            integers_[1].data()};
  }

 private:
  std::array<std::vector<float>, 3> floats_;
  std::array<std::vector<std::int32_t>, 2> integers_;
};

/// One search: per cell the candidates, per particle of the cell a scan of
/// them.
class Search {
 public:
  Search(const NeighborCells& cells, const PairCutoff& cutoff, const NeighborOptions& options,
         NeighborRows& rows)
      : cells_(cells),
        particles_(cells.particles()),
        copies_(cells.copies()),
        options_(options),
        rows_(rows) {
    const NeighborCutoff& given = cutoff.given;
    const auto [inside, outside] = cells.decided(cutoff.largest);
    const bool uniform = !given.radii.data && !given.table.data;
    rule_ = {uniform ? inside : -1.0f, outside,          uniform ? cutoff.largest : given.cutoff,
             given.radii.data,         given.types.data, given.table.data,
             given.table.shape[0]};
  }

  /// Rows of the particles at a range of places.
  void run(std::int64_t begin, std::int64_t end, int writer) const {
    Scratch scratch(cells_.size());
    std::int64_t cell = cells_.cell_of(begin);
    for (std::int64_t p = begin; p < end; ++cell) {
      const std::int64_t stop = std::min<std::int64_t>(end, cells_.end(cell));
      if (p >= stop) continue;
      gather(cell, scratch);
      for (; p < stop; ++p) scan(p, scratch, writer);
    }
  }

 private:
  struct Scratch {
    explicit Scratch(std::int64_t particles) : sort(particles) {}

    KeySort sort;
    std::vector<NeighborSegment> segments;
    CandidateArrays found, sorted;
    std::vector<std::int32_t> rank, image;
    std::vector<std::uint64_t> keys, other_keys;
    std::int64_t count = 0;
    std::int64_t first_place = 0,
                 first_slot = 0;  // of the particles of the cell
  };

  bool sorted() const { return options_.sorted || options_.half; }

  void gather(std::int64_t cell, Scratch& scratch) const {
    const std::int64_t home = cells_.segments_around(cell, scratch.segments);
    reserve(scratch);
    const NeighborCandidates found = scratch.found.view();
    scratch.count = MLCORE_DISPATCH(neighbor_gather)(
        copies_, scratch.segments.data(), static_cast<std::int64_t>(scratch.segments.size()),
        box_around(cells_.begin(cell), cells_.end(cell)).data(), rule_.outside, found);
    scratch.first_place = cells_.begin(cell);
    const std::int32_t number = copies_.number[scratch.first_place];
    const std::int32_t image = scratch.segments[home].image;
    std::int64_t slot = 0;  // the cell's own particles are all kept, in their order
    while (found.number[slot] != number || found.image[slot] != image) ++slot;
    scratch.first_slot = slot;
    if (sorted()) sort(scratch);
  }

  static void reserve(Scratch& scratch) {
    std::int64_t room = 2 * kNeighborSlack;
    for (const NeighborSegment& s : scratch.segments) room += s.end - s.begin;
    const auto size = static_cast<std::size_t>(room);
    if (scratch.image.size() >= size) return;
    scratch.found.resize(size);
    scratch.sorted.resize(size);
    scratch.rank.resize(size);
    scratch.image.resize(size);
    scratch.keys.resize(size);
    scratch.other_keys.resize(size);
  }

  std::array<float, 6> box_around(std::int64_t begin, std::int64_t end) const {
    const float* coordinates[] = {copies_.x, copies_.y, copies_.z};
    std::array<float, 6> box;
    for (int k = 0; k < 3; ++k) {
      const auto [low, high] = std::minmax_element(coordinates[k] + begin, coordinates[k] + end);
      box[k] = *low, box[3 + k] = *high;
    }
    return box;
  }

  static void sort(Scratch& scratch) {
    const NeighborCandidates found = scratch.found.view();
    std::uint64_t* keys = scratch.keys.data();
    const std::int64_t count = scratch.count;
    for (std::int64_t k = 0; k < count; ++k) {
      keys[k] = static_cast<std::uint64_t>(found.number[k]) << 32 | static_cast<std::uint64_t>(k);
    }
    const std::uint64_t* order = scratch.sort(keys, scratch.other_keys.data(), count);
    MLCORE_DISPATCH(neighbor_permute)
    (found, order, count, scratch.sorted.view(), scratch.rank.data());
  }

  void scan(std::int64_t place, Scratch& scratch, int writer) const {
    const std::int64_t slot = scratch.first_slot + place - scratch.first_place;
    const std::int64_t own = sorted() ? scratch.rank[slot] : slot;
    const bool excluded = !options_.self_pairs;
    const NeighborCandidates candidates = (sorted() ? scratch.sorted : scratch.found).view();
    const std::int64_t i = copies_.number[place];
    const NeighborQuery query{&particles_,
                              &rule_,
                              candidates,
                              scratch.count,
                              i,
                              copies_.x[place],
                              copies_.y[place],
                              copies_.z[place],
                              options_.half ? own + excluded : 0,
                              excluded ? own : -1};
    std::int32_t* row = rows_.reserve(writer, scratch.count + kNeighborSlack);
    const std::int64_t size = MLCORE_DISPATCH(neighbor_hits)(query, row, scratch.image.data());
    if (cells_.narrow()) {
      MLCORE_DISPATCH(neighbor_narrow)
      (scratch.image.data(), size, reinterpret_cast<std::uint8_t*>(row + size));
    } else {
      std::copy_n(scratch.image.data(), size, row + size);
    }
    rows_.commit(writer, i, size);
  }

  const NeighborCells& cells_;
  NeighborParticles particles_;
  NeighborCopies copies_;
  NeighborRule rule_;
  const NeighborOptions& options_;
  NeighborRows& rows_;
};

}  // namespace

NeighborRows search_pairs(const Context& context, const NeighborCells& cells,
                          const PairCutoff& cutoff, const NeighborOptions& options) {
  NeighborRows rows(cells.size(), resolve_threads(context), cells.narrow());
  if (cells.size() > 0 && cutoff.largest > 0) {
    const Search search(cells, cutoff, options, rows);
    parallel_for(context, cells.size(), 64, [&](std::int64_t begin, std::int64_t end, int chunk) {
      search.run(begin, end, chunk);
    });
  }
  rows.finish();
  return rows;
}

}  // namespace mlcore::detail
