#include <pybind11/stl.h>

#include "arrays.hpp"
#include "export.hpp"
#include "mlcore/random.hpp"
#include "mlcore/reference/random.hpp"

namespace mlcore::python {
namespace {

py::array normal(std::uint64_t seed, std::uint32_t stream, std::uint64_t step,
                 const Array<std::uint32_t>& tags, bool reference, int threads) {
  const auto tag_view = input_view<std::uint32_t, 1>("tags", tags, {-1});
  py::array_t<double> out({tag_view.shape[0], std::int64_t{3}});
  const View<double, 2> out_view(out.mutable_data(), {tag_view.shape[0], 3});
  py::gil_scoped_release release;
  if (reference) {
    reference::random_normal(seed, stream, step, tag_view, out_view);
  } else {
    random_normal(Context{threads}, seed, stream, step, tag_view, out_view);
  }
  return out;
}

}  // namespace

void export_random(py::module_& m) {
  m.def("random_normal", &normal, py::arg("seed"), py::arg("stream"), py::arg("step"),
        py::arg("tags"), py::arg("reference") = false, py::arg("num_threads") = 0);
  m.def("philox4x32", &philox4x32, py::arg("counter"), py::arg("key"));
}

}  // namespace mlcore::python
