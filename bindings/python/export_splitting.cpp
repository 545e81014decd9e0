#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/reference/splitting.hpp"
#include "mlcore/splitting.hpp"

namespace mlcore::python {
namespace {

/// A splitting and the arrays its tables came in, which the reference reads.
struct OwnedSplitting {
  OwnedSplitting(double step, const Array<double>& drifts, const Array<double>& masses,
                 const Array<double>& coefficients, double u_lo, double u_hi)
      : drifts(drifts),
        masses(masses),
        coefficients(coefficients),
        tables{step,
               input_view<double, 1>("drifts", drifts, {-1}),
               input_view<double, 1>("masses", masses, {-1}),
               input_view<double, 4>("coefficients", coefficients, {-1, -1, -1, -1}),
               u_lo,
               u_hi},
        splitting(tables) {}

  Array<double> drifts, masses, coefficients;
  SplittingTables tables;
  PairSplitting splitting;
};

/// Where particles live, and the memory of the species.
struct OwnedSystem {
  OwnedSystem(const Array<double>& cell, const std::array<bool, 3>& pbc, double wall,
              const std::optional<Array<std::int32_t>>& species)
      : species(species.value_or(Array<std::int32_t>())) {
    system.cell = to_cell(cell, pbc);
    system.wall = wall;
    if (species) system.species = input_view<std::int32_t, 1>("species", this->species, {-1});
  }

  Array<std::int32_t> species;
  SplittingSystem system;
};

std::int64_t extent(const py::object& array, int axis) {
  const py::tuple shape = array.attr("shape");
  return static_cast<int>(shape.size()) > axis ? shape[axis].cast<std::int64_t>() : -1;
}

void run(const OwnedSplitting& owned, const OwnedSystem& place, const py::object& x,
         const py::object& v, const py::object& done, const py::object& closest,
         const py::object& status, std::int64_t every, std::int64_t first, std::int64_t last,
         SplittingLists& lists, const py::object& frames_x, const py::object& frames_v, int threads,
         std::uintptr_t stream) {
  const std::int64_t R = extent(x, 0), n = extent(x, 1);
  const SplittingState state{any_output<double, 3>("x", x, {R, n, 3}),
                             any_output<double, 3>("v", v, {R, n, 3}),
                             any_output<std::int64_t, 1>("done", done, {R}),
                             any_output<double, 1>("closest", closest, {R}),
                             any_output<std::int32_t, 1>("status", status, {R})};
  View<double, 4> xs, vs;
  if (!frames_x.is_none()) {
    const std::int64_t T = extent(frames_x, 1);
    xs = any_output<double, 4>("frames of x", frames_x, {R, T, n, 3});
    vs = any_output<double, 4>("frames of v", frames_v, {R, T, n, 3});
  }
  py::gil_scoped_release release;
  owned.splitting.run({threads, reinterpret_cast<void*>(stream)}, place.system, state, every, first,
                      last, xs, vs, &lists);
}

double kick(const OwnedSplitting& owned, int stage, const py::object& x, const py::object& v,
            const py::object& offsets, const py::object& columns, const py::object& species,
            int first_species, int threads) {
  Array<double> places;
  Array<std::int64_t> starts;
  Array<std::int32_t> neighbors, kinds;
  PairRows rows;
  rows.x = any_input<double, 2>("x", x, places, {-1, 3});
  rows.offsets = any_input<std::int64_t, 1>("offsets", offsets, starts, {-1});
  rows.columns = any_input<std::int32_t, 1>("columns", columns, neighbors, {-1});
  if (!species.is_none()) {
    rows.types = any_input<std::int32_t, 1>("species", species, kinds, {-1});
  }
  rows.first_type = first_species;
  const auto out = any_output<double, 2>("v", v, {extent(v, 0), 3});
  py::gil_scoped_release release;
  return owned.splitting.kick({threads}, stage, rows, out);
}

void step_gradient(const OwnedSplitting& owned, const OwnedSystem& place, const py::object& x,
                   const py::object& v, const py::object& gx, const py::object& gv, int threads) {
  Array<double> places, speeds;
  const auto xs = any_input<double, 3>("x", x, places, {-1, -1, 3});
  const auto vs = any_input<double, 3>("v", v, speeds, xs.shape);
  const auto by_x = any_output<double, 3>("gx", gx, xs.shape);
  const auto by_v = any_output<double, 3>("gv", gv, xs.shape);
  py::gil_scoped_release release;
  owned.splitting.step_gradient({threads}, place.system, xs, vs, by_x, by_v);
}

double reference_step(const OwnedSplitting& owned, const OwnedSystem& place, py::array x,
                      py::array v) {
  const auto xs = output_view<double, 2>("x", x, {extent(x, 0), 3});
  const auto vs = output_view<double, 2>("v", v, xs.shape);
  return reference::splitting_step(owned.tables, place.system, xs, vs);
}

}  // namespace

void export_splitting(py::module_& m) {
  py::class_<OwnedSystem>(m, "SplittingSystem")
      .def(py::init<const Array<double>&, const std::array<bool, 3>&, double,
                    const std::optional<Array<std::int32_t>>&>(),
           py::arg("cell"), py::arg("pbc"), py::arg("wall") = 0.0, py::arg("species") = py::none());
  py::class_<SplittingLists>(m, "SplittingLists").def(py::init<>());
  py::class_<OwnedSplitting>(m, "PairSplitting")
      .def(py::init<double, const Array<double>&, const Array<double>&, const Array<double>&,
                    double, double>(),
           py::arg("step"), py::arg("drifts"), py::arg("masses"), py::arg("coefficients"),
           py::arg("u_lo"), py::arg("u_hi"))
      .def("run", &run, py::arg("system"), py::arg("x"), py::arg("v"), py::arg("done"),
           py::arg("closest"), py::arg("status"), py::arg("every"), py::arg("first"),
           py::arg("last"), py::arg("lists"), py::arg("frames_x") = py::none(),
           py::arg("frames_v") = py::none(), py::arg("num_threads") = 0, py::arg("stream") = 0)
      .def("kick", &kick, py::arg("stage"), py::arg("x"), py::arg("v"), py::arg("offsets"),
           py::arg("columns"), py::arg("species") = py::none(), py::arg("first_species") = 0,
           py::arg("num_threads") = 0)
      .def("step_gradient", &step_gradient, py::arg("system"), py::arg("x"), py::arg("v"),
           py::arg("gx"), py::arg("gv"), py::arg("num_threads") = 0)
      .def("step_reference", &reference_step, py::arg("system"), py::arg("x").noconvert(),
           py::arg("v").noconvert());
}

}  // namespace mlcore::python
