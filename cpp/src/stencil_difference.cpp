// CPU driver of finite differences. Rows beside the one at hand are read where they are; the row
// itself, shifted along z, is copied with what the boundary adds.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/stencil.hpp"
#include "parallel.hpp"
#include "stencil_plan.hpp"

namespace mlcore::detail {
namespace {

constexpr double kFewestVoxels = 2e4;  // of a thread

template <class T>
class Differences {
 public:
  Differences(const DifferencePlan& plan, const T* in)
      : plan_(plan), in_(in), width_(plan.out[2] + 2 * plan.reach), rows_(kRows * width_) {
    for (std::int64_t j = 0; j < width_; ++j) {
      places_.push_back(plan.place(2, j - plan.reach + plan.shift));
    }
  }

  /// Row (x, y) of result `result` of sample n.
  void row(std::int64_t n, std::int64_t result, std::int64_t x, std::int64_t y, T* out) {
    kernels::StencilTap<T> taps[kRows];
    int count = 0;
    used_ = 0;
    for (int axis = 0; axis < 3; ++axis) {
      if (plan_.results() == 3 && result != axis) continue;
      const std::int64_t source = n * plan_.sources() + (plan_.sources() == 3 ? axis : 0);
      const T* const centre = axis == 2 ? padded(source, x, y) : nullptr;
      for (std::int64_t d = -plan_.reach; d <= plan_.reach; ++d) {
        const double weight = plan_.weight[axis][d + plan_.reach];
        if (weight == 0) continue;
        const T* values = centre ? centre + d : nullptr;
        if (axis == 0) values = beside(source, x + d, y);
        if (axis == 1) values = beside(source, x, y + d);
        if (values) taps[count++] = {values, static_cast<T>(weight)};
      }
    }
    MLCORE_DISPATCH(stencil_star<T>)(taps, count, plan_.out[2], out);
  }

 private:
  static constexpr int kRows = 21;  // three axes, seven taps

  const T* row_of(std::int64_t source, std::int64_t x, std::int64_t y) const {
    const std::int64_t i = plan_.place(0, x + plan_.shift), j = plan_.place(1, y + plan_.shift);
    if (i < 0 || j < 0) return nullptr;
    return in_ + ((source * plan_.in[0] + i) * plan_.in[1] + j) * plan_.in[2];
  }

  /// A row from which z is read straight; null where it is zero.
  const T* beside(std::int64_t source, std::int64_t x, std::int64_t y) {
    if (plan_.shift < 0) return padded(source, x, y);
    const T* row = row_of(source, x, y);
    return row ? row + plan_.shift : nullptr;
  }

  /// A copy that can be read from -reach on; null where it is zero.
  const T* padded(std::int64_t source, std::int64_t x, std::int64_t y) {
    const T* row = row_of(source, x, y);
    if (!row) return nullptr;
    T* copy = rows_.data() + used_++ * width_;
    for (std::int64_t j = 0; j < width_; ++j) copy[j] = places_[j] < 0 ? T(0) : row[places_[j]];
    return copy + plan_.reach;
  }

  const DifferencePlan& plan_;
  const T* in_;
  std::int64_t width_;
  std::vector<T> rows_;
  std::vector<std::int64_t> places_;
  int used_ = 0;
};

}  // namespace

template <class T>
void differentiate(const Context& context, const DifferencePlan& plan, const T* in, T* out) {
  const std::int64_t results = plan.results(), planes = plan.batch * results * plan.out[0];
  const std::int64_t plane = plan.out[1] * plan.out[2];
  const auto grain = static_cast<std::int64_t>(kFewestVoxels / static_cast<double>(plane)) + 1;
  parallel_for(context, planes, grain, [&](std::int64_t begin, std::int64_t end, int) {
    Differences<T> differences(plan, in);
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t x = p % plan.out[0], n = p / plan.out[0];
      for (std::int64_t y = 0; y < plan.out[1]; ++y) {
        differences.row(n / results, n % results, x, y, out + p * plane + y * plan.out[2]);
      }
    }
  });
}

template void differentiate<float>(const Context&, const DifferencePlan&, const float*, float*);
template void differentiate<double>(const Context&, const DifferencePlan&, const double*, double*);

}  // namespace mlcore::detail
