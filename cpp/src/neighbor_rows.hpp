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
  NeighborRows() : NeighborRows(0, 0, true) {}
  NeighborRows(std::int64_t particles, int writers, bool narrow)
      : start_(particles), offsets_(particles + 1), writers_(writers), narrow_(narrow) {
    std::fill(offsets_.begin(), offsets_.end(), 0);
  }

  /// Room for so many neighbors and their images, valid until the next call for
  /// this writer.
  std::int32_t* reserve(int writer, std::int64_t capacity) {
    Writer& w = writers_[writer];
    const std::int64_t bytes = 8 * capacity;
    if (w.left < bytes) {
      w.left = std::max(bytes, kBlock);
      w.blocks.emplace_back(static_cast<std::size_t>(w.left));
      w.next = static_cast<char*>(w.blocks.back().data());
    }
    return reinterpret_cast<std::int32_t*>(w.next);
  }

  /// The first `count` entries of the reserved room are the row of particle i,
  /// followed by their images.
  void commit(int writer, std::int64_t i, std::int64_t count) {
    Writer& w = writers_[writer];
    const std::int64_t bytes = narrow_ ? (5 * count + 3) / 4 * 4 : 8 * count;
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
    if (narrow_) return {i, size(i), j, reinterpret_cast<const std::uint8_t*>(after), nullptr};
    return {i, size(i), j, nullptr, after};
  }

  /// Rows of successive particles lie far apart.
  void prefetch(std::int64_t i) const {
    const std::int64_t bytes = (narrow_ ? 5 : 8) * size(i);
    for (std::int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(start_[i] + k);
  }

 private:
  static constexpr std::int64_t kBlock = 1 << 21;
  struct Writer {
    std::vector<Buffer> blocks;
    char* next = nullptr;
    std::int64_t left = 0;
  };
  Scratch<const char*> start_;
  Scratch<std::int64_t> offsets_;
  std::vector<Writer> writers_;
  bool narrow_ = true;
};

}  // namespace mlcore::detail
