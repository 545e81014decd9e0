#include "splitting_lists.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "mlcore/neighbors.hpp"
#include "parallel.hpp"
#include "scratch.hpp"

namespace mlcore::detail {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kSkin = 0.2;               // in cutoffs
constexpr std::int64_t kGrain = 256;        // rows worth waking a thread for
constexpr std::int64_t kPlaceGrain = 8192;  // the same of particles

/// Numbers of the images S of particles: those with S = 0 are known, others are numbered as they
/// come.
class Images {
 public:
  Images(std::int64_t n, const Scratch<std::int32_t>& S) {
    std::int32_t reach[3] = {};
    for (std::int64_t e = 0; e < S.size(); e += 3) {
      for (int a = 0; a < 3; ++a) reach[a] = std::max(reach[a], std::abs(S[e + a]));
    }
    step_[2] = n;
    step_[1] = step_[2] * (2 * reach[2] + 1);
    step_[0] = step_[1] * (2 * reach[1] + 1);
    zero_ = step_[0] * reach[0] + step_[1] * reach[1] + step_[2] * reach[2];
    number_.assign(step_[0] * (2 * reach[0] + 1), -1);
    std::iota(number_.begin() + zero_, number_.begin() + zero_ + n, 0);
  }

  std::int32_t& number(std::int64_t j, const std::int32_t* S) {
    return number_[zero_ + S[0] * step_[0] + S[1] * step_[1] + S[2] * step_[2] + j];
  }

 private:
  std::int64_t step_[3], zero_;
  std::vector<std::int32_t> number_;
};

/// One system of many particles.
class Listed {
 public:
  Listed(const kernels::SplittingPlan& plan, const Cell& cell, const kernels::SplittingSpace& space,
         View<const std::int32_t, 1> species, SplittingList& list)
      : plan_(plan), cell_(cell), space_(space), species_(species), list_(list) {
    cutoff_ = std::sqrt(plan.cutoff_square);
    skin_ = kSkin * cutoff_;
  }

  /// Up to `steps` steps, those that are good.
  std::int64_t steps(const Context& context, std::int64_t steps, View<double, 2> x,
                     View<double, 2> v, double* closest_square, SplittingStatus& status) {
    std::vector<double> before(2 * x.size());
    for (std::int64_t step = 0; step < steps; ++step) {
      std::copy(x.begin(), x.end(), before.begin());
      std::copy(v.begin(), v.end(), before.begin() + x.size());
      status = this->step(context, x, v, closest_square);
      if (status == SplittingStatus::running) continue;
      std::copy(before.begin(), before.begin() + x.size(), x.data);
      std::copy(before.begin() + x.size(), before.end(), v.data);
      return step;
    }
    return steps;
  }

 private:
  SplittingStatus step(const Context& context, View<double, 2> x, View<double, 2> v,
                       double* closest_square) {
    drift(context, 0, x, v);
    for (int k = 0; k < plan_.kicks; ++k) {
      if (!near_enough(x)) return SplittingStatus::not_finite;
      place(context, x);
      const double square = kick(context, k, v);
      *closest_square = std::min(*closest_square, square);
      if (square < plan_.closest_square) return SplittingStatus::too_close;
      drift(context, k + 1, x, v);
    }
    for (double value : v) {
      if (!std::isfinite(value)) return SplittingStatus::not_finite;
    }
    return near_enough(x) ? SplittingStatus::running : SplittingStatus::not_finite;
  }

  /// Also says how far the particles have come.
  void drift(const Context& context, int k, View<double, 2> x, View<double, 2> v) {
    const bool listed = !list_.start.empty();
    const double* start = listed ? list_.start.data() : x.data;
    const auto kernel = MLCORE_DISPATCH(splitting_drift);
    std::vector<double> longest(resolve_threads(context), 0.0);
    parallel_for(context, x.shape[0], kPlaceGrain,
                 [&](std::int64_t begin, std::int64_t end, int c) {
                   longest[c] = kernel(space_, plan_.drift[k], begin, end, x.data, v.data, start);
                 });
    stale_ = !listed;
    for (double square : longest) stale_ |= !(square <= 0.25 * skin_ * skin_);
  }

  /// Only where the list has to be made anew can a particle have gone too far.
  bool near_enough(View<double, 2> x) const {
    if (!stale_) return true;
    return std::all_of(x.begin(), x.end(),
                       [this](double value) { return std::fabs(value) < space_.farthest; });
  }

  void place(const Context& context, View<double, 2> x) {
    if (stale_) rebuild(context, x);
    stale_ = false;
    parallel_for(context, list_.size(), kPlaceGrain,
                 [&](std::int64_t begin, std::int64_t end, int) {
                   for (std::int64_t p = begin; p < end; ++p) {
                     const double* from = x.data + 3 * std::int64_t{list_.owner[p]};
                     for (int k = 0; k < 3; ++k) {
                       list_.places[4 * p + k] = from[k] + list_.shift[3 * p + k];
                     }
                   }
                 });
  }

  double kick(const Context& context, int stage, View<double, 2> v) const {
    const std::int64_t n = v.shape[0];
    const kernels::SplittingRows rows{list_.places.data(),
                                      list_.size(),
                                      list_.offsets.data(),
                                      list_.columns.data(),
                                      static_cast<std::int64_t>(list_.columns.size()),
                                      true,
                                      v.data};
    const auto kernel = MLCORE_DISPATCH(splitting_kick);
    std::vector<double> closest(resolve_threads(context), kInfinity);
    parallel_for(context, n, kGrain, [&](std::int64_t begin, std::int64_t end, int c) {
      kernel(plan_, stage, rows, begin, end, &closest[c]);
    });
    return *std::min_element(closest.begin(), closest.end());
  }

  void rebuild(const Context& context, View<double, 2> x) {
    const std::int64_t n = x.shape[0];
    list_.start.assign(x.begin(), x.end());
    fold(n);
    std::vector<double> folded(3 * n);
    for (std::int64_t k = 0; k < 3 * n; ++k) folded[k] = x.data[k] + list_.shift[k];
    NeighborOptions options;
    options.sorted = false;
    NeighborCutoff cutoff;
    cutoff.cutoff = cutoff_ + skin_;
    const NeighborSearch search(context, {folded.data(), {n, 3}}, cell_, cutoff, options);
    const std::int64_t count = search.count();
    list_.columns.resize(count);
    list_.offsets.assign(search.offsets().begin(), search.offsets().end());
    const Scratch<std::int32_t> S(cell_.is_open() ? 0 : 3 * count);
    NeighborArrays<std::int32_t> arrays;
    arrays.j = {list_.columns.data(), {count}};
    if (!S.empty()) arrays.S = {S.data(), {count, 3}};
    search.fill(context, arrays);
    add_images(n, S);
    list_.places.resize(4 * list_.size());
    auto* numbers = reinterpret_cast<std::int64_t*>(list_.places.data());
    for (std::int64_t p = 0; p < list_.size(); ++p) {
      numbers[4 * p + 3] = species_.data ? species_(list_.owner[p]) : 0;
    }
  }

  /// Particles as their own owners, shifted into the cell.
  void fold(std::int64_t n) {
    list_.owner.resize(n);
    list_.shift.assign(3 * n, 0.0);
    for (std::int64_t i = 0; i < n; ++i) {
      list_.owner[i] = static_cast<std::int32_t>(i);
      const double* at = list_.start.data() + 3 * i;
      for (int a = 0; a < 3 && !cell_.is_open(); ++a) {
        const double* along = space_.inverse_cell + a;
        const double turns = std::floor(at[0] * along[0] + at[1] * along[3] + at[2] * along[6]);
        for (int k = 0; k < 3; ++k) list_.shift[3 * i + k] -= turns * cell_.rows[3 * a + k];
      }
    }
  }

  /// Makes columns point to images where pairs cross the boundary.
  void add_images(std::int64_t n, const Scratch<std::int32_t>& S) {
    if (S.empty()) return;
    Images images(n, S);
    const std::int32_t* cells = S.data();
    for (std::int32_t& column : list_.columns) {
      std::int32_t& number = images.number(column, cells);
      if (number < 0) number = new_image(column, cells);
      column = number;
      cells += 3;
    }
  }

  std::int32_t new_image(std::int64_t j, const std::int32_t* S) {
    list_.owner.push_back(static_cast<std::int32_t>(j));
    for (int k = 0; k < 3; ++k) {
      list_.shift.push_back(list_.shift[3 * j + k] + S[0] * cell_.rows[k] +
                            S[1] * cell_.rows[3 + k] + S[2] * cell_.rows[6 + k]);
    }
    return static_cast<std::int32_t>(list_.owner.size() - 1);
  }

  const kernels::SplittingPlan& plan_;
  const Cell& cell_;
  const kernels::SplittingSpace& space_;
  View<const std::int32_t, 1> species_;
  SplittingList& list_;
  double cutoff_, skin_;
  bool stale_ = true;
};

}  // namespace

std::int64_t listed_steps(const Context& context, const kernels::SplittingPlan& plan,
                          const Cell& cell, const kernels::SplittingSpace& space,
                          View<const std::int32_t, 1> species, SplittingList& list,
                          std::int64_t steps, View<double, 2> x, View<double, 2> v,
                          double* closest_square, SplittingStatus& status) {
  return Listed(plan, cell, space, species, list)
      .steps(context, steps, x, v, closest_square, status);
}

}  // namespace mlcore::detail
