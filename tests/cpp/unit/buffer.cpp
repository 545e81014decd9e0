#include "mlcore/buffer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <thread>
#include <vector>

namespace {

using mlcore::Buffer;

TEST(Buffer, HoldsWhatWasAskedForAndIsAligned) {
  for (std::size_t bytes : {0ul, 1ul, 63ul, 65ul, 65536ul, 65537ul, 3000000ul, 5000001ul}) {
    const Buffer buffer(bytes);
    EXPECT_GE(buffer.size(), bytes);
    EXPECT_LE(buffer.size(), bytes + bytes / 4 + 128);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
    std::memset(buffer.data(), 1, buffer.size());
  }
}

TEST(Buffer, LargeMemoryComesBack) {
  Buffer::trim();
  void* first = nullptr;
  {
    const Buffer buffer(10'000'000);
    first = buffer.data();
    const Buffer other(10'000'000);
    EXPECT_NE(other.data(), first);
  }
  const Buffer again(9'990'000);
  const Buffer more(9'990'000);
  EXPECT_TRUE(again.data() == first || more.data() == first);
}

TEST(Buffer, MovesItsMemory) {
  Buffer a(100000);
  void* data = a.data();
  Buffer b(std::move(a));
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(a.data(), nullptr);
  Buffer c;
  c = std::move(b);
  EXPECT_EQ(c.data(), data);
}

TEST(Buffer, RefusesAbsurdSizes) {
  EXPECT_THROW(Buffer(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
}

TEST(Buffer, ThreadsNeverShareMemory) {
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t, &wrong] {
      for (int round = 0; round < 200; ++round) {
        const Buffer buffer(70000);
        std::memset(buffer.data(), t, 70000);
        std::this_thread::yield();
        const auto* bytes = static_cast<const unsigned char*>(buffer.data());
        for (int k = 0; k < 70000; k += 97) wrong[t] += bytes[k] != t;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

}  // namespace
