#pragma once

#include <pybind11/pybind11.h>

namespace mlcore::python {

// One per operation, defined in export_<op>.cpp.
void export_neighbors(pybind11::module_& m);
void export_mobility(pybind11::module_& m);
void export_random(pybind11::module_& m);
void export_linalg(pybind11::module_& m);
void export_machine(pybind11::module_& m);
void export_noise(pybind11::module_& m);
void export_bonds(pybind11::module_& m);
void export_dynamics(pybind11::module_& m);
void export_recurrent(pybind11::module_& m);
void export_pair_potential(pybind11::module_& m);
void export_potentials(pybind11::module_& m);
void export_mlp(pybind11::module_& m);
void export_splitting(pybind11::module_& m);
void export_voxels(pybind11::module_& m);
void export_stencil(pybind11::module_& m);
void export_stencil_active(pybind11::module_& m);

}  // namespace mlcore::python
