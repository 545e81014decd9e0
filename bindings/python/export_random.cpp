#include <pybind11/stl.h>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/random.hpp"
#include "mlcore/reference/random.hpp"

namespace mlcore::python {
namespace {

/// Into `out`, or into a new NumPy array where that is None.
py::object normal(std::uint64_t seed, std::uint32_t stream, std::uint64_t step,
                  const Array<std::uint32_t>& tags, const py::object& out, bool reference,
                  int threads, std::uintptr_t on_stream) {
  const auto tag_view = input_view<std::uint32_t, 1>("tags", tags, {-1});
  const std::int64_t n = tag_view.shape[0];
  const py::object result = out.is_none() ? py::array_t<double>({n, std::int64_t{3}}) : out;
  const auto out_view = any_output<double, 2>("out", result, {n, 3});
  py::gil_scoped_release release;
  if (reference) {
    reference::random_normal(seed, stream, step, tag_view, out_view);
  } else {
    const Context context{threads, reinterpret_cast<void*>(on_stream)};
    random_normal(context, seed, stream, step, tag_view, out_view);
  }
  return result;
}

}  // namespace

void export_random(py::module_& m) {
  m.def("random_normal", &normal, py::arg("seed"), py::arg("stream"), py::arg("step"),
        py::arg("tags"), py::arg("out") = py::none(), py::arg("reference") = false,
        py::arg("num_threads") = 0, py::arg("on_stream") = 0);
  m.def("philox4x32", &philox4x32, py::arg("counter"), py::arg("key"));
}

}  // namespace mlcore::python
