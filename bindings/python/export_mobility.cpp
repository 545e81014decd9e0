#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/mobility.hpp"
#include "mlcore/reference/mobility.hpp"
#include "mobility_model.hpp"

namespace mlcore::python {
namespace {

using OptionalArray = std::optional<Array<double>>;  // an empty default would import NumPy

Kernel kernel_named(const std::string& name) {
  if (name == "none") return Kernel::none;
  if (name == "oseen") return Kernel::oseen;
  MLCORE_CHECK(name == "rpy", "kernel must be \"none\", \"oseen\" or \"rpy\", got \"", name, "\"");
  return Kernel::rpy;
}

std::unique_ptr<OwnedMobilityModel> make_model(const std::string& kernel, double radius,
                                               double viscosity, double self, double cutoff,
                                               const OptionalArray& par, const OptionalArray& dpar,
                                               const OptionalArray& perp,
                                               const OptionalArray& dperp, double tolerance,
                                               double splitting) {
  auto owned = std::make_unique<OwnedMobilityModel>();
  owned->par = par.value_or(Array<double>());
  owned->dpar = dpar.value_or(Array<double>());
  owned->perp = perp.value_or(Array<double>());
  owned->dperp = dperp.value_or(Array<double>());
  MobilityModel& model = owned->model;
  model.kernel = kernel_named(kernel);
  model.radius = radius;
  model.viscosity = viscosity;
  model.self = self;
  model.tolerance = tolerance;
  model.splitting = splitting;
  if (cutoff == 0) return owned;
  model.table = {input_view<double, 1>("par", owned->par, {-1}),
                 input_view<double, 1>("dpar", owned->dpar, {-1}),
                 input_view<double, 1>("perp", owned->perp, {-1}),
                 input_view<double, 1>("dperp", owned->dperp, {-1}), cutoff};
  return owned;
}

/// Where and how one call runs.
struct Call {
  const OwnedMobilityModel& owned;
  Cell cell;
  Context context;
  bool reference;
};

void matrix(const Call& call, const py::object& x, const py::object& M) {
  Array<double> holder;
  const auto xs = any_input<double, 3>("x", x, holder, {-1, -1, 3});
  const std::int64_t m = 3 * xs.shape[1];
  const auto out = any_output<double, 3>("out", M, {xs.shape[0], m, m});
  py::gil_scoped_release release;
  if (!call.reference) return mobility_matrix(call.context, call.owned.model, call.cell, xs, out);
  for (std::int64_t b = 0; b < xs.shape[0]; ++b) {
    reference::mobility_matrix(call.owned.model, call.cell, xs[b], out[b]);
  }
}

void apply(const Call& call, const py::object& x, const py::object& F, const py::object& V) {
  Array<double> holder, force_holder;
  const auto xs = any_input<double, 3>("x", x, holder, {-1, -1, 3});
  const auto Fs = any_input<double, 3>("forces", F, force_holder, xs.shape);
  const auto out = any_output<double, 3>("out", V, xs.shape);
  py::gil_scoped_release release;
  if (!call.reference) {
    return mobility_apply(call.context, call.owned.model, call.cell, xs, Fs, out);
  }
  for (std::int64_t b = 0; b < xs.shape[0]; ++b) {
    reference::mobility_apply(call.owned.model, call.cell, xs[b], Fs[b], out[b]);
  }
}

void divergence(const Call& call, const py::object& x, const py::object& D) {
  Array<double> holder;
  const auto xs = any_input<double, 3>("x", x, holder, {-1, -1, 3});
  const auto out = any_output<double, 3>("out", D, xs.shape);
  py::gil_scoped_release release;
  if (!call.reference) {
    return mobility_divergence(call.context, call.owned.model, call.cell, xs, out);
  }
  for (std::int64_t b = 0; b < xs.shape[0]; ++b) {
    reference::mobility_divergence(call.owned.model, call.cell, xs[b], out[b]);
  }
}

Call make_call(const OwnedMobilityModel& owned, const Array<double>& cell,
               const std::array<bool, 3>& pbc, int threads, std::uintptr_t stream, bool reference) {
  return {owned, to_cell(cell, pbc), Context{threads, reinterpret_cast<void*>(stream)}, reference};
}

}  // namespace

void export_mobility(py::module_& m) {
  py::class_<OwnedMobilityModel>(m, "MobilityModel")
      .def(py::init(&make_model), py::kw_only(), py::arg("kernel"), py::arg("radius") = 1.0,
           py::arg("viscosity") = 1.0, py::arg("self_mobility") = 0.0, py::arg("cutoff") = 0.0,
           py::arg("par") = py::none(), py::arg("dpar") = py::none(), py::arg("perp") = py::none(),
           py::arg("dperp") = py::none(), py::arg("tolerance") = 1e-10, py::arg("splitting") = 0.0);
  m.def(
      "mobility_matrix",
      [](const OwnedMobilityModel& model, const Array<double>& cell, std::array<bool, 3> pbc,
         const py::object& x, const py::object& out, int threads, std::uintptr_t stream,
         bool reference) {
        matrix(make_call(model, cell, pbc, threads, stream, reference), x, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("out"),
      py::arg("num_threads") = 0, py::arg("stream") = 0, py::arg("reference") = false);
  m.def(
      "mobility_apply",
      [](const OwnedMobilityModel& model, const Array<double>& cell, std::array<bool, 3> pbc,
         const py::object& x, const py::object& forces, const py::object& out, int threads,
         std::uintptr_t stream, bool reference) {
        apply(make_call(model, cell, pbc, threads, stream, reference), x, forces, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("forces"),
      py::arg("out"), py::arg("num_threads") = 0, py::arg("stream") = 0,
      py::arg("reference") = false);
  m.def(
      "mobility_divergence",
      [](const OwnedMobilityModel& model, const Array<double>& cell, std::array<bool, 3> pbc,
         const py::object& x, const py::object& out, int threads, std::uintptr_t stream,
         bool reference) {
        divergence(make_call(model, cell, pbc, threads, stream, reference), x, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("out"),
      py::arg("num_threads") = 0, py::arg("stream") = 0, py::arg("reference") = false);
}

}  // namespace mlcore::python
