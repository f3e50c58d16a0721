// One body, three instruction sets: vectorised(f) calls an always-inlined lambda compiled for AVX-512, for AVX2 + FMA
// (the widest this processor has, chosen at run time) or for any processor. CHASE_FAST_ISA=avx512|avx2|portable in the
// environment asks for a narrower one (tests, comparisons). Results of two instruction sets differ in rounding.
#pragma once

#include <cstdlib>
#include <cstring>

#define CHASE_FAST_FLAT __attribute__((always_inline))

namespace chase_fast {

enum class Isa { PORTABLE, AVX2, AVX512 };

inline const char* name(Isa isa) { return isa == Isa::AVX512 ? "avx512" : isa == Isa::AVX2 ? "avx2" : "portable"; }

inline Isa isa() {
#if defined(__x86_64__)
  static const Isa best = [] {
    const char* wanted = std::getenv("CHASE_FAST_ISA");
    const auto allowed = [&](Isa i) {
      return !wanted || !std::strcmp(wanted, name(i)) || (i == Isa::AVX2 && !std::strcmp(wanted, "avx512"));
    };
    __builtin_cpu_init();
    const bool avx2 =
        __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    if (avx512 && allowed(Isa::AVX512)) return Isa::AVX512;
    return avx2 && allowed(Isa::AVX2) ? Isa::AVX2 : Isa::PORTABLE;
  }();
  return best;
#else
  return Isa::PORTABLE;
#endif
}

#if defined(__x86_64__)
template <class F>
__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,bmi,bmi2,prefer-vector-width=512"),
               noinline)) void vectorised_avx512(const F& f) {
  f();
}

template <class F>
__attribute__((target("avx2,fma,bmi,bmi2"), noinline)) void vectorised_avx2(const F& f) {
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
  if (isa() == Isa::AVX512) return vectorised_avx512(f);
  if (isa() == Isa::AVX2) return vectorised_avx2(f);
#endif
  vectorised_portable(f);
}

}  // namespace chase_fast
