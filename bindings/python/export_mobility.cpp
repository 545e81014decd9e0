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
  if (name == "rpy") return Kernel::rpy;
  if (name == "regularized_oseen") return Kernel::regularized_oseen;
  MLCORE_CHECK(
      name == "rpy_wall",
      "kernel must be \"none\", \"oseen\", \"rpy\", \"regularized_oseen\" or \"rpy_wall\", "
      "got \"",
      name, "\"");
  return Kernel::rpy_wall;
}

std::unique_ptr<OwnedMobilityModel> make_model(const std::string& kernel, double radius,
                                               double viscosity, double self, double cutoff,
                                               const OptionalArray& par, const OptionalArray& dpar,
                                               const OptionalArray& perp,
                                               const OptionalArray& dperp, double tolerance,
                                               double splitting, const OptionalArray& radii) {
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
  if (radii) {
    owned->radii = *radii;
    model.radii = input_view<double, 1>("radii", owned->radii, {-1});
  }
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

  void check_reference(bool single) const {
    MLCORE_CHECK(!(reference && single), "the reference takes double precision alone");
  }
};

/// Whether an array of either device holds float32.
bool is_single(const py::object& array) {
  if (!on_gpu(array)) return py::isinstance<py::array_t<float>>(array);
  return array.attr("__cuda_array_interface__")["typestr"].cast<std::string>() == "<f4";
}

template <class Real>
void matrix(const Call& call, const py::object& x, const py::object& M) {
  Array<Real> holder;
  const auto xs = any_input<Real, 3>("x", x, holder, {-1, -1, 3});
  const std::int64_t m = 3 * xs.shape[1];
  const auto out = any_output<Real, 3>("out", M, {xs.shape[0], m, m});
  py::gil_scoped_release release;
  if (!call.reference) return mobility_matrix(call.context, call.owned.model, call.cell, xs, out);
  if constexpr (sizeof(Real) == 8) {
    for (std::int64_t b = 0; b < xs.shape[0]; ++b) {
      reference::mobility_matrix(call.owned.model, call.cell, xs[b], out[b]);
    }
  }
}

template <class Real>
void apply(const Call& call, const py::object& x, const py::object& F, const py::object& V) {
  Array<Real> holder, force_holder;
  const auto xs = any_input<Real, 3>("x", x, holder, {-1, -1, 3});
  const auto Fs = any_input<Real, 3>("forces", F, force_holder, xs.shape);
  const auto out = any_output<Real, 3>("out", V, xs.shape);
  py::gil_scoped_release release;
  if (!call.reference) {
    return mobility_apply(call.context, call.owned.model, call.cell, xs, Fs, out);
  }
  if constexpr (sizeof(Real) == 8) {
    for (std::int64_t b = 0; b < xs.shape[0]; ++b) {
      reference::mobility_apply(call.owned.model, call.cell, xs[b], Fs[b], out[b]);
    }
  }
}

template <class Real>
void divergence(const Call& call, const py::object& x, const py::object& D) {
  Array<Real> holder;
  const auto xs = any_input<Real, 3>("x", x, holder, {-1, -1, 3});
  const auto out = any_output<Real, 3>("out", D, xs.shape);
  py::gil_scoped_release release;
  if (!call.reference) {
    return mobility_divergence(call.context, call.owned.model, call.cell, xs, out);
  }
  if constexpr (sizeof(Real) == 8) {
    for (std::int64_t b = 0; b < xs.shape[0]; ++b) {
      reference::mobility_divergence(call.owned.model, call.cell, xs[b], out[b]);
    }
  }
}

/// Derivatives in the parameters as NumPy arrays.
class ParameterGradients {
 public:
  explicit ParameterGradients(const MobilityModel& model)
      : radius_(model.radii.empty() ? 1 : model.radii.shape[0]),
        scalars_(2),
        table_({std::int64_t{4}, model.table.par.shape[0]}) {}

  MobilityGradients into(View<double, 3> x) {
    MobilityGradients to;
    to.x = x;
    to.radius = {radius_.mutable_data(), {radius_.shape(0)}};
    to.viscosity = {scalars_.mutable_data(), {1}};
    to.self = {scalars_.mutable_data() + 1, {1}};
    const std::int64_t k = table_.shape(1);
    double* table = table_.mutable_data();
    to.par = {table, {k}};
    to.dpar = {table + k, {k}};
    to.perp = {table + 2 * k, {k}};
    to.dperp = {table + 3 * k, {k}};
    return to;
  }

  py::tuple taken() { return py::make_tuple(radius_, scalars_, table_); }

 private:
  py::array_t<double> radius_, scalars_, table_;
};

/// Into `dx` alone, or with the parameters.
MobilityGradients wanted(ParameterGradients& parameters, View<double, 3> dx, bool all) {
  if (all) return parameters.into(dx);
  MobilityGradients to;
  to.x = dx;
  return to;
}

py::object apply_backward(const Call& call, const py::object& x, const py::object& F,
                          const py::object& G, const py::object& dx, bool all) {
  Array<double> holders[3];
  const auto xs = any_input<double, 3>("x", x, holders[0], {-1, -1, 3});
  const auto Fs = any_input<double, 3>("forces", F, holders[1], xs.shape);
  const auto Gs = any_input<double, 3>("adjoint", G, holders[2], xs.shape);
  const auto out = any_output<double, 3>("dx", dx, xs.shape);
  ParameterGradients parameters(call.owned.model);
  const MobilityGradients to = wanted(parameters, out, all);
  {
    py::gil_scoped_release release;
    mobility_apply_backward(call.context, call.owned.model, call.cell, xs, Fs, Gs, to);
  }
  return all ? py::object(parameters.taken()) : py::none();
}

py::object matrix_backward(const Call& call, const py::object& x, const py::object& C,
                           const py::object& dx, bool all) {
  Array<double> holders[2];
  const auto xs = any_input<double, 3>("x", x, holders[0], {-1, -1, 3});
  const std::int64_t m = 3 * xs.shape[1];
  const auto Cs = any_input<double, 3>("adjoint", C, holders[1], {xs.shape[0], m, m});
  const auto out = any_output<double, 3>("dx", dx, xs.shape);
  ParameterGradients parameters(call.owned.model);
  const MobilityGradients to = wanted(parameters, out, all);
  {
    py::gil_scoped_release release;
    mobility_matrix_backward(call.context, call.owned.model, call.cell, xs, Cs, to);
  }
  return all ? py::object(parameters.taken()) : py::none();
}

void tangent(const Call& call, const py::object& x, const py::object& F, const py::object& H,
             const py::object& dV) {
  Array<double> holders[3];
  const auto xs = any_input<double, 3>("x", x, holders[0], {-1, -1, 3});
  const auto Fs = any_input<double, 3>("forces", F, holders[1], xs.shape);
  const auto Hs = any_input<double, 3>("motion", H, holders[2], xs.shape);
  const auto out = any_output<double, 3>("out", dV, xs.shape);
  py::gil_scoped_release release;
  mobility_apply_tangent(call.context, call.owned.model, call.cell, xs, Fs, Hs, out);
}

void hessian(const Call& call, const py::object& x, const py::object& F, const py::object& G,
             const py::object& H, const py::object& dX) {
  Array<double> holders[4];
  const auto xs = any_input<double, 3>("x", x, holders[0], {-1, -1, 3});
  const auto Fs = any_input<double, 3>("forces", F, holders[1], xs.shape);
  const auto Gs = any_input<double, 3>("adjoint", G, holders[2], xs.shape);
  const auto Hs = any_input<double, 3>("motion", H, holders[3], xs.shape);
  const auto out = any_output<double, 3>("out", dX, xs.shape);
  py::gil_scoped_release release;
  mobility_apply_hessian(call.context, call.owned.model, call.cell, xs, Fs, Gs, Hs, out);
}

Call make_call(const OwnedMobilityModel& owned, const Array<double>& cell,
               const std::array<bool, 3>& pbc, int threads, std::uintptr_t stream, bool reference) {
  return {owned, to_cell(cell, pbc), Context{threads, reinterpret_cast<void*>(stream)}, reference};
}

using Flags = std::array<bool, 3>;
using Object = py::object;

}  // namespace

void export_mobility(py::module_& m) {
  const auto threads = py::arg("num_threads") = 0;
  const auto stream = py::arg("stream") = 0;
  py::class_<OwnedMobilityModel>(m, "MobilityModel")
      .def(py::init(&make_model), py::kw_only(), py::arg("kernel"), py::arg("radius") = 1.0,
           py::arg("viscosity") = 1.0, py::arg("self_mobility") = 0.0, py::arg("cutoff") = 0.0,
           py::arg("par") = py::none(), py::arg("dpar") = py::none(), py::arg("perp") = py::none(),
           py::arg("dperp") = py::none(), py::arg("tolerance") = 1e-10, py::arg("splitting") = 0.0,
           py::arg("radii") = py::none());
  m.def(
      "mobility_matrix",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& out, int threads, std::uintptr_t stream, bool reference) {
        const Call call = make_call(model, cell, pbc, threads, stream, reference);
        const bool single = is_single(x);
        call.check_reference(single);
        single ? matrix<float>(call, x, out) : matrix<double>(call, x, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("out"), threads,
      stream, py::arg("reference") = false);
  m.def(
      "mobility_apply",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& forces, const Object& out, int threads, std::uintptr_t stream,
         bool reference) {
        const Call call = make_call(model, cell, pbc, threads, stream, reference);
        const bool single = is_single(x);
        call.check_reference(single);
        single ? apply<float>(call, x, forces, out) : apply<double>(call, x, forces, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("forces"),
      py::arg("out"), threads, stream, py::arg("reference") = false);
  m.def(
      "mobility_divergence",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& out, int threads, std::uintptr_t stream, bool reference) {
        const Call call = make_call(model, cell, pbc, threads, stream, reference);
        const bool single = is_single(x);
        call.check_reference(single);
        single ? divergence<float>(call, x, out) : divergence<double>(call, x, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("out"), threads,
      stream, py::arg("reference") = false);
  m.def(
      "mobility_apply_backward",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& forces, const Object& adjoint, const Object& dx, bool parameters,
         int threads, std::uintptr_t stream) {
        return apply_backward(make_call(model, cell, pbc, threads, stream, false), x, forces,
                              adjoint, dx, parameters);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("forces"),
      py::arg("adjoint"), py::arg("dx"), py::arg("parameters") = false, threads, stream);
  m.def(
      "mobility_matrix_backward",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& adjoint, const Object& dx, bool parameters, int threads,
         std::uintptr_t stream) {
        return matrix_backward(make_call(model, cell, pbc, threads, stream, false), x, adjoint, dx,
                               parameters);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("adjoint"),
      py::arg("dx"), py::arg("parameters") = false, threads, stream);
  m.def(
      "mobility_apply_tangent",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& forces, const Object& motion, const Object& out, int threads,
         std::uintptr_t stream) {
        tangent(make_call(model, cell, pbc, threads, stream, false), x, forces, motion, out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("forces"),
      py::arg("motion"), py::arg("out"), threads, stream);
  m.def(
      "mobility_apply_hessian",
      [](const OwnedMobilityModel& model, const Array<double>& cell, Flags pbc, const Object& x,
         const Object& forces, const Object& adjoint, const Object& motion, const Object& out,
         int threads, std::uintptr_t stream) {
        hessian(make_call(model, cell, pbc, threads, stream, false), x, forces, adjoint, motion,
                out);
      },
      py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"), py::arg("forces"),
      py::arg("adjoint"), py::arg("motion"), py::arg("out"), threads, stream);
}

}  // namespace mlcore::python
