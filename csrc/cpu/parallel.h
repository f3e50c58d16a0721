// The one way a loop is spread over threads: parallel_for(n, threads, f) calls f(0) ... f(n - 1), a consecutive run of
// them per thread, the same run every time. With CHASE_FAST_STD_THREADS (ThreadSanitizer, which does not understand
// libgomp) std::thread drives it, else OpenMP. With CHASE_FAST_ALL_THREADS (sanitizers) small work is spread too. f
// must not throw.
#pragma once

#include <algorithm>
#include <cstdint>
#ifdef CHASE_FAST_STD_THREADS
#include <thread>
#include <vector>
#endif

namespace chase_fast {

// No more threads than there is work for (a thread costs some ten microseconds to wake): `grain` units of work each.
inline int worthwhile_threads(int64_t work, int64_t grain, int wanted) {
#ifdef CHASE_FAST_ALL_THREADS
  grain = 1;
#endif
  return static_cast<int>(std::clamp<int64_t>(work / grain, 1, std::max(wanted, 1)));
}

template <class F>
void parallel_for(int64_t n, int threads, const F& f) {
  threads = static_cast<int>(std::min<int64_t>(std::max(threads, 1), n));
  if (threads <= 1) {
    for (int64_t i = 0; i < n; ++i) f(i);
    return;
  }
#ifdef CHASE_FAST_STD_THREADS
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&f, t, n, threads] {
      for (int64_t i = n * t / threads; i < n * (t + 1) / threads; ++i) f(i);
    });
  for (std::thread& thread : pool) thread.join();
#else
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < n; ++i) f(i);
#endif
}

}  // namespace chase_fast
