#pragma once

#include <array>
#include <cstdint>

#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore {

/// What a stencil finds beyond the edge of a field.
enum class Boundary : int {
  periodic = 0,  ///< the other side
  zero = 1,      ///< zeros
  halo = 2,      ///< the field carries k / 2 extra voxels on each side, which have no result
};

enum class Activation : int { none = 0, relu = 1, silu = 2, gelu = 3, tanh = 4, sigmoid = 5 };

/// Order of the axes of a field of C channels, in batches of B.
enum class FieldLayout : int {
  channels_first = 0,  ///< (B, C, X, Y, Z)
  channels_last = 1,   ///< (B, X, Y, Z, C)
};

/// How a kernel of k^3 weights, k in {1, 3, 5}, moves over a field.
struct Stencil {
  Boundary boundary = Boundary::periodic;
  std::int64_t stride = 1;  ///< results at x = 0, stride, 2 stride, ...
  std::int64_t groups = 1;  ///< of channels: output o sees the inputs of its own group alone
  FieldLayout layout = FieldLayout::channels_first;  ///< of all fields of the call
};

/// What happens to a sum s before it is stored: s + bias, then the activation, then + residual,
/// then zero where the mask is. Views without data are left out.
template <class T>
struct Epilogue {
  View<const T, 1> bias;  ///< (O,)
  Activation activation = Activation::none;
  View<const T, 5> residual;         ///< like the result
  View<const std::uint8_t, 4> mask;  ///< (B, X, Y, Z) of the result, or (1, X, Y, Z) for all
  View<T, 5> preactivation;          ///< filled with s + bias; like the result
};

/// out[b, o, x] = sum_{c, d} weight[o, c, d] field[b, c, stride x + d - k / 2], and the epilogue.
///
/// Correlation, as in torch: d counts 0..k-1 along each axis; with a halo the index is stride x +
/// d. 3^3 kernels use the minimal filtering F(2, 3) along y where it pays (Winograd, Arithmetic
/// Complexity of Computations, 1980): the sums are the same to rounding.
///
/// @param field   (B, C, X, Y, Z) in the stencil's layout, n = X (X - 2 (k / 2) with a halo)
/// @param weight  (O, C / groups, k, k, k)
/// @param out     (B, O, ceil(n / stride), ...) in the stencil's layout; may not overlap the inputs
/// @throws InvalidArgument  naming the argument
MLCORE_API void conv3d(const Context& context, const Stencil& stencil, View<const double, 5> field,
                       View<const double, 5> weight, const Epilogue<double>& epilogue,
                       View<double, 5> out);
MLCORE_API void conv3d(const Context& context, const Stencil& stencil, View<const float, 5> field,
                       View<const float, 5> weight, const Epilogue<float>& epilogue,
                       View<float, 5> out);

/// The transpose of conv3d in its field: every value is spread over its neighbours,
/// out[b, c, stride x + d - k / 2] += sum_o weight[o, c, d] values[b, o, x].
///
/// With a halo nothing is folded back: out holds the k / 2 voxels beyond each edge, too.
///
/// @param values  (B, O, ...) like the result of conv3d
/// @param weight  (O, C / groups, k, k, k)
/// @param out     (B, C, X, Y, Z) like the field of conv3d
/// @throws InvalidArgument  naming the argument
MLCORE_API void scatter3d(const Context& context, const Stencil& stencil,
                          View<const double, 5> values, View<const double, 5> weight,
                          View<double, 5> out);
MLCORE_API void scatter3d(const Context& context, const Stencil& stencil,
                          View<const float, 5> values, View<const float, 5> weight,
                          View<float, 5> out);

/// The transpose of conv3d in its weights:
/// out[o, c, d] = sum_{b, x} values[b, o, x] field[b, c, stride x + d - k / 2].
///
/// @param field   (B, C, X, Y, Z)
/// @param values  (B, O, ...) like the result of conv3d
/// @param out     (O, C / groups, k, k, k)
/// @throws InvalidArgument  naming the argument
MLCORE_API void conv3d_weight_gradient(const Context& context, const Stencil& stencil,
                                       View<const double, 5> field, View<const double, 5> values,
                                       View<double, 5> out);
MLCORE_API void conv3d_weight_gradient(const Context& context, const Stencil& stencil,
                                       View<const float, 5> field, View<const float, 5> values,
                                       View<float, 5> out);

enum class Derivative : int {
  laplacian = 0,  ///< sum of the second derivatives
  gradient = 1,   ///< the first derivatives along x, y, z
};

/// Central finite differences on a uniform grid (Fornberg, Math. Comp. 51, 699 (1988)).
struct FiniteDifference {
  Derivative derivative = Derivative::laplacian;
  int order = 2;                           ///< 2, 4 or 6: the error falls as spacing^order
  std::array<double, 3> spacing{1, 1, 1};  ///< > 0
  Boundary boundary = Boundary::periodic;  ///< the halo is order / 2 wide
};

/// @param field  (N, X, Y, Z)
/// @param out    (N, 1, ...) for the Laplacian, (N, 3, ...) for the gradient; without the halo
/// @throws InvalidArgument  naming the argument
MLCORE_API void finite_difference(const Context& context, const FiniteDifference& difference,
                                  View<const double, 4> field, View<double, 5> out);
MLCORE_API void finite_difference(const Context& context, const FiniteDifference& difference,
                                  View<const float, 4> field, View<float, 5> out);

/// The transpose of finite_difference.
///
/// @param values  like the result of finite_difference
/// @param out     like its field, with the halo
/// @throws InvalidArgument  naming the argument
MLCORE_API void finite_difference_adjoint(const Context& context,
                                          const FiniteDifference& difference,
                                          View<const double, 5> values, View<double, 4> out);
MLCORE_API void finite_difference_adjoint(const Context& context,
                                          const FiniteDifference& difference,
                                          View<const float, 5> values, View<float, 4> out);

}  // namespace mlcore
