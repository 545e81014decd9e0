#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/neighbors.hpp"
#include "mlcore/buffer.hpp"
#include "scratch.hpp"

namespace mlcore::detail {

/// Neighbors of all particles, as found: per particle the neighbors' numbers,
/// then their images. Each thread appends whole rows to blocks of its own.
class NeighborRows {
 public:
  NeighborRows() : NeighborRows(0, 0, 1) {}
  /// @param image_bytes  0 (images are left out), 1 or 4
  NeighborRows(std::int64_t particles, int writers, int image_bytes)
      : start_(particles), offsets_(particles + 1), writers_(writers), image_bytes_(image_bytes) {
    std::fill(offsets_.begin(), offsets_.end(), 0);
  }

  /// Room for so many neighbors and their images, valid until the next call for
  /// this writer.
  std::int32_t* reserve(int writer, std::int64_t capacity) {
    Writer& w = writers_[writer];
    const std::int64_t bytes = 8 * capacity;
    if (w.left < bytes) {
      // small systems of a batch must not hold a large block each; large blocks are huge pages
      const std::int64_t first = std::clamp(particles() * kTypicalRow, kLeast, kBlock);
      w.left = std::max(bytes, w.blocks.empty() ? first : kBlock);
      w.blocks.emplace_back(static_cast<std::size_t>(w.left));
      w.next = static_cast<char*>(w.blocks.back().data());
    }
    return reinterpret_cast<std::int32_t*>(w.next);
  }

  /// The first `count` entries of the reserved room are the row of particle i,
  /// followed by their images.
  void commit(int writer, std::int64_t i, std::int64_t count) {
    Writer& w = writers_[writer];
    const std::int64_t bytes = (bytes_of(count) + 3) / 4 * 4;
    start_[i] = w.next;
    offsets_[i + 1] = count;
    w.next += bytes;
    w.left -= bytes;
  }

  /// To be called once after the last row.
  void finish() {
    for (std::int64_t i = 1; i < offsets_.size(); ++i) offsets_[i] += offsets_[i - 1];
  }

  std::int64_t particles() const { return start_.size(); }
  std::int64_t count() const { return offsets_[particles()]; }
  std::int64_t size(std::int64_t i) const { return offsets_[i + 1] - offsets_[i]; }
  const Scratch<std::int64_t>& offsets() const { return offsets_; }

  kernels::NeighborRow row(std::int64_t i) const {
    const auto* j = reinterpret_cast<const std::int32_t*>(start_[i]);
    const std::int32_t* after = j + size(i);
    if (image_bytes_ == 4) return {i, size(i), j, nullptr, after};
    const auto* image = reinterpret_cast<const std::uint8_t*>(after);
    return {i, size(i), j, image_bytes_ ? image : nullptr, nullptr};
  }

  /// Rows of successive particles lie far apart.
  void prefetch(std::int64_t i) const {
    const std::int64_t bytes = bytes_of(size(i));
    for (std::int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(start_[i] + k);
  }

 private:
  std::int64_t bytes_of(std::int64_t count) const { return (4 + image_bytes_) * count; }

  static constexpr std::int64_t kBlock = 1 << 21, kLeast = 1 << 12, kTypicalRow = 1 << 10;
  /// Apart, so that threads do not write to the same line.
  struct alignas(128) Writer {
    std::vector<Buffer> blocks;
    char* next = nullptr;
    std::int64_t left = 0;
  };
  Scratch<const char*> start_;
  Scratch<std::int64_t> offsets_;
  std::vector<Writer> writers_;
  int image_bytes_ = 1;
};

}  // namespace mlcore::detail
