// One body, two instruction sets: vectorised(f) calls an always-inlined lambda compiled for AVX2 + FMA (chosen at run
// time) or for any processor. CHASE_FAST_AVX2=0 in the environment takes the portable path (for tests).
#pragma once

#include <cstdlib>
#include <cstring>

#define CHASE_FAST_FLAT __attribute__((always_inline))

namespace chase_fast {

#if defined(__x86_64__)
inline bool use_avx2() {
  static const bool yes = [] {
    const char* wanted = std::getenv("CHASE_FAST_AVX2");
    __builtin_cpu_init();
    return !(wanted && std::strcmp(wanted, "0") == 0) && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");
  }();
  return yes;
}

template <class F>
__attribute__((target("avx2,fma"), noinline)) void vectorised_avx2(const F& f) {
  f();
}
#endif

template <class F>
__attribute__((noinline)) void vectorised_portable(const F& f) {
  f();
}

template <class F>
void vectorised(const F& f) {
#if defined(__x86_64__)
  if (use_avx2()) return vectorised_avx2(f);
#endif
  vectorised_portable(f);
}

}  // namespace chase_fast
