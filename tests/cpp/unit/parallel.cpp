#include "parallel.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace {

using mlcore::Context;
using mlcore::detail::parallel_for;

TEST(Parallel, CoversEveryItemOnce) {
  for (int threads : {1, 2, 7}) {
    for (std::int64_t n : {0, 1, 6, 7, 8, 1000}) {
      std::vector<int> hits(n);
      parallel_for(Context{threads}, n, 1, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) ++hits[i];
      });
      EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0), n);
    }
  }
}

TEST(Parallel, PassesExceptionsOn) {
  const auto fail = [](std::int64_t begin, std::int64_t, int) {
    if (begin > 0) throw mlcore::InvalidArgument("from a worker");
  };
  EXPECT_THROW(parallel_for(Context{4}, 100, 1, fail), mlcore::InvalidArgument);
}

TEST(Parallel, NestedCallsRunOnTheirOwnThread) {
  std::vector<int> hits(64);
  parallel_for(Context{4}, 8, 1, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      parallel_for(Context{4}, 8, 1, [&](std::int64_t b, std::int64_t e, int) {
        for (std::int64_t j = b; j < e; ++j) ++hits[8 * i + j];
      });
    }
  });
  EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0), 64);
}

TEST(Parallel, WorksInAForkedChild) {
  const auto count = [] {
    std::vector<int> hits(100);
    parallel_for(Context{3}, 100, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) ++hits[i];
    });
    return std::accumulate(hits.begin(), hits.end(), 0);
  };
  ASSERT_EQ(count(), 100);
  const pid_t child = fork();
  if (child == 0) _exit(count() == 100 ? 0 : 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

// Short jobs follow each other while workers still wait awake, long after they fell asleep, and
// with more chunks than cores.
TEST(Parallel, JobsInARow) {
  std::vector<std::int64_t> sums(9, 0);
  std::int64_t jobs = 0;
  const auto run = [&](int threads) {
    ++jobs;
    parallel_for(Context{threads}, 9, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) sums[i] += i;
    });
  };
  for (int k = 0; k < 3000; ++k) run(1 + k % 9);
  for (int k = 0; k < 20; ++k) {
    std::this_thread::sleep_for(std::chrono::milliseconds(k % 2));
    run(9 - k % 9);
  }
  for (std::int64_t i = 0; i < 9; ++i) EXPECT_EQ(sums[i], i * jobs);
}

TEST(Parallel, CallersOfTheirOwnThreads) {
  const auto call = [](std::int64_t& sum) {
    for (int k = 0; k < 300; ++k) {
      std::vector<std::int64_t> parts(4, 0);
      parallel_for(Context{2 + k % 3}, 4, 1, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) parts[i] = i;
      });
      sum += std::accumulate(parts.begin(), parts.end(), std::int64_t{0});
    }
  };
  std::vector<std::int64_t> sums(3, 0);
  std::vector<std::thread> callers;
  for (std::int64_t& sum : sums) callers.emplace_back([&call, &sum] { call(sum); });
  for (std::thread& caller : callers) caller.join();
  for (std::int64_t sum : sums) EXPECT_EQ(sum, 300 * 6);
}

TEST(Parallel, RejectsBadThreadCounts) {
  EXPECT_THROW(parallel_for(Context{-1}, 1, 1, [](std::int64_t, std::int64_t, int) {}),
               mlcore::InvalidArgument);
  EXPECT_THROW(mlcore::set_num_threads(-2), mlcore::InvalidArgument);
}

}  // namespace
