#include <pybind11/stl.h>

#include <vector>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/noise.hpp"
#include "mlcore/reference/noise.hpp"
#include "mobility_model.hpp"
#include "noise_policy.hpp"

namespace mlcore::python {
namespace {

SqrtOptions make_options(const std::string& method, double tolerance, const std::string& psd,
                         int max_iterations, bool single_precision,
                         const std::array<double, 2>& bounds) {
  return {method_named("method", method),
          tolerance,
          indefinite_named(psd),
          max_iterations,
          single_precision,
          bounds[0],
          bounds[1]};
}

py::tuple report_of(const NoiseReport& report) {
  return py::make_tuple(std::string(report.method), report.iterations, report.error,
                        report.smallest_ritz, report.shift, report.smallest_eigenvalue);
}

Context context_of(int threads, std::uintptr_t stream) {
  return {threads, reinterpret_cast<void*>(stream)};
}

/// From a mobility the core knows: x (B, n, 3), z and out (B, k, n, 3); a report each.
py::list apply(const OwnedMobilityModel& owned, const Array<double>& cell,
               const std::array<bool, 3>& pbc, const py::object& x, const py::object& z,
               const py::object& out, const SqrtOptions& options, int threads,
               std::uintptr_t stream) {
  Array<double> x_holder, z_holder;
  const auto xs = any_input<double, 3>("x", x, x_holder, {-1, -1, 3});
  const auto noise = any_input<double, 4>("z", z, z_holder, {xs.shape[0], -1, xs.shape[1], 3});
  const auto result = any_output<double, 4>("out", out, noise.shape);
  const Cell box = to_cell(cell, pbc);
  std::vector<NoiseReport> reports;
  {
    py::gil_scoped_release release;
    reports = sqrt_apply(context_of(threads, stream), owned.model, box, xs, noise, result, options);
  }
  py::list list;
  for (const NoiseReport& report : reports) list.append(report_of(report));
  return list;
}

/// From a matrix (m, m); z and out (k, m); x (m / 3, 3), or empty, for messages.
py::tuple apply_matrix(const py::object& M, const Array<double>& cell,
                       const std::array<bool, 3>& pbc, const py::object& x, const py::object& z,
                       const py::object& out, const SqrtOptions& options, int threads,
                       std::uintptr_t stream) {
  Array<double> M_holder, x_holder, z_holder;
  const auto matrix = any_input<double, 2>("matrix", M, M_holder, {-1, -1});
  const auto xs = any_input<double, 2>("x", x, x_holder, {-1, 3});
  const auto noise = any_input<double, 2>("z", z, z_holder, {-1, matrix.shape[0]});
  const auto result = any_output<double, 2>("out", out, noise.shape);
  const Cell box = to_cell(cell, pbc);
  NoiseReport report;
  {
    py::gil_scoped_release release;
    report = sqrt_apply(context_of(threads, stream), matrix, noise, result, options, box, xs);
  }
  return report_of(report);
}

void apply_reference(const Array<double>& M, const Array<double>& z, py::array out,
                     bool symmetric) {
  const auto matrix = input_view<double, 2>("matrix", M, {-1, -1});
  const auto noise = input_view<double, 2>("z", z, {-1, matrix.shape[0]});
  const auto result = output_view<double, 2>("out", out, noise.shape);
  py::gil_scoped_release release;
  reference::sqrt_apply(matrix, noise, result, symmetric);
}

}  // namespace

void export_noise(py::module_& m) {
  py::class_<SqrtOptions>(m, "SqrtOptions")
      .def(py::init(&make_options), py::arg("method") = "cholesky", py::arg("tol") = 1e-3,
           py::arg("psd") = "error", py::arg("max_iterations") = 1000,
           py::arg("single_precision") = false, py::arg("bounds") = std::array<double, 2>{0, 0});
  m.def("sqrt_apply", &apply, py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"),
        py::arg("z"), py::arg("out"), py::arg("options"), py::arg("num_threads") = 0,
        py::arg("stream") = 0);
  m.def("sqrt_apply_matrix", &apply_matrix, py::arg("matrix"), py::arg("cell"), py::arg("pbc"),
        py::arg("x"), py::arg("z"), py::arg("out"), py::arg("options"), py::arg("num_threads") = 0,
        py::arg("stream") = 0);
  m.def("sqrt_apply_reference", &apply_reference, py::arg("matrix"), py::arg("z"),
        py::arg("out").noconvert(), py::arg("symmetric") = false);
}

}  // namespace mlcore::python
