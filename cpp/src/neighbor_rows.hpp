#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/neighbors.hpp"
#include "mlcore/buffer.hpp"
#include "mlcore/cell.hpp"
#include "mlcore/view.hpp"

namespace mlcore::detail {

/// A neighbor: particle and image of the cell in one number, see kernels/neighbors.hpp.
using Key = std::int64_t;

inline constexpr int kCodeBits = kernels::kNeighborCodeBits;
inline constexpr int kCodeBias = kernels::kNeighborCodeBias;
inline constexpr int kCodeMask = (1 << kCodeBits) - 1;
inline constexpr std::uint32_t kHomeCode =
    (kCodeBias << (2 * kCodeBits)) | (kCodeBias << kCodeBits) | kCodeBias;

using Image = std::array<std::int32_t, 3>;

inline std::uint32_t encode(const Image& image) {
  std::uint32_t code = 0;
  for (int axis = 0; axis < 3; ++axis) {
    code = (code << kCodeBits) | static_cast<std::uint32_t>(image[axis] + kCodeBias);
  }
  return code;
}

inline Image decode(std::uint32_t code) {
  return {static_cast<std::int32_t>(code >> (2 * kCodeBits)) - kCodeBias,
          static_cast<std::int32_t>((code >> kCodeBits) & kCodeMask) - kCodeBias,
          static_cast<std::int32_t>(code & kCodeMask) - kCodeBias};
}

inline Key make_key(std::int64_t j, std::uint32_t code) { return (j << (3 * kCodeBits)) | code; }
inline std::int64_t key_particle(Key key) { return key >> (3 * kCodeBits); }
inline std::uint32_t key_code(Key key) {
  return static_cast<std::uint32_t>(key & ((Key{1} << (3 * kCodeBits)) - 1));
}

/// The cell, and where the particles were put into it.
struct Frame {
  Cell cell;                        // completed; open axes perpendicular to the others
  std::array<double, 9> inverse{};  // fraction k of x is x . column k
  std::vector<std::int32_t> wraps;  // (n, 3) x - wraps @ cell is inside; empty: all zero

  /// Number of cell boundaries crossed from i to j, of the image of j with respect to i's own.
  Image crossings(std::int64_t i, std::int64_t j, std::uint32_t code) const {
    Image S = decode(code);
    if (wraps.empty()) return S;
    for (int axis = 0; axis < 3; ++axis) S[axis] += wraps[3 * i + axis] - wraps[3 * j + axis];
    return S;
  }
};

inline Frame make_frame(const Cell& cell) {
  Cell periodic = cell;
  for (int axis = 0; axis < 3; ++axis) {
    for (int k = 0; k < 3 && !cell.pbc[axis]; ++k) periodic.rows[3 * axis + k] = 0;
  }
  Frame frame;
  frame.cell = completed(periodic);
  frame.inverse = inverse(frame.cell.rows);
  return frame;
}

/// Rows of keys, one per particle. Each thread appends whole rows to blocks of its own.
class PairRows {
 public:
  PairRows() : offsets_(1, 0) {}
  PairRows(std::int64_t particles, int writers)
      : start_(particles, nullptr), offsets_(particles + 1, 0), writers_(writers) {}

  /// Room for `capacity` keys, valid until the next call for this writer.
  Key* reserve(int writer, std::int64_t capacity) {
    Writer& w = writers_[writer];
    if (w.left < capacity) {
      w.left = std::max(capacity, kBlock);
      w.blocks.emplace_back(static_cast<std::size_t>(w.left) * sizeof(Key));
      w.next = static_cast<Key*>(w.blocks.back().data());
    }
    return w.next;
  }

  /// The first `count` keys of the reserved room are the row of particle i.
  void commit(int writer, std::int64_t i, std::int64_t count) {
    Writer& w = writers_[writer];
    start_[i] = w.next;
    offsets_[i + 1] = count;
    w.next += count;
    w.left -= count;
  }

  /// To be called once after the last row. `order`: particles that are near each other in space,
  /// and in memory here, one after the other.
  void finish(std::vector<std::int32_t> order) {
    order_ = std::move(order);
    for (std::size_t i = 1; i < offsets_.size(); ++i) offsets_[i] += offsets_[i - 1];
  }

  std::int64_t particles() const { return static_cast<std::int64_t>(offsets_.size()) - 1; }
  std::int64_t count() const { return offsets_.back(); }
  std::int64_t first(std::int64_t i) const { return offsets_[i]; }
  std::int64_t size(std::int64_t i) const { return offsets_[i + 1] - offsets_[i]; }
  const Key* row(std::int64_t i) const { return start_[i]; }
  /// Rows of successive particles lie far apart.
  void prefetch(std::int64_t i) const {
    for (std::int64_t k = 0; k < size(i); k += 8) __builtin_prefetch(start_[i] + k);
  }
  /// The p-th particle to visit.
  std::int64_t visit(std::int64_t p) const { return order_.empty() ? p : order_[p]; }
  const std::vector<std::int32_t>& order() const { return order_; }
  View<const std::int64_t, 1> offsets() const { return {offsets_.data(), {particles() + 1}}; }

 private:
  static constexpr std::int64_t kBlock = 1 << 18;
  struct Writer {
    std::vector<Buffer> blocks;
    Key* next = nullptr;
    std::int64_t left = 0;
  };
  std::vector<const Key*> start_;
  std::vector<std::int64_t> offsets_;
  std::vector<std::int32_t> order_;
  std::vector<Writer> writers_;
};

}  // namespace mlcore::detail
