#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "device_arrays.hpp"
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

/// New arrays for the letters of a list.
template <class Index, class Real>
class NewArrays {
 public:
  explicit NewArrays(std::int64_t count) : count_(count) {}

  py::array make(char letter) {
    switch (letter) {
      case 'i':
        return column(views.i);
      case 'j':
        return column(views.j);
      case 'S':
        return triples(views.S);
      case 'D':
        return triples(views.D);
      case 'd':
        return column(views.d);
      default:
        detail::raise<InvalidArgument>("quantities may hold the letters i j S D d, got '", letter,
                                       "'");
    }
  }

  NeighborArrays<Index, Real> views;

 private:
  template <class T>
  py::array column(View<T, 1>& view) const {
    auto array = pooled_array<T, 1>({count_});
    view = {array.mutable_data(), {count_}};
    return array;
  }
  template <class T>
  py::array triples(View<T, 2>& view) const {
    auto array = pooled_array<T, 2>({count_, 3});
    view = {array.mutable_data(), {count_, 3}};
    return array;
  }

  std::int64_t count_;
};

Context context_of(int threads, std::uintptr_t stream) {
  return {threads, reinterpret_cast<void*>(stream)};
}

/// Arrays for the letters of `quantities`, filled without the interpreter lock.
template <class Index, class Real, class Source>
py::tuple filled(const Source& source, const std::string& quantities, int threads) {
  NewArrays<Index, Real> arrays(source.count());
  py::dict made;  // a letter may come twice
  py::tuple result(quantities.size());
  for (std::size_t k = 0; k < quantities.size(); ++k) {
    const py::str letter(quantities.substr(k, 1));
    if (!made.contains(letter)) made[letter] = arrays.make(quantities[k]);
    result[k] = made[letter];
  }
  py::gil_scoped_release release;
  source.fill(Context{threads}, arrays.views);
  return result;
}

template <class Source>
py::tuple filled(const Source& source, const std::string& quantities, bool wide, bool single,
                 int threads) {
  if (single) {
    return wide ? filled<std::int64_t, float>(source, quantities, threads)
                : filled<std::int32_t, float>(source, quantities, threads);
  }
  return wide ? filled<std::int64_t, double>(source, quantities, threads)
              : filled<std::int32_t, double>(source, quantities, threads);
}

/// Fills the caller's arrays, which have the length of the list.
template <class Index, class Real, class Source>
void fill_given(const Source& source, const py::dict& arrays, const Context& context) {
  const std::int64_t p = source.count();
  NeighborArrays<Index, Real> views;
  const auto given = [&](const char* letter) -> py::object {
    return arrays.contains(letter) ? py::object(arrays[letter]) : py::object();
  };
  if (const auto i = given("i")) views.i = any_output<Index, 1>("out 'i'", i, {p});
  if (const auto j = given("j")) views.j = any_output<Index, 1>("out 'j'", j, {p});
  if (const auto S = given("S")) views.S = any_output<std::int32_t, 2>("out 'S'", S, {p, 3});
  if (const auto D = given("D")) views.D = any_output<Real, 2>("out 'D'", D, {p, 3});
  if (const auto d = given("d")) views.d = any_output<Real, 1>("out 'd'", d, {p});
  py::gil_scoped_release release;
  source.fill(context, views);
}

template <class Source>
void fill_given(const Source& source, const py::dict& arrays, bool wide, bool single,
                const Context& context) {
  if (single) {
    return wide ? fill_given<std::int64_t, float>(source, arrays, context)
                : fill_given<std::int32_t, float>(source, arrays, context);
  }
  return wide ? fill_given<std::int64_t, double>(source, arrays, context)
              : fill_given<std::int32_t, double>(source, arrays, context);
}

template <class Source>
void fill_matrix(const Source& source, const py::object& j, const py::object& S,
                 const py::object& counts, std::int32_t padding, const Context& context) {
  const std::int64_t n = source.particles();
  const std::int64_t width = j.attr("shape").cast<py::tuple>()[1].cast<std::int64_t>();
  NeighborMatrix matrix;
  matrix.padding = padding;
  matrix.j = any_output<std::int32_t, 2>("out[0]", j, {n, width});
  matrix.counts = any_output<std::int64_t, 1>("out[1]", counts, {n});
  if (!S.is_none()) matrix.S = any_output<std::int32_t, 3>("out[2]", S, {n, width, 3});
  py::gil_scoped_release release;
  source.fill(context, matrix);
}

/// The brute-force list behind the face of NeighborSearch.
class ReferenceSearch {
 public:
  ReferenceSearch(View<const double, 2> x, const Cell& cell, const NeighborCutoff& cutoff,
                  const NeighborOptions& options)
      : pairs_(reference::neighbor_pairs(x, cell, cutoff, options)) {}

  std::int64_t count() const { return static_cast<std::int64_t>(pairs_.size()); }

  template <class Index, class Real>
  void fill(const Context&, const NeighborArrays<Index, Real>& out) const {
    for (std::int64_t p = 0; p < count(); ++p) {
      const reference::NeighborPair& pair = pairs_[p];
      if (out.i.data) out.i(p) = static_cast<Index>(pair.i);
      if (out.j.data) out.j(p) = static_cast<Index>(pair.j);
      if (out.d.data) out.d(p) = static_cast<Real>(pair.d);
      for (int k = 0; k < 3; ++k) {
        if (out.S.data) out.S(p, k) = pair.S[k];
        if (out.D.data) out.D(p, k) = static_cast<Real>(pair.D[k]);
      }
    }
  }

 private:
  std::vector<reference::NeighborPair> pairs_;
};

View<const double, 2> position_view(const Array<double>& positions) {
  return input_view<double, 2>("positions", positions, {-1, 3});
}

std::vector<Cell> to_cells(const Array<double>& rows, const std::vector<std::array<bool, 3>>& pbc) {
  const auto view =
      input_view<double, 3>("cell", rows, {static_cast<py::ssize_t>(pbc.size()), 3, 3});
  std::vector<Cell> cells(pbc.size());
  for (std::size_t s = 0; s < pbc.size(); ++s) {
    std::copy_n(view.data + 9 * s, 9, cells[s].rows.begin());
    cells[s].pbc = pbc[s];
  }
  return cells;
}

NeighborSearch search(const py::object& positions, const Array<std::int64_t>& offsets,
                      const Array<double>& rows, const std::vector<std::array<bool, 3>>& pbc,
                      const CutoffArguments& cutoff, const NeighborOptions& options, int threads,
                      std::uintptr_t stream) {
  Array<double> holder;
  const auto x = any_input<double, 2>("positions", positions, holder, {-1, 3});
  const NeighborSystems systems{input_view<std::int64_t, 1>("batch_offsets", offsets, {-1}),
                                to_cells(rows, pbc)};
  const NeighborCutoff views = cutoff.views();
  py::gil_scoped_release release;
  return NeighborSearch(context_of(threads, stream), x, systems, views, options);
}

/// What a finished search and an updated list have in common.
template <class Source>
void define_source(py::class_<Source>& type) {
  type.def("__len__", &Source::count)
      .def("largest_row", &Source::largest_row)
      .def(
          "copy_offsets",
          [](const Source& source, const py::object& out, std::uintptr_t stream) {
            const auto view = any_output<std::int64_t, 1>("out", out, {source.particles() + 1});
            source.copy_offsets(context_of(0, stream), view);
          },
          py::arg("out"), py::arg("stream"))
      .def(
          "get",
          [](const Source& source, const std::string& quantities, bool wide, bool single,
             int threads) { return filled(source, quantities, wide, single, threads); },
          py::arg("quantities"), py::arg("wide"), py::arg("single"), py::arg("num_threads"))
      .def(
          "fill",
          [](const Source& source, const py::dict& arrays, bool wide, bool single, int threads,
             std::uintptr_t stream) {
            fill_given(source, arrays, wide, single, context_of(threads, stream));
          },
          py::arg("arrays"), py::arg("wide"), py::arg("single"), py::arg("num_threads"),
          py::arg("stream"))
      .def(
          "fill_matrix",
          [](const Source& source, const py::object& j, const py::object& S,
             const py::object& counts, std::int32_t padding, int threads, std::uintptr_t stream) {
            fill_matrix(source, j, S, counts, padding, context_of(threads, stream));
          },
          py::arg("j"), py::arg("S"), py::arg("counts"), py::arg("padding"), py::arg("num_threads"),
          py::arg("stream"));
}

py::tuple reference_list(const std::string& quantities, const Array<double>& positions,
                         const Array<double>& rows, const std::array<bool, 3>& pbc,
                         const CutoffArguments& cutoff, const NeighborOptions& options) {
  const ReferenceSearch search(position_view(positions), to_cell(rows, pbc), cutoff.views(),
                               options);
  return filled(search, quantities, false, false, 1);
}

}  // namespace

void export_neighbors(py::module_& m) {
  py::class_<CutoffArguments>(m, "NeighborCutoff")
      .def(py::init<double, std::optional<Array<double>>, std::optional<Array<std::int32_t>>,
                    std::optional<Array<double>>>(),
           py::arg("cutoff"), py::arg("radii") = py::none(), py::arg("types") = py::none(),
           py::arg("table") = py::none());
  py::class_<NeighborOptions>(m, "NeighborOptions")
      .def(py::init<bool, bool, bool, bool, bool>(), py::arg("half"), py::arg("sorted"),
           py::arg("self_pairs"), py::arg("vectors") = true, py::arg("stored") = true);
  m.def("neighbor_list_reference", &reference_list, py::arg("quantities"), py::arg("positions"),
        py::arg("cell"), py::arg("pbc"), py::arg("cutoff"), py::arg("options"));
  py::class_<NeighborSearch> search_type(m, "NeighborSearch");
  search_type.def(py::init(&search), py::arg("positions"), py::arg("batch_offsets"),
                  py::arg("cells"), py::arg("pbc"), py::arg("cutoff"), py::arg("options"),
                  py::arg("num_threads"), py::arg("stream"));
  define_source(search_type);
  py::class_<NeighborList> list_type(m, "NeighborList");
  list_type
      .def(py::init([](const CutoffArguments& cutoff, double skin, const NeighborOptions& options) {
             return NeighborList(cutoff.views(), skin, options);
           }),
           py::arg("cutoff"), py::arg("skin"), py::arg("options"))
      .def(
          "update",
          [](NeighborList& list, const py::object& positions, const Array<double>& rows,
             const std::array<bool, 3>& pbc, int threads, std::uintptr_t stream) {
            Array<double> holder;
            const auto x = any_input<double, 2>("positions", positions, holder, {-1, 3});
            const Cell cell = to_cell(rows, pbc);
            py::gil_scoped_release release;
            return list.update(context_of(threads, stream), x, cell);
          },
          py::arg("positions"), py::arg("cell"), py::arg("pbc"), py::arg("num_threads"),
          py::arg("stream") = 0)
      .def(
          "copy_positions",
          [](const NeighborList& list, const py::object& out, std::uintptr_t stream) {
            const auto view = any_output<double, 2>("out", out, {list.particles(), 3});
            list.copy_positions(context_of(0, stream), view);
          },
          py::arg("out"), py::arg("stream") = 0);
  define_source(list_type);
}

}  // namespace mlcore::python
