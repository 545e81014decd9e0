#include <vector>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/linalg.hpp"
#include "mlcore/reference/linalg.hpp"

namespace mlcore::python {
namespace {

View<double, 2> square_output(const char* name, py::array& array) {
  const std::int64_t m = array.ndim() > 0 ? array.shape(0) : 0;
  return output_view<double, 2>(name, array, {m, m});
}

void cholesky_in_place(py::array A, bool reference, int threads) {
  const auto view = square_output("matrix", A);
  py::gil_scoped_release release;
  if (reference) return reference::cholesky(view);
  cholesky(Context{threads}, view);
}

template <class T>
void cholesky_copy(const py::object& A, const py::object& out, int threads, std::uintptr_t stream) {
  Array<T> holder;
  const auto view = any_input<T, 2>("matrix", A, holder, {-1, -1});
  const auto lower = any_output<T, 2>("out", out, view.shape);
  py::gil_scoped_release release;
  cholesky(Context{threads, reinterpret_cast<void*>(stream)}, view, lower);
}

void multiply(const Array<double>& L, const Array<double>& x, py::array out, bool reference,
              int threads) {
  const auto lower = input_view<double, 2>("L", L, {-1, -1});
  const auto xs = input_view<double, 2>("x", x, {-1, lower.shape[0]});
  const auto result = output_view<double, 2>("out", out, xs.shape);
  py::gil_scoped_release release;
  if (reference) return reference::lower_multiply(lower, xs, result);
  lower_multiply(Context{threads}, lower, xs, result);
}

py::array eigenvalues(const Array<double>& A, bool reference, int threads) {
  const auto view = input_view<double, 2>("matrix", A, {-1, -1});
  std::vector<double> copy(view.begin(), view.end());
  py::array_t<double> values(view.shape[0]);
  const View<double, 2> work(copy.data(), view.shape);
  const View<double, 1> out(values.mutable_data(), {view.shape[0]});
  py::gil_scoped_release release;
  if (reference) {
    reference::symmetric_eigenvalues(work, out);
  } else {
    symmetric_eigenvalues(Context{threads}, work, out);
  }
  return values;
}

}  // namespace

void export_linalg(py::module_& m) {
  m.def("cholesky", &cholesky_in_place, py::arg("matrix").noconvert(), py::arg("reference") = false,
        py::arg("num_threads") = 0);
  m.def("cholesky_copy", &cholesky_copy<double>, py::arg("matrix"), py::arg("out"),
        py::arg("num_threads") = 0, py::arg("stream") = 0);
  m.def("cholesky_copy_single", &cholesky_copy<float>, py::arg("matrix"), py::arg("out"),
        py::arg("num_threads") = 0, py::arg("stream") = 0);
  m.def(
      "symmetric_multiply",
      [](const Array<double>& A, const Array<double>& x, py::array out, bool upwards, int threads) {
        const auto matrix = input_view<double, 2>("matrix", A, {-1, -1});
        const auto xs = input_view<double, 2>("x", x, {-1, matrix.shape[0]});
        const auto result = output_view<double, 2>("out", out, xs.shape);
        py::gil_scoped_release release;
        symmetric_multiply(Context{threads}, matrix, xs, result, upwards);
      },
      py::arg("matrix"), py::arg("x"), py::arg("out").noconvert(), py::arg("upwards") = false,
      py::arg("num_threads") = 0);
  m.def("lower_multiply", &multiply, py::arg("L"), py::arg("x"), py::arg("out").noconvert(),
        py::arg("reference") = false, py::arg("num_threads") = 0);
  m.def("symmetric_eigenvalues", &eigenvalues, py::arg("matrix"), py::arg("reference") = false,
        py::arg("num_threads") = 0);
}

}  // namespace mlcore::python
