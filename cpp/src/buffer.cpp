#include "mlcore/buffer.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <vector>

namespace mlcore {
namespace {

constexpr std::size_t kSmallestKept = std::size_t{1} << 16;
constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kMostKept = std::size_t{1} << 30;

/// Sizes come in four steps per power of two, so that similar requests share blocks.
std::size_t rounded(std::size_t bytes) {
  const std::size_t step = std::max<std::size_t>(64, std::bit_ceil(bytes) / 8);
  return (bytes + step - 1) / step * step;
}

void* allocate(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, padded);
  if (!data) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (alignment == kHugePage) madvise(data, padded, MADV_HUGEPAGE);
#endif
  return data;
}

/// Never destroyed: buffers may outlive static objects. Whoever finds it locked (in a forked child
/// perhaps for ever) does without.
struct Pool {
  std::mutex mutex;
  std::map<std::size_t, std::vector<void*>> free;
  std::size_t kept = 0;
};

Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

void* take(std::size_t bytes) {
  Pool& p = pool();
  const std::unique_lock lock(p.mutex, std::try_to_lock);
  if (!lock) return nullptr;
  const auto found = p.free.find(bytes);
  if (found == p.free.end() || found->second.empty()) return nullptr;
  void* data = found->second.back();
  found->second.pop_back();
  p.kept -= bytes;
  return data;
}

/// Gives back the largest blocks of other sizes until `bytes` fit.
void make_room(Pool& p, std::size_t bytes) {
  for (auto it = p.free.rbegin(); it != p.free.rend() && p.kept + bytes > kMostKept; ++it) {
    auto& [size, blocks] = *it;
    while (size != bytes && !blocks.empty() && p.kept + bytes > kMostKept) {
      std::free(blocks.back());
      blocks.pop_back();
      p.kept -= size;
    }
  }
}

bool keep(void* data, std::size_t bytes) {
  Pool& p = pool();
  const std::unique_lock lock(p.mutex, std::try_to_lock);
  if (!lock) return false;
  make_room(p, bytes);
  if (p.kept + bytes > kMostKept) return false;
  p.free[bytes].push_back(data);
  p.kept += bytes;
  return true;
}

}  // namespace

Buffer::Buffer(std::size_t bytes) {
  if (bytes > PTRDIFF_MAX / 2) throw std::bad_alloc();
  size_ = rounded(bytes);
  data_ = size_ >= kSmallestKept ? take(size_) : nullptr;
  if (!data_) data_ = allocate(size_);
}

Buffer::~Buffer() {
  if (!data_) return;
  if (size_ < kSmallestKept || !keep(data_, size_)) std::free(data_);
}

void Buffer::trim() {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  for (auto& [bytes, blocks] : p.free) {
    for (void* block : blocks) std::free(block);
  }
  p.free.clear();
  p.kept = 0;
}

}  // namespace mlcore
