#include "mlcore/reference/stencil.hpp"

#include <cmath>
#include <numbers>

namespace mlcore::reference {
namespace {

using Index = std::array<std::int64_t, 5>;  // b, c, x, y, z

Index extents(FieldLayout layout, const std::array<std::int64_t, 5>& s) {
  if (layout == FieldLayout::channels_first) return s;
  return {s[0], s[4], s[1], s[2], s[3]};
}

template <class T>
T& at(FieldLayout layout, View<T, 5> v, const Index& i) {
  const Index n = extents(layout, v.shape);
  if (layout == FieldLayout::channels_first) {
    return v.data[(((i[0] * n[1] + i[1]) * n[2] + i[2]) * n[3] + i[3]) * n[4] + i[4]];
  }
  return v.data[(((i[0] * n[2] + i[2]) * n[3] + i[3]) * n[4] + i[4]) * n[1] + i[1]];
}

/// Calls body(voxel of the field, voxel of the result, tap along the flattened kernel) for every
/// product along the three axes.
template <class Body>
void for_products(const Stencil& stencil, std::int64_t k, const Index& field, const Index& result,
                  const Body& body) {
  const std::int64_t start = stencil.boundary == Boundary::halo ? 0 : -(k / 2);
  for (std::int64_t x = 0; x < result[2] * result[3] * result[4]; ++x) {
    const std::int64_t to[3] = {x / (result[3] * result[4]), x / result[4] % result[3],
                                x % result[4]};
    for (std::int64_t d = 0; d < k * k * k; ++d) {
      const std::int64_t tap[3] = {d / (k * k), d / k % k, d % k};
      std::int64_t from[3];
      bool inside = true;
      for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t n = field[2 + axis];
        from[axis] = to[axis] * stencil.stride + tap[axis] + start;
        if (stencil.boundary == Boundary::periodic) from[axis] = ((from[axis] % n) + n) % n;
        inside = inside && from[axis] >= 0 && from[axis] < n;
      }
      if (inside) body(from, to, d);
    }
  }
}

/// Calls body(field entry, result entry, weight entry) for every product of a convolution.
template <class F, class W, class R, class Body>
void for_all(const Stencil& stencil, View<F, 5> field, View<W, 5> weight, View<R, 5> result,
             const Body& body) {
  const Index nf = extents(stencil.layout, field.shape), nr = extents(stencil.layout, result.shape);
  const std::int64_t k = weight.shape[2], inner = weight.shape[1];
  const std::int64_t outputs_per_group = weight.shape[0] / stencil.groups;
  for (std::int64_t b = 0; b < nf[0]; ++b) {
    for (std::int64_t o = 0; o < weight.shape[0]; ++o) {
      for (std::int64_t c = 0; c < inner; ++c) {
        const std::int64_t channel = o / outputs_per_group * inner + c;
        for_products(stencil, k, nf, nr, [&](const auto& from, const auto& to, std::int64_t d) {
          body(at(stencil.layout, field, {b, channel, from[0], from[1], from[2]}),
               at(stencil.layout, result, {b, o, to[0], to[1], to[2]}),
               weight.data[(o * inner + c) * k * k * k + d]);
        });
      }
    }
  }
}

double activated(Activation activation, double s) {
  switch (activation) {
    case Activation::relu:
      return s < 0 ? 0 : s;
    case Activation::silu:
      return s / (1 + std::exp(-s));
    case Activation::gelu:
      return 0.5 * s * std::erfc(-s / std::numbers::sqrt2);
    case Activation::tanh:
      return std::tanh(s);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-s));
    default:
      return s;
  }
}

template <class T, int Rank>
void fill_zero(View<T, Rank> v) {
  for (T& value : v) value = 0;
}

void finish(const Stencil& stencil, const Epilogue<double>& e, View<double, 5> out) {
  const Index n = extents(stencil.layout, out.shape);
  const std::int64_t volume = n[2] * n[3] * n[4];
  for (std::int64_t b = 0; b < n[0]; ++b) {
    for (std::int64_t o = 0; o < n[1]; ++o) {
      for (std::int64_t x = 0; x < volume; ++x) {
        const Index i = {b, o, x / (n[3] * n[4]), x / n[4] % n[3], x % n[4]};
        double& value = at(stencil.layout, out, i);
        if (e.bias.data) value += e.bias(o);
        if (e.preactivation.data) at(stencil.layout, e.preactivation, i) = value;
        value = activated(e.activation, value);
        if (e.residual.data) value += at(stencil.layout, e.residual, i);
        if (e.mask.data && !e.mask.data[(e.mask.shape[0] > 1 ? b : 0) * volume + x]) value = 0;
      }
    }
  }
}

}  // namespace

void conv3d(const Stencil& stencil, View<const double, 5> field, View<const double, 5> weight,
            const Epilogue<double>& epilogue, View<double, 5> out) {
  fill_zero(out);
  for_all(stencil, field, weight, out, [](double f, double& s, double w) { s += w * f; });
  finish(stencil, epilogue, out);
}

void scatter3d(const Stencil& stencil, View<const double, 5> values, View<const double, 5> weight,
               View<double, 5> out) {
  fill_zero(out);
  for_all(stencil, out, weight, values, [](double& f, double s, double w) { f += w * s; });
}

void conv3d_weight_gradient(const Stencil& stencil, View<const double, 5> field,
                            View<const double, 5> values, View<double, 5> out) {
  fill_zero(out);
  for_all(stencil, field, out, values, [](double f, double s, double& w) { w += f * s; });
}

void finite_difference(const FiniteDifference& difference, View<const double, 4> field,
                       View<double, 5> out) {
  // Central differences of the first and second derivative: offsets 0..3.
  constexpr double first[3][4] = {
      {0, 1.0 / 2, 0, 0}, {0, 2.0 / 3, -1.0 / 12, 0}, {0, 3.0 / 4, -3.0 / 20, 1.0 / 60}};
  constexpr double second[3][4] = {{-2.0, 1.0, 0, 0},
                                   {-5.0 / 2, 4.0 / 3, -1.0 / 12, 0},
                                   {-49.0 / 18, 3.0 / 2, -3.0 / 20, 1.0 / 90}};
  const int reach = difference.order / 2;
  const bool laplacian = difference.derivative == Derivative::laplacian;
  const std::int64_t halo = difference.boundary == Boundary::halo ? reach : 0;
  const auto value = [&](std::int64_t n, std::array<std::int64_t, 3> at) {
    for (int axis = 0; axis < 3; ++axis) {
      const std::int64_t extent = field.shape[1 + axis];
      at[axis] += halo;
      if (difference.boundary == Boundary::periodic)
        at[axis] = (at[axis] % extent + extent) % extent;
      if (at[axis] < 0 || at[axis] >= extent) return 0.0;
    }
    return field[n](at[0], at[1], at[2]);
  };
  fill_zero(out);
  const std::int64_t X = out.shape[2], Y = out.shape[3], Z = out.shape[4];
  for (std::int64_t n = 0; n < field.shape[0]; ++n) {
    for (std::int64_t voxel = 0; voxel < X * Y * Z; ++voxel) {
      const std::array<std::int64_t, 3> at = {voxel / (Y * Z), voxel / Z % Y, voxel % Z};
      for (int axis = 0; axis < 3; ++axis) {
        const double h = difference.spacing[axis];
        double sum = laplacian ? second[reach - 1][0] * value(n, at) : 0.0;
        for (int d = 1; d <= reach; ++d) {
          auto right = at, left = at;
          right[axis] += d;
          left[axis] -= d;
          sum += laplacian ? second[reach - 1][d] * (value(n, right) + value(n, left))
                           : first[reach - 1][d] * (value(n, right) - value(n, left));
        }
        double& result = out[n][laplacian ? 0 : axis](at[0], at[1], at[2]);
        result += laplacian ? sum / (h * h) : sum / h;
      }
    }
  }
}

}  // namespace mlcore::reference
