#pragma once

#include <cstddef>
#include <utility>

#include "mlcore/error.hpp"

namespace mlcore {

/// Uninitialised memory that is reused. Touching fresh pages takes several times longer than
/// writing to pages in use, so large blocks given back are kept (up to 1 GiB in all) and handed
/// out again, and the system is asked for huge pages. Aligned to 64 bytes at least.
class MLCORE_API Buffer {
 public:
  Buffer() = default;
  /// @throws std::bad_alloc
  explicit Buffer(std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  void* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// Gives all memory kept for reuse back to the system.
  static void trim();

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mlcore
