#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace mlcore {
namespace {

std::atomic<int> requested_threads{0};
thread_local bool inside_parallel_region = false;

int positive_from_environment(const char* name) {
  const char* text = std::getenv(name);
  const int value = text ? std::atoi(text) : 0;
  return std::max(value, 0);
}

int usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(CPU_COUNT(&set), 1);
  return std::max(1u, std::thread::hardware_concurrency());
}

int default_threads() {
  if (int n = positive_from_environment("MLCORE_NUM_THREADS")) return n;
  if (int n = positive_from_environment("OMP_NUM_THREADS")) return n;
  return usable_cores();
}

/// Sleeping workers; one job at a time, a chunk per worker.
class ThreadPool {
 public:
  ~ThreadPool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  /// Runs task(1..chunks-1) on workers and task(0) on the caller.
  void run(int chunks, const std::function<void(int)>& task) {
    std::lock_guard job(job_mutex_);
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int>(workers_.size()) < chunks - 1) {
        const int index = static_cast<int>(workers_.size()) + 1;
        workers_.emplace_back([this, index, seen = generation_]() mutable { work(index, seen); });
      }
      task_ = &task;
      chunks_ = chunks;
      pending_ = chunks - 1;
      ++generation_;
    }
    wake_.notify_all();
    task(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return pending_ == 0; });
  }

 private:
  void work(int index, std::uint64_t seen) {
    inside_parallel_region = true;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      if (index >= chunks_) continue;
      const std::function<void(int)>* task = task_;
      lock.unlock();
      (*task)(index);
      lock.lock();
      if (--pending_ == 0) done_.notify_one();
    }
  }

  std::mutex job_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable done_;
  std::vector<std::thread> workers_;
  const std::function<void(int)>* task_ = nullptr;
  int chunks_ = 0;
  int pending_ = 0;
  std::uint64_t generation_ = 0;
  bool stop_ = false;
};

// Never destroyed: threads may still sleep in it while the process exits. After a fork the child
// has none of the workers, so it starts with a pool of its own.
ThreadPool* pool = nullptr;
std::mutex pool_mutex;

ThreadPool& the_pool() {
  static const int registered =
      pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                     [] {
                       pool = nullptr;
                       pool_mutex.unlock();
                     });
  (void)registered;
  std::lock_guard lock(pool_mutex);
  if (!pool) pool = new ThreadPool;
  return *pool;
}

}  // namespace

int num_threads() {
  const int requested = requested_threads.load();
  if (requested > 0) return requested;
  static const int fallback = default_threads();
  return fallback;
}

void set_num_threads(int threads) {
  MLCORE_CHECK(threads >= 0 && threads <= 1024, "threads must lie in 0..1024 (0: default), got ",
               threads);
  requested_threads = threads;
}

namespace detail {

int resolve_threads(const Context& context) {
  MLCORE_CHECK(context.threads >= 0 && context.threads <= 1024,
               "num_threads must lie in 0..1024 (0: library-wide setting), got ", context.threads);
  return context.threads > 0 ? context.threads : num_threads();
}

void parallel_for(const Context& context, std::int64_t count, std::int64_t grain,
                  const std::function<void(std::int64_t, std::int64_t, int)>& body) {
  if (count <= 0) return;
  const std::int64_t most = std::max<std::int64_t>(1, count / std::max<std::int64_t>(grain, 1));
  const int chunks = static_cast<int>(std::min<std::int64_t>(resolve_threads(context), most));
  if (chunks == 1 || inside_parallel_region) {
    body(0, count, 0);
    return;
  }
  std::vector<std::exception_ptr> failures(chunks);
  const std::function<void(int)> task = [&](int chunk) {
    const bool nested = std::exchange(inside_parallel_region, true);
    try {
      body(count * chunk / chunks, count * (chunk + 1) / chunks, chunk);
    } catch (...) {
      failures[chunk] = std::current_exception();
    }
    inside_parallel_region = nested;
  };
  the_pool().run(chunks, task);
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace detail
}  // namespace mlcore
