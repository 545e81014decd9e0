#include <pybind11/stl.h>

#include <optional>

#include "device_arrays.hpp"
#include "export.hpp"
#include "mlcore/reference/voxels.hpp"
#include "mlcore/voxels.hpp"

namespace mlcore::python {
namespace {

/// Grid, kernel and options of one call, as the Python face gives them.
struct VoxelSetup {
  VoxelGrid grid;
  VoxelKernel kernel;
  VoxelOptions options;
  Context context;
};

VoxelSetup make_setup(const std::array<std::int64_t, 3>& shape, const Array<double>& cell,
                      const std::array<bool, 3>& pbc, const std::string& scheme, double sigma,
                      double truncation, double radius, double edge, bool density,
                      bool channels_first, bool deterministic, int threads, std::uintptr_t stream) {
  const char* const names[] = {"nearest", "cic", "tsc", "gaussian", "sphere"};
  int number = 0;
  while (number < 5 && scheme != names[number]) ++number;
  MLCORE_CHECK(number < 5, "kernel must be \"nearest\", \"cic\", \"tsc\", \"gaussian\" or ",
               "\"sphere\", got \"", scheme, "\"");
  const VoxelLayout layout =
      channels_first ? VoxelLayout::channels_first : VoxelLayout::channels_last;
  return {{shape, to_cell(cell, pbc)},
          {static_cast<VoxelScheme>(number), sigma, truncation, radius, edge},
          {density, layout, deterministic},
          {threads, reinterpret_cast<void*>(stream)}};
}

/// Positions of a call; the holders keep converted arrays alive.
class Points {
 public:
  Points(const py::object& x, const py::object& direction,
         const std::optional<Array<std::int64_t>>& offsets) {
    views_.x = any_input<double, 2>("positions", x, x_, {-1, 3});
    if (!direction.is_none()) {
      views_.direction = any_input<double, 2>("direction", direction, direction_, views_.x.shape);
    }
    if (!offsets) return;
    offsets_ = *offsets;
    views_.offsets = input_view<std::int64_t, 1>("offsets", offsets_, {-1});
  }
  const VoxelPoints& views() const { return views_; }

 private:
  Array<double> x_, direction_;
  Array<std::int64_t> offsets_;
  VoxelPoints views_;
};

bool is_single(const py::object& array) {
  return array.attr("dtype").attr("itemsize").cast<int>() == 4;
}

/// View of an array of any shape the core checks.
template <class T, int Rank>
View<T, Rank> output_of_any_shape(const char* name, const py::object& array) {
  std::array<std::int64_t, Rank> shape;
  shape.fill(-1);
  if (on_gpu(array)) return gpu_view<T, Rank>(name, array, shape);
  const py::array numpy = array.cast<py::array>();
  MLCORE_CHECK(numpy.ndim() == Rank, name, " must have ", Rank, " dimensions, got the shape ",
               shape_text(numpy));
  for (int axis = 0; axis < Rank; ++axis) shape[axis] = numpy.shape(axis);
  return any_output<T, Rank>(name, array, shape);
}

template <class T>
void rasterize_as(const VoxelSetup& setup, const Points& points, const py::object& features,
                  const py::object& field) {
  Array<T> holder;
  const auto from = any_input<T, 2>("features", features, holder, {-1, -1});
  const auto to = output_of_any_shape<T, 5>("out", field);
  py::gil_scoped_release release;
  rasterize<T>(setup.context, setup.grid, setup.kernel, points.views(), from, to, setup.options);
}

template <class T>
void gather_as(const VoxelSetup& setup, const Points& points, const py::object& field,
               const py::object& out) {
  Array<T> holder;
  const auto from = any_input<T, 5>("field", field, holder, {-1, -1, -1, -1, -1});
  const auto to = output_of_any_shape<T, 2>("out", out);
  py::gil_scoped_release release;
  gather<T>(setup.context, setup.grid, setup.kernel, points.views(), from, to, setup.options);
}

template <class T>
void gradient_as(const VoxelSetup& setup, const Points& points, const py::object& features,
                 const py::object& field, const py::object& out) {
  Array<T> feature_holder, field_holder;
  const auto f = any_input<T, 2>("features", features, feature_holder, {-1, -1});
  const auto g = any_input<T, 5>("field", field, field_holder, {-1, -1, -1, -1, -1});
  const auto to = output_of_any_shape<double, 2>("out", out);
  py::gil_scoped_release release;
  voxel_position_gradient<T>(setup.context, setup.grid, setup.kernel, points.views(), f, g, to,
                             setup.options);
}

std::int64_t voxel_count(const VoxelGrid& grid) {
  return grid.shape[0] * grid.shape[1] * grid.shape[2];
}

py::array_t<double> reference_rasterize(const VoxelSetup& setup, const Points& points,
                                        const Array<double>& features) {
  const auto from = input_view<double, 2>("features", features, {points.views().x.shape[0], -1});
  py::array_t<double> field({voxel_count(setup.grid), from.shape[1]});
  reference::rasterize(setup.grid, setup.kernel, points.views(), from,
                       {field.mutable_data(), {voxel_count(setup.grid), from.shape[1]}});
  return field;
}

py::array_t<double> reference_gather(const VoxelSetup& setup, const Points& points,
                                     const Array<double>& field) {
  const auto from = input_view<double, 2>("field", field, {voxel_count(setup.grid), -1});
  const std::int64_t n = points.views().x.shape[0];
  py::array_t<double> out({n, from.shape[1]});
  reference::gather(setup.grid, setup.kernel, points.views(), from,
                    {out.mutable_data(), {n, from.shape[1]}});
  return out;
}

py::array_t<double> reference_gradient(const VoxelSetup& setup, const Points& points,
                                       const Array<double>& features, const Array<double>& field) {
  const std::int64_t n = points.views().x.shape[0];
  const auto f = input_view<double, 2>("features", features, {n, -1});
  const auto g = input_view<double, 2>("field", field, {voxel_count(setup.grid), f.shape[1]});
  py::array_t<double> out({n, std::int64_t{3}});
  reference::voxel_position_gradient(setup.grid, setup.kernel, points.views(), f, g,
                                     {out.mutable_data(), {n, 3}});
  return out;
}

void bin(const VoxelSetup& setup, const py::object& x, const py::object& cell,
         const py::object& offset, const py::object& image, const py::object& ulps,
         const py::object& order, const py::object& starts) {
  Array<double> holder;
  const auto view = any_input<double, 2>("positions", x, holder, {-1, 3});
  const VoxelBins bins{output_of_any_shape<std::int64_t, 1>("cell", cell),
                       output_of_any_shape<double, 2>("offset", offset),
                       output_of_any_shape<std::int32_t, 2>("image", image),
                       output_of_any_shape<std::int64_t, 2>("ulps", ulps),
                       output_of_any_shape<std::int64_t, 1>("order", order),
                       output_of_any_shape<std::int64_t, 1>("starts", starts)};
  py::gil_scoped_release release;
  bin_atoms(setup.context, setup.grid, view, bins);
}

void unbin(const VoxelSetup& setup, const py::object& cell, const py::object& offset,
           const py::object& image, const py::object& ulps, const py::object& out) {
  Array<std::int64_t> cell_holder, ulps_holder;
  Array<double> offset_holder;
  Array<std::int32_t> image_holder;
  const auto cells = any_input<std::int64_t, 1>("cell", cell, cell_holder, {-1});
  const auto offsets = any_input<double, 2>("offset", offset, offset_holder, {-1, 3});
  const auto images = any_input<std::int32_t, 2>("image", image, image_holder, {-1, 3});
  View<const std::int64_t, 2> steps;
  if (!ulps.is_none()) steps = any_input<std::int64_t, 2>("ulps", ulps, ulps_holder, {-1, 3});
  const auto to = output_of_any_shape<double, 2>("out", out);
  py::gil_scoped_release release;
  unbin_atoms(setup.context, setup.grid, cells, offsets, images, steps, to);
}

}  // namespace

void export_voxels(py::module_& m) {
  py::class_<VoxelSetup>(m, "VoxelSetup")
      .def(py::init(&make_setup), py::arg("shape"), py::arg("cell"), py::arg("pbc"),
           py::arg("scheme") = "nearest", py::arg("sigma") = 0.0, py::arg("truncation") = 4.0,
           py::arg("radius") = 0.0, py::arg("edge") = 0.0, py::arg("density") = false,
           py::arg("channels_first") = true, py::arg("deterministic") = true,
           py::arg("num_threads") = 0, py::arg("stream") = 0);
  py::class_<Points>(m, "VoxelPoints")
      .def(py::init<const py::object&, const py::object&,
                    const std::optional<Array<std::int64_t>>&>(),
           py::arg("positions"), py::arg("direction") = py::none(),
           py::arg("offsets") = py::none());
  m.def(
      "check_voxel_grid", [](const VoxelSetup& setup) { check_voxel_grid(setup.grid); },
      py::arg("setup"));
  m.def(
      "rasterize",
      [](const VoxelSetup& setup, const Points& points, const py::object& features,
         const py::object& out) {
        is_single(out) ? rasterize_as<float>(setup, points, features, out)
                       : rasterize_as<double>(setup, points, features, out);
      },
      py::arg("setup"), py::arg("points"), py::arg("features"), py::arg("out"));
  m.def(
      "gather",
      [](const VoxelSetup& setup, const Points& points, const py::object& field,
         const py::object& out) {
        is_single(out) ? gather_as<float>(setup, points, field, out)
                       : gather_as<double>(setup, points, field, out);
      },
      py::arg("setup"), py::arg("points"), py::arg("field"), py::arg("out"));
  m.def(
      "voxel_position_gradient",
      [](const VoxelSetup& setup, const Points& points, const py::object& features,
         const py::object& field, const py::object& out) {
        is_single(features) ? gradient_as<float>(setup, points, features, field, out)
                            : gradient_as<double>(setup, points, features, field, out);
      },
      py::arg("setup"), py::arg("points"), py::arg("features"), py::arg("field"), py::arg("out"));
  m.def("rasterize_reference", &reference_rasterize, py::arg("setup"), py::arg("points"),
        py::arg("features"));
  m.def("gather_reference", &reference_gather, py::arg("setup"), py::arg("points"),
        py::arg("field"));
  m.def("voxel_position_gradient_reference", &reference_gradient, py::arg("setup"),
        py::arg("points"), py::arg("features"), py::arg("field"));
  m.def("bin_atoms", &bin, py::arg("setup"), py::arg("positions"), py::arg("cell"),
        py::arg("offset"), py::arg("image"), py::arg("ulps"), py::arg("order"), py::arg("starts"));
  m.def("unbin_atoms", &unbin, py::arg("setup"), py::arg("cell"), py::arg("offset"),
        py::arg("image"), py::arg("ulps"), py::arg("out"));
}

}  // namespace mlcore::python
