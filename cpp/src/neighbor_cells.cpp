#include "neighbor_cells.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "parallel.hpp"

// Cells as wide as the reach, numbered with the last axis fastest, so that the
// cells around one lie in nine runs. This file is compiled without contraction
// of a * b + c: shifts enter the distances that define the pair set.

namespace mlcore::detail {
namespace {

using kernels::NeighborSegment;

/// Four small numbers in the memory of one.
double packed(const std::int32_t* wraps) {
  std::int16_t small[4];
  for (int k = 0; k < 4; ++k) small[k] = static_cast<std::int16_t>(wraps[k]);
  return std::bit_cast<double>(small);
}

}  // namespace

NeighborCells::NeighborCells(const Context& context, View<const double, 2> x, const Cell& cell,
                             double reach)
    : grid_(cell, reach) {
  if (x.shape[0] == 0) return;
  positions_.resize(4 * x.shape[0]);
  double* const fractions = positions_.data();  // until they are sorted, in the same memory
  const NeighborExtent extent = wrap(context, x, fractions);
  grid_.choose(extent, x.shape[0]);
  list_images();
  choose_scale(extent);
  sort(context, fractions);
  move(context, x);
}

// ---- wrap

NeighborExtent NeighborCells::wrap(const Context& context, View<const double, 2> x,
                                   double* fractions) {
  const NeighborExtent extent = wrap_particles(context, x, fractions);
  if (!extent.wrapped) return extent;
  wraps_.resize(4 * x.shape[0]);  // once more, to write them down
  const NeighborExtent again = wrap_particles(context, x, fractions);
  packed_ = narrow_wraps();
  return again;
}

NeighborExtent NeighborCells::wrap_particles(const Context& context, View<const double, 2> x,
                                             double* fractions) {
  std::vector<NeighborExtent> extents(resolve_threads(context));
  parallel_for(context, x.shape[0], 1024, [&](std::int64_t begin, std::int64_t end, int chunk) {
    NeighborExtent extent;
    for (std::int64_t i = begin; i < end; ++i) {
      wrap_particle(x.data + 3 * i, i, &fractions[3 * i], extent);
    }
    extents[chunk] = extent;
  });
  NeighborExtent all;
  for (const NeighborExtent& extent : extents) all.join(extent);
  return all;
}

void NeighborCells::wrap_particle(const double* x, std::int64_t i, double* fraction,
                                  NeighborExtent& extent) {
  for (int k = 0; k < 3; ++k) {
    MLCORE_CHECK(std::fabs(x[k]) <= kLargestCoordinate, "positions must be finite and at most ",
                 kLargestCoordinate, ", but positions[", i, ", ", k, "] is ", x[k]);
    extent.largest = std::max(extent.largest, std::fabs(x[k]));
  }
  std::int32_t moved[4] = {};
  for (int axis = 0; axis < 3; ++axis) {
    double f = x[0] * grid_.inverse[axis] + x[1] * grid_.inverse[3 + axis] +
               x[2] * grid_.inverse[6 + axis];
    if (grid_.cell.pbc[axis] && !(f >= 0 && f < 1)) {
      const double wraps = std::floor(f);
      MLCORE_CHECK(std::fabs(wraps) < kMostWraps, "positions[", i, "] lies ", wraps,
                   " cells away along axis ", axis, "; at most 2^30 are possible");
      moved[axis] = static_cast<std::int32_t>(wraps);
      extent.wrapped = true;
      f -= wraps;
    }
    fraction[axis] = f;
    extent.fraction_low[axis] = std::min(extent.fraction_low[axis], f);
    extent.fraction_high[axis] = std::max(extent.fraction_high[axis], f);
  }
  if (!wraps_.empty()) std::copy_n(moved, 4, &wraps_[4 * i]);
  double inside[3];
  wrapped_position(x, moved, inside);
  for (int k = 0; k < 3; ++k) {
    extent.low[k] = std::min(extent.low[k], inside[k]);
    extent.high[k] = std::max(extent.high[k], inside[k]);
  }
}

void NeighborCells::wrapped_position(const double* x, const std::int32_t* w, double* result) const {
  const auto& rows = grid_.cell.rows;
  for (int k = 0; k < 3; ++k) {
    result[k] = x[k] - ((w[0] * rows[k] + w[1] * rows[3 + k]) + w[2] * rows[6 + k]);
  }
}

/// Whether wraps fit next to the position they go with.
bool NeighborCells::narrow_wraps() const {
  const auto fits = [](std::int32_t w) { return w == static_cast<std::int16_t>(w); };
  return std::all_of(wraps_.begin(), wraps_.end(), fits);
}

// ---- cells

void NeighborCells::list_images() {
  constexpr std::int64_t kMost = 256;
  std::int64_t count = 1;
  for (const NeighborAxis& axis : grid_.axes)
    count = std::min(kMost + 1, count * (2 * axis.images + 1));
  if (count > kMost) return;
  const auto [a, b, c] =
      std::array{grid_.axes[0].images, grid_.axes[1].images, grid_.axes[2].images};
  for (Image image{-a, 0, 0}; image[0] <= a; ++image[0]) {
    for (image[1] = -b; image[1] <= b; ++image[1]) {
      for (image[2] = -c; image[2] <= c; ++image[2]) {
        images_.push_back({{}, {image[0], image[1], image[2], 0}, {}});
        shift_of(image, images_.back().shift);
      }
    }
  }
}

std::int32_t NeighborCells::image_number(const Image& image) const {
  std::int32_t number = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const std::int32_t images = grid_.axes[axis].images;
    number = narrow() ? number * (2 * images + 1) + image[axis] + images
                      : (number << kernels::kNeighborImageBits) + image[axis] +
                            kernels::kNeighborImageBias;
  }
  return number;
}

void NeighborCells::shift_of(const Image& image, double* shift) const {
  const auto& rows = grid_.cell.rows;
  for (int k = 0; k < 3; ++k) {
    shift[k] = (image[0] * rows[k] + image[1] * rows[3 + k]) + image[2] * rows[6 + k];
  }
}

std::vector<float> NeighborCells::image_shifts() const {
  std::vector<float> shifts;
  for (const kernels::NeighborImage& image : images_) {
    for (double shift : image.shift) shifts.push_back(static_cast<float>(shift * unit_));
  }
  return shifts;
}

double NeighborCells::row_size(int axis) const {
  const double* row = grid_.cell.rows.data() + 3 * axis;
  return std::fabs(row[0]) + std::fabs(row[1]) + std::fabs(row[2]);
}

void NeighborCells::choose_scale(const NeighborExtent& extent) {
  unit_ = 1 / grid_.reach;
  double size = 3;
  for (int k = 0; k < 3; ++k) {
    low_[k] = extent.low[k];
    size += (extent.high[k] - extent.low[k]) * unit_;
    if (grid_.axes[k].periodic) size += (grid_.fraction_reach[k] + 2) * row_size(k) * unit_;
  }
  doubt_ = 0x1p-21 * size + 4 * grid_.coordinate_error(extent.largest + grid_.reach) * unit_;
}

std::array<float, 2> NeighborCells::decided(double cutoff) const {
  const double c = cutoff * unit_, low = c - doubt_, high = c + doubt_;
  return {low > 0.5 * c ? static_cast<float>(low * low * (1 - 1e-6)) : -1.0f,
          static_cast<float>(high * high * (1 + 1e-6))};
}

// ---- sort

std::int64_t NeighborCells::bin_of(const double* fraction) const {
  std::int64_t bin = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const NeighborAxis& a = grid_.axes[axis];
    const double along = (fraction[axis] - a.low) * a.scale;
    const auto last = static_cast<double>(a.bins - 1);
    bin = bin * a.bins + static_cast<std::int64_t>(std::clamp(along, 0.0, last));
  }
  return bin;
}

/// Counting sort; particles of a cell stay in the caller's order.
void NeighborCells::sort(const Context& context, const double* fractions) {
  const std::int64_t n = size();
  const std::int64_t cells = grid_.cells();
  const int chunks =
      static_cast<int>(std::clamp<std::int64_t>(n / (8192 + cells), 1, resolve_threads(context)));
  const Scratch<std::int32_t> bin(n);
  std::vector<std::vector<std::int32_t>> next(chunks, std::vector<std::int32_t>(cells, 0));
  const Context few{chunks};
  parallel_for(few, chunks, 1, [&](std::int64_t first, std::int64_t last, int) {
    for (std::int64_t c = first; c < last; ++c) {
      for (std::int64_t i = n * c / chunks; i < n * (c + 1) / chunks; ++i) {
        bin[i] = static_cast<std::int32_t>(bin_of(&fractions[3 * i]));
        ++next[c][bin[i]];
      }
    }
  });
  start_.resize(cells + 1);
  std::int32_t total = 0;
  for (std::int64_t b = 0; b < cells; ++b) {
    start_[b] = total;
    for (auto& of_chunk : next) total += std::exchange(of_chunk[b], total);
  }
  start_[cells] = total;
  number_.resize(n + kernels::kNeighborSlack);
  parallel_for(few, chunks, 1, [&](std::int64_t first, std::int64_t last, int) {
    for (std::int64_t c = first; c < last; ++c) {
      for (std::int64_t i = n * c / chunks; i < n * (c + 1) / chunks; ++i) {
        number_[next[c][bin[i]]++] = static_cast<std::int32_t>(i);
      }
    }
  });
}

void NeighborCells::move(const Context& context, View<const double, 2> x) {
  const std::int64_t n = x.shape[0];
  positions_.resize(4 * n);
  parallel_for(context, n, 4096, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      std::copy_n(x.data + 3 * i, 3, &positions_[4 * i]);
      positions_[4 * i + 3] = packed_ && narrow() ? packed(&wraps_[4 * i]) : 0;
    }
  });
  for (auto& component : copies_) component.resize(n + kernels::kNeighborSlack);
  parallel_for(context, n, 4096, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      constexpr std::int32_t nowhere[3] = {};
      constexpr std::int64_t ahead = 24;  // they lie anywhere
      if (p + ahead < end) {
        const std::int64_t later = 4 * std::int64_t{number_[p + ahead]};
        __builtin_prefetch(&positions_[later]);
        if (!wraps_.empty()) __builtin_prefetch(&wraps_[later]);
      }
      const std::int64_t at = 4 * std::int64_t{number_[p]};
      double inside[3];
      wrapped_position(&positions_[at], wraps_.empty() ? nowhere : &wraps_[at], inside);
      for (int k = 0; k < 3; ++k) {
        copies_[k][p] = static_cast<float>((inside[k] - low_[k]) * unit_);
      }
    }
  });
}

void NeighborCells::copy_positions(View<double, 2> out) const {
  for (std::int64_t i = 0; i < size(); ++i) std::copy_n(&positions_[4 * i], 3, &out(i, 0));
}

kernels::NeighborParticles NeighborCells::particles() const {
  return {positions_.data(), wraps_.empty() ? nullptr : wraps_.data(), grid_.cell.rows.data(),
          images_.empty() ? nullptr : images_.data(), packed_ && narrow()};
}

kernels::NeighborCopies NeighborCells::copies() const {
  return {copies_[0].data(), copies_[1].data(), copies_[2].data(), number_.data()};
}

// ---- segments

std::int64_t NeighborCells::cell_of(std::int64_t place) const {
  return std::upper_bound(start_.begin(), start_.end(), place) - start_.begin() - 1;
}

/// Runs of bins, each in one image of the cell, within reach of a bin along an
/// axis.
void NeighborCells::pieces_around(const NeighborAxis& axis, std::int64_t bin, bool merge,
                                  Pieces& pieces) {
  pieces.clear();
  for (std::int64_t t = bin - axis.reach; t <= bin + axis.reach; ++t) {
    if (!axis.periodic && (t < 0 || t >= axis.bins)) continue;
    const std::int64_t image = t >= 0 ? t / axis.bins : -((axis.bins - 1 - t) / axis.bins);
    const std::int64_t target = t - image * axis.bins;
    if (merge && !pieces.empty() && pieces.back().image == image) {
      pieces.back().last = target;
    } else {
      pieces.push_back({target, target, static_cast<std::int32_t>(image)});
    }
  }
}

std::int64_t NeighborCells::segments_around(std::int64_t cell,
                                            std::vector<NeighborSegment>& segments) const {
  thread_local Pieces pieces[3];
  const std::int64_t n1 = grid_.axes[1].bins, n2 = grid_.axes[2].bins;
  pieces_around(grid_.axes[0], cell / (n1 * n2), false, pieces[0]);
  pieces_around(grid_.axes[1], cell / n2 % n1, false, pieces[1]);
  pieces_around(grid_.axes[2], cell % n2, true, pieces[2]);
  segments.clear();
  std::int64_t home = 0;
  for (const Piece& a : pieces[0]) {
    for (const Piece& b : pieces[1]) {
      const std::int64_t row = (a.first * n1 + b.first) * n2;
      for (const Piece& c : pieces[2]) {
        const std::int32_t begin = start_[row + c.first], end = start_[row + c.last + 1];
        if (begin == end) continue;
        const bool unshifted = a.image == 0 && b.image == 0 && c.image == 0;
        if (unshifted && begin <= start_[cell] && start_[cell] < end) {
          home = static_cast<std::int64_t>(segments.size());
        }
        segments.push_back(segment(begin, end, {a.image, b.image, c.image}));
      }
    }
  }
  return home;
}

NeighborSegment NeighborCells::segment(std::int32_t begin, std::int32_t end,
                                       const Image& image) const {
  NeighborSegment result{begin, end, image_number(image), {}};
  double shift[3];
  shift_of(image, shift);
  for (int k = 0; k < 3; ++k) result.shift[k] = static_cast<float>(shift[k] * unit_);
  return result;
}

}  // namespace mlcore::detail
