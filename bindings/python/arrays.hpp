#pragma once

// NumPy arrays in and out of the core: shape and dtype checks that name the argument.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <string>

#include "mlcore/cell.hpp"
#include "mlcore/context.hpp"
#include "mlcore/view.hpp"

namespace mlcore::python {

namespace py = pybind11;

/// C-contiguous array of T; NumPy converts layout and (safely) dtype on the way in.
template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

inline std::string shape_text(const py::array& array) {
  std::string text = "(";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    text += (axis ? ", " : "") + std::to_string(array.shape(axis));
  }
  return text + ")";
}

/// View of an input array. An extent of -1 in `expected` accepts any length.
template <class T, int Rank>
View<const T, Rank> input_view(const char* name, const Array<T>& array,
                               std::array<std::int64_t, Rank> expected) {
  MLCORE_CHECK(array.ndim() == Rank, name, " must have ", Rank, " dimensions, got the shape ",
               shape_text(array));
  View<const T, Rank> view;
  view.data = array.data();
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(expected[axis] < 0 || array.shape(axis) == expected[axis], name,
                 " must have the length ", expected[axis], " along axis ", axis, ", got the shape ",
                 shape_text(array));
    view.shape[axis] = array.shape(axis);
  }
  return view;
}

/// View of an output array the caller gave: exact dtype, shape, layout and writeable.
template <class T, int Rank>
View<T, Rank> output_view(const char* name, py::array& array,
                          std::array<std::int64_t, Rank> shape) {
  MLCORE_CHECK(py::isinstance<py::array_t<T>>(array), name, " must have the dtype ",
               py::str(py::dtype::of<T>()).cast<std::string>());
  MLCORE_CHECK(array.flags() & py::array::c_style, name, " must be C-contiguous");
  MLCORE_CHECK(array.writeable(), name, " must be writeable");
  MLCORE_CHECK(array.ndim() == Rank, name, " must have ", Rank, " dimensions, got the shape ",
               shape_text(array));
  for (int axis = 0; axis < Rank; ++axis) {
    MLCORE_CHECK(array.shape(axis) == shape[axis], name, " must have the length ", shape[axis],
                 " along axis ", axis, ", got the shape ", shape_text(array));
  }
  return {static_cast<T*>(array.mutable_data()), shape};
}

/// Cell of a (3, 3) array and three flags, as the Python faces pass it.
inline Cell to_cell(const Array<double>& rows, const std::array<bool, 3>& pbc) {
  const auto view = input_view<double, 2>("cell", rows, {3, 3});
  Cell cell;
  for (int k = 0; k < 9; ++k) cell.rows[k] = view.data[k];
  cell.pbc = pbc;
  return cell;
}

}  // namespace mlcore::python
