// Mean and variance of the columns of [rows, C] matrices, in parts: moments of a run of rows, shifted by its first row
// (a sample of the set, so nothing cancels), joined in order by Chan's formula, in double.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/isa.h"

namespace chase_fast::cpu {

// mean and m2 [C] (sum of squared deviations) of y [rows, C].
template <class T>
inline CHASE_FAST_FLAT void moments(const T* y, int64_t rows, int64_t C, T* mean, T* m2) {
  std::fill(mean, mean + C, T(0));
  std::fill(m2, m2 + C, T(0));
  const T* shift = y;
  for (int64_t r = 0; r < rows; ++r, y += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const T d = y[c] - shift[c];
      mean[c] += d;
      m2[c] += d * d;
    }
  }
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) {
    const T s = mean[c];
    mean[c] = shift[c] + s / T(rows);
    m2[c] -= s * s / T(rows);
  }
}

// mean, var [C] of the whole from `parts` runs whose moments are rows of part_mean, part_m2 [parts, C]; rows(k): length
// of run k.
template <class T, class F>
void join_moments(const T* part_mean, const T* part_m2, int64_t parts, int64_t C, const F& rows, T* mean, T* var) {
  for (int64_t c = 0; c < C; ++c) {
    double m = 0, m2 = 0, count = 0;
    for (int64_t k = 0; k < parts; ++k) {
      const double n = rows(k), delta = part_mean[k * C + c] - m;
      m += delta * n / (count + n);
      m2 += part_m2[k * C + c] + delta * delta * n * count / (count + n);
      count += n;
    }
    mean[c] = T(m);
    var[c] = T(m2 / count);
  }
}

}  // namespace chase_fast::cpu
