#pragma once

// Arrays of either device: NumPy arrays, or anything with __cuda_array_interface__ (torch CUDA
// tensors, CuPy), which is taken as it lies in GPU memory.

#include <cstdint>
#include <string>

#include "arrays.hpp"

namespace mlcore::python {

inline bool on_gpu(const py::object& array) {
  return py::hasattr(array, "__cuda_array_interface__");
}

/// View of a C-contiguous array on the GPU. An extent of -1 in `expected` accepts any length.
template <class T, int Rank>
View<T, Rank> gpu_view(const char* name, const py::object& array,
                       std::array<std::int64_t, Rank> expected) {
  const py::dict info = array.attr("__cuda_array_interface__");
  const std::string want = py::str(py::dtype::of<std::remove_const_t<T>>().attr("str"));
  MLCORE_CHECK(info["typestr"].cast<std::string>() == want, name, " must have the dtype ", want,
               ", got ", info["typestr"].cast<std::string>());
  const py::tuple shape = info["shape"];
  MLCORE_CHECK(shape.size() == Rank, name, " must have ", Rank, " dimensions, got ", shape.size());
  View<T, Rank> view;
  view.device = Device::cuda;
  for (int axis = 0; axis < Rank; ++axis) {
    view.shape[axis] = shape[axis].cast<std::int64_t>();
    MLCORE_CHECK(expected[axis] < 0 || view.shape[axis] == expected[axis], name,
                 " must have the length ", expected[axis], " along axis ", axis, ", got ",
                 view.shape[axis]);
  }
  if (info.contains("strides") && !info["strides"].is_none() && view.size() > 0) {
    const py::tuple strides = info["strides"];
    std::int64_t packed = sizeof(T);
    for (int axis = Rank - 1; axis >= 0; --axis) {
      MLCORE_CHECK(view.shape[axis] == 1 || strides[axis].cast<std::int64_t>() == packed, name,
                   " must be C-contiguous");
      packed *= view.shape[axis];
    }
  }
  const py::tuple data = info["data"];
  MLCORE_CHECK(std::is_const_v<T> || !data[1].cast<bool>(), name, " must be writeable");
  view.data = reinterpret_cast<T*>(data[0].cast<std::uintptr_t>());
  return view;
}

/// Input of either device; `holder` keeps a converted NumPy array alive.
template <class T, int Rank>
View<const T, Rank> any_input(const char* name, const py::object& array, Array<T>& holder,
                              std::array<std::int64_t, Rank> expected) {
  if (on_gpu(array)) return gpu_view<const T, Rank>(name, array, expected);
  holder = array.cast<Array<T>>();
  return input_view<T, Rank>(name, holder, expected);
}

/// Output of either device: exact dtype, shape and layout.
template <class T, int Rank>
View<T, Rank> any_output(const char* name, const py::object& array,
                         std::array<std::int64_t, Rank> shape) {
  if (on_gpu(array)) return gpu_view<T, Rank>(name, array, shape);
  MLCORE_CHECK(py::isinstance<py::array>(array), name, " must be a NumPy array");
  py::array numpy = py::reinterpret_borrow<py::array>(array);
  return output_view<T, Rank>(name, numpy, shape);
}

}  // namespace mlcore::python
