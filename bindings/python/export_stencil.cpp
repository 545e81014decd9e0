#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/reference/stencil.hpp"
#include "mlcore/stencil.hpp"

namespace mlcore::python {
namespace {

using std::int64_t;
constexpr std::array<int64_t, 5> kAny5 = {-1, -1, -1, -1, -1};

/// Number of a name among those allowed.
template <class E>
E named(const char* what, const std::string& name, std::initializer_list<const char*> names) {
  int i = 0;
  std::string all;
  for (const char* one : names) {
    if (name == one) return static_cast<E>(i);
    all += (i++ ? ", \"" : "\"") + std::string(one) + "\"";
  }
  detail::raise<InvalidArgument>(what, " must be one of ", all, ", got \"", name, "\"");
}

Boundary boundary_named(const std::string& name) {
  return named<Boundary>("boundary", name, {"periodic", "zero", "halo"});
}

Stencil make_stencil(const std::string& boundary, int64_t stride, int64_t groups,
                     const std::string& layout) {
  return {boundary_named(boundary), stride, groups,
          named<FieldLayout>("layout", layout, {"channels_first", "channels_last"})};
}

FiniteDifference make_difference(const std::string& derivative, int order,
                                 const std::array<double, 3>& spacing,
                                 const std::string& boundary) {
  return {named<Derivative>("derivative", derivative, {"laplacian", "gradient"}), order, spacing,
          boundary_named(boundary)};
}

/// Where one call runs, and whether it is the reference that runs.
struct Call {
  Context context;
  bool reference;
};

Call make_call(int threads, std::uintptr_t stream, bool reference) {
  return {{threads, reinterpret_cast<void*>(stream)}, reference};
}

/// Views of the optional parts of an epilogue; keeps converted arrays alive.
template <class T>
struct OwnedEpilogue {
  Array<T> bias_holder, residual_holder;
  Array<std::uint8_t> mask_holder;
  Epilogue<T> epilogue;

  OwnedEpilogue(const py::object& bias, const std::string& activation, const py::object& residual,
                const py::object& mask, const py::object& preactivation,
                const std::array<int64_t, 5>& shape) {
    epilogue.activation = named<Activation>("activation", activation,
                                            {"none", "relu", "silu", "gelu", "tanh", "sigmoid"});
    if (!bias.is_none()) epilogue.bias = any_input<T, 1>("bias", bias, bias_holder, {-1});
    if (!residual.is_none()) {
      epilogue.residual = any_input<T, 5>("residual", residual, residual_holder, kAny5);
    }
    if (!mask.is_none()) {
      epilogue.mask = any_input<std::uint8_t, 4>("mask", mask, mask_holder, {-1, -1, -1, -1});
    }
    if (!preactivation.is_none()) {
      epilogue.preactivation = any_output<T, 5>("preactivation", preactivation, shape);
    }
  }
};

/// Shape of an array the Python face has allocated.
template <int Rank>
std::array<int64_t, Rank> shape_of(const char* name, const py::object& array) {
  const py::tuple shape = array.attr("shape");
  MLCORE_CHECK(shape.size() == Rank, name, " must have ", Rank, " dimensions, got ", shape.size());
  std::array<int64_t, Rank> result;
  for (int axis = 0; axis < Rank; ++axis) result[axis] = shape[axis].cast<int64_t>();
  return result;
}

template <class T>
void convolve(const Call& call, const Stencil& stencil, const py::object& field,
              const py::object& weight, const py::object& bias, const std::string& activation,
              const py::object& residual, const py::object& mask, const py::object& preactivation,
              const py::object& out) {
  Array<T> f_holder, w_holder;
  const auto f = any_input<T, 5>("field", field, f_holder, kAny5);
  const auto w = any_input<T, 5>("weight", weight, w_holder, kAny5);
  const auto shape = shape_of<5>("out", out);
  const auto result = any_output<T, 5>("out", out, shape);
  const OwnedEpilogue<T> owned(bias, activation, residual, mask, preactivation, shape);
  py::gil_scoped_release release;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (call.reference) return reference::conv3d(stencil, f, w, owned.epilogue, result);
  }
  conv3d(call.context, stencil, f, w, owned.epilogue, result);
}

template <class T>
void scatter(const Call& call, const Stencil& stencil, const py::object& values,
             const py::object& weight, const py::object& out) {
  Array<T> v_holder, w_holder;
  const auto v = any_input<T, 5>("values", values, v_holder, kAny5);
  const auto w = any_input<T, 5>("weight", weight, w_holder, kAny5);
  const auto result = any_output<T, 5>("out", out, shape_of<5>("out", out));
  py::gil_scoped_release release;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (call.reference) return reference::scatter3d(stencil, v, w, result);
  }
  scatter3d(call.context, stencil, v, w, result);
}

template <class T>
void weight_gradient(const Call& call, const Stencil& stencil, const py::object& field,
                     const py::object& values, const py::object& out) {
  Array<T> f_holder, v_holder;
  const auto f = any_input<T, 5>("field", field, f_holder, kAny5);
  const auto v = any_input<T, 5>("values", values, v_holder, kAny5);
  const auto result = any_output<T, 5>("out", out, shape_of<5>("out", out));
  py::gil_scoped_release release;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (call.reference) return reference::conv3d_weight_gradient(stencil, f, v, result);
  }
  conv3d_weight_gradient(call.context, stencil, f, v, result);
}

template <class T>
void differentiate(const Call& call, const FiniteDifference& difference, const py::object& field,
                   const py::object& out) {
  Array<T> holder;
  const auto f = any_input<T, 4>("field", field, holder, {-1, -1, -1, -1});
  const auto result = any_output<T, 5>("out", out, shape_of<5>("out", out));
  py::gil_scoped_release release;
  if constexpr (sizeof(T) == sizeof(double)) {
    if (call.reference) return reference::finite_difference(difference, f, result);
  }
  finite_difference(call.context, difference, f, result);
}

template <class T>
void differentiate_adjoint(const Call& call, const FiniteDifference& difference,
                           const py::object& values, const py::object& out) {
  Array<T> holder;
  const auto v = any_input<T, 5>("values", values, holder, kAny5);
  const auto result = any_output<T, 4>("out", out, shape_of<4>("out", out));
  py::gil_scoped_release release;
  finite_difference_adjoint(call.context, difference, v, result);
}

}  // namespace

void export_stencil(py::module_& m) {
  const auto threads = py::arg("num_threads") = 0;
  const auto stream = py::arg("stream") = 0;
  const auto reference = py::arg("reference") = false;
  m.def(
      "conv3d",
      [](const py::object& field, const py::object& weight, const py::object& out, bool single,
         const std::string& boundary, int64_t stride, int64_t groups, const std::string& layout,
         const py::object& bias, const std::string& activation, const py::object& residual,
         const py::object& mask, const py::object& preactivation, int num_threads,
         std::uintptr_t stream, bool reference) {
        (single ? convolve<float>
                : convolve<double>)(make_call(num_threads, stream, reference),
                                    make_stencil(boundary, stride, groups, layout), field, weight,
                                    bias, activation, residual, mask, preactivation, out);
      },
      py::arg("field"), py::arg("weight"), py::arg("out"), py::arg("single"), py::arg("boundary"),
      py::arg("stride"), py::arg("groups"), py::arg("layout"), py::arg("bias") = py::none(),
      py::arg("activation") = "none", py::arg("residual") = py::none(),
      py::arg("mask") = py::none(), py::arg("preactivation") = py::none(), threads, stream,
      reference);
  m.def(
      "scatter3d",
      [](const py::object& values, const py::object& weight, const py::object& out, bool single,
         const std::string& boundary, int64_t stride, int64_t groups, const std::string& layout,
         int num_threads, std::uintptr_t stream, bool reference) {
        (single ? scatter<float> : scatter<double>)(make_call(num_threads, stream, reference),
                                                    make_stencil(boundary, stride, groups, layout),
                                                    values, weight, out);
      },
      py::arg("values"), py::arg("weight"), py::arg("out"), py::arg("single"), py::arg("boundary"),
      py::arg("stride"), py::arg("groups"), py::arg("layout"), threads, stream, reference);
  m.def(
      "conv3d_weight_gradient",
      [](const py::object& field, const py::object& values, const py::object& out, bool single,
         const std::string& boundary, int64_t stride, int64_t groups, const std::string& layout,
         int num_threads, std::uintptr_t stream, bool reference) {
        (single ? weight_gradient<float>
                : weight_gradient<double>)(make_call(num_threads, stream, reference),
                                           make_stencil(boundary, stride, groups, layout), field,
                                           values, out);
      },
      py::arg("field"), py::arg("values"), py::arg("out"), py::arg("single"), py::arg("boundary"),
      py::arg("stride"), py::arg("groups"), py::arg("layout"), threads, stream, reference);
  m.def(
      "finite_difference",
      [](const py::object& field, const py::object& out, bool single, const std::string& derivative,
         int order, const std::array<double, 3>& spacing, const std::string& boundary,
         int num_threads, std::uintptr_t stream, bool reference) {
        (single ? differentiate<float>
                : differentiate<double>)(make_call(num_threads, stream, reference),
                                         make_difference(derivative, order, spacing, boundary),
                                         field, out);
      },
      py::arg("field"), py::arg("out"), py::arg("single"), py::arg("derivative"), py::arg("order"),
      py::arg("spacing"), py::arg("boundary"), threads, stream, reference);
  m.def(
      "finite_difference_adjoint",
      [](const py::object& values, const py::object& out, bool single,
         const std::string& derivative, int order, const std::array<double, 3>& spacing,
         const std::string& boundary, int num_threads, std::uintptr_t stream) {
        (single
             ? differentiate_adjoint<float>
             : differentiate_adjoint<double>)(make_call(num_threads, stream, false),
                                              make_difference(derivative, order, spacing, boundary),
                                              values, out);
      },
      py::arg("values"), py::arg("out"), py::arg("single"), py::arg("derivative"), py::arg("order"),
      py::arg("spacing"), py::arg("boundary"), threads, stream);
}

}  // namespace mlcore::python
