#include "mlcore/neighbors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "neighbor_output.hpp"
#include "neighbor_search.hpp"
#include "neighbors_cuda.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

using detail::kLargestCoordinate;
using detail::NeighborCells;
using detail::NeighborKept;
using detail::NeighborRows;
using detail::NeighborScan;
using detail::PairCutoff;

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

PairCutoff checked_cutoff(const NeighborCutoff& given) {
  MLCORE_CHECK(given.cutoff >= 0, "cutoff must not be negative or nan, got ", given.cutoff);
  MLCORE_CHECK(!given.types.data || given.table.data, "types need a table of cutoffs");
  PairCutoff cutoff{given, given.cutoff};
  if (given.radii.data) cutoff.largest = std::min(cutoff.largest, largest_radius_sum(given.radii));
  if (given.table.data) cutoff.largest = std::min(cutoff.largest, largest_of_table(given));
  MLCORE_CHECK(cutoff.largest <= kLargestCoordinate, "cutoff must be finite and at most ",
               kLargestCoordinate, ", got ", cutoff.largest);
  return cutoff;
}

void check_arguments(View<const double, 2> x, const NeighborCutoff& cutoff) {
  MLCORE_CHECK(x.shape[1] == 3, "positions must have the shape (n, 3), got (", x.shape[0], ", ",
               x.shape[1], ")");
  const std::int64_t n = x.shape[0];
  MLCORE_CHECK(n < (std::int64_t{1} << 31) - 64, "positions must hold fewer than 2^31 particles");
  MLCORE_CHECK(!cutoff.radii.data || cutoff.radii.shape[0] == n,
               "radii must have one entry per particle (", n, "), got ", cutoff.radii.shape[0]);
  MLCORE_CHECK(!cutoff.table.data || cutoff.types.shape[0] == n,
               "types must have one entry per particle (", n, "), got ", cutoff.types.shape[0]);
}

void check_systems(View<const double, 2> x, const NeighborSystems& systems) {
  const auto& offsets = systems.offsets;
  const auto count = static_cast<std::int64_t>(systems.cells.size());
  MLCORE_CHECK(offsets.shape[0] == count + 1, "batch_offsets must have one entry more than cells (",
               count, "), got ", offsets.shape[0]);
  MLCORE_CHECK(offsets(0) == 0 && offsets(count) == x.shape[0],
               "batch_offsets must run from 0 to the number of particles (", x.shape[0], "), got ",
               offsets(0), " to ", offsets(count));
  for (std::int64_t s = 0; s < count; ++s) {
    MLCORE_CHECK(offsets(s) <= offsets(s + 1), "batch_offsets must not decrease, but entry ", s + 1,
                 " is ", offsets(s + 1), " after ", offsets(s));
  }
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

/// A cutoff with arrays of its own.
struct OwnedCutoff {
  std::vector<double> radii, table;
  std::vector<std::int32_t> types;
  PairCutoff cutoff;  // its views look into the above

  explicit OwnedCutoff(const NeighborCutoff& given)
      : radii(given.radii.begin(), given.radii.end()),
        table(given.table.begin(), given.table.end()),
        types(given.types.begin(), given.types.end()),
        cutoff(checked_cutoff(given)) {
    if (given.radii.data) cutoff.given.radii.data = radii.data();
    if (given.table.data) cutoff.given.table.data = table.data();
    if (given.types.data) cutoff.given.types.data = types.data();
  }

  /// For the particles from `begin` on.
  PairCutoff from(std::int64_t begin) const {
    PairCutoff part = cutoff;
    if (part.given.radii.data) part.given.radii.data += begin;
    if (part.given.types.data) part.given.types.data += begin;
    return part;
  }

  double reach(double skin) const {
    return cutoff.largest > 0 ? cutoff.largest + skin : std::numeric_limits<double>::min();
  }
};

void check_matrix(const NeighborMatrix& out, std::int64_t particles, std::int64_t needed) {
  const std::int64_t width = out.j.shape[1];
  MLCORE_CHECK(out.j.shape[0] == particles, "the matrix must have one row per particle (",
               particles, "), got ", out.j.shape[0]);
  MLCORE_CHECK(width >= needed, "max_neighbors must be at least ", needed,
               ", the largest number of neighbors of a particle here; got ", width);
  MLCORE_CHECK(!out.S.data || (out.S.shape == std::array<std::int64_t, 3>{particles, width, 3}),
               "the shifts must have the shape (", particles, ", ", width, ", 3)");
  MLCORE_CHECK(!out.counts.data || out.counts.shape[0] == particles,
               "the counts must have one entry per particle (", particles, ")");
}

/// Systems sorted into cells, and what was found in them: on the CPU, or on the GPU.
struct Systems {
  std::vector<NeighborCells> cells;
  std::vector<NeighborRows> rows;
  NeighborKept kept;  // of the only system, whose particles move
  std::vector<cuda::NeighborSearch> on_gpu;
  std::vector<std::int64_t> first = {0};  // (b + 1,) particles of the systems
  std::vector<std::int64_t> offsets = {
      0};  // (n + 1,) pairs of the particles; of the systems on GPU
  bool vectors = true;

  std::int64_t count() const { return offsets.back(); }

  std::int64_t largest_row() const {
    std::int64_t most = 0;
    for (const auto& search : on_gpu) most = std::max(most, search.largest_row());
    if (!on_gpu.empty()) return most;
    for (std::size_t i = 1; i < offsets.size(); ++i) {
      most = std::max(most, offsets[i] - offsets[i - 1]);
    }
    return most;
  }

  View<const std::int64_t, 1> view() const {
    MLCORE_CHECK(on_gpu.empty(), "offsets of a list on the GPU are to be had by copy_offsets()");
    return {offsets.data(), {static_cast<std::int64_t>(offsets.size())}};
  }

  void copy_offsets(const Context& context, View<std::int64_t, 1> out) const {
    check_length("offsets", out, first.back() + 1);
    for (std::size_t s = 0; s < on_gpu.size(); ++s) {
      on_gpu[s].offsets(context, offsets[s], out.data + first[s]);
    }
    if (on_gpu.empty()) std::copy(offsets.begin(), offsets.end(), out.data);
  }

  /// With a `skin` for particles that move.
  void search_on_gpu(const Context& context, View<const double, 2> x,
                     const std::vector<Cell>& of_systems, const OwnedCutoff& cutoff,
                     const NeighborOptions& options, std::optional<double> skin = {}) {
    vectors = options.vectors;
    MLCORE_CHECK(!of_systems.empty(), "a batch on the GPU must hold at least one system");
    for (std::size_t s = 0; s < of_systems.size(); ++s) {
      const View<const double, 2> part(x.data + 3 * first[s], {first[s + 1] - first[s], 3},
                                       Device::cuda);
      PairCutoff of_part = cutoff.from(first[s]);
      if (of_part.given.radii.data) of_part.given.radii.shape[0] = part.shape[0];
      if (of_part.given.types.data) of_part.given.types.shape[0] = part.shape[0];
      on_gpu.emplace_back(context, part, of_systems[s], of_part, cutoff.reach(skin.value_or(0)),
                          options, skin.has_value());
      offsets.push_back(offsets.back() + on_gpu.back().count());
    }
  }

  bool move_on_gpu(const Context& context, View<const double, 2> x) {
    if (!on_gpu[0].move(context, x)) return false;
    offsets = {0, on_gpu[0].count()};
    return true;
  }

  Device device() const { return on_gpu.empty() ? Device::cpu : Device::cuda; }

  /// Calls work(context, system): systems share the threads, or each in turn
  /// takes them all.
  template <class Work>
  void for_each(const Context& context, const Work& work) const {
    const auto systems = static_cast<std::int64_t>(cells.size());
    if (systems < 2 * detail::resolve_threads(context)) {
      for (std::int64_t s = 0; s < systems; ++s) work(context, s);
      return;
    }
    detail::parallel_for(context, systems, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t s = begin; s < end; ++s) work(Context{1}, s);
    });
  }

  NeighborScan scan(std::int64_t s, const OwnedCutoff& cutoff,
                    const NeighborOptions& options) const {
    return {cells[s], cutoff.from(first[s]), options, kept};
  }

  void search(const Context& context, const OwnedCutoff& cutoff, const NeighborOptions& options) {
    vectors = options.vectors;
    rows.resize(options.stored ? cells.size() : 0);
    offsets.assign(first.back() + 1, 0);
    for_each(context, [&](const Context& inner, std::int64_t s) {
      std::int64_t* const counts = offsets.data() + first[s] + 1;
      if (options.stored) {
        rows[s] = detail::search_pairs(inner, scan(s, cutoff, options));
        for (std::int64_t i = 0; i < rows[s].particles(); ++i) counts[i] = rows[s].size(i);
      } else {
        detail::count_pairs(inner, scan(s, cutoff, options), counts);
      }
    });
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  }

  void check_vectors(bool wanted) const {
    MLCORE_CHECK(vectors || !wanted, "S, D and d are not to be had from a search without vectors");
  }

  template <class Index, class Real>
  void fill(const Context& context, const OwnedCutoff& cutoff, const NeighborOptions& options,
            const NeighborArrays<Index, Real>& out) const {
    check_vectors(out.S.data || out.D.data || out.d.data);
    check_length("i", out.i, count());
    check_length("j", out.j, count());
    check_length("S", out.S, count());
    check_length("D", out.D, count());
    check_length("d", out.d, count());
    for (std::size_t s = 0; s < on_gpu.size(); ++s) {
      on_gpu[s].fill(context, offsets[s], first[s], out);
    }
    for_each(context, [&](const Context& inner, std::int64_t s) {
      if (options.stored) {
        detail::write_rows(inner, cells[s], rows[s], offsets[first[s]], first[s], out);
      } else {
        detail::write_found(inner, scan(s, cutoff, options), offsets.data() + first[s], first[s],
                            out);
      }
    });
  }

  void fill(const Context& context, const OwnedCutoff& cutoff, const NeighborOptions& options,
            const NeighborMatrix& out) const {
    check_vectors(out.S.data);
    check_matrix(out, first.back(), largest_row());
    for (std::size_t s = 0; s < on_gpu.size(); ++s) on_gpu[s].fill(context, first[s], out);
    for_each(context, [&](const Context& inner, std::int64_t s) {
      if (options.stored) {
        detail::write_matrix(inner, cells[s], rows[s], first[s], out);
      } else {
        detail::write_found(inner, scan(s, cutoff, options), first[s], out);
      }
    });
  }
};

View<const double, 2> rows_from(View<const double, 2> x, std::int64_t begin, std::int64_t end) {
  return {x.data + 3 * begin, {end - begin, 3}};
}

}  // namespace

struct NeighborSearch::State {
  OwnedCutoff cutoff;
  NeighborOptions options;
  Systems systems;
};

NeighborSearch::NeighborSearch(const Context& context, View<const double, 2> x, const Cell& cell,
                               const NeighborCutoff& cutoff, const NeighborOptions& options)
    : NeighborSearch(
          context, x,
          NeighborSystems{{std::array<std::int64_t, 2>{0, x.shape[0]}.data(), {2}}, {cell}}, cutoff,
          options) {}

NeighborSearch::NeighborSearch(const Context& context, View<const double, 2> x,
                               const NeighborSystems& systems, const NeighborCutoff& cutoff,
                               const NeighborOptions& options)
    : state_(std::make_unique<State>(OwnedCutoff(cutoff), options, Systems())) {
  State& s = *state_;
  check_arguments(x, cutoff);
  check_systems(x, systems);
  s.systems.first.assign(systems.offsets.begin(), systems.offsets.end());
  if (x.device == Device::cuda) {
    s.systems.search_on_gpu(context, x, systems.cells, s.cutoff, options);
    return;
  }
  s.systems.cells.resize(systems.cells.size());
  const double reach = s.cutoff.reach(0);
  s.systems.for_each(context, [&](const Context& inner, std::int64_t system) {
    const auto part = rows_from(x, systems.offsets(system), systems.offsets(system + 1));
    s.systems.cells[system] = NeighborCells(inner, part, systems.cells[system], reach);
  });
  s.systems.search(context, s.cutoff, options);
}

NeighborSearch::~NeighborSearch() = default;
NeighborSearch::NeighborSearch(NeighborSearch&&) noexcept = default;
NeighborSearch& NeighborSearch::operator=(NeighborSearch&&) noexcept = default;

std::int64_t NeighborSearch::particles() const { return state_->systems.first.back(); }
std::int64_t NeighborSearch::count() const { return state_->systems.count(); }
std::int64_t NeighborSearch::largest_row() const { return state_->systems.largest_row(); }
View<const std::int64_t, 1> NeighborSearch::offsets() const { return state_->systems.view(); }
void NeighborSearch::copy_offsets(const Context& context, View<std::int64_t, 1> out) const {
  state_->systems.copy_offsets(context, out);
}

void NeighborSearch::fill(const Context& context,
                          const NeighborArrays<std::int32_t>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborSearch::fill(const Context& context,
                          const NeighborArrays<std::int64_t>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborSearch::fill(const Context& context,
                          const NeighborArrays<std::int32_t, float>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborSearch::fill(const Context& context,
                          const NeighborArrays<std::int64_t, float>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborSearch::fill(const Context& context, const NeighborMatrix& matrix) const {
  state_->systems.fill(context, state_->cutoff, state_->options, matrix);
}

struct NeighborList::State {
  OwnedCutoff cutoff;
  double skin;
  NeighborOptions options;

  bool built = false;
  Cell cell;
  std::vector<double> x_at_search;  // (n, 3); on the CPU
  double margin = 0;                // displacement that may not make a missing pair a neighbor
  Systems systems;

  bool serves(View<const double, 2> now, const Cell& now_cell) const;
  bool has_moved(const Context& context, View<const double, 2> now) const;
  void search(const Context& context, View<const double, 2> now, const Cell& now_cell);
  bool update_on_gpu(const Context& context, View<const double, 2> now, const Cell& now_cell);
};

/// Whether there is a list of as many particles in the same cell, on the same kind of device.
bool NeighborList::State::serves(View<const double, 2> now, const Cell& now_cell) const {
  return built && now.device == systems.device() && now.shape[0] == systems.first.back() &&
         now_cell.pbc == cell.pbc && now_cell.rows == cell.rows;
}

bool NeighborList::State::has_moved(const Context& context, View<const double, 2> now) const {
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
  systems = Systems();
  const double reach = cutoff.reach(skin);
  systems.cells.emplace_back(context, now, now_cell, reach);
  systems.first = {0, now.shape[0]};
  if (skin > 0) systems.kept = detail::keep_candidates(context, systems.cells[0], options);
  double largest = 0;
  for (double value : now) largest = std::max(largest, std::fabs(value));
  margin = systems.cells[0].grid().free_move(cutoff.cutoff.largest, largest);
  x_at_search.assign(now.begin(), now.end());
  cell = now_cell;
  built = true;
}

bool NeighborList::State::update_on_gpu(const Context& context, View<const double, 2> now,
                                        const Cell& now_cell) {
  const bool moved = serves(now, now_cell) && systems.move_on_gpu(context, now);
  if (moved) return false;
  built = false;
  systems = Systems();  // its memory goes before there is a new one
  Systems found;
  found.first = {0, now.shape[0]};
  found.search_on_gpu(context, now, {now_cell}, cutoff, options, skin);
  systems = std::move(found);
  cell = now_cell;
  built = true;
  return true;
}

NeighborList::NeighborList(const NeighborCutoff& cutoff, double skin,
                           const NeighborOptions& options) {
  MLCORE_CHECK(std::isfinite(skin) && skin >= 0, "skin must be finite and not negative, got ",
               skin);
  state_ = std::make_unique<State>(OwnedCutoff(cutoff), skin, options);
  MLCORE_CHECK(state_->cutoff.reach(skin) <= kLargestCoordinate, "cutoff and skin must be at most ",
               kLargestCoordinate, " together");
}

NeighborList::~NeighborList() = default;
NeighborList::NeighborList(NeighborList&&) noexcept = default;
NeighborList& NeighborList::operator=(NeighborList&&) noexcept = default;

bool NeighborList::update(const Context& context, View<const double, 2> x, const Cell& cell) {
  State& s = *state_;
  check_arguments(x, s.cutoff.cutoff.given);
  if (x.device == Device::cuda) return s.update_on_gpu(context, x, cell);
  const bool search = !s.serves(x, cell) || s.has_moved(context, x);
  if (search) {
    s.search(context, x, cell);
  } else {
    s.systems.cells[0].move(context, x);
  }
  s.systems.search(context, s.cutoff, s.options);
  return search;
}

std::int64_t NeighborList::particles() const { return state_->systems.first.back(); }
void NeighborList::copy_positions(const Context& context, View<double, 2> out) const {
  const Systems& systems = state_->systems;
  MLCORE_CHECK((out.shape == std::array<std::int64_t, 2>{particles(), 3}),
               "positions must have the shape (", particles(), ", 3)");
  MLCORE_CHECK(out.device == systems.device(), "positions must lie on the device of the list");
  if (particles() == 0) return;
  if (out.device == Device::cuda) return systems.on_gpu[0].copy_positions(context, out);
  systems.cells[0].copy_positions(out);
}
std::int64_t NeighborList::count() const { return state_->systems.count(); }
std::int64_t NeighborList::largest_row() const { return state_->systems.largest_row(); }
View<const std::int64_t, 1> NeighborList::offsets() const { return state_->systems.view(); }
void NeighborList::copy_offsets(const Context& context, View<std::int64_t, 1> out) const {
  state_->systems.copy_offsets(context, out);
}

void NeighborList::fill(const Context& context, const NeighborArrays<std::int32_t>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborList::fill(const Context& context, const NeighborArrays<std::int64_t>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborList::fill(const Context& context,
                        const NeighborArrays<std::int32_t, float>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborList::fill(const Context& context,
                        const NeighborArrays<std::int64_t, float>& arrays) const {
  state_->systems.fill(context, state_->cutoff, state_->options, arrays);
}
void NeighborList::fill(const Context& context, const NeighborMatrix& matrix) const {
  state_->systems.fill(context, state_->cutoff, state_->options, matrix);
}

}  // namespace mlcore
