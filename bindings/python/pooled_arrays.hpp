#pragma once

// NumPy arrays for large results, on memory that is reused (see mlcore/buffer.hpp).

#include <pybind11/numpy.h>

#include <array>
#include <cstdint>
#include <vector>

#include "mlcore/buffer.hpp"
#include "mlcore/view.hpp"

namespace mlcore::python {

/// Uninitialised array. Its memory goes back to the pool when the last view of it is gone.
template <class T, int Rank>
pybind11::array_t<T> pooled_array(const std::array<std::int64_t, Rank>& shape) {
  constexpr std::size_t kSmallest = std::size_t{1} << 16;
  std::size_t bytes = sizeof(T);
  for (std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
  if (bytes < kSmallest) return pybind11::array_t<T>(shape);
  auto* buffer = new Buffer(bytes);
  pybind11::capsule owner(buffer, [](void* p) { delete static_cast<Buffer*>(p); });
  return pybind11::array_t<T>(shape, static_cast<T*>(buffer->data()), owner);
}

/// The same for a dtype known at run time.
inline pybind11::array pooled_bytes(const std::vector<std::int64_t>& shape,
                                    const pybind11::dtype& dtype) {
  std::size_t bytes = static_cast<std::size_t>(dtype.itemsize());
  for (std::int64_t extent : shape) bytes *= static_cast<std::size_t>(extent);
  auto* buffer = new Buffer(bytes);
  pybind11::capsule owner(buffer, [](void* p) { delete static_cast<Buffer*>(p); });
  return pybind11::array(dtype, shape, buffer->data(), owner);
}

}  // namespace mlcore::python
