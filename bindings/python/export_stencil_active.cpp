#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/reference/stencil_active.hpp"
#include "mlcore/stencil_active.hpp"
#include "pooled_arrays.hpp"

namespace mlcore::python {
namespace {

using Rules = py::array_t<std::int32_t>;

ActiveGrid grid_of(const std::array<std::int64_t, 3>& shape, std::int64_t batches, bool periodic) {
  return {shape, batches, periodic ? Boundary::periodic : Boundary::zero};
}

/// NumPy array over the memory of a rule book.
Rules rules(const ActiveSet& inputs, const ActiveSet& outputs, std::int64_t k, int threads) {
  std::unique_ptr<Buffer> memory;
  std::int64_t size = 0;
  {
    py::gil_scoped_release release;
    ActiveRules made(Context{threads}, inputs, outputs, k);
    size = made.data().shape[0];
    memory = std::make_unique<Buffer>(std::move(made).release());
  }
  auto* data = static_cast<std::int32_t*>(memory->data());
  const py::capsule owner(memory.release(), [](void* p) { delete static_cast<Buffer*>(p); });
  return Rules({size}, data, owner);
}

py::array_t<std::int32_t> neighbors(const ActiveSet& outputs, const Array<std::int32_t>& data,
                                    std::int64_t k) {
  auto table = pooled_array<std::int32_t, 2>({outputs.count(), k * k * k});
  active_neighbors(input_view<std::int32_t, 1>("rules", data, {-1}),
                   View<std::int32_t, 2>(table.mutable_data(), {outputs.count(), k * k * k}));
  return table;
}

void neighbor_table(const ActiveGrid& grid, const py::object& inputs, const py::object& outputs,
                    std::int64_t k, const py::object& out, const Context& context) {
  Array<std::int64_t> holders[2];
  const auto from = any_input<std::int64_t, 2>("inputs", inputs, holders[0], {-1, 4});
  const auto to = any_input<std::int64_t, 2>("outputs", outputs, holders[1], {-1, 4});
  const auto table = any_output<std::int32_t, 2>("out", out, {to.shape[0], k * k * k});
  py::gil_scoped_release release;
  active_neighbors(context, grid, from, to, k, table);
}

Activation activation_named(const std::string& name) {
  constexpr const char* names[] = {"none", "relu", "silu", "gelu", "tanh", "sigmoid"};
  for (int i = 0; i < 6; ++i) {
    if (name == names[i]) return static_cast<Activation>(i);
  }
  detail::raise<InvalidArgument>(
      "activation must be \"none\", \"relu\", \"silu\", \"gelu\", \"tanh\" or \"sigmoid\", got \"",
      name, "\"");
}

Context context_of(int threads, std::uintptr_t stream) {
  return {threads, reinterpret_cast<void*>(stream)};
}

/// Arrays of one call, of either device, kept alive as long as their views.
template <class T>
class Arrays {
 public:
  View<const std::int32_t, 1> rules(const py::object& array) {
    return any_input<std::int32_t, 1>("rules", array, rules_, {-1});
  }
  template <int Rank>
  View<const T, Rank> input(const char* name, const py::object& array) {
    std::array<std::int64_t, Rank> any;
    any.fill(-1);
    if (array.is_none()) return {};
    return any_input<T, Rank>(name, array, holders_[used_++], any);
  }

 private:
  Array<std::int32_t> rules_;
  Array<T> holders_[4];
  int used_ = 0;
};

/// An array the Python face has allocated.
template <class T, int Rank>
View<T, Rank> output(const char* name, const py::object& array) {
  if (array.is_none()) return {};
  const py::tuple shape = array.attr("shape");
  MLCORE_CHECK(shape.size() == Rank, name, " must have ", Rank, " dimensions, got ", shape.size());
  std::array<std::int64_t, Rank> extents;
  for (int axis = 0; axis < Rank; ++axis) extents[axis] = shape[axis].cast<std::int64_t>();
  return any_output<T, Rank>(name, array, extents);
}

template <class T>
void convolve(const Context& context, const py::object& rules, const py::object& features,
              const py::object& weight, const py::object& out, const py::object& bias,
              Activation activation, const py::object& residual, const py::object& preactivation) {
  Arrays<T> arrays;
  const auto book = arrays.rules(rules);
  const auto f = arrays.template input<2>("features", features);
  const auto w = arrays.template input<5>("weight", weight);
  const ActiveEpilogue<T> epilogue{arrays.template input<1>("bias", bias), activation,
                                   arrays.template input<2>("residual", residual),
                                   output<T, 2>("preactivation", preactivation)};
  const auto result = output<T, 2>("out", out);
  py::gil_scoped_release release;
  conv3d_active(context, book, f, w, epilogue, result);
}

template <class T>
void scatter(const Context& context, const py::object& rules, const py::object& values,
             const py::object& weight, const py::object& out) {
  Arrays<T> arrays;
  const auto book = arrays.rules(rules);
  const auto v = arrays.template input<2>("values", values);
  const auto w = arrays.template input<5>("weight", weight);
  const auto result = output<T, 2>("out", out);
  py::gil_scoped_release release;
  scatter3d_active(context, book, v, w, result);
}

template <class T>
void weight_gradient(const Context& context, const py::object& rules, const py::object& features,
                     const py::object& values, const py::object& out) {
  Arrays<T> arrays;
  const auto book = arrays.rules(rules);
  const auto f = arrays.template input<2>("features", features);
  const auto v = arrays.template input<2>("values", values);
  const auto result = output<T, 5>("out", out);
  py::gil_scoped_release release;
  conv3d_active_weight_gradient(context, book, f, v, result);
}

View<const double, 2> rows(const char* name, const Array<double>& array) {
  return input_view<double, 2>(name, array, {-1, -1});
}

View<const double, 5> weights(const Array<double>& array) {
  return input_view<double, 5>("weight", array, {-1, -1, -1, -1, -1});
}

py::array_t<double> reference_convolution(const ActiveSet& inputs, const ActiveSet& outputs,
                                          const Array<double>& features,
                                          const Array<double>& weight,
                                          const std::optional<Array<double>>& bias,
                                          const std::string& activation,
                                          const std::optional<Array<double>>& residual) {
  const auto w = weights(weight);
  py::array_t<double> out({outputs.count(), w.shape[0]});
  ActiveEpilogue<double> epilogue;
  epilogue.activation = activation_named(activation);
  if (bias) epilogue.bias = input_view<double, 1>("bias", *bias, {w.shape[0]});
  if (residual) epilogue.residual = rows("residual", *residual);
  reference::conv3d_active(inputs, outputs, rows("features", features), w, epilogue,
                           View<double, 2>(out.mutable_data(), {outputs.count(), w.shape[0]}));
  return out;
}

py::array_t<double> reference_scatter(const ActiveSet& inputs, const ActiveSet& outputs,
                                      const Array<double>& values, const Array<double>& weight) {
  const auto w = weights(weight);
  py::array_t<double> out({inputs.count(), w.shape[1]});
  reference::scatter3d_active(inputs, outputs, rows("values", values), w,
                              View<double, 2>(out.mutable_data(), {inputs.count(), w.shape[1]}));
  return out;
}

void define_set(py::module_& m) {
  py::class_<ActiveGrid>(m, "ActiveGrid")
      .def(py::init(&grid_of), py::arg("shape"), py::arg("batches"), py::arg("periodic"));
  py::class_<ActiveSet>(m, "ActiveSet")
      .def(py::init([](const ActiveGrid& grid, const Array<std::int64_t>& coordinates) {
             const auto view = input_view<std::int64_t, 2>("coordinates", coordinates, {-1, -1});
             py::gil_scoped_release release;
             return ActiveSet(Context{}, grid, view);
           }),
           py::arg("grid"), py::arg("coordinates"))
      .def_static(
          "from_mask",
          [](const ActiveGrid& grid, const Array<std::uint8_t>& mask) {
            return ActiveSet(Context{}, grid,
                             input_view<std::uint8_t, 4>("mask", mask, {-1, -1, -1, -1}));
          },
          py::arg("grid"), py::arg("mask"))
      .def("__len__", &ActiveSet::count)
      .def("coordinates",
           [](const ActiveSet& set) {
             auto array = pooled_array<std::int64_t, 2>({set.count(), 4});
             set.coordinates({array.mutable_data(), {set.count(), 4}});
             return array;
           })
      .def("dilated", &ActiveSet::dilated, py::arg("k"));
}

}  // namespace

void export_stencil_active(py::module_& m) {
  const auto threads = py::arg("num_threads") = 0;
  const auto stream = py::arg("stream") = 0;
  define_set(m);
  m.def("active_rules", &rules, py::arg("inputs"), py::arg("outputs"), py::arg("k"), threads);
  m.def("active_neighbors", &neighbors, py::arg("outputs"), py::arg("rules"), py::arg("k"));
  m.def(
      "active_neighbor_table",
      [](const ActiveGrid& grid, const py::object& inputs, const py::object& outputs,
         std::int64_t k, const py::object& out, std::uintptr_t stream) {
        neighbor_table(grid, inputs, outputs, k, out, context_of(0, stream));
      },
      py::arg("grid"), py::arg("inputs"), py::arg("outputs"), py::arg("k"), py::arg("out"), stream);
  m.def(
      "conv3d_active",
      [](const py::object& rules, const py::object& features, const py::object& weight,
         const py::object& out, bool single, const py::object& bias, const std::string& activation,
         const py::object& residual, const py::object& preactivation, int num_threads,
         std::uintptr_t stream) {
        (single ? convolve<float>
                : convolve<double>)(context_of(num_threads, stream), rules, features, weight, out,
                                    bias, activation_named(activation), residual, preactivation);
      },
      py::arg("rules"), py::arg("features"), py::arg("weight"), py::arg("out"), py::arg("single"),
      py::arg("bias") = py::none(), py::arg("activation") = "none",
      py::arg("residual") = py::none(), py::arg("preactivation") = py::none(), threads, stream);
  m.def(
      "scatter3d_active",
      [](const py::object& rules, const py::object& values, const py::object& weight,
         const py::object& out, bool single, int num_threads, std::uintptr_t stream) {
        (single ? scatter<float> : scatter<double>)(context_of(num_threads, stream), rules, values,
                                                    weight, out);
      },
      py::arg("rules"), py::arg("values"), py::arg("weight"), py::arg("out"), py::arg("single"),
      threads, stream);
  m.def(
      "conv3d_active_weight_gradient",
      [](const py::object& rules, const py::object& features, const py::object& values,
         const py::object& out, bool single, int num_threads, std::uintptr_t stream) {
        (single ? weight_gradient<float> : weight_gradient<double>)(context_of(num_threads, stream),
                                                                    rules, features, values, out);
      },
      py::arg("rules"), py::arg("features"), py::arg("values"), py::arg("out"), py::arg("single"),
      threads, stream);
  m.def("conv3d_active_reference", &reference_convolution, py::arg("inputs"), py::arg("outputs"),
        py::arg("features"), py::arg("weight"), py::arg("bias") = py::none(),
        py::arg("activation") = "none", py::arg("residual") = py::none());
  m.def("scatter3d_active_reference", &reference_scatter, py::arg("inputs"), py::arg("outputs"),
        py::arg("values"), py::arg("weight"));
}

}  // namespace mlcore::python
