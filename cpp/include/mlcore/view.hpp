#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mlcore/error.hpp"

namespace mlcore {

/// Where the memory behind a View lives. The device of the views picks the backend.
enum class Device : int { cpu = 0, cuda = 1 };

/// Contiguous row-major array of the caller's: pointer, shape, device. Owns nothing.
template <class T, int Rank>
struct View {
  using Shape = std::array<std::int64_t, Rank>;

  T* data = nullptr;
  Shape shape{};
  Device device = Device::cpu;

  View() = default;
  View(T* data, Shape shape, Device device = Device::cpu)
      : data(data), shape(shape), device(device) {}
  /// A view of mutable memory is also a view of constant memory.
  template <class U>
    requires(std::is_same_v<T, const U>)
  View(const View<U, Rank>& other)  // NOLINT(google-explicit-constructor)
      : data(other.data), shape(other.shape), device(other.device) {}

  std::int64_t size() const {
    std::int64_t n = 1;
    for (std::int64_t extent : shape) n *= extent;
    return n;
  }
  bool empty() const { return size() == 0; }

  T* begin() const { return data; }
  T* end() const { return data + size(); }

  T& operator()(std::int64_t i) const
    requires(Rank == 1)
  {
    return data[i];
  }
  T& operator()(std::int64_t i, std::int64_t j) const
    requires(Rank == 2)
  {
    return data[i * shape[1] + j];
  }
  T& operator()(std::int64_t i, std::int64_t j, std::int64_t k) const
    requires(Rank == 3)
  {
    return data[(i * shape[1] + j) * shape[2] + k];
  }
  /// Sub-array i of the first axis.
  View<T, Rank - 1> operator[](std::int64_t i) const
    requires(Rank > 1)
  {
    View<T, Rank - 1> part;
    std::int64_t stride = 1;
    for (int axis = 1; axis < Rank; ++axis) {
      part.shape[axis - 1] = shape[axis];
      stride *= shape[axis];
    }
    part.data = data + i * stride;
    part.device = device;
    return part;
  }
};

/// Throws InvalidArgument when `x` holds a NaN or an infinity (CPU views only).
template <class T, int Rank>
void check_finite(const char* name, View<T, Rank> x) {
  for (std::int64_t i = 0; i < x.size(); ++i) {
    MLCORE_CHECK(std::isfinite(x.data[i]), name, " must be finite, but entry ", i,
                 " (counted along the flattened array) is ", x.data[i]);
  }
}

}  // namespace mlcore
