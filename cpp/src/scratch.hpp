#pragma once

#include <cstddef>
#include <cstdint>

#include "mlcore/buffer.hpp"

namespace mlcore::detail {

/// Array of plain numbers on reused memory. Its entries have no value at first.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(std::int64_t size)
      : memory_(static_cast<std::size_t>(size) * sizeof(T)), size_(size) {}

  /// Forgets the entries where the size changes.
  void resize(std::int64_t size) {
    if (size != size_) *this = Scratch(size);
  }

  T* data() const { return static_cast<T*>(memory_.data()); }
  std::int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  T* begin() const { return data(); }
  T* end() const { return data() + size_; }
  T& operator[](std::int64_t k) const { return data()[k]; }

 private:
  Buffer memory_;
  std::int64_t size_ = 0;
};

}  // namespace mlcore::detail
