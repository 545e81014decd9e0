#include "neighbor_search.hpp"

#include <cmath>
#include <limits>

#include "parallel.hpp"

// Cells as wide as the cutoff, particles copied into cell order, one scan per row of three cells
// and image. Narrower cells have fewer candidates, but their short rows leave vector lanes empty.
// The scan works in single precision and decides all but the pairs within its rounding error of
// the cutoff; those are decided in double by displacement() below, which defines the pair set.
// This file is compiled without contraction of a * b + c, so that definition is one.

namespace mlcore::detail {
namespace {

using kernels::NeighborSegment;

constexpr double kMaxWraps = 1 << 30;
constexpr std::int64_t kMaxSegments = std::int64_t{1} << 24;
constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

/// What the pair list is defined by.
void displacement(const std::array<double, 9>& rows, const double* xi, const double* xj,
                  const Image& S, double* D) {
  for (int k = 0; k < 3; ++k) {
    const double shift = (S[0] * rows[k] + S[1] * rows[3 + k]) + S[2] * rows[6 + k];
    D[k] = (xj[k] - xi[k]) + shift;
  }
}

double length(const double* D) { return std::sqrt((D[0] * D[0] + D[1] * D[1]) + D[2] * D[2]); }

/// Extremes of what the particles look like in the frame.
struct Extent {
  double largest = 0;                        // |coordinate|
  double low[3], high[3];                    // Cartesian, wrapped
  double fraction_low[3], fraction_high[3];  // along the frame's vectors, wrapped
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

/// One search: wrap -> sort into cells -> scan.
class Search {
 public:
  Search(const Context& context, View<const double, 2> x, const PairCutoff& cutoff,
         const NeighborOptions& options, Frame& frame)
      : context_(context),
        x_(x),
        n_(x.shape[0]),
        cutoff_(cutoff),
        options_(options),
        frame_(frame) {}

  PairRows run() {
    wrap();
    PairRows rows(n_, resolve_threads(context_));
    if (n_ > 0 && cutoff_.largest > 0) {
      choose_bins();
      sort_into_bins();
      parallel_for(context_, n_, 64, [&](std::int64_t begin, std::int64_t end, int chunk) {
        scan(begin, end, chunk, rows);
      });
    }
    rows.finish(std::move(order_));
    return rows;
  }

 private:
  struct Axis {
    double low = 0, scale = 1;  // bin = floor((fraction - low) * scale)
    std::int64_t bins = 1;
    std::int64_t reach = 0;  // neighbors lie at most so many bins away
    bool periodic = false;
  };
  struct Piece {
    std::int64_t first, last;  // bins
    std::int32_t image;
  };
  struct Scratch {
    std::vector<Piece> pieces[3];
    std::vector<NeighborSegment> segments;
    std::vector<std::uint32_t> index, code;
    std::vector<std::int32_t> particles;
    std::vector<Key> keys;
  };

  // ---- wrap

  void wrap() {
    fractions_.resize(3 * n_);
    frame_.wraps.assign(3 * n_, 0);
    std::vector<Extent> extents(resolve_threads(context_));
    parallel_for(context_, n_, 1024, [&](std::int64_t begin, std::int64_t end, int chunk) {
      Extent extent;
      for (std::int64_t i = begin; i < end; ++i) wrap_particle(i, extent);
      extents[chunk] = extent;
    });
    for (const Extent& extent : extents) extent_.join(extent);
    if (!extent_.wrapped) frame_.wraps.clear();
  }

  void wrap_particle(std::int64_t i, Extent& extent) {
    const double* x = x_.data + 3 * i;
    for (int k = 0; k < 3; ++k) {
      MLCORE_CHECK(std::fabs(x[k]) <= kLargestCoordinate, "positions must be finite and at most ",
                   kLargestCoordinate, ", but positions[", i, ", ", k, "] is ", x[k]);
      extent.largest = std::max(extent.largest, std::fabs(x[k]));
    }
    const auto& inv = frame_.inverse;
    for (int axis = 0; axis < 3; ++axis) {
      double fraction = x[0] * inv[axis] + x[1] * inv[3 + axis] + x[2] * inv[6 + axis];
      if (frame_.cell.pbc[axis]) {
        const double wraps = std::floor(fraction);
        MLCORE_CHECK(std::fabs(wraps) < kMaxWraps, "positions[", i, "] lies ", wraps,
                     " cells away along axis ", axis, "; at most 2^30 are possible");
        frame_.wraps[3 * i + axis] = static_cast<std::int32_t>(wraps);
        extent.wrapped |= wraps != 0;
        fraction -= wraps;
      }
      fractions_[3 * i + axis] = fraction;
      extent.fraction_low[axis] = std::min(extent.fraction_low[axis], fraction);
      extent.fraction_high[axis] = std::max(extent.fraction_high[axis], fraction);
    }
    double inside[3];
    wrapped_position(i, inside);
    for (int k = 0; k < 3; ++k) {
      extent.low[k] = std::min(extent.low[k], inside[k]);
      extent.high[k] = std::max(extent.high[k], inside[k]);
    }
  }

  void wrapped_position(std::int64_t i, double* result) const {
    const auto& rows = frame_.cell.rows;
    const std::int32_t* w = frame_.wraps.empty() ? nullptr : frame_.wraps.data() + 3 * i;
    for (int k = 0; k < 3; ++k) {
      result[k] = x_(i, k);
      if (w) result[k] -= (w[0] * rows[k] + w[1] * rows[3 + k]) + w[2] * rows[6 + k];
    }
  }

  // ---- cells

  double column_sum(int axis) const {
    const auto& inv = frame_.inverse;
    return std::fabs(inv[axis]) + std::fabs(inv[3 + axis]) + std::fabs(inv[6 + axis]);
  }

  /// Bound of the rounding errors of wrapped Cartesian coordinates.
  double coordinate_error() const {
    double size = extent_.largest;
    for (int axis = 0; axis < 3; ++axis) {
      if (!frame_.cell.pbc[axis]) continue;
      const double* row = frame_.cell.rows.data() + 3 * axis;
      const double wraps = extent_.largest * column_sum(axis) + 1;
      size += wraps * (std::fabs(row[0]) + std::fabs(row[1]) + std::fabs(row[2]));
    }
    return 32 * kEpsilon * size;
  }

  /// Largest entry of |cell @ inverse - 1|.
  double inverse_error() const {
    double worst = 0;
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) {
        double sum = i == j ? -1 : 0;
        for (int k = 0; k < 3; ++k) {
          sum += frame_.cell.rows[3 * i + k] * frame_.inverse[3 * k + j];
        }
        worst = std::max(worst, std::fabs(sum));
      }
    }
    return worst + kEpsilon;
  }

  /// How far, in fractions along an axis, two neighbors can be apart, rounding included.
  double fraction_reach(int axis) const {
    const auto& inv = frame_.inverse;
    const double norm = std::sqrt(inv[axis] * inv[axis] + inv[3 + axis] * inv[3 + axis] +
                                  inv[6 + axis] * inv[6 + axis]);
    const double reach = (cutoff_.largest * (1 + 1e-12) + coordinate_error()) * norm;
    const double size = extent_.largest * column_sum(axis) + 1;
    return reach + 32 * kEpsilon * size + 3 * inverse_error() * (size + reach);
  }

  void choose_bins() {
    double reach[3], span[3], bins[3];
    for (int axis = 0; axis < 3; ++axis) {
      axes_[axis].periodic = frame_.cell.pbc[axis];
      axes_[axis].low = axes_[axis].periodic ? 0 : extent_.fraction_low[axis];
      span[axis] =
          axes_[axis].periodic ? 1 : extent_.fraction_high[axis] - extent_.fraction_low[axis];
      reach[axis] = fraction_reach(axis);
      bins[axis] = std::max(1.0, std::floor(span[axis] * (1 - 1e-9) / reach[axis]));
    }
    const double most = std::min(2.0 * static_cast<double>(n_) + 64, 0x1p30);
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
      MLCORE_CHECK(images < kCodeBias, "cutoff ", cutoff_.largest, " reaches over ", images,
                   " images of the cell along axis ", axis, "; at most ", kCodeBias - 1,
                   " are possible: repeat the cell or lower the cutoff");
      one_image_ = one_image_ && (!a.periodic || reach[axis] < 0.499);
      a.reach = a.periodic ? static_cast<std::int64_t>(cells)
                           : static_cast<std::int64_t>(std::min(cells, bins[axis] - 1));
      segments *= axis < 2 ? 2 * a.reach + 1 : 2 * static_cast<std::int64_t>(images) + 1;
      MLCORE_CHECK(segments <= kMaxSegments, "cutoff ", cutoff_.largest,
                   " reaches over too many images of the cell: repeat the cell or lower the "
                   "cutoff");
    }
    choose_scale(reach);
  }

  /// Origin and unit of the single-precision copies, and where their rounding leaves doubt.
  void choose_scale(const double* reach) {
    unit_ = 1 / cutoff_.largest;
    double size = 2;
    for (int k = 0; k < 3; ++k) {
      size += (extent_.high[k] - extent_.low[k]) * unit_;
      if (!axes_[k].periodic) continue;
      const double* row = frame_.cell.rows.data() + 3 * k;
      const double row_size = std::fabs(row[0]) + std::fabs(row[1]) + std::fabs(row[2]);
      size += (reach[k] + 2) * row_size * unit_;
    }
    const double doubt = 0x1p-21 * size + 4 * coordinate_error() * unit_;
    inside_ = doubt < 0.5 ? static_cast<float>((1 - doubt) * (1 - doubt) * (1 - 1e-6)) : -1.0f;
    outside_ = static_cast<float>((1 + doubt) * (1 + doubt) * (1 + 1e-6));
  }

  std::int64_t bin_of(std::int64_t i) const {
    std::int64_t bin = 0;
    for (int axis = 0; axis < 3; ++axis) {
      const Axis& a = axes_[axis];
      const double along = (fractions_[3 * i + axis] - a.low) * a.scale;
      const auto last = static_cast<double>(a.bins - 1);
      bin = bin * a.bins + static_cast<std::int64_t>(std::clamp(along, 0.0, last));
    }
    return bin;
  }

  void sort_into_bins() {
    std::vector<std::int32_t> bin(n_);
    parallel_for(context_, n_, 4096, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) bin[i] = static_cast<std::int32_t>(bin_of(i));
    });
    bin_start_.assign(axes_[0].bins * axes_[1].bins * axes_[2].bins + 1, 0);
    for (std::int64_t i = 0; i < n_; ++i) ++bin_start_[bin[i] + 1];
    for (std::size_t b = 1; b < bin_start_.size(); ++b) bin_start_[b] += bin_start_[b - 1];
    std::vector<std::int32_t> next(bin_start_.begin(), bin_start_.end() - 1);
    order_.resize(n_);
    sorted_bin_.resize(n_);
    for (std::int64_t i = 0; i < n_; ++i) {
      const std::int32_t p = next[bin[i]]++;
      order_[p] = static_cast<std::int32_t>(i);
      sorted_bin_[p] = bin[i];
    }
    copy_in_order();
  }

  void copy_in_order() {
    for (auto& component : sorted_) component.assign(n_ + kernels::kNeighborSlack, 0.0f);
    parallel_for(context_, n_, 4096, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t p = begin; p < end; ++p) {
        double x[3];
        wrapped_position(order_[p], x);
        for (int k = 0; k < 3; ++k) {
          sorted_[k][p] = static_cast<float>((x[k] - extent_.low[k]) * unit_);
        }
      }
    });
  }

  // ---- scan

  /// Runs of bins, each in one image of the cell, within reach of a bin along an axis.
  void pieces_around(const Axis& axis, std::int64_t bin, bool merge,
                     std::vector<Piece>& pieces) const {
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

  void segments_around(std::int64_t bin, Scratch& scratch) const {
    auto& pieces = scratch.pieces;
    auto& segments = scratch.segments;
    const std::int64_t n1 = axes_[1].bins, n2 = axes_[2].bins;
    pieces_around(axes_[0], bin / (n1 * n2), false, pieces[0]);
    pieces_around(axes_[1], bin / n2 % n1, false, pieces[1]);
    pieces_around(axes_[2], bin % n2, true, pieces[2]);
    segments.clear();
    for (const Piece& a : pieces[0]) {
      for (const Piece& b : pieces[1]) {
        const std::int64_t row = (a.first * n1 + b.first) * n2;
        for (const Piece& c : pieces[2]) {
          const std::int32_t begin = bin_start_[row + c.first];
          const std::int32_t end = bin_start_[row + c.last + 1];
          if (begin < end) segments.push_back(segment(begin, end, {a.image, b.image, c.image}));
        }
      }
    }
  }

  NeighborSegment segment(std::int32_t begin, std::int32_t end, const Image& image) const {
    NeighborSegment result{begin, end, {}, encode(image)};
    const auto& rows = frame_.cell.rows;
    for (int k = 0; k < 3; ++k) {
      const double shift = image[0] * rows[k] + image[1] * rows[3 + k] + image[2] * rows[6 + k];
      result.shift[k] = static_cast<float>(shift * unit_);
    }
    return result;
  }

  void scan(std::int64_t begin, std::int64_t end, int chunk, PairRows& rows) const {
    Scratch scratch;
    std::int64_t bin = -1, candidates = 0;
    for (std::int64_t p = begin; p < end; ++p) {
      if (sorted_bin_[p] != bin) {
        bin = sorted_bin_[p];
        segments_around(bin, scratch);
        candidates = 0;
        for (const NeighborSegment& s : scratch.segments) candidates += s.end - s.begin;
        const auto room = static_cast<std::size_t>(candidates + kernels::kNeighborSlack);
        if (scratch.index.size() < room) {
          scratch.index.resize(room);
          scratch.code.resize(room);
          scratch.keys.resize(room);
          scratch.particles.resize(room);
        }
      }
      scan_particle(p, scratch, chunk, rows);
    }
  }

  void scan_particle(std::int64_t p, Scratch& scratch, int chunk, PairRows& rows) const {
    const float centre[3] = {sorted_[0][p], sorted_[1][p], sorted_[2][p]};
    bool undecided = false;
    const std::int64_t found = MLCORE_DISPATCH(neighbor_row)(
        sorted_[0].data(), sorted_[1].data(), sorted_[2].data(), scratch.segments.data(),
        static_cast<std::int64_t>(scratch.segments.size()), centre, inside_, outside_,
        scratch.index.data(), scratch.code.data(), &undecided);
    const std::int64_t i = order_[p];
    const std::int64_t kept = undecided || !cutoff_.uniform() ? keep_some(i, found, scratch)
                                                              : keep_all(i, found, scratch);
    Key* row = rows.reserve(chunk, kept);
    store(scratch, kept, row);
    rows.commit(chunk, i, kept);
  }

  /// Every candidate is a neighbor, except perhaps the particle itself.
  std::int64_t keep_all(std::int64_t i, std::int64_t found, Scratch& scratch) const {
    Key* keys = scratch.keys.data();
    MLCORE_DISPATCH(neighbor_keys)
    (scratch.index.data(), scratch.code.data(), found, order_.data(), keys);
    const Key self = make_key(i, kHomeCode);
    if (options_.half) return keep_from(options_.self_pairs ? self : self + 1, keys, found);
    if (options_.self_pairs) return found;
    *std::find(keys, keys + found, self) = keys[found - 1];
    return found - 1;
  }

  static std::int64_t keep_from(Key smallest, Key* keys, std::int64_t count) {
    std::int64_t kept = 0;
    for (std::int64_t k = 0; k < count; ++k) {
      const Key key = keys[k];
      keys[kept] = key;
      kept += key >= smallest;
    }
    return kept;
  }

  std::int64_t keep_some(std::int64_t i, std::int64_t found, Scratch& scratch) const {
    const Key self = make_key(i, kHomeCode);
    const Key smallest = options_.half ? self : 0;
    std::int64_t kept = 0;
    for (std::int64_t k = 0; k < found; ++k) {
      const std::uint32_t index = scratch.index[k] & ~kernels::kNeighborUndecided;
      const bool undecided = index != scratch.index[k] || !cutoff_.uniform();
      const Key key = make_key(order_[index], scratch.code[k]);
      if (key < smallest || (key == self && !options_.self_pairs)) continue;
      if (undecided && !is_neighbor(i, key)) continue;
      scratch.keys[kept++] = key;
    }
    return kept;
  }

  bool is_neighbor(std::int64_t i, Key key) const {
    const std::int64_t j = key_particle(key);
    double D[3];
    displacement(frame_.cell.rows, x_.data + 3 * i, x_.data + 3 * j,
                 frame_.crossings(i, j, key_code(key)), D);
    return length(D) < (cutoff_.uniform() ? cutoff_.largest : cutoff_.of(i, j));
  }

  void store(Scratch& scratch, std::int64_t count, Key* row) const {
    constexpr std::int64_t kRankSortLimit = 256;
    Key* keys = scratch.keys.data();
    if (options_.sorted && count <= kRankSortLimit) {
      MLCORE_DISPATCH(rank_sort)(keys, count, one_image_, scratch.particles.data(), row);
      return;
    }
    std::copy_n(keys, count, row);
    if (options_.sorted) std::sort(row, row + count);
  }

  const Context& context_;
  View<const double, 2> x_;
  std::int64_t n_;
  const PairCutoff& cutoff_;
  const NeighborOptions& options_;
  Frame& frame_;

  Extent extent_;
  Axis axes_[3];
  double unit_ = 1;
  float inside_ = 0, outside_ = 0;
  bool one_image_ = true;  // no particle is in reach of another twice
  std::vector<double> fractions_;
  std::vector<std::int32_t> bin_start_, order_, sorted_bin_;
  std::vector<float> sorted_[3];
};

}  // namespace

PairRows search_pairs(const Context& context, View<const double, 2> x, const PairCutoff& cutoff,
                      const NeighborOptions& options, Frame& frame) {
  return Search(context, x, cutoff, options, frame).run();
}

}  // namespace mlcore::detail
