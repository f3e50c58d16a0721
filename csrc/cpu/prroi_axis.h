// Geometry of precise RoI pooling: bins of a box, weights of cells in them, gradients of edges to corners; and the
// weighted sums of rows of channels that its kernels consist of.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/isa.h"

namespace chase_fast::cpu {

template <class T>
T hat_integral(T u) {
  const T v = std::min(std::max(u, T(-1)), T(1));
  return T(0.5) + v - T(0.5) * v * std::abs(v);
}

template <class T>
T hat(T u) {
  return std::max(T(0), T(1) - std::abs(u));
}

// First cell in [0, cells] whose hat ends after u: floor(u) for u inside the grid.
template <class T>
int64_t first_cell(T u, int64_t cells) {
  return static_cast<int64_t>(std::min(std::max(std::floor(u), T(0)), T(cells)));
}

struct Range {
  int64_t begin = 0, end = 0;
};

template <class T>
T extent(T start, T stop) {
  return stop < start ? T(0) : stop - start;
}

// One axis of one box: bin edges and the weight of every cell in every bin.
template <class T>
struct Axis {
  T size = 0;                  // of the box, in cells
  std::vector<T> edges;        // [bins + 1]
  std::vector<Range> support;  // [bins]: cells with a weight other than 0
  std::vector<T> weights;      // [bins, cells], filled on the support
  int64_t cells = 0;

  Axis(T start, T stop, int64_t bins, int64_t cells_)
      : edges(bins + 1), support(bins), weights(bins * cells_), cells(cells_) {
    size = extent(start, stop);
    for (int64_t e = 0; e <= bins; ++e) edges[e] = start + size * (T(e) / T(bins));
    for (int64_t b = 0; b < bins; ++b) {
      support[b] = {first_cell(edges[b], cells), first_cell(edges[b + 1] + T(2), cells)};
      for (int64_t i = support[b].begin; i < support[b].end; ++i)
        weights[b * cells + i] = hat_integral(edges[b + 1] - T(i)) - hat_integral(edges[b] - T(i));
    }
  }

  int64_t bins() const { return static_cast<int64_t>(support.size()); }
  const T* bin(int64_t b) const { return weights.data() + b * cells; }
  Range all() const { return {support.front().begin, support.back().end}; }
};

template <class T>
struct Box {
  int64_t image;
  bool nan;  // NaN coordinates, or an infinite extent: all its values and gradients are NaN
  Axis<T> y, x;
  T per_area;  // 1 / area of one bin; 0 for a box without area

  Box(const T* roi, T scale, int64_t rows, int64_t columns, int64_t height, int64_t width)
      : image(static_cast<int64_t>(roi[0])),
        nan(!std::isfinite(extent(roi[1] * scale, roi[3] * scale)) ||
            !std::isfinite(extent(roi[2] * scale, roi[4] * scale))),
        y(nan ? T(0) : roi[2] * scale, nan ? T(0) : roi[4] * scale, rows, height),
        x(nan ? T(0) : roi[1] * scale, nan ? T(0) : roi[3] * scale, columns, width) {
    const T area = (y.size / T(rows)) * (x.size / T(columns));
    per_area = nan ? std::numeric_limits<T>::quiet_NaN() : area > 0 ? T(1) / area : T(0);
  }
};

// y[0..n) += factor sum_k w[k] x[k * stride + 0..n): a block of channels at a time in registers.
template <class T>
inline CHASE_FAST_FLAT void accumulate(T* __restrict y, const T* __restrict x, int64_t stride, const T* __restrict w,
                                       int64_t count, T factor, int64_t n) {
  constexpr int block = 128 / sizeof(T);
  int64_t c = 0;
  for (; c + block <= n; c += block) {
    T sum[block] = {};
    for (int64_t k = 0; k < count; ++k)
#pragma omp simd
      for (int v = 0; v < block; ++v) sum[v] += w[k] * x[k * stride + c + v];
#pragma omp simd
    for (int v = 0; v < block; ++v) y[c + v] += factor * sum[v];
  }
  for (; c < n; ++c) {
    T sum = 0;
    for (int64_t k = 0; k < count; ++k) sum += w[k] * x[k * stride + c];
    y[c] += factor * sum;
  }
}

template <class T>
inline CHASE_FAST_FLAT T dot(const T* __restrict a, const T* __restrict b, int64_t n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Edge gradients to the two corners; total = sum grad out, whose factor 1 / area shrinks as the box grows.
template <class T>
inline void to_corners(const std::vector<T>& grad_edges, const Axis<T>& axis, T per_area, T total, T scale, T* first,
                       T* second) {
  T low = 0, high = 0;
  for (int64_t e = 0; e <= axis.bins(); ++e) {
    const T share = T(e) / T(axis.bins());
    low += (1 - share) * grad_edges[e];
    high += share * grad_edges[e];
  }
  *first = scale * (low * per_area + total / axis.size);
  *second = scale * (high * per_area - total / axis.size);
}

}  // namespace chase_fast::cpu
