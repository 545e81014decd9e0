#include <pybind11/stl.h>

#include "export.hpp"
#include "mlcore/linalg.hpp"
#include "mlcore/noise.hpp"
#include "mlcore/reference/noise.hpp"
#include "mobility_model.hpp"
#include "noise_policy.hpp"

namespace mlcore::python {
namespace {

py::tuple report_of(const NoiseReport& report) {
  return py::make_tuple(std::string(report.method), report.shift, report.smallest_eigenvalue);
}

/// From a mobility the core knows.
py::tuple apply(const OwnedMobilityModel& owned, const Array<double>& cell,
                const std::array<bool, 3>& pbc, const Array<double>& x, const Array<double>& z,
                py::array out, const std::string& psd, int threads) {
  const auto xs = input_view<double, 2>("x", x, {-1, 3});
  const auto noise = input_view<double, 3>("z", z, {-1, xs.shape[0], 3});
  const auto result = output_view<double, 3>("out", out, noise.shape);
  const Cell box = to_cell(cell, pbc);
  const Indefinite policy = indefinite_named(psd);
  NoiseReport report;
  {
    py::gil_scoped_release release;
    report = sqrt_apply(Context{threads}, owned.model, box, xs, noise, result, policy);
  }
  return report_of(report);
}

/// From any matrix; it becomes its factor.
py::tuple apply_matrix(py::array M, const Array<double>& cell, const std::array<bool, 3>& pbc,
                       const Array<double>& x, const Array<double>& z, py::array out,
                       const std::string& psd, bool reference, int threads) {
  const auto xs = input_view<double, 2>("x", x, {-1, 3});
  const std::int64_t m = 3 * xs.shape[0];
  const auto matrix = output_view<double, 2>("matrix", M, {m, m});
  const auto noise = input_view<double, 3>("z", z, {-1, xs.shape[0], 3});
  const auto result = output_view<double, 3>("out", out, noise.shape);
  const Cell box = to_cell(cell, pbc);
  const Indefinite policy = indefinite_named(psd);
  NoiseReport report;
  {
    py::gil_scoped_release release;
    if (reference) {
      reference::sqrt_apply(View<const double, 2>(matrix), noise, result);
    } else {
      report = noise_factor(Context{threads}, box, xs, matrix, policy);
      lower_multiply(Context{threads}, matrix, {noise.data, {noise.shape[0], m}},
                     {result.data, {noise.shape[0], m}});
    }
  }
  return report_of(report);
}

}  // namespace

void export_noise(py::module_& m) {
  m.def("sqrt_apply", &apply, py::arg("model"), py::arg("cell"), py::arg("pbc"), py::arg("x"),
        py::arg("z"), py::arg("out").noconvert(), py::arg("psd") = "error",
        py::arg("num_threads") = 0);
  m.def("sqrt_apply_matrix", &apply_matrix, py::arg("matrix").noconvert(), py::arg("cell"),
        py::arg("pbc"), py::arg("x"), py::arg("z"), py::arg("out").noconvert(),
        py::arg("psd") = "error", py::arg("reference") = false, py::arg("num_threads") = 0);
}

}  // namespace mlcore::python
