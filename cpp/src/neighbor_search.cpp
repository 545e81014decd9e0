#include "neighbor_search.hpp"

#include <algorithm>
#include <array>
#include <bit>
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

/// Sorts candidates by number; equal numbers keep their order.
class CandidateSort {
 public:
  explicit CandidateSort(std::int64_t particles) {
    const int bits =
        std::max(8, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(particles))));
    order_.digits = bits <= 20 ? 2 : 3;
    order_.width = (bits + order_.digits - 1) / order_.digits;
    counts_.resize(static_cast<std::size_t>(order_.digits) << order_.width);
  }

  void resize(std::size_t candidates) {
    keys_.resize(candidates);
    more_keys_.resize(candidates);
  }

  void operator()(const NeighborCandidates& from, std::int64_t count, const NeighborCandidates& to,
                  std::int32_t* rank) {
    if (count > kFew) {
      order_.counts = counts_.data();
      order_.keys = keys_.data();
      order_.more_keys = more_keys_.data();
      MLCORE_DISPATCH(neighbor_sort)(order_, from, count, to, rank);
      return;
    }
    for (std::int64_t k = 0; k < count; ++k) {
      keys_[k] = static_cast<std::uint64_t>(from.number[k]) << 32 | static_cast<std::uint64_t>(k);
    }
    std::sort(keys_.data(), keys_.data() + count);
    MLCORE_DISPATCH(neighbor_permute)(from, keys_.data(), count, to, rank);
  }

 private:
  static constexpr std::int64_t kFew = 48;

  kernels::NeighborOrder order_{};
  std::vector<std::uint32_t> counts_;
  std::vector<std::uint64_t> keys_, more_keys_;
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
/// them. Rows go to memory, or nowhere else than to a visitor.
class Search {
 public:
  explicit Search(const NeighborScan& scan)
      : cells_(scan.cells),
        particles_(cells_.particles()),
        copies_(cells_.copies()),
        options_(scan.options),
        kept_(scan.kept) {
    const PairCutoff& cutoff = scan.cutoff;
    const NeighborCutoff& given = cutoff.given;
    const auto [inside, outside] = cells_.decided(cutoff.largest);
    const bool uniform = !given.radii.data && !given.table.data;
    rule_ = {uniform ? inside : -1.0f, outside,          uniform ? cutoff.largest : given.cutoff,
             given.radii.data,         given.types.data, given.table.data,
             given.table.shape[0]};
  }

  /// Rows of the particles at a range of places.
  void store(std::int64_t begin, std::int64_t end, int writer, NeighborRows& rows) const {
    SearchScratch scratch(cells_.size());
    for_each(begin, end, sorted(), scratch,
             [&](std::int64_t p) { store(p, scratch, writer, rows); });
  }

  /// Their lengths. Only half a row depends on the order.
  void count(std::int64_t begin, std::int64_t end, std::int64_t* counts) const {
    SearchScratch scratch(cells_.size());
    const bool order = options_.half;
    for_each(begin, end, order, scratch, [&](std::int64_t p) {
      counts[copies_.number[p]] =
          MLCORE_DISPATCH(neighbor_count)(query(p, order || !kept_.empty(), scratch));
    });
  }

  void visit(std::int64_t begin, std::int64_t end, bool images, NeighborVisitor& visitor) const {
    SearchScratch scratch(cells_.size());
    for_each(begin, end, sorted(), scratch,
             [&](std::int64_t p) { visitor.visit(row(p, images, scratch)); });
  }

  /// The candidates of a range of cells.
  void keep(std::int64_t begin, std::int64_t end, int writer, const std::int32_t* place_of,
            NeighborKept& kept) const {
    SearchScratch scratch(cells_.size());
    for (std::int64_t cell = begin; cell < end; ++cell) {
      if (cells_.begin(cell) == cells_.end(cell)) continue;
      gather(cell, sorted(), scratch);
      const NeighborCandidates found = candidates(sorted(), scratch);
      std::int32_t* place = kept.candidates.reserve(writer, scratch.count + kNeighborSlack);
      for (std::int64_t k = 0; k < scratch.count; ++k) place[k] = place_of[found.number[k]];
      MLCORE_DISPATCH(neighbor_narrow)
      (found.image, scratch.count, reinterpret_cast<std::uint8_t*>(place + scratch.count));
      kept.candidates.commit(writer, cell, scratch.count);
      for (std::int32_t p = cells_.begin(cell); p < cells_.end(cell); ++p) {
        kept.own[p] = static_cast<std::int32_t>(own_slot(p, sorted(), scratch));
      }
    }
  }

 private:
  struct SearchScratch {
    explicit SearchScratch(std::int64_t particles) : sort(particles) {}

    CandidateSort sort;
    std::vector<NeighborSegment> segments;
    CandidateArrays found, sorted;
    std::vector<std::int32_t> rank, number, image;
    std::vector<std::uint8_t> narrow;
    std::int64_t count = 0;
    std::int64_t first_place = 0,
                 first_slot = 0;  // of the particles of the cell
  };

  bool sorted() const { return options_.sorted || options_.half; }

  /// Calls visit(place) for a range of places, their cells' candidates in the scratch memory: in
  /// order, or as they were found.
  template <class Visit>
  void for_each(std::int64_t begin, std::int64_t end, bool order, SearchScratch& scratch,
                const Visit& visit) const {
    std::int64_t cell = cells_.cell_of(begin);
    for (std::int64_t p = begin; p < end; ++cell) {
      const std::int64_t stop = std::min<std::int64_t>(end, cells_.end(cell));
      if (p >= stop) continue;
      kept_.empty() ? gather(cell, order, scratch) : collect(cell, scratch);
      for (; p < stop; ++p) visit(p);
    }
  }

  NeighborCandidates candidates(bool order, SearchScratch& scratch) const {
    return (order ? scratch.sorted : scratch.found).view();
  }

  std::int64_t own_slot(std::int64_t place, bool order, const SearchScratch& scratch) const {
    if (!kept_.empty()) return kept_.own[place];
    const std::int64_t slot = scratch.first_slot + place - scratch.first_place;
    return order ? scratch.rank[slot] : slot;
  }

  /// Candidates that were kept are in their order already.
  void collect(std::int64_t cell, SearchScratch& scratch) const {
    const kernels::NeighborRow row = kept_.candidates.row(cell);
    scratch.count = row.size;
    resize(scratch, kept_.most + 2 * kNeighborSlack);
    MLCORE_DISPATCH(neighbor_collect)
    (copies_, {row.j, row.image, row.size, kept_.shifts.data()}, candidates(true, scratch));
  }

  void gather(std::int64_t cell, bool order, SearchScratch& scratch) const {
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
    if (order) {
      scratch.sort(found, scratch.count, scratch.sorted.view(), scratch.rank.data());
    }
  }

  static void reserve(SearchScratch& scratch) {
    std::int64_t room = 2 * kNeighborSlack;
    for (const NeighborSegment& s : scratch.segments) room += s.end - s.begin;
    resize(scratch, room);
  }

  static void resize(SearchScratch& scratch, std::int64_t room) {
    const auto size = static_cast<std::size_t>(room);
    if (scratch.image.size() >= size) return;
    scratch.found.resize(size);
    scratch.sorted.resize(size);
    scratch.rank.resize(size);
    scratch.number.resize(size);
    scratch.image.resize(size);
    scratch.narrow.resize(size);
    scratch.sort.resize(size);
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

  NeighborQuery query(std::int64_t place, bool order, SearchScratch& scratch) const {
    const std::int64_t own = own_slot(place, order, scratch);
    const bool excluded = !options_.self_pairs;
    return {&particles_,
            &rule_,
            candidates(order, scratch),
            scratch.count,
            copies_.number[place],
            copies_.x[place],
            copies_.y[place],
            copies_.z[place],
            options_.half ? own + excluded : 0,
            excluded ? own : -1};
  }

  bool ordered() const { return sorted() || !kept_.empty(); }

  kernels::NeighborRow row(std::int64_t place, bool images, SearchScratch& scratch) const {
    std::int32_t* image = images ? scratch.image.data() : nullptr;
    const std::int64_t size = MLCORE_DISPATCH(neighbor_hits)(query(place, ordered(), scratch),
                                                             scratch.number.data(), image);
    const bool narrow = image && cells_.narrow();
    if (narrow) MLCORE_DISPATCH(neighbor_narrow)(image, size, scratch.narrow.data());
    return {copies_.number[place], size, scratch.number.data(),
            narrow ? scratch.narrow.data() : nullptr, narrow ? nullptr : image};
  }

  void store(std::int64_t place, SearchScratch& scratch, int writer, NeighborRows& rows) const {
    std::int32_t* row = rows.reserve(writer, scratch.count + kNeighborSlack);
    std::int32_t* image = options_.vectors ? scratch.image.data() : nullptr;
    const std::int64_t size =
        MLCORE_DISPATCH(neighbor_hits)(query(place, ordered(), scratch), row, image);
    if (image && cells_.narrow()) {
      MLCORE_DISPATCH(neighbor_narrow)(image, size, reinterpret_cast<std::uint8_t*>(row + size));
    } else if (image) {
      std::copy_n(image, size, row + size);
    }
    rows.commit(writer, copies_.number[place], size);
  }

  const NeighborCells& cells_;
  NeighborParticles particles_;
  NeighborCopies copies_;
  NeighborRule rule_;
  const NeighborOptions& options_;
  const NeighborKept& kept_;
};

}  // namespace

NeighborKept keep_candidates(const Context& context, const NeighborCells& cells,
                             const NeighborOptions& options) {
  NeighborKept kept;
  if (!cells.narrow() || cells.size() == 0) return kept;
  const std::int64_t n = cells.size();
  const std::int32_t* numbers = cells.copies().number;
  const Scratch<std::int32_t> place_of(n);
  for (std::int64_t p = 0; p < n; ++p) place_of[numbers[p]] = static_cast<std::int32_t>(p);
  kept.candidates = NeighborRows(cells.cells(), resolve_threads(context), 1);
  kept.own.resize(n);
  const NeighborKept nothing;
  const Search search({cells, {{cells.reach(), {}, {}, {}}, cells.reach()}, options, nothing});
  parallel_for(context, cells.cells(), 8, [&](std::int64_t begin, std::int64_t end, int chunk) {
    search.keep(begin, end, chunk, place_of.data(), kept);
  });
  kept.candidates.finish();
  for (std::int64_t c = 0; c < cells.cells(); ++c) {
    kept.most = std::max(kept.most, kept.candidates.size(c));
  }
  kept.shifts = cells.image_shifts();
  return kept;
}

NeighborRows search_pairs(const Context& context, const NeighborScan& scan) {
  const std::int64_t n = scan.cells.size();
  const int image_bytes = !scan.options.vectors ? 0 : scan.cells.narrow() ? 1 : 4;
  NeighborRows rows(n, resolve_threads(context), image_bytes);
  if (n > 0 && scan.cutoff.largest > 0) {
    const Search search(scan);
    parallel_for(context, n, 64, [&](std::int64_t begin, std::int64_t end, int chunk) {
      search.store(begin, end, chunk, rows);
    });
  }
  rows.finish();
  return rows;
}

void count_pairs(const Context& context, const NeighborScan& scan, std::int64_t* counts) {
  const std::int64_t n = scan.cells.size();
  if (scan.cutoff.largest <= 0) {
    std::fill_n(counts, n, 0);
    return;
  }
  const Search search(scan);
  parallel_for(context, n, 64, [&](std::int64_t begin, std::int64_t end, int) {
    search.count(begin, end, counts);
  });
}

void visit_pairs(const Context& context, const NeighborScan& scan, bool images,
                 const std::function<std::unique_ptr<NeighborVisitor>()>& visitor) {
  if (scan.cutoff.largest <= 0) {
    const auto alone = visitor();
    for (std::int64_t i = 0; i < scan.cells.size(); ++i) {
      alone->visit({i, 0, nullptr, nullptr, nullptr});
    }
    return;
  }
  const Search search(scan);
  parallel_for(context, scan.cells.size(), 64, [&](std::int64_t begin, std::int64_t end, int) {
    search.visit(begin, end, images, *visitor());
  });
}

}  // namespace mlcore::detail
