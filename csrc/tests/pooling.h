// What the tests of pooled boxes share: weights of cells in bins, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace chase_fast::tests {

// Integral of hat(t) = max(0, 1 - |t|) up to u, and hat.
inline double hat_integral(double u) {
  const double v = std::clamp(u, -1.0, 1.0);
  return 0.5 + v - 0.5 * v * std::abs(v);
}
inline double hat(double u) { return std::max(0.0, 1 - std::abs(u)); }

// Weight of cell i in bin b of `bins` from start to stop, and its derivatives to start and stop.
struct Weight {
  double value, to_start, to_stop;
};
inline Weight weight(double start, double stop, int64_t bins, int64_t b, int64_t i) {
  const double size = std::max(stop - start, 0.0), low = double(b) / bins, high = double(b + 1) / bins;
  const double u = start + size * high - i, l = start + size * low - i;
  return {hat_integral(u) - hat_integral(l), hat(u) * (1 - high) - hat(l) * (1 - low), hat(u) * high - hat(l) * low};
}

}  // namespace chase_fast::tests
