#include <pybind11/pybind11.h>

#include <string>

#include "export.hpp"
#include "mlcore/machine.hpp"

namespace mlcore::python {
namespace py = pybind11;
namespace {

MemoryUse to_memory_use(const std::string& name) {
  if (name == "copy") return MemoryUse::copy;
  if (name == "read") return MemoryUse::read;
  MLCORE_CHECK(name == "write", "use must be \"copy\", \"read\" or \"write\", got \"", name, "\"");
  return MemoryUse::write;
}

}  // namespace

void export_machine(py::module_& m) {
  using Released = py::call_guard<py::gil_scoped_release>;
  m.def(
      "fma_rate",
      [](bool single_precision, int threads) {
        return fma_rate(Context{threads}, single_precision);
      },
      py::arg("single_precision"), py::arg("num_threads") = 0, Released());
  m.def(
      "stream_rate",
      [](const std::string& use, std::int64_t bytes, int threads) {
        return stream_rate(Context{threads}, to_memory_use(use), bytes);
      },
      py::arg("use"), py::arg("bytes"), py::arg("num_threads") = 0, Released());
  m.def(
      "gather_rate",
      [](std::int64_t bytes, int threads) { return gather_rate(Context{threads}, bytes); },
      py::arg("bytes"), py::arg("num_threads") = 0, Released());
  m.def(
      "first_touch_rate",
      [](std::int64_t bytes, bool huge_pages, int threads) {
        return first_touch_rate(Context{threads}, bytes, huge_pages);
      },
      py::arg("bytes"), py::arg("huge_pages"), py::arg("num_threads") = 0, Released());
}

}  // namespace mlcore::python
