#include <pybind11/stl.h>

#include <optional>
#include <tuple>
#include <vector>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/mlp.hpp"
#include "mlcore/reference/mlp.hpp"

namespace mlcore::python {
namespace {

/// A network and the arrays its weights came in, which the reference reads.
template <class T>
struct OwnedMlp {
  using Optional = std::optional<Array<T>>;
  using Layers = std::vector<std::tuple<Array<T>, Optional>>;

  OwnedMlp(const Layers& layers, int activation, const Optional& in_shift, const Optional& in_scale,
           const Optional& out_shift, const Optional& out_scale)
      : layers(layers),
        activation(activation),
        norms{in_shift, in_scale, out_shift, out_scale},
        mlp(weights()) {}

  static View<const T, 1> vector(const char* name, const Optional& array) {
    return array ? input_view<T, 1>(name, *array, {-1}) : View<const T, 1>();
  }

  MlpWeights<T> weights() const {
    MlpWeights<T> result;
    for (const auto& [weight, bias] : layers) {
      result.layers.push_back({input_view<T, 2>("weight", weight, {-1, -1}), vector("bias", bias)});
    }
    result.activation = static_cast<MlpActivation>(activation);
    result.in_shift = vector("in_shift", norms[0]);
    result.in_scale = vector("in_scale", norms[1]);
    result.out_shift = vector("out_shift", norms[2]);
    result.out_scale = vector("out_scale", norms[3]);
    return result;
  }

  Layers layers;
  int activation;
  std::array<Optional, 4> norms;
  Mlp<T> mlp;
};

template <class T>
void run(const OwnedMlp<T>& owned, const py::object& x, const py::object& y, const py::object& dx,
         const py::object& v, bool reference, int threads, std::uintptr_t stream) {
  Array<T> hold_x, hold_v;
  const auto in = any_input<T, 2>("x", x, hold_x, {-1, owned.mlp.inputs()});
  const std::int64_t B = in.shape[0], D = owned.mlp.inputs(), O = owned.mlp.outputs();
  const auto to = y.is_none() ? View<T, 2>() : any_output<T, 2>("y", y, {B, O});
  const auto slope = dx.is_none() ? View<T, 2>() : any_output<T, 2>("dx", dx, {B, D});
  const auto along = v.is_none() ? View<const T, 2>() : any_input<T, 2>("v", v, hold_v, {B, O});
  const Context context{threads, reinterpret_cast<void*>(stream)};
  py::gil_scoped_release release;
  if (reference) return reference::mlp<T>(owned.weights(), in, along, to, slope);
  if (dx.is_none()) return owned.mlp.forward(context, in, to);
  owned.mlp.gradient(context, in, along, slope, to);
}

template <class T>
void export_network(py::module_& m, const char* name) {
  using Owned = OwnedMlp<T>;
  using Optional = typename Owned::Optional;
  py::class_<Owned>(m, name)
      .def(py::init<const typename Owned::Layers&, int, const Optional&, const Optional&,
                    const Optional&, const Optional&>(),
           py::arg("layers"), py::arg("activation"), py::arg("in_shift") = py::none(),
           py::arg("in_scale") = py::none(), py::arg("out_shift") = py::none(),
           py::arg("out_scale") = py::none())
      .def_property_readonly("inputs", [](const Owned& o) { return o.mlp.inputs(); })
      .def_property_readonly("outputs", [](const Owned& o) { return o.mlp.outputs(); })
      .def_property_readonly("layers", [](const Owned& o) { return o.mlp.layers(); })
      .def("run", &run<T>, py::arg("x"), py::arg("y") = py::none(), py::arg("dx") = py::none(),
           py::arg("v") = py::none(), py::arg("reference") = false, py::arg("num_threads") = 0,
           py::arg("stream") = 0);
}

}  // namespace

void export_mlp(py::module_& m) {
  export_network<float>(m, "MlpFloat32");
  export_network<double>(m, "MlpFloat64");
}

}  // namespace mlcore::python
