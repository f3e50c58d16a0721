// exp for the body of `#pragma omp simd` loops (the library's is a call, which is not vectorised without -ffast-math):
// exp(x) = 2^n exp(r), n = round(x / log 2), |r| <= log(2) / 2, exp(r) as its Taylor polynomial. Error below 2 ulp for
// results in the normal range; arguments below (above) that range are taken as its ends; NaN stays NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

namespace chase_fast::cpu {

inline CHASE_FAST_FLAT float exponential(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  const float shifted = x * 1.44269504088896f + magic, n = shifted - magic;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts, the first exact in n * part
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;  // 2^n; the magic's bits are shifted out
  float scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

inline CHASE_FAST_FLAT double exponential(double x) {
  x = x < -708.0 ? -708.0 : x > 709.0 ? 709.0 : x;
  constexpr double magic = 6755399441055744.0;  // 1.5 * 2^52
  const double shifted = x * 1.4426950408889634074 + magic, n = shifted - magic;
  const double r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r * r + r + 1.0;
  uint64_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023u) << 52;
  double scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

}  // namespace chase_fast::cpu
