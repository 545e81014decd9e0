#include "mlcore/machine.hpp"

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "kernels/machine.hpp"
#include "mlcore/buffer.hpp"
#include "parallel.hpp"

namespace mlcore {
namespace {

constexpr std::int64_t kGrain = 64;  // elements; kernels take multiples of it

double now(int threads) {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Whatever is written here was computed.
void consume(double value) {
  volatile double sink = value;
  (void)sink;
}

/// work / seconds of the fastest of `runs`. body(thread) runs once per thread.
template <class Body>
double best_rate(const Context& context, int runs, double work, const Body& body) {
  const int threads = detail::resolve_threads(context);
  double best = 0;
  for (int run = 0; run < runs; ++run) {
    const double start = now(threads);
    detail::parallel_for(context, threads, 1, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t thread = begin; thread < end; ++thread) body(thread);
    });
    best = std::max(best, work / std::max(now(threads) - start, 1e-9));
  }
  return best;
}

/// Memory straight from the system, given back at the end.
class FreshMemory {
 public:
  FreshMemory(std::int64_t bytes, bool huge_pages) : bytes_(static_cast<std::size_t>(bytes)) {
    void* data = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<char*>(data);
#ifdef MADV_HUGEPAGE
    madvise(data_, bytes_, huge_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#else
    (void)huge_pages;
#endif
  }
  ~FreshMemory() { munmap(data_, bytes_); }
  FreshMemory(const FreshMemory&) = delete;
  FreshMemory& operator=(const FreshMemory&) = delete;
  char* data() const { return data_; }

 private:
  std::size_t bytes_;
  char* data_ = nullptr;
};

}  // namespace

double fma_rate(const Context& context, bool single_precision) {
  constexpr std::int64_t kIterations = 400'000;
  const int threads = detail::resolve_threads(context);
  const std::int64_t lanes =
      single_precision ? MLCORE_DISPATCH(vector_floats)() : MLCORE_DISPATCH(vector_doubles)();
  const double work = static_cast<double>(kIterations * kernels::kFmaOperations * lanes) * threads;
  return best_rate(context, 15, work, [&](std::int64_t) {
    consume(single_precision ? MLCORE_DISPATCH(fma_chains_float)(kIterations)
                             : MLCORE_DISPATCH(fma_chains_double)(kIterations));
  });
}

double stream_rate(const Context& context, MemoryUse use, std::int64_t bytes) {
  const int threads = detail::resolve_threads(context);
  const bool copies = use == MemoryUse::copy;
  MLCORE_CHECK(bytes >= std::int64_t{4096} * threads, "bytes must be at least 4096 per thread (",
               threads, "), got ", bytes);
  const std::int64_t arrays = copies ? 2 : 1;
  const std::int64_t own = bytes / arrays / 8 / threads / kGrain * kGrain;  // elements per thread
  const std::int64_t count = own * threads;
  const std::int64_t repeats = std::max<std::int64_t>(1, (std::int64_t{1} << 24) / count);
  const Buffer memory(static_cast<std::size_t>(arrays * count) * 8);
  auto* from = static_cast<double*>(memory.data());
  std::fill(from, from + arrays * count, 1.0);
  double* to = copies ? from + count : from;
  const double work = static_cast<double>(arrays * 8 * count * repeats);
  return best_rate(context, 9, work, [&](std::int64_t thread) {
    double sum = 0;
    for (std::int64_t repeat = 0; repeat < repeats; ++repeat) {
      if (copies) {
        MLCORE_DISPATCH(stream_copy)(from + thread * own, to + thread * own, own);
      } else if (use == MemoryUse::write) {
        const auto value = static_cast<double>(repeat);
        MLCORE_DISPATCH(stream_write)(value, to + thread * own, own);
      } else {
        sum += MLCORE_DISPATCH(stream_read)(from + thread * own, own);
      }
    }
    consume(sum);
  });
}

double gather_rate(const Context& context, std::int64_t bytes) {
  MLCORE_CHECK(bytes >= 4096 && bytes <= (std::int64_t{1} << 36),
               "bytes must lie between 4096 and 64 GiB, got ", bytes);
  const int threads = detail::resolve_threads(context);
  const std::int64_t records = bytes / 32;
  constexpr std::int64_t kReads = std::int64_t{1} << 22;  // of each thread
  const Buffer memory(static_cast<std::size_t>(records) * 32);
  auto* table = static_cast<double*>(memory.data());
  std::fill(table, table + 4 * records, 1.0);
  std::vector<std::uint32_t> index(static_cast<std::size_t>(kReads * threads));
  std::uint64_t state = 88172645463325252u;  // xorshift64 (Marsaglia 2003)
  for (std::uint32_t& place : index) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    place = static_cast<std::uint32_t>(state % static_cast<std::uint64_t>(records));
  }
  const double work = static_cast<double>(kReads) * threads;
  return best_rate(context, 4, work, [&](std::int64_t thread) {
    consume(MLCORE_DISPATCH(gather_records)(table, index.data() + thread * kReads, kReads));
  });
}

double first_touch_rate(const Context& context, std::int64_t bytes, bool huge_pages) {
  const int threads = detail::resolve_threads(context);
  MLCORE_CHECK(bytes >= 4096, "bytes must be at least 4096, got ", bytes);
  double best = 0;
  for (int run = 0; run < 3; ++run) {
    const FreshMemory memory(bytes, huge_pages);
    best = std::max(best, best_rate(context, 1, static_cast<double>(bytes), [&](std::int64_t t) {
                      const std::int64_t begin = bytes * t / threads;
                      const std::int64_t end = bytes * (t + 1) / threads;
                      std::memset(memory.data() + begin, 1, static_cast<std::size_t>(end - begin));
                      consume(memory.data()[begin]);
                    }));
  }
  return best;
}

}  // namespace mlcore
