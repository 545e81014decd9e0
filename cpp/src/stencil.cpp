#include "mlcore/stencil.hpp"

#include <cmath>
#include <functional>
#include <string>

#include "stencil_cuda.hpp"
#include "stencil_plan.hpp"

namespace mlcore {
namespace {

using detail::ConvolutionPlan;
using detail::DifferencePlan;

template <std::size_t Rank>
std::string text(const std::array<std::int64_t, Rank>& shape) {
  std::string result = "(";
  for (std::size_t k = 0; k < Rank; ++k) result += (k ? ", " : "") + std::to_string(shape[k]);
  return result + ")";
}

template <class T, int Rank>
void check_shape(const char* name, View<T, Rank> v, const typename View<T, Rank>::Shape& want) {
  MLCORE_CHECK(v.shape == want, name, " must have the shape ", text(want), ", got ", text(v.shape));
}

template <class T, int Rank>
void check_device(const char* name, View<T, Rank> v, Device device) {
  if (!v.data || v.device == device) return;
  const char* const names[] = {"CPU", "GPU"};
  detail::raise<InvalidArgument>("all arrays must live on the same device, but ", name,
                                 " is on the ", names[static_cast<int>(v.device)],
                                 " and another one on the ", names[static_cast<int>(device)]);
}

template <class A, int RankA, class B, int RankB>
void check_apart(const char* name, View<A, RankA> a, View<B, RankB> out) {
  const std::less<const void*> before;
  const bool apart =
      a.empty() || out.empty() || !before(out.data, a.end()) || !before(a.data, out.end());
  MLCORE_CHECK(apart, "out and ", name, " share memory; give out memory of its own");
}

using Shape = std::array<std::int64_t, 5>;

/// (B, channels, X, Y, Z) as stored in this layout.
Shape stored(FieldLayout layout, std::int64_t batch, std::int64_t channels,
             const std::int64_t extents[3]) {
  if (layout == FieldLayout::channels_first) {
    return {batch, channels, extents[0], extents[1], extents[2]};
  }
  return {batch, extents[0], extents[1], extents[2], channels};
}

void check_weight(const Stencil& stencil, const Shape& weight) {
  const std::int64_t k = weight[2];
  MLCORE_CHECK((k == 1 || k == 3 || k == 5) && weight[3] == k && weight[4] == k,
               "weight must have the shape (O, C / groups, k, k, k) with k = 1, 3 or 5, got ",
               text(weight));
  MLCORE_CHECK(stencil.stride >= 1, "stride must be at least 1, got ", stencil.stride);
  MLCORE_CHECK(stencil.groups >= 1 && weight[0] % stencil.groups == 0, "groups must divide the ",
               weight[0], " outputs of weight, got ", stencil.groups);
  MLCORE_CHECK(weight[0] >= 1 && weight[1] >= 1,
               "weight must have an output and an input channel at least, got the shape ",
               text(weight));
}

/// The plan of conv3d from the shapes of its field and its weights.
ConvolutionPlan forward_plan(const Stencil& stencil, const char* field_name, const Shape& field,
                             const Shape& weight) {
  check_weight(stencil, weight);
  ConvolutionPlan plan;
  plan.layout = stencil.layout;
  plan.taps = static_cast<std::int32_t>(weight[2]);
  plan.batch = field[0];
  plan.groups = stencil.groups;
  plan.outputs = weight[0];
  const bool first = stencil.layout == FieldLayout::channels_first;
  plan.inputs = first ? field[1] : field[4];
  MLCORE_CHECK(plan.inputs == weight[1] * stencil.groups, field_name, " must have ",
               weight[1] * stencil.groups, " channels (weight ", text(weight), ", groups ",
               stencil.groups, "), got the shape ", text(field));
  const std::int64_t reach = plan.taps / 2;
  const bool halo = stencil.boundary == Boundary::halo;
  for (int axis = 0; axis < 3; ++axis) {
    plan.in[axis] = plan.grid[axis] = field[(first ? 2 : 1) + axis];
    const std::int64_t n = plan.in[axis] - (halo ? 2 * reach : 0);
    MLCORE_CHECK(n >= 0, field_name, " must be ", 2 * reach,
                 " voxels wide at least with a halo, got the shape ", text(field));
    plan.out[axis] = (n + stencil.stride - 1) / stencil.stride;
  }
  plan.step = stencil.stride;
  plan.wrap = stencil.boundary == Boundary::periodic;
  plan.offset = halo ? 0 : reach;
  return plan;
}

/// The plan of scatter3d from that of its conv3d.
ConvolutionPlan transpose_of(const ConvolutionPlan& forward) {
  ConvolutionPlan plan = forward;
  plan.inputs = forward.outputs;
  plan.outputs = forward.inputs;
  for (int axis = 0; axis < 3; ++axis) {
    plan.in[axis] = forward.out[axis];
    plan.out[axis] = forward.in[axis];
    if (forward.offset == 0) plan.grid[axis] -= forward.taps - 1;  // results ignore the halo
  }
  plan.spread = forward.step;
  plan.step = 1;
  plan.offset = forward.taps - 1 - forward.offset;
  plan.transposed = true;
  return plan;
}

bool is_empty(const ConvolutionPlan& plan) {
  return plan.batch * plan.outputs * plan.out[0] * plan.out[1] * plan.out[2] == 0;
}

template <class T>
void check_epilogue(const ConvolutionPlan& plan, const Epilogue<T>& e, View<T, 5> out) {
  const Device device = out.device;
  check_device("bias", e.bias, device);
  check_device("residual", e.residual, device);
  check_device("mask", e.mask, device);
  check_device("preactivation", e.preactivation, device);
  if (e.bias.data) check_shape("bias", e.bias, {plan.outputs});
  if (e.residual.data) {
    check_shape("residual", e.residual, out.shape);
    check_apart("residual", e.residual, out);
  }
  if (e.preactivation.data) check_shape("preactivation", e.preactivation, out.shape);
  if (e.mask.data) {
    const auto& m = e.mask.shape;
    const bool fits = (m[0] == 1 || m[0] == plan.batch) && m[1] == plan.out[0] &&
                      m[2] == plan.out[1] && m[3] == plan.out[2];
    MLCORE_CHECK(fits, "mask must have the shape (", plan.batch, " or 1, ", plan.out[0], ", ",
                 plan.out[1], ", ", plan.out[2], "), got ", text(m));
  }
}

template <class T>
void conv3d_of(const Context& context, const Stencil& stencil, View<const T, 5> field,
               View<const T, 5> weight, const Epilogue<T>& epilogue, View<T, 5> out) {
  const ConvolutionPlan plan = forward_plan(stencil, "field", field.shape, weight.shape);
  check_shape("out", out, stored(plan.layout, plan.batch, plan.outputs, plan.out));
  check_device("weight", weight, field.device);
  check_device("out", out, field.device);
  check_epilogue(plan, epilogue, out);
  check_apart("field", field, out);
  check_apart("weight", weight, out);
  if (is_empty(plan)) return;
  const auto run = field.device == Device::cpu ? detail::convolve<T> : cuda::convolve<T>;
  run(context, plan, field.data, weight.data, epilogue, out.data);
}

template <class T>
void scatter3d_of(const Context& context, const Stencil& stencil, View<const T, 5> values,
                  View<const T, 5> weight, View<T, 5> out) {
  const ConvolutionPlan forward = forward_plan(stencil, "out", out.shape, weight.shape);
  check_shape("values", values,
              stored(forward.layout, forward.batch, forward.outputs, forward.out));
  check_device("weight", weight, values.device);
  check_device("out", out, values.device);
  check_apart("values", values, out);
  check_apart("weight", weight, out);
  const ConvolutionPlan plan = transpose_of(forward);
  if (is_empty(plan)) return;
  const auto run = values.device == Device::cpu ? detail::convolve<T> : cuda::convolve<T>;
  run(context, plan, values.data, weight.data, Epilogue<T>{}, out.data);
}

template <class T>
void weight_gradient_of(const Context& context, const Stencil& stencil, View<const T, 5> field,
                        View<const T, 5> values, View<T, 5> out) {
  const ConvolutionPlan plan = forward_plan(stencil, "field", field.shape, out.shape);
  check_shape("values", values, stored(plan.layout, plan.batch, plan.outputs, plan.out));
  check_device("values", values, field.device);
  check_device("out", out, field.device);
  check_apart("field", field, out);
  check_apart("values", values, out);
  const auto run =
      field.device == Device::cpu ? detail::weight_gradient<T> : cuda::weight_gradient<T>;
  run(context, plan, field.data, values.data, out.data);
}

/// Weights of the central differences at offsets 0..3 (Fornberg, table 1).
constexpr double kFirst[3][4] = {
    {0, 1.0 / 2, 0, 0}, {0, 2.0 / 3, -1.0 / 12, 0}, {0, 3.0 / 4, -3.0 / 20, 1.0 / 60}};
constexpr double kSecond[3][4] = {{-2.0, 1.0, 0, 0},
                                  {-5.0 / 2, 4.0 / 3, -1.0 / 12, 0},
                                  {-49.0 / 18, 3.0 / 2, -3.0 / 20, 1.0 / 90}};

/// @param field   (N, X, Y, Z), with the halo
/// @param values  (N, 1 or 3, ...), without
DifferencePlan difference_plan(const FiniteDifference& difference,
                               const std::array<std::int64_t, 4>& field, const Shape& values,
                               bool adjoint, const char* field_name, const char* values_name) {
  const int order = difference.order;
  MLCORE_CHECK(order == 2 || order == 4 || order == 6, "order must be 2, 4 or 6, got ", order);
  DifferencePlan plan;
  plan.gradient = difference.derivative == Derivative::gradient;
  plan.adjoint = adjoint;
  plan.wrap = difference.boundary == Boundary::periodic;
  plan.batch = field[0];
  plan.reach = order / 2;
  const bool halo = difference.boundary == Boundary::halo;
  Shape want = {field[0], plan.gradient ? 3 : 1};
  for (int axis = 0; axis < 3; ++axis) {
    const double h = difference.spacing[axis];
    MLCORE_CHECK(std::isfinite(h) && h > 0, "spacing must be positive and finite, got ", h,
                 " along axis ", axis);
    const std::int64_t n = field[1 + axis] - (halo ? order : 0);
    MLCORE_CHECK(n >= 0, field_name, " must be ", order,
                 " voxels wide at least with a halo, got the shape ", text(field));
    want[2 + axis] = n;
    plan.in[axis] = adjoint ? n : field[1 + axis];
    plan.out[axis] = adjoint ? field[1 + axis] : n;
    for (int d = -plan.reach; d <= plan.reach; ++d) {
      const double first = (d < 0 ? -1 : 1) * kFirst[plan.reach - 1][std::abs(d)] / h;
      const double second = kSecond[plan.reach - 1][std::abs(d)] / (h * h);
      plan.weight[axis][d + plan.reach] = plan.gradient ? (adjoint ? -first : first) : second;
    }
  }
  MLCORE_CHECK(values == want, values_name, " must have the shape ", text(want), ", got ",
               text(values));
  if (halo) plan.shift = adjoint ? -plan.reach : plan.reach;
  return plan;
}

template <class T>
void differentiate(const Context& context, const DifferencePlan& plan, Device device, const T* in,
                   T* out) {
  if (plan.batch * plan.out[0] * plan.out[1] * plan.out[2] == 0) return;
  (device == Device::cpu ? detail::differentiate<T> : cuda::differentiate<T>)(context, plan, in,
                                                                              out);
}

template <class T>
void difference_of(const Context& context, const FiniteDifference& difference,
                   View<const T, 4> field, View<T, 5> out) {
  const DifferencePlan plan =
      difference_plan(difference, field.shape, out.shape, false, "field", "out");
  check_device("out", out, field.device);
  check_apart("field", field, out);
  differentiate(context, plan, field.device, field.data, out.data);
}

template <class T>
void difference_adjoint_of(const Context& context, const FiniteDifference& difference,
                           View<const T, 5> values, View<T, 4> out) {
  const DifferencePlan plan =
      difference_plan(difference, out.shape, values.shape, true, "out", "values");
  check_device("out", out, values.device);
  check_apart("values", values, out);
  differentiate(context, plan, values.device, values.data, out.data);
}

}  // namespace

void conv3d(const Context& context, const Stencil& stencil, View<const double, 5> field,
            View<const double, 5> weight, const Epilogue<double>& epilogue, View<double, 5> out) {
  conv3d_of<double>(context, stencil, field, weight, epilogue, out);
}
void conv3d(const Context& context, const Stencil& stencil, View<const float, 5> field,
            View<const float, 5> weight, const Epilogue<float>& epilogue, View<float, 5> out) {
  conv3d_of<float>(context, stencil, field, weight, epilogue, out);
}

void scatter3d(const Context& context, const Stencil& stencil, View<const double, 5> values,
               View<const double, 5> weight, View<double, 5> out) {
  scatter3d_of<double>(context, stencil, values, weight, out);
}
void scatter3d(const Context& context, const Stencil& stencil, View<const float, 5> values,
               View<const float, 5> weight, View<float, 5> out) {
  scatter3d_of<float>(context, stencil, values, weight, out);
}

void conv3d_weight_gradient(const Context& context, const Stencil& stencil,
                            View<const double, 5> field, View<const double, 5> values,
                            View<double, 5> out) {
  weight_gradient_of<double>(context, stencil, field, values, out);
}
void conv3d_weight_gradient(const Context& context, const Stencil& stencil,
                            View<const float, 5> field, View<const float, 5> values,
                            View<float, 5> out) {
  weight_gradient_of<float>(context, stencil, field, values, out);
}

void finite_difference(const Context& context, const FiniteDifference& difference,
                       View<const double, 4> field, View<double, 5> out) {
  difference_of<double>(context, difference, field, out);
}
void finite_difference(const Context& context, const FiniteDifference& difference,
                       View<const float, 4> field, View<float, 5> out) {
  difference_of<float>(context, difference, field, out);
}

void finite_difference_adjoint(const Context& context, const FiniteDifference& difference,
                               View<const double, 5> values, View<double, 4> out) {
  difference_adjoint_of<double>(context, difference, values, out);
}
void finite_difference_adjoint(const Context& context, const FiniteDifference& difference,
                               View<const float, 5> values, View<float, 4> out) {
  difference_adjoint_of<float>(context, difference, values, out);
}

}  // namespace mlcore
