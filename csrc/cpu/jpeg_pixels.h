// From coefficients to RGB, in the integer arithmetic of libjpeg's defaults, bit for bit: the accurate inverse DCT
// (Loeffler, Ligtenberg, Moschytz 1989, 13-bit constants), triangle-filter chroma upsampling, 16-bit YCbCr.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/isa.h"

namespace chase_fast::cpu::jpeg {

typedef int16_t Short8 __attribute__((vector_size(16)));
typedef int32_t Int8 __attribute__((vector_size(32)));
typedef uint8_t Byte16 __attribute__((vector_size(16)));
typedef int64_t Long2 __attribute__((vector_size(16)));

// One-dimensional inverse DCT of eight lanes at a time, scaled by 2^13 sqrt(8).
inline CHASE_FAST_FLAT void idct_8(Int8 (&v)[8]) {
  const Int8 even = (v[2] + v[6]) * 4433;
  const Int8 e2 = even - v[6] * 15137, e3 = even + v[2] * 6270;
  const Int8 e0 = (v[0] + v[4]) << 13, e1 = (v[0] - v[4]) << 13;
  const Int8 a0 = e0 + e3, a3 = e0 - e3, a1 = e1 + e2, a2 = e1 - e2;
  const Int8 z5 = (v[7] + v[3] + v[5] + v[1]) * 9633;
  const Int8 z1 = (v[7] + v[1]) * -7373, z2 = (v[5] + v[3]) * -20995;
  const Int8 z3 = (v[7] + v[3]) * -16069 + z5, z4 = (v[5] + v[1]) * -3196 + z5;
  const Int8 b0 = v[7] * 2446 + z1 + z3, b1 = v[5] * 16819 + z2 + z4;
  const Int8 b2 = v[3] * 25172 + z2 + z3, b3 = v[1] * 12299 + z1 + z4;
  v[0] = a0 + b3, v[7] = a0 - b3;
  v[1] = a1 + b2, v[6] = a1 - b2;
  v[2] = a2 + b1, v[5] = a2 - b1;
  v[3] = a3 + b0, v[4] = a3 - b0;
}

// The eight rows' low 16 bits, transposed: rows i and i + 4 are interleaved, three times.
inline CHASE_FAST_FLAT void transpose(const Int8 (&rows)[8], Short8 (&v)[8]) {
  Short8 a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    const Int8 pairs = (rows[i] & 0xffff) | (rows[i + 4] << 16);
    std::memcpy(&a[2 * i], &pairs, 32);
  }
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = __builtin_shuffle(a[i], a[i + 4], Short8{0, 8, 1, 9, 2, 10, 3, 11});
    b[2 * i + 1] = __builtin_shuffle(a[i], a[i + 4], Short8{4, 12, 5, 13, 6, 14, 7, 15});
  }
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __builtin_shuffle(b[i], b[i + 4], Short8{0, 8, 1, 9, 2, 10, 3, 11});
    v[2 * i + 1] = __builtin_shuffle(b[i], b[i + 4], Short8{4, 12, 5, 13, 6, 14, 7, 15});
  }
}

inline CHASE_FAST_FLAT Short8 clamped(Short8 s) {
  s = s > 0 ? s : Short8{};
  return s < 255 ? s : Short8{} + int16_t(255);
}

// block [64] coefficients times quantisers -> 8 x 8 samples at `to`; flat: only the first is not zero.
inline CHASE_FAST_FLAT void idct_block(const int16_t* block, const int16_t* quantisers, bool flat, uint8_t* to,
                                       int64_t stride) {
  if (flat) {
    const int level = (static_cast<int16_t>(block[0] * quantisers[0]) + 4) >> 3;
    const int sample = std::min(std::max(level + 128, 0), 255);
    for (int y = 0; y < 8; ++y) std::memset(to + y * stride, sample, 8);
    return;
  }
  Short8 rows[8];
  Int8 wide[8];
  for (int y = 0; y < 8; ++y) {
    Short8 q;
    std::memcpy(&rows[y], block + 8 * y, 16);
    std::memcpy(&q, quantisers + 8 * y, 16);
    wide[y] = __builtin_convertvector(rows[y] * q, Int8);
  }
  idct_8(wide);
  for (int y = 0; y < 8; ++y) wide[y] = (wide[y] + (1 << 10)) >> 11;
  transpose(wide, rows);
  for (int x = 0; x < 8; ++x) wide[x] = __builtin_convertvector(rows[x], Int8);
  idct_8(wide);
  for (int x = 0; x < 8; ++x) wide[x] = (wide[x] + ((1 << 17) + (128 << 18))) >> 18;
  transpose(wide, rows);
  for (int y = 0; y < 8; y += 2) {
    const Byte16 two =
        __builtin_shuffle(reinterpret_cast<Byte16>(clamped(rows[y])), reinterpret_cast<Byte16>(clamped(rows[y + 1])),
                          Byte16{0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30});
    const auto halves = reinterpret_cast<Long2>(two);
    const int64_t first = halves[0], second = halves[1];
    std::memcpy(to + y * stride, &first, 8);
    std::memcpy(to + (y + 1) * stride, &second, 8);
  }
}

// Chroma of one output row [2 n] from the nearer and the farther chroma row [n + 2], their outer samples neighbours;
// sums: scratch [n + 2].
inline CHASE_FAST_FLAT void upsample_420(const uint8_t* __restrict near, const uint8_t* __restrict far, int64_t n,
                                         int16_t* __restrict sums, uint8_t* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n + 2; ++i) sums[i] = static_cast<int16_t>(3 * near[i] + far[i]);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const int16_t centre = static_cast<int16_t>(3 * sums[i + 1]);
    out[2 * i] = static_cast<uint8_t>(static_cast<int16_t>(centre + sums[i] + 8) >> 4);
    out[2 * i + 1] = static_cast<uint8_t>(static_cast<int16_t>(centre + sums[i + 2] + 7) >> 4);
  }
}

// The same for chroma halved along x only.
inline CHASE_FAST_FLAT void upsample_422(const uint8_t* __restrict row, int64_t n, uint8_t* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const int16_t centre = static_cast<int16_t>(3 * row[i + 1]);
    out[2 * i] = static_cast<uint8_t>(static_cast<int16_t>(centre + row[i] + 1) >> 2);
    out[2 * i + 1] = static_cast<uint8_t>(static_cast<int16_t>(centre + row[i + 2] + 2) >> 2);
  }
}

inline CHASE_FAST_FLAT uint8_t clamp_byte(int v) { return static_cast<uint8_t>(std::min(std::max(v, 0), 255)); }

// (a x + 2^15) >> 16 in 16 bits, |2 x| < 2^15.
inline CHASE_FAST_FLAT int16_t scaled(int16_t x, int16_t a) {
  const int16_t twice = static_cast<int16_t>((static_cast<int16_t>(2 * x) * a) >> 16);
  return static_cast<int16_t>(static_cast<int16_t>(twice + 1) >> 1);
}

// Three rows of 16 bytes -> 48, one of each in turn.
inline CHASE_FAST_FLAT void interleave(const uint8_t* r, const uint8_t* g, const uint8_t* b, uint8_t* rgb) {
  Byte16 x, y, z;
  std::memcpy(&x, r, 16);
  std::memcpy(&y, g, 16);
  std::memcpy(&z, b, 16);
  const Byte16 head =
      __builtin_shuffle(__builtin_shuffle(x, y, Byte16{0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5}), z,
                        Byte16{0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15});
  const Byte16 middle =
      __builtin_shuffle(__builtin_shuffle(x, y, Byte16{21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26}), z,
                        Byte16{0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15});
  const Byte16 tail =
      __builtin_shuffle(__builtin_shuffle(x, y, Byte16{0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0}), z,
                        Byte16{26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31});
  std::memcpy(rgb, &head, 16);
  std::memcpy(rgb + 16, &middle, 16);
  std::memcpy(rgb + 32, &tail, 16);
}

// Samples [n] -> RGB [n, 3]: products by constants of 16 fraction bits (1.402, 0.34414, 0.71414, 1.772), rounded; their
// whole parts apart, so that 16 bits hold them. planes: scratch [3 (n + 16)].
inline CHASE_FAST_FLAT void to_rgb(const uint8_t* __restrict y, const uint8_t* __restrict cb,
                                   const uint8_t* __restrict cr, int64_t n, uint8_t* __restrict planes,
                                   uint8_t* __restrict rgb) {
  uint8_t* __restrict r = planes, * __restrict g = planes + n + 16, * __restrict b = planes + 2 * (n + 16);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const int16_t u = static_cast<int16_t>(cb[i] - 128), v = static_cast<int16_t>(cr[i] - 128);
    const int16_t red = static_cast<int16_t>(y[i] + v + scaled(v, 26345));
    const int16_t blue = static_cast<int16_t>(y[i] + 2 * u + scaled(u, -14942));
    const int16_t green = static_cast<int16_t>(y[i] - v + ((-22554 * u + 18734 * v + 32768) >> 16));
    r[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(red, 0), 255));
    g[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(green, 0), 255));
    b[i] = static_cast<uint8_t>(std::min<int16_t>(std::max<int16_t>(blue, 0), 255));
  }
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) interleave(r + i, g + i, b + i, rgb + 3 * i);
  for (; i < n; ++i) rgb[3 * i] = r[i], rgb[3 * i + 1] = g[i], rgb[3 * i + 2] = b[i];
}

}  // namespace chase_fast::cpu::jpeg
