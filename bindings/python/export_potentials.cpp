#include <pybind11/stl.h>

#include <string>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/potentials.hpp"
#include "mlcore/reference/potentials.hpp"

namespace mlcore::python {
namespace {

/// Structures and the arrays they lie in.
struct OwnedStructures {
  OwnedStructures(const py::object& starts, const py::object& species, const py::object& offsets,
                  const py::object& columns, const py::object& vectors, const py::object& volumes,
                  double cutoff)
      : arrays(py::make_tuple(starts, species, offsets, columns, vectors, volumes)) {
    structures.starts = any_input<std::int64_t, 1>("starts", starts, holders.starts, {-1});
    structures.species = any_input<std::int32_t, 1>("species", species, holders.species, {-1});
    structures.offsets = any_input<std::int64_t, 1>("offsets", offsets, holders.offsets, {-1});
    structures.columns = any_input<std::int32_t, 1>("columns", columns, holders.columns, {-1});
    structures.vectors = any_input<double, 2>("vectors", vectors, holders.vectors, {-1, 3});
    structures.volumes = any_input<double, 1>("volumes", volumes, holders.volumes, {-1});
    structures.cutoff = cutoff;
  }

  py::tuple arrays;
  struct {
    Array<std::int64_t> starts, offsets;
    Array<std::int32_t> species, columns;
    Array<double> vectors, volumes;
  } holders;
  PotentialStructures structures;
};

/// The arrays of candidates.
struct OwnedCandidates {
  OwnedCandidates(const py::object& parameters, const py::object& directions,
                  const py::object& deformation, const py::object& displacements) {
    candidates.parameters = any_input<double, 2>("parameters", parameters, holders[0], {-1, -1});
    if (!directions.is_none()) {
      candidates.directions =
          any_input<double, 3>("directions", directions, holders[1], {-1, -1, -1});
    }
    if (!deformation.is_none()) {
      candidates.deformation =
          any_input<double, 4>("deformation", deformation, holders[2], {-1, -1, 3, 3});
    }
    if (!displacements.is_none()) {
      candidates.displacements =
          any_input<double, 3>("displacements", displacements, holders[3], {-1, -1, 3});
    }
  }

  Array<double> holders[4];
  PotentialCandidates candidates;
};

template <int Rank>
View<double, Rank> result_view(const char* name, const py::object& array) {
  if (array.is_none()) return {};
  std::array<std::int64_t, Rank> shape;
  const py::tuple given = array.attr("shape");
  MLCORE_CHECK(given.size() == Rank, name, " must have ", Rank, " dimensions, got ", given.size());
  for (int axis = 0; axis < Rank; ++axis) shape[axis] = given[axis].cast<std::int64_t>();
  return any_output<double, Rank>(name, array, shape);
}

/// Optional arrays to fill, by name.
struct Results {
  Results(const py::dict& given) {  // NOLINT(google-explicit-constructor)
    const auto of = [&](const char* name) {
      return given.contains(name) ? py::object(given[name]) : py::object(py::none());
    };
    if (const py::object mask = of("wanted"); !mask.is_none()) {
      views.wanted = any_input<std::uint8_t, 1>("wanted", mask, wanted, {-1});
    }
    views.energies = result_view<2>("energies", of("energies"));
    views.forces = result_view<3>("forces", of("forces"));
    views.stress = result_view<3>("stress", of("stress"));
    views.d_energies = result_view<3>("d_energies", of("d_energies"));
    views.d_forces = result_view<4>("d_forces", of("d_forces"));
    views.d_stress = result_view<4>("d_stress", of("d_stress"));
  }

  Array<std::uint8_t> wanted;
  PotentialResults views;
};

void evaluate(const PotentialModel& model, const OwnedStructures& owned,
              const py::object& parameters, const py::dict& results, const py::object& directions,
              const py::object& deformation, const py::object& displacements, int threads,
              std::uintptr_t stream) {
  const OwnedCandidates given(parameters, directions, deformation, displacements);
  const Results to(results);
  py::gil_scoped_release release;
  evaluate_potentials({threads, reinterpret_cast<void*>(stream)}, model, owned.structures,
                      given.candidates, to.views);
}

void evaluate_reference(const PotentialModel& model, const OwnedStructures& owned,
                        const py::object& parameters, const py::dict& results,
                        const py::object& deformation, const py::object& displacements) {
  const OwnedCandidates given(parameters, py::none(), deformation, displacements);
  const Results to(results);
  reference::evaluate_potentials(model, owned.structures, given.candidates, to.views);
}

}  // namespace

void export_potentials(py::module_& m) {
  py::class_<OwnedStructures>(m, "PotentialStructures")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    const py::object&, const py::object&, double>(),
           py::arg("starts"), py::arg("species"), py::arg("offsets"), py::arg("columns"),
           py::arg("vectors"), py::arg("volumes"), py::arg("cutoff"));
  py::class_<PotentialModel>(m, "PotentialModel")
      .def(py::init([](int form, std::int64_t species, bool shift, std::int64_t embedding_knots,
                       std::int64_t radial_knots, double density_spacing, double radial_spacing,
                       double cutoff, double largest_density) {
             return PotentialModel{static_cast<PotentialForm>(form),
                                   species,
                                   shift,
                                   embedding_knots,
                                   radial_knots,
                                   density_spacing,
                                   radial_spacing,
                                   cutoff,
                                   largest_density};
           }),
           py::arg("form"), py::arg("species"), py::arg("shift") = false,
           py::arg("embedding_knots") = 0, py::arg("radial_knots") = 0,
           py::arg("density_spacing") = 0.0, py::arg("radial_spacing") = 0.0,
           py::arg("cutoff") = 0.0, py::arg("largest_density") = 0.0)
      .def_property_readonly("parameters", &potential_parameters)
      .def("evaluate", &evaluate, py::arg("structures"), py::arg("parameters"), py::arg("results"),
           py::arg("directions") = py::none(), py::arg("deformation") = py::none(),
           py::arg("displacements") = py::none(), py::arg("num_threads") = 0, py::arg("stream") = 0)
      .def("evaluate_reference", &evaluate_reference, py::arg("structures"), py::arg("parameters"),
           py::arg("results"), py::arg("deformation") = py::none(),
           py::arg("displacements") = py::none());
}

}  // namespace mlcore::python
