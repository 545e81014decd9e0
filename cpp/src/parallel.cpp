#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
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

/// Tells the core that this is a waiting loop.
void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Whether `ready` comes true within the time that waking a sleeping thread may take twice over.
/// Algorithms of many short steps then never go to sleep between them.
template <class Ready>
bool soon(const Ready& ready) {
  constexpr auto kPatience = std::chrono::microseconds(50);
  constexpr int kLooks = 64;  // between two looks at the clock
  const auto begin = std::chrono::steady_clock::now();
  do {
    for (int look = 0; look < kLooks; ++look) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() - begin < kPatience);
  return ready();
}

/// Workers that wait for the next job, first awake, then asleep; one job at a time, a chunk per
/// worker.
class ThreadPool {
 public:
  ThreadPool() = default;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  /// Runs task(1..chunks-1) on workers and task(0) on the caller.
  void run(int chunks, const std::function<void(int)>& task) {
    std::lock_guard job(job_mutex_);
    while (static_cast<int>(workers_.size()) < chunks - 1) add_worker();
    task_ = &task;
    awake_ = chunks <= cores_;  // who waits awake must not hold a core that has work to do
    pending_.store(chunks - 1, std::memory_order_relaxed);
    for (int chunk = 1; chunk < chunks; ++chunk) workers_[chunk - 1]->jobs.raise();
    task(0);
    if (awake_ && soon([this] { return pending_.load(std::memory_order_acquire) == 0; })) return;
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return pending_.load(std::memory_order_acquire) == 0; });
  }

 private:
  /// A number that only grows, and a thread that waits for it to.
  class Counter {
   public:
    void raise() {
      {
        std::lock_guard lock(mutex_);
        value_.fetch_add(1, std::memory_order_release);
      }
      grown_.notify_one();  // costs nothing where nobody sleeps
    }
    void wait_beyond(std::uint64_t seen, bool awake) {
      const auto grown = [&] { return value_.load(std::memory_order_acquire) != seen; };
      if (awake && soon(grown)) return;
      std::unique_lock lock(mutex_);
      grown_.wait(lock, grown);
    }

   private:
    std::atomic<std::uint64_t> value_{0};
    std::mutex mutex_;
    std::condition_variable grown_;
  };

  struct alignas(64) Worker {
    Counter jobs;
    std::thread thread;
  };

  void add_worker() {
    workers_.reserve(workers_.size() + 1);
    auto worker = std::make_unique<Worker>();
    const int index = static_cast<int>(workers_.size()) + 1;
    worker->thread = std::thread([this, &own = *worker, index] { work(own, index); });
    workers_.push_back(std::move(worker));
  }

  void work(Worker& worker, int index) {
    inside_parallel_region = true;
    bool awake = false;
    for (std::uint64_t job = 0;; ++job) {
      worker.jobs.wait_beyond(job, awake);
      awake = awake_;
      (*task_)(index);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) > 1) continue;
      {
        std::lock_guard lock(mutex_);
      }  // the caller is either before its look or asleep
      done_.notify_one();
    }
  }

  const int cores_ = usable_cores();
  std::mutex job_mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
  const std::function<void(int)>* task_ = nullptr;  // this and awake_: of the job in progress
  bool awake_ = false;
  std::atomic<int> pending_{0};  // workers that have not finished it
  std::mutex mutex_;
  std::condition_variable done_;
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
