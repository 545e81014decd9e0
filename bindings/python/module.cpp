#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "export.hpp"
#include "mlcore/context.hpp"
#include "mlcore/error.hpp"
#include "pooled_arrays.hpp"

namespace py = pybind11;

namespace {

void set_python_error(const char* name, const char* message) {
  const py::object type = py::module_::import("mlcore.errors").attr(name);
  PyErr_SetString(type.ptr(), message);
}

void raise_not_positive_definite(const mlcore::NotPositiveDefinite& error) {
  const py::object type = py::module_::import("mlcore.errors").attr("NotPositiveDefinite");
  py::object pair = py::none();
  if (error.first >= 0) pair = py::make_tuple(error.first, error.second);
  const py::object value = type(error.what(), error.smallest_eigenvalue, pair);
  PyErr_SetObject(type.ptr(), value.ptr());
}

void translate(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const mlcore::NotPositiveDefinite& error) {
    raise_not_positive_definite(error);
  } catch (const mlcore::InvalidArgument& error) {
    set_python_error("InvalidArgument", error.what());
  } catch (const mlcore::BackendUnavailable& error) {
    set_python_error("BackendUnavailable", error.what());
  } catch (const mlcore::Error& error) {
    set_python_error("Error", error.what());
  }
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The numeric core of mlcore; use the documented faces in mlcore.* instead.";
  py::register_exception_translator(translate);
  m.attr("__version__") = mlcore::version();
  m.def("num_threads", &mlcore::num_threads);
  m.def("set_num_threads", &mlcore::set_num_threads, py::arg("threads"));
  m.def("simd_level", &mlcore::simd_level);
  m.def("cuda_status", [] {
    const mlcore::CudaStatus status = mlcore::cuda_status();
    py::dict result;
    result["compiled"] = status.compiled;
    result["devices"] = status.devices;
    result["name"] = std::string(status.name);
    return result;
  });
  m.def("empty", &mlcore::python::pooled_bytes, py::arg("shape"), py::arg("dtype"),
        "Uninitialised C-contiguous array on memory that is reused.");
  mlcore::python::export_neighbors(m);
  mlcore::python::export_mobility(m);
  mlcore::python::export_random(m);
  mlcore::python::export_linalg(m);
  mlcore::python::export_machine(m);
  mlcore::python::export_noise(m);
  mlcore::python::export_bonds(m);
  mlcore::python::export_dynamics(m);
  mlcore::python::export_recurrent(m);
  mlcore::python::export_pair_potential(m);
  mlcore::python::export_potentials(m);
  mlcore::python::export_mlp(m);
  mlcore::python::export_splitting(m);
  mlcore::python::export_voxels(m);
  mlcore::python::export_stencil(m);
  mlcore::python::export_stencil_active(m);
}
