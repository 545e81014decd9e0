#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "arrays.hpp"
#include "export.hpp"
#include "mlcore/neighbors.hpp"
#include "mlcore/reference/neighbors.hpp"
#include "pooled_arrays.hpp"

namespace mlcore::python {
namespace {

/// The cutoff as Python gives it; the views look into the arrays, which live as long as this.
struct CutoffArguments {
  double cutoff;
  std::optional<Array<double>> radii;
  std::optional<Array<std::int32_t>> types;
  std::optional<Array<double>> table;

  NeighborCutoff views() const {
    NeighborCutoff result{cutoff, {}, {}, {}};
    if (radii) result.radii = input_view<double, 1>("radii", *radii, {-1});
    if (types) result.types = input_view<std::int32_t, 1>("types", *types, {-1});
    if (table) result.table = input_view<double, 2>("cutoff", *table, {-1, -1});
    return result;
  }
};

template <class T>
View<T, 1> column(py::array_t<T>& array, std::int64_t count) {
  array = pooled_array<T, 1>({count});
  return {array.mutable_data(), {count}};
}

template <class T>
View<T, 2> triples(py::array_t<T>& array, std::int64_t count) {
  array = pooled_array<T, 2>({count, 3});
  return {array.mutable_data(), {count, 3}};
}

/// Arrays for the letters of `quantities`, filled without the interpreter lock.
template <class Index, class Source>
py::tuple filled(const Source& source, const std::string& quantities, int threads) {
  const std::int64_t count = source.count();
  py::array_t<Index> i, j;
  py::array_t<std::int32_t> S;
  py::array_t<double> D, d;
  NeighborArrays<Index> views;
  py::tuple result(quantities.size());
  const auto wanted = [&](char letter) { return quantities.find(letter) != std::string::npos; };
  if (wanted('i')) views.i = column(i, count);
  if (wanted('j')) views.j = column(j, count);
  if (wanted('S')) views.S = triples(S, count);
  if (wanted('D')) views.D = triples(D, count);
  if (wanted('d')) views.d = column(d, count);
  {
    py::gil_scoped_release release;
    source.fill(Context{threads}, views);
  }
  for (std::size_t k = 0; k < quantities.size(); ++k) {
    switch (quantities[k]) {
      case 'i':
        result[k] = i;
        break;
      case 'j':
        result[k] = j;
        break;
      case 'S':
        result[k] = S;
        break;
      case 'D':
        result[k] = D;
        break;
      case 'd':
        result[k] = d;
        break;
      default:
        detail::raise<InvalidArgument>("quantities may hold the letters i j S D d, got '",
                                       quantities, "'");
    }
  }
  return result;
}

template <class Source>
py::tuple filled(const Source& source, const std::string& quantities, bool wide, int threads) {
  return wide ? filled<std::int64_t>(source, quantities, threads)
              : filled<std::int32_t>(source, quantities, threads);
}

template <class Source>
py::array offsets_of(const Source& source) {
  const auto view = source.offsets();
  return py::array_t<std::int64_t>(view.size(), view.data);
}

/// The brute-force list behind the face of NeighborSearch.
class ReferenceSearch {
 public:
  ReferenceSearch(View<const double, 2> x, const Cell& cell, const NeighborCutoff& cutoff,
                  const NeighborOptions& options)
      : pairs_(reference::neighbor_pairs(x, cell, cutoff, options)) {}

  std::int64_t count() const { return static_cast<std::int64_t>(pairs_.size()); }

  template <class Index>
  void fill(const Context&, const NeighborArrays<Index>& out) const {
    for (std::int64_t p = 0; p < count(); ++p) {
      const reference::NeighborPair& pair = pairs_[p];
      if (out.i.data) out.i(p) = static_cast<Index>(pair.i);
      if (out.j.data) out.j(p) = static_cast<Index>(pair.j);
      if (out.d.data) out.d(p) = pair.d;
      for (int k = 0; k < 3; ++k) {
        if (out.S.data) out.S(p, k) = pair.S[k];
        if (out.D.data) out.D(p, k) = pair.D[k];
      }
    }
  }

 private:
  std::vector<reference::NeighborPair> pairs_;
};

View<const double, 2> position_view(const Array<double>& positions) {
  return input_view<double, 2>("positions", positions, {-1, 3});
}

/// (arrays, offsets or None)
py::tuple neighbor_list(const std::string& quantities, const Array<double>& positions,
                        const Array<double>& rows, const std::array<bool, 3>& pbc,
                        const CutoffArguments& cutoff, const NeighborOptions& options, bool wide,
                        bool with_offsets, int threads) {
  const auto x = position_view(positions);
  const Cell cell = to_cell(rows, pbc);
  const NeighborSearch search = [&] {
    const NeighborCutoff views = cutoff.views();
    py::gil_scoped_release release;
    return NeighborSearch(Context{threads}, x, cell, views, options);
  }();
  py::object offsets = py::none();
  if (with_offsets) offsets = offsets_of(search);
  return py::make_tuple(filled(search, quantities, wide, threads), offsets);
}

py::tuple reference_list(const std::string& quantities, const Array<double>& positions,
                         const Array<double>& rows, const std::array<bool, 3>& pbc,
                         const CutoffArguments& cutoff, const NeighborOptions& options) {
  const ReferenceSearch search(position_view(positions), to_cell(rows, pbc), cutoff.views(),
                               options);
  return filled(search, quantities, false, 1);
}

}  // namespace

void export_neighbors(py::module_& m) {
  py::class_<CutoffArguments>(m, "NeighborCutoff")
      .def(py::init<double, std::optional<Array<double>>, std::optional<Array<std::int32_t>>,
                    std::optional<Array<double>>>(),
           py::arg("cutoff"), py::arg("radii") = py::none(), py::arg("types") = py::none(),
           py::arg("table") = py::none());
  py::class_<NeighborOptions>(m, "NeighborOptions")
      .def(py::init<bool, bool, bool>(), py::arg("half"), py::arg("sorted"), py::arg("self_pairs"));
  m.def("neighbor_list", &neighbor_list, py::arg("quantities"), py::arg("positions"),
        py::arg("cell"), py::arg("pbc"), py::arg("cutoff"), py::arg("options"), py::arg("wide"),
        py::arg("with_offsets"), py::arg("num_threads"));
  m.def("neighbor_list_reference", &reference_list, py::arg("quantities"), py::arg("positions"),
        py::arg("cell"), py::arg("pbc"), py::arg("cutoff"), py::arg("options"));
  py::class_<NeighborList>(m, "NeighborList")
      .def(py::init([](const CutoffArguments& cutoff, double skin, const NeighborOptions& options) {
             return NeighborList(cutoff.views(), skin, options);
           }),
           py::arg("cutoff"), py::arg("skin"), py::arg("options"))
      .def(
          "update",
          [](NeighborList& list, const Array<double>& positions, const Array<double>& rows,
             const std::array<bool, 3>& pbc, int threads) {
            const auto x = position_view(positions);
            const Cell cell = to_cell(rows, pbc);
            return list.update(Context{threads}, x, cell);
          },
          py::arg("positions"), py::arg("cell"), py::arg("pbc"), py::arg("num_threads"))
      .def("__len__", &NeighborList::count)
      .def("offsets", [](const NeighborList& list) { return offsets_of(list); })
      .def(
          "get",
          [](const NeighborList& list, const std::string& quantities, bool wide, int threads) {
            return filled(list, quantities, wide, threads);
          },
          py::arg("quantities"), py::arg("wide"), py::arg("num_threads"));
}

}  // namespace mlcore::python
