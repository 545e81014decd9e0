#include <memory>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/pair_potential.hpp"
#include "mlcore/reference/pair_potential.hpp"

namespace mlcore::python {
namespace {

/// A potential and the arrays its table came in, which the reference reads.
struct OwnedPotential {
  OwnedPotential(std::int64_t types, double first, double cutoff, const Array<double>& energy,
                 const Array<double>& slope)
      : energy(energy),
        slope(slope),
        table{types, first, cutoff, input_view<double, 2>("energy", energy, {-1, -1}),
              input_view<double, 2>("slope", slope, {-1, -1})},
        potential(table) {}

  Array<double> energy, slope;
  PairEnergyTable table;
  PairPotential potential;
};

/// Rows from Python, and what keeps them alive.
class Rows {
 public:
  Rows(const py::object& offsets, const py::object& columns, const py::object& vectors,
       const py::object& x, const py::object& types, int first_type) {
    rows_.offsets = any_input<std::int64_t, 1>("offsets", offsets, offsets_, {-1});
    rows_.columns = any_input<std::int32_t, 1>("columns", columns, columns_, {-1});
    if (!vectors.is_none()) {
      rows_.vectors = any_input<double, 2>("vectors", vectors, vectors_, {-1, 3});
    }
    if (!x.is_none()) rows_.x = any_input<double, 2>("x", x, x_, {-1, 3});
    if (!types.is_none()) {
      rows_.types = any_input<std::int32_t, 1>("types", types, types_, {-1});
    }
    rows_.first_type = first_type;
  }

  const PairRows& view() const { return rows_; }
  std::int64_t count() const { return std::max<std::int64_t>(rows_.offsets.shape[0] - 1, 0); }
  std::int64_t pairs() const { return rows_.columns.shape[0]; }

 private:
  Array<std::int64_t> offsets_;
  Array<std::int32_t> columns_, types_;
  Array<double> vectors_, x_;
  PairRows rows_;
};

template <int Rank>
View<double, Rank> output_or_none(const char* name, const py::object& array,
                                  std::array<std::int64_t, Rank> shape) {
  return array.is_none() ? View<double, Rank>() : any_output<double, Rank>(name, array, shape);
}

Context context_of(int threads, std::uintptr_t stream) {
  return {threads, reinterpret_cast<void*>(stream)};
}

void evaluate(const OwnedPotential& owned, const Rows& rows, const py::object& forces,
              const py::object& energies, const py::object& virial, double share, bool reference,
              int threads, std::uintptr_t stream) {
  const std::int64_t n = rows.count();
  const PairResults results{output_or_none<2>("forces", forces, {n, 3}),
                            output_or_none<1>("energies", energies, {n}), share,
                            output_or_none<1>("virial", virial, {6})};
  py::gil_scoped_release release;
  if (reference) return reference::pair_potential(owned.table, rows.view(), results);
  owned.potential.evaluate(context_of(threads, stream), rows.view(), results);
}

void gradient(const OwnedPotential& owned, const Rows& rows, const py::object& weights,
              const py::object& out, int threads, std::uintptr_t stream) {
  Array<double> holder;
  const auto along = any_input<double, 1>("weights", weights, holder, {rows.count()});
  const auto to = any_output<double, 2>("out", out, {rows.pairs(), 3});
  py::gil_scoped_release release;
  owned.potential.gradient(context_of(threads, stream), rows.view(), along, to);
}

void second_gradient(const OwnedPotential& owned, const Rows& rows, const py::object& weights,
                     const py::object& along, const py::object& by_vectors,
                     const py::object& by_weights, int threads, std::uintptr_t stream) {
  Array<double> first, second;
  const auto w = any_input<double, 1>("weights", weights, first, {rows.count()});
  const auto a = any_input<double, 2>("along", along, second, {rows.pairs(), 3});
  const auto to_vectors = any_output<double, 2>("by_vectors", by_vectors, {rows.pairs(), 3});
  const auto to_weights = any_output<double, 1>("by_weights", by_weights, {rows.count()});
  py::gil_scoped_release release;
  owned.potential.second_gradient(context_of(threads, stream), rows.view(), w, a, to_vectors,
                                  to_weights);
}

}  // namespace

void export_pair_potential(py::module_& m) {
  py::class_<Rows>(m, "PairRows")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    const py::object&, int>(),
           py::arg("offsets"), py::arg("columns"), py::arg("vectors") = py::none(),
           py::arg("x") = py::none(), py::arg("types") = py::none(), py::arg("first_type") = 0,
           py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(),
           py::keep_alive<1, 5>(), py::keep_alive<1, 6>());
  py::class_<OwnedPotential>(m, "PairPotential")
      .def(py::init<std::int64_t, double, double, const Array<double>&, const Array<double>&>(),
           py::arg("types"), py::arg("first"), py::arg("cutoff"), py::arg("energy"),
           py::arg("slope"))
      .def("evaluate", &evaluate, py::arg("rows"), py::arg("forces") = py::none(),
           py::arg("energies") = py::none(), py::arg("virial") = py::none(), py::arg("share") = 0.5,
           py::arg("reference") = false, py::arg("num_threads") = 0, py::arg("stream") = 0)
      .def("gradient", &gradient, py::arg("rows"), py::arg("weights"), py::arg("out"),
           py::arg("num_threads") = 0, py::arg("stream") = 0)
      .def("second_gradient", &second_gradient, py::arg("rows"), py::arg("weights"),
           py::arg("along"), py::arg("by_vectors"), py::arg("by_weights"),
           py::arg("num_threads") = 0, py::arg("stream") = 0);
}

}  // namespace mlcore::python
