#include "neighbor_cells.hpp"

#include <algorithm>
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

constexpr double kMaxWraps = 1 << 30;
constexpr std::int64_t kMaxSegments = std::int64_t{1} << 24;
constexpr double kMaxImages = 512;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

Cell without_open_rows(Cell cell) {
  for (int axis = 0; axis < 3; ++axis) {
    for (int k = 0; k < 3 && !cell.pbc[axis]; ++k) cell.rows[3 * axis + k] = 0;
  }
  return cell;
}

double row_size(const Cell& cell, int axis) {
  const double* row = cell.rows.data() + 3 * axis;
  return std::fabs(row[0]) + std::fabs(row[1]) + std::fabs(row[2]);
}

}  // namespace

/// Extremes of what the particles look like.
struct NeighborCells::Extent {
  double largest = 0;                        // |coordinate|
  double low[3], high[3];                    // Cartesian, wrapped
  double fraction_low[3], fraction_high[3];  // along the cell vectors, wrapped
  bool wrapped = false;

  Extent() {
    std::fill_n(low, 3, std::numeric_limits<double>::infinity());
    std::fill_n(fraction_low, 3, std::numeric_limits<double>::infinity());
    std::fill_n(high, 3, -std::numeric_limits<double>::infinity());
    std::fill_n(fraction_high, 3, -std::numeric_limits<double>::infinity());
  }

  void join(const Extent& other) {
    largest = std::max(largest, other.largest);
    wrapped |= other.wrapped;
    for (int k = 0; k < 3; ++k) {
      low[k] = std::min(low[k], other.low[k]);
      high[k] = std::max(high[k], other.high[k]);
      fraction_low[k] = std::min(fraction_low[k], other.fraction_low[k]);
      fraction_high[k] = std::max(fraction_high[k], other.fraction_high[k]);
    }
  }
};

NeighborCells::NeighborCells(const Context& context, View<const double, 2> x, const Cell& cell,
                             double reach)
    : reach_(reach), cell_(completed(without_open_rows(cell))), inverse_(inverse(cell_.rows)) {
  if (x.shape[0] == 0) return;
  const Scratch<double> fractions(3 * x.shape[0]);
  const Extent extent = wrap(context, x, fractions);
  choose_bins(extent, x.shape[0]);
  sort(context, fractions);
  move(context, x);
}

// ---- wrap

NeighborCells::Extent NeighborCells::wrap(const Context& context, View<const double, 2> x,
                                          const Scratch<double>& fractions) {
  const Extent extent = wrap_particles(context, x, fractions);
  if (!extent.wrapped) return extent;
  wraps_.resize(4 * x.shape[0]);  // once more, to write them down
  return wrap_particles(context, x, fractions);
}

NeighborCells::Extent NeighborCells::wrap_particles(const Context& context, View<const double, 2> x,
                                                    const Scratch<double>& fractions) {
  std::vector<Extent> extents(resolve_threads(context));
  parallel_for(context, x.shape[0], 1024, [&](std::int64_t begin, std::int64_t end, int chunk) {
    Extent extent;
    for (std::int64_t i = begin; i < end; ++i) {
      wrap_particle(x.data + 3 * i, i, &fractions[3 * i], extent);
    }
    extents[chunk] = extent;
  });
  Extent all;
  for (const Extent& extent : extents) all.join(extent);
  return all;
}

void NeighborCells::wrap_particle(const double* x, std::int64_t i, double* fraction,
                                  Extent& extent) {
  for (int k = 0; k < 3; ++k) {
    MLCORE_CHECK(std::fabs(x[k]) <= kLargestCoordinate, "positions must be finite and at most ",
                 kLargestCoordinate, ", but positions[", i, ", ", k, "] is ", x[k]);
    extent.largest = std::max(extent.largest, std::fabs(x[k]));
  }
  std::int32_t moved[4] = {};
  for (int axis = 0; axis < 3; ++axis) {
    double f = x[0] * inverse_[axis] + x[1] * inverse_[3 + axis] + x[2] * inverse_[6 + axis];
    if (cell_.pbc[axis] && !(f >= 0 && f < 1)) {
      const double wraps = std::floor(f);
      MLCORE_CHECK(std::fabs(wraps) < kMaxWraps, "positions[", i, "] lies ", wraps,
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
  const auto& rows = cell_.rows;
  for (int k = 0; k < 3; ++k) {
    result[k] = x[k] - ((w[0] * rows[k] + w[1] * rows[3 + k]) + w[2] * rows[6 + k]);
  }
}

// ---- cells

double NeighborCells::column_sum(int axis) const {
  return std::fabs(inverse_[axis]) + std::fabs(inverse_[3 + axis]) + std::fabs(inverse_[6 + axis]);
}

/// Bound of the rounding errors of wrapped Cartesian coordinates.
double NeighborCells::coordinate_error(double largest) const {
  double size = largest;
  for (int axis = 0; axis < 3; ++axis) {
    if (!cell_.pbc[axis]) continue;
    size += (largest * column_sum(axis) + 1) * row_size(cell_, axis);
  }
  return 32 * kEpsilon * size;
}

/// Largest entry of |cell @ inverse - 1|.
double NeighborCells::inverse_error() const {
  double worst = 0;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      double sum = i == j ? -1 : 0;
      for (int k = 0; k < 3; ++k) sum += cell_.rows[3 * i + k] * inverse_[3 * k + j];
      worst = std::max(worst, std::fabs(sum));
    }
  }
  return worst + kEpsilon;
}

/// How far, in fractions along an axis, two neighbors can be apart, rounding
/// included.
double NeighborCells::fraction_reach(const Extent& extent, int axis) const {
  const double a = inverse_[axis], b = inverse_[3 + axis], c = inverse_[6 + axis];
  const double norm = std::sqrt(a * a + b * b + c * c);
  const double reach = (reach_ * (1 + 1e-12) + coordinate_error(extent.largest)) * norm;
  const double size = extent.largest * column_sum(axis) + 1;
  return reach + 32 * kEpsilon * size + 3 * inverse_error() * (size + reach);
}

void NeighborCells::choose_bins(const Extent& extent, std::int64_t count) {
  double reach[3], span[3], bins[3];
  for (int axis = 0; axis < 3; ++axis) {
    const bool periodic = cell_.pbc[axis];
    axes_[axis].periodic = periodic;
    axes_[axis].low = periodic ? 0 : extent.fraction_low[axis];
    span[axis] = periodic ? 1 : extent.fraction_high[axis] - extent.fraction_low[axis];
    reach[axis] = fraction_reach(extent, axis);
    bins[axis] = std::max(1.0, std::floor(span[axis] * (1 - 1e-9) / reach[axis]));
  }
  const double most = std::min(2.0 * static_cast<double>(count) + 64, 0x1p30);
  while (bins[0] * bins[1] * bins[2] > most) {
    double& widest = *std::max_element(bins, bins + 3);
    widest = std::ceil(widest / 2);
  }
  std::int64_t segments = 1;
  for (int axis = 0; axis < 3; ++axis) {
    Axis& a = axes_[axis];
    a.bins = static_cast<std::int64_t>(bins[axis]);
    a.scale = a.periodic || a.bins > 1 ? bins[axis] / span[axis] : 0;
    const double cells = std::ceil(reach[axis] * a.scale);
    const double images = a.periodic ? std::floor(cells / bins[axis]) + 1 : 0;
    MLCORE_CHECK(images < kMaxImages, "cutoff ", reach_, " reaches over ", images,
                 " images of the cell along axis ", axis, "; at most ", kMaxImages - 1,
                 " are possible: repeat the cell or lower the cutoff");
    a.reach = a.periodic ? static_cast<std::int64_t>(cells)
                         : static_cast<std::int64_t>(std::min(cells, bins[axis] - 1));
    a.images = a.periodic ? static_cast<std::int32_t>((a.reach + a.bins - 1) / a.bins) : 0;
    segments *= axis < 2 ? 2 * a.reach + 1 : 2 * static_cast<std::int64_t>(images) + 1;
    MLCORE_CHECK(segments <= kMaxSegments, "cutoff ", reach_,
                 " reaches over too many images of the cell: repeat the cell "
                 "or lower the cutoff");
  }
  list_images();
  choose_scale(extent, reach);
}

void NeighborCells::list_images() {
  constexpr std::int64_t kMost = 256;
  std::int64_t count = 1;
  for (const Axis& axis : axes_) count = std::min(kMost + 1, count * (2 * axis.images + 1));
  if (count > kMost) return;
  const auto [a, b, c] = std::array{axes_[0].images, axes_[1].images, axes_[2].images};
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
    const std::int32_t images = axes_[axis].images;
    number = narrow() ? number * (2 * images + 1) + image[axis] + images
                      : (number << kernels::kNeighborImageBits) + image[axis] +
                            kernels::kNeighborImageBias;
  }
  return number;
}

void NeighborCells::shift_of(const Image& image, double* shift) const {
  const auto& rows = cell_.rows;
  for (int k = 0; k < 3; ++k) {
    shift[k] = (image[0] * rows[k] + image[1] * rows[3 + k]) + image[2] * rows[6 + k];
  }
}

void NeighborCells::choose_scale(const Extent& extent, const double* reach) {
  unit_ = 1 / reach_;
  double size = 3;
  for (int k = 0; k < 3; ++k) {
    low_[k] = extent.low[k];
    size += (extent.high[k] - extent.low[k]) * unit_;
    if (axes_[k].periodic) size += (reach[k] + 2) * row_size(cell_, k) * unit_;
  }
  doubt_ = 0x1p-21 * size + 4 * coordinate_error(extent.largest + reach_) * unit_;
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
    const Axis& a = axes_[axis];
    const double along = (fraction[axis] - a.low) * a.scale;
    const auto last = static_cast<double>(a.bins - 1);
    bin = bin * a.bins + static_cast<std::int64_t>(std::clamp(along, 0.0, last));
  }
  return bin;
}

/// Counting sort; particles of a cell stay in the caller's order.
void NeighborCells::sort(const Context& context, const Scratch<double>& fractions) {
  const std::int64_t n = fractions.size() / 3;
  const std::int64_t cells = axes_[0].bins * axes_[1].bins * axes_[2].bins;
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
      positions_[4 * i + 3] = 0;
    }
  });
  for (auto& component : copies_) component.resize(n + kernels::kNeighborSlack);
  parallel_for(context, n, 4096, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      constexpr std::int32_t nowhere[3] = {};
      const std::int64_t at = 4 * std::int64_t{number_[p]};
      double inside[3];
      wrapped_position(&positions_[at], wraps_.empty() ? nowhere : &wraps_[at], inside);
      for (int k = 0; k < 3; ++k) {
        copies_[k][p] = static_cast<float>((inside[k] - low_[k]) * unit_);
      }
    }
  });
}

kernels::NeighborParticles NeighborCells::particles() const {
  return {positions_.data(), wraps_.empty() ? nullptr : wraps_.data(), cell_.rows.data(),
          images_.empty() ? nullptr : images_.data()};
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
void NeighborCells::pieces_around(const Axis& axis, std::int64_t bin, bool merge, Pieces& pieces) {
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
  const std::int64_t n1 = axes_[1].bins, n2 = axes_[2].bins;
  pieces_around(axes_[0], cell / (n1 * n2), false, pieces[0]);
  pieces_around(axes_[1], cell / n2 % n1, false, pieces[1]);
  pieces_around(axes_[2], cell % n2, true, pieces[2]);
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
