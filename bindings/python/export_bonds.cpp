#include <algorithm>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/bonds.hpp"
#include "mlcore/reference/bonds.hpp"

namespace mlcore::python {
namespace {

/// Pairs from Python, and what keeps them alive.
class Rows {
 public:
  Rows(const py::object& offsets, const py::object& columns, const py::object& vectors,
       const py::object& species) {
    rows_.offsets = any_input<std::int64_t, 1>("offsets", offsets, offsets_, {-1});
    rows_.columns = any_input<std::int32_t, 1>("columns", columns, columns_, {-1});
    rows_.vectors = any_input<double, 2>("vectors", vectors, vectors_, {-1, 3});
    if (!species.is_none()) {
      rows_.species = any_input<std::int32_t, 1>("species", species, species_, {-1});
    }
  }

  /// With the displacements of a call.
  BondRows moved(const py::object& displacements, Array<double>& holder) const {
    BondRows rows = rows_;
    if (!displacements.is_none()) {
      rows.displacements =
          any_input<double, 2>("displacements", displacements, holder, {count(), 3});
    }
    return rows;
  }
  std::int64_t count() const { return std::max<std::int64_t>(rows_.offsets.shape[0] - 1, 0); }

 private:
  Array<std::int64_t> offsets_;
  Array<std::int32_t> columns_, species_;
  Array<double> vectors_;
  BondRows rows_;
};

template <int Rank>
View<double, Rank> output_or_none(const char* name, const py::object& array,
                                  std::array<std::int64_t, Rank> shape) {
  return array.is_none() ? View<double, Rank>() : any_output<double, Rank>(name, array, shape);
}

void evaluate(const BondBasis& basis, const py::object& coefficients, const py::object& middle,
              const Rows& given, const py::object& displacements, const py::object& weights,
              const py::object& along, const py::object& energies,
              const py::object& by_displacements, const py::object& by_coefficients, bool reference,
              int threads, std::uintptr_t stream) {
  Array<double> holders[5];
  const BondShape shape = bond_shape(basis);
  const std::int64_t n = given.count();
  const auto C = any_input<double, 2>("coefficients", coefficients, holders[0], {-1, -1});
  const auto m = any_input<double, 1>("middle", middle, holders[1], {-1});
  const BondRows rows = given.moved(displacements, holders[2]);
  BondDirections directions;
  if (!weights.is_none()) {
    directions.weights = any_input<double, 1>("weights", weights, holders[3], {n});
  }
  if (!along.is_none()) {
    directions.along = any_input<double, 2>("along", along, holders[4], {n, 3});
  }
  const BondResults results{
      output_or_none<1>("energies", energies, {n}),
      output_or_none<2>("by_displacements", by_displacements, {n, 3}),
      output_or_none<2>("by_coefficients", by_coefficients, {shape.rows, shape.columns})};
  py::gil_scoped_release release;
  if (reference) return reference::bond_energies(basis, C, m, rows, results.energies);
  evaluate_bonds({threads, reinterpret_cast<void*>(stream)}, basis, C, m, rows, directions,
                 results);
}

}  // namespace

void export_bonds(py::module_& m) {
  py::class_<Rows>(m, "BondRows")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&>(),
           py::arg("offsets"), py::arg("columns"), py::arg("vectors"),
           py::arg("species") = py::none(), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(),
           py::keep_alive<1, 4>(), py::keep_alive<1, 5>())
      .def("__len__", &Rows::count);
  py::class_<BondBasis>(m, "BondBasis")
      .def(py::init([](std::int64_t species, double reach, double inner, std::int64_t radial,
                       std::int64_t order, std::int64_t turns, std::int64_t degree, double decay,
                       double knot) {
             const BondBasis basis{species, reach,  inner, radial, order,
                                   turns,   degree, decay, knot};
             bond_shape(basis);
             return basis;
           }),
           py::arg("species"), py::arg("reach"), py::arg("inner"), py::arg("radial"),
           py::arg("order"), py::arg("turns"), py::arg("degree"), py::arg("decay"), py::arg("knot"))
      .def_property_readonly("rows", [](const BondBasis& basis) { return bond_shape(basis).rows; })
      .def_property_readonly("columns",
                             [](const BondBasis& basis) { return bond_shape(basis).columns; })
      .def_property_readonly(
          "products",
          [](const BondBasis& basis) {
            const auto made = bond_products(basis);
            py::array_t<std::int64_t> told({std::ssize(made), std::ptrdiff_t{3}});
            std::copy_n(made.data()->data(), 3 * made.size(), told.mutable_data());
            return told;
          })
      .def_property_readonly("seen", [](const BondBasis& basis) { return bond_shape(basis).seen; })
      .def("evaluate", &evaluate, py::arg("coefficients"), py::arg("middle"), py::arg("rows"),
           py::arg("displacements") = py::none(), py::arg("weights") = py::none(),
           py::arg("along") = py::none(), py::arg("energies") = py::none(),
           py::arg("by_displacements") = py::none(), py::arg("by_coefficients") = py::none(),
           py::arg("reference") = false, py::arg("num_threads") = 0, py::arg("stream") = 0);
}

}  // namespace mlcore::python
