#include "mlcore/reference/stencil_active.hpp"

#include <vector>

#include "mlcore/reference/stencil.hpp"

namespace mlcore::reference {
namespace {

/// A field (B, C, X, Y, Z) and where the voxels of a set lie in it.
class Dense {
 public:
  Dense(const ActiveSet& set, std::int64_t channels) : channels_(channels), places_(set.count()) {
    const auto& n = set.grid().shape;
    volume_ = n[0] * n[1] * n[2];
    shape_ = {set.grid().batches, channels, n[0], n[1], n[2]};
    values_.resize(set.grid().batches * channels * volume_);
    std::vector<std::int64_t> at(4 * set.count());
    set.coordinates({at.data(), {set.count(), 4}});
    for (std::int64_t row = 0; row < set.count(); ++row) {
      const std::int64_t* p = &at[4 * row];
      places_[row] = p[0] * channels * volume_ + (p[1] * n[1] + p[2]) * n[2] + p[3];
    }
  }

  void scatter(View<const double, 2> rows) {
    for (std::int64_t r = 0; r < rows.shape[0]; ++r) {
      for (std::int64_t c = 0; c < channels_; ++c) values_[places_[r] + c * volume_] = rows(r, c);
    }
  }
  void gather(View<double, 2> rows) const {
    for (std::int64_t r = 0; r < rows.shape[0]; ++r) {
      for (std::int64_t c = 0; c < channels_; ++c) rows(r, c) = values_[places_[r] + c * volume_];
    }
  }
  View<double, 5> view() { return {values_.data(), shape_}; }

 private:
  std::int64_t channels_, volume_;
  std::array<std::int64_t, 5> shape_;
  std::vector<double> values_;
  std::vector<std::int64_t> places_;
};

Stencil stencil_of(const ActiveSet& set) {
  Stencil stencil;
  stencil.boundary = set.grid().boundary;
  return stencil;
}

}  // namespace

void conv3d_active(const ActiveSet& inputs, const ActiveSet& outputs,
                   View<const double, 2> features, View<const double, 5> weight,
                   const ActiveEpilogue<double>& epilogue, View<double, 2> out) {
  const std::int64_t O = weight.shape[0];
  Dense field(inputs, weight.shape[1]), residual(outputs, O), preactivation(outputs, O);
  Dense result(outputs, O);
  field.scatter(features);
  Epilogue<double> dense{epilogue.bias, epilogue.activation, {}, {}, preactivation.view()};
  if (epilogue.residual.data) {
    residual.scatter(epilogue.residual);
    dense.residual = residual.view();
  }
  conv3d(stencil_of(inputs), field.view(), weight, dense, result.view());
  result.gather(out);
  if (epilogue.preactivation.data) preactivation.gather(epilogue.preactivation);
}

void scatter3d_active(const ActiveSet& inputs, const ActiveSet& outputs,
                      View<const double, 2> values, View<const double, 5> weight,
                      View<double, 2> out) {
  Dense from(outputs, weight.shape[0]), to(inputs, weight.shape[1]);
  from.scatter(values);
  scatter3d(stencil_of(inputs), from.view(), weight, to.view());
  to.gather(out);
}

void conv3d_active_weight_gradient(const ActiveSet& inputs, const ActiveSet& outputs,
                                   View<const double, 2> features, View<const double, 2> values,
                                   View<double, 5> out) {
  Dense field(inputs, out.shape[1]), sums(outputs, out.shape[0]);
  field.scatter(features);
  sums.scatter(values);
  conv3d_weight_gradient(stencil_of(inputs), field.view(), sums.view(), out);
}

}  // namespace mlcore::reference
