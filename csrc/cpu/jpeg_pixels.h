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
typedef uint8_t Byte8 __attribute__((vector_size(8)));

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

inline CHASE_FAST_FLAT void transpose(Short8 (&v)[8]) {
  Short8 a[8], b[8];
  for (int i = 0; i < 4; ++i) {  // interleaving rows i and i + 4 three times
    a[2 * i] = __builtin_shuffle(v[i], v[i + 4], Short8{0, 8, 1, 9, 2, 10, 3, 11});
    a[2 * i + 1] = __builtin_shuffle(v[i], v[i + 4], Short8{4, 12, 5, 13, 6, 14, 7, 15});
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

// block [64] coefficients times quantisers -> 8 x 8 samples at `to`; last: place of the last coefficient.
inline CHASE_FAST_FLAT void idct_block(const int16_t* block, const int16_t* quantisers, int last, uint8_t* to,
                                       int64_t stride) {
  if (last == 0) {
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
  for (int y = 0; y < 8; ++y) rows[y] = __builtin_convertvector((wide[y] + (1 << 10)) >> 11, Short8);
  transpose(rows);
  for (int x = 0; x < 8; ++x) wide[x] = __builtin_convertvector(rows[x], Int8);
  idct_8(wide);
  for (int x = 0; x < 8; ++x)
    rows[x] = __builtin_convertvector((wide[x] + ((1 << 17) + (128 << 18))) >> 18, Short8);
  transpose(rows);
  for (int y = 0; y < 8; ++y) {
    Short8 s = rows[y];
    s = s < 0 ? Short8{} : s;
    s = s > 255 ? Short8{} + int16_t(255) : s;
    const Byte8 bytes = __builtin_convertvector(s, Byte8);
    std::memcpy(to + y * stride, &bytes, 8);
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

// Samples [n] -> RGB [n, 3]; a product by a constant of 16 fraction bits, rounded as libjpeg's tables are.
inline CHASE_FAST_FLAT void to_rgb(const uint8_t* __restrict y, const uint8_t* __restrict cb,
                                   const uint8_t* __restrict cr, int64_t n, uint8_t* __restrict rgb) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const int b = cb[i] - 128, r = cr[i] - 128;
    rgb[3 * i] = clamp_byte(y[i] + ((91881 * r + 32768) >> 16));
    rgb[3 * i + 1] = clamp_byte(y[i] + ((-22554 * b - 46802 * r + 32768) >> 16));
    rgb[3 * i + 2] = clamp_byte(y[i] + ((116130 * b + 32768) >> 16));
  }
}

}  // namespace chase_fast::cpu::jpeg
