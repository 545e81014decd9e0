#include "mlcore/neighbors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/neighbors.hpp"
#include "neighbor_search.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

using detail::Frame;
using detail::Key;
using detail::key_particle;
using detail::kLargestCoordinate;
using detail::make_frame;
using detail::PairCutoff;
using detail::PairRows;

double largest_radius_sum(View<const double, 1> radii) {
  double largest = 0;
  for (std::int64_t i = 0; i < radii.size(); ++i) {
    MLCORE_CHECK(std::isfinite(radii(i)) && radii(i) >= 0,
                 "radii must be finite and not negative, but radii[", i, "] is ", radii(i));
    largest = std::max(largest, radii(i));
  }
  return 2 * largest;
}

double largest_of_table(const NeighborCutoff& cutoff) {
  const std::int64_t kinds = cutoff.table.shape[0];
  MLCORE_CHECK(cutoff.table.shape[1] == kinds, "table must be square, got the shape (", kinds, ", ",
               cutoff.table.shape[1], ")");
  double largest = 0;
  for (std::int64_t a = 0; a < kinds; ++a) {
    for (std::int64_t b = 0; b < kinds; ++b) {
      const double value = cutoff.table(a, b);
      MLCORE_CHECK(std::isfinite(value) && value >= 0,
                   "table must be finite and not negative, but entry (", a, ", ", b, ") is ",
                   value);
      MLCORE_CHECK(value == cutoff.table(b, a), "table must be symmetric, but entries (", a, ", ",
                   b, ") and (", b, ", ", a, ") differ");
      largest = std::max(largest, value);
    }
  }
  for (std::int64_t i = 0; i < cutoff.types.size(); ++i) {
    MLCORE_CHECK(cutoff.types(i) >= 0 && cutoff.types(i) < kinds, "types must lie in 0..",
                 kinds - 1, ", but types[", i, "] is ", cutoff.types(i));
  }
  return largest;
}

PairCutoff checked_cutoff(const NeighborCutoff& given, double skin) {
  MLCORE_CHECK(given.cutoff >= 0, "cutoff must not be negative or nan, got ", given.cutoff);
  MLCORE_CHECK(std::isfinite(skin) && skin >= 0, "skin must be finite and not negative, got ",
               skin);
  MLCORE_CHECK(!given.types.data || given.table.data, "types need a table of cutoffs");
  PairCutoff cutoff{given, given.cutoff, skin};
  if (given.radii.data) cutoff.largest = std::min(cutoff.largest, largest_radius_sum(given.radii));
  if (given.table.data) cutoff.largest = std::min(cutoff.largest, largest_of_table(given));
  if (cutoff.largest > 0) cutoff.largest += skin;
  MLCORE_CHECK(cutoff.largest <= kLargestCoordinate, "cutoff must be finite and at most ",
               kLargestCoordinate, ", got ", cutoff.largest);
  return cutoff;
}

void check_arguments(View<const double, 2> x, const PairCutoff& cutoff) {
  MLCORE_CHECK(x.shape[1] == 3, "positions must have the shape (n, 3), got (", x.shape[0], ", ",
               x.shape[1], ")");
  if (x.device != Device::cpu) {
    detail::raise<BackendUnavailable>("neighbor lists are built on the CPU only; copy positions");
  }
  const std::int64_t n = x.shape[0];
  MLCORE_CHECK(n < (std::int64_t{1} << 31) - 64, "positions must hold fewer than 2^31 particles");
  MLCORE_CHECK(!cutoff.given.radii.data || cutoff.given.radii.shape[0] == n,
               "radii must have one entry per particle (", n, "), got ",
               cutoff.given.radii.shape[0]);
  MLCORE_CHECK(!cutoff.given.table.data || cutoff.given.types.shape[0] == n,
               "types must have one entry per particle (", n, "), got ",
               cutoff.given.types.shape[0]);
}

template <class T, int Rank>
void check_length(const char* name, const View<T, Rank>& view, std::int64_t count) {
  if (!view.data) return;
  MLCORE_CHECK(view.shape[0] == count, name, " must have one entry per pair (", count, "), got ",
               view.shape[0]);
  if constexpr (Rank == 2) {
    MLCORE_CHECK(view.shape[1] == 3, name, " must have three columns, got ", view.shape[1]);
  }
}

/// Positions with a fourth coordinate of zero, as the kernels read them.
std::vector<double> padded(const Context& context, View<const double, 2> x) {
  std::vector<double> result(4 * x.shape[0]);
  detail::parallel_for(context, x.shape[0], 4096, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) std::copy_n(x.data + 3 * i, 3, &result[4 * i]);
  });
  return result;
}

template <class Index>
void fill_row(const double* x, const Frame& frame, const PairRows& rows, std::int64_t i,
              const NeighborArrays<Index>& out) {
  const Key* keys = rows.row(i);
  const std::int64_t size = rows.size(i), first = rows.first(i);
  if (i + 1 < rows.particles()) rows.prefetch(i + 1);
  if (out.i.data) std::fill_n(out.i.data + first, size, static_cast<Index>(i));
  for (std::int64_t k = 0; out.j.data && k < size; ++k) {
    out.j.data[first + k] = static_cast<Index>(key_particle(keys[k]));
  }
  if (!out.S.data && !out.D.data && !out.d.data) return;
  const auto at = [first](auto* data, std::int64_t width) {
    return data ? data + width * first : nullptr;
  };
  MLCORE_DISPATCH(neighbor_fill)
  (keys, size, i, x, frame.wraps.empty() ? nullptr : frame.wraps.data(), frame.cell.rows.data(),
   at(out.S.data, 3), at(out.D.data, 3), at(out.d.data, 1));
}

template <class Index>
void fill_arrays(const Context& context, const double* x, const Frame& frame, const PairRows& rows,
                 const NeighborArrays<Index>& out) {
  check_length("i", out.i, rows.count());
  check_length("j", out.j, rows.count());
  check_length("S", out.S, rows.count());
  check_length("D", out.D, rows.count());
  check_length("d", out.d, rows.count());
  detail::parallel_for(context, rows.particles(), 64,
                       [&](std::int64_t begin, std::int64_t end, int) {
                         for (std::int64_t i = begin; i < end; ++i) {
                           fill_row(x, frame, rows, i, out);
                         }
                       });
}

}  // namespace

struct NeighborSearch::State {
  std::vector<double> x;  // (n, 4)
  Frame frame;
  PairRows rows;
};

NeighborSearch::NeighborSearch(const Context& context, View<const double, 2> x, const Cell& cell,
                               const NeighborCutoff& cutoff, const NeighborOptions& options)
    : state_(std::make_unique<State>()) {
  const PairCutoff pair_cutoff = checked_cutoff(cutoff, 0);
  check_arguments(x, pair_cutoff);
  state_->frame = make_frame(cell);
  state_->rows = detail::search_pairs(context, x, pair_cutoff, options, state_->frame);
  state_->x = padded(context, x);
}

NeighborSearch::~NeighborSearch() = default;
NeighborSearch::NeighborSearch(NeighborSearch&&) noexcept = default;
NeighborSearch& NeighborSearch::operator=(NeighborSearch&&) noexcept = default;

std::int64_t NeighborSearch::count() const { return state_->rows.count(); }
View<const std::int64_t, 1> NeighborSearch::offsets() const { return state_->rows.offsets(); }

void NeighborSearch::fill(const Context& context,
                          const NeighborArrays<std::int32_t>& arrays) const {
  fill_arrays(context, state_->x.data(), state_->frame, state_->rows, arrays);
}
void NeighborSearch::fill(const Context& context,
                          const NeighborArrays<std::int64_t>& arrays) const {
  fill_arrays(context, state_->x.data(), state_->frame, state_->rows, arrays);
}

struct NeighborList::State {
  NeighborCutoff given;  // its views look into the copies below
  std::vector<double> radii, table;
  std::vector<std::int32_t> types;
  NeighborOptions options;
  PairCutoff cutoff, searched;

  bool built = false;
  Cell cell;
  std::vector<double> x, x_at_search;  // (n, 4), (n, 3)
  double margin = 0;                   // displacement that may not make a missing pair a neighbor
  Frame frame;
  PairRows candidates, rows;

  bool must_search(const Context& context, View<const double, 2> now, const Cell& now_cell) const;
  void search(const Context& context, View<const double, 2> now, const Cell& now_cell);
  void select(const Context& context);
};

bool NeighborList::State::must_search(const Context& context, View<const double, 2> now,
                                      const Cell& now_cell) const {
  if (!built || static_cast<std::size_t>(now.size()) != x_at_search.size()) return true;
  if (now_cell.pbc != cell.pbc || now_cell.rows != cell.rows) return true;
  std::vector<std::uint8_t> moved(detail::resolve_threads(context), 0);
  detail::parallel_for(
      context, now.shape[0], 4096, [&](std::int64_t begin, std::int64_t end, int chunk) {
        for (std::int64_t i = begin; i < end && !moved[chunk]; ++i) {
          double square = 0;
          for (int k = 0; k < 3; ++k) {
            const double step = now(i, k) - x_at_search[3 * i + k];
            square += step * step;
          }
          moved[chunk] = !(std::sqrt(square) <= margin);  // nan: the search complains
        }
      });
  return std::find(moved.begin(), moved.end(), 1) != moved.end();
}

void NeighborList::State::search(const Context& context, View<const double, 2> now,
                                 const Cell& now_cell) {
  built = false;
  frame = make_frame(now_cell);
  candidates = detail::search_pairs(context, now, searched, options, frame);
  double size = searched.largest;
  for (double value : now) size = std::max(size, std::fabs(value));
  for (double value : now_cell.rows) size = std::max(size, std::fabs(value));
  margin = std::max(0.0, 0.5 * searched.skin - 1e-13 * size);
  x_at_search.assign(now.begin(), now.end());
  cell = now_cell;
  built = true;
}

/// Of the pairs within cutoff + skin at the last search, those within the cutoff now.
void NeighborList::State::select(const Context& context) {
  const std::int64_t n = candidates.particles();
  const bool uniform = cutoff.uniform();
  const double largest = cutoff.largest;
  rows = PairRows(n, detail::resolve_threads(context));
  detail::parallel_for(context, n, 64, [&](std::int64_t begin, std::int64_t end, int chunk) {
    std::vector<double> d;
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t i = candidates.visit(p), size = candidates.size(i);
      d.resize(std::max<std::size_t>(d.size(), size));
      const Key* keys = candidates.row(i);
      MLCORE_DISPATCH(neighbor_fill)
      (keys, size, i, x.data(), frame.wraps.empty() ? nullptr : frame.wraps.data(),
       frame.cell.rows.data(), nullptr, nullptr, d.data());
      Key* row = rows.reserve(chunk, size);
      std::int64_t kept = 0;
      for (std::int64_t k = 0; k < size; ++k) {
        row[kept] = keys[k];
        kept += d[k] < (uniform ? largest : cutoff.of(i, key_particle(keys[k])));
      }
      rows.commit(chunk, i, kept);
    }
  });
  rows.finish(candidates.order());
}

NeighborList::NeighborList(const NeighborCutoff& cutoff, double skin,
                           const NeighborOptions& options)
    : state_(std::make_unique<State>()) {
  checked_cutoff(cutoff, skin);
  State& s = *state_;
  s.options = options;
  s.radii.assign(cutoff.radii.begin(), cutoff.radii.end());
  s.types.assign(cutoff.types.begin(), cutoff.types.end());
  s.table.assign(cutoff.table.begin(), cutoff.table.end());
  s.given = cutoff;
  if (cutoff.radii.data) s.given.radii.data = s.radii.data();
  if (cutoff.types.data) s.given.types.data = s.types.data();
  if (cutoff.table.data) s.given.table.data = s.table.data();
  s.cutoff = checked_cutoff(s.given, 0);
  s.searched = checked_cutoff(s.given, skin);
}

NeighborList::~NeighborList() = default;
NeighborList::NeighborList(NeighborList&&) noexcept = default;
NeighborList& NeighborList::operator=(NeighborList&&) noexcept = default;

bool NeighborList::update(const Context& context, View<const double, 2> x, const Cell& cell) {
  State& s = *state_;
  check_arguments(x, s.cutoff);
  const bool search = s.must_search(context, x, cell);
  if (search) {
    s.rows = PairRows();
    s.search(context, x, cell);
  }
  s.x = padded(context, x);
  s.select(context);
  return search;
}

std::int64_t NeighborList::count() const { return state_->rows.count(); }
View<const std::int64_t, 1> NeighborList::offsets() const { return state_->rows.offsets(); }

void NeighborList::fill(const Context& context, const NeighborArrays<std::int32_t>& arrays) const {
  fill_arrays(context, state_->x.data(), state_->frame, state_->rows, arrays);
}
void NeighborList::fill(const Context& context, const NeighborArrays<std::int64_t>& arrays) const {
  fill_arrays(context, state_->x.data(), state_->frame, state_->rows, arrays);
}

}  // namespace mlcore
