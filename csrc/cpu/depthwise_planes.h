// Depthwise k x k convolutions and their gradients over planes (strip.h) of one vector of channels: some neighbouring
// outputs stay in registers while the taps pass; the gradient to the input is the same loop over planes of the incoming
// gradient with the weights turned by 180 degrees; the gradient to the weights keeps all taps of a kernel in registers
// and walks the pixels once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/strip.h"

namespace chase_fast::cpu {

template <class Vec>
struct DepthwisePlanes {
  using T = typename Vec::T;
  using V = typename Vec::V;

  // store(pixel y, pixel x, sum) for all outputs; Tile of them side by side, K taps a side (0: known at run time only).
  // Tap (ky, kx) meets weights[step * (ky * k + kx)].
  template <int K, int Tile, class F>
  static inline CHASE_FAST_FLAT void row(const V* in, int64_t PW, const V* weights, int64_t step, int64_t kernel,
                                         int64_t dilation, int64_t y, int64_t begin, int64_t first, const F& store) {
    const int64_t k = K ? K : kernel;
    V acc[Tile] = {};
    for (int64_t ky = 0; ky < k; ++ky) {
      const V* from = in + (y + ky * dilation) * PW + begin;
      const V* w = weights + step * ky * k;
#pragma GCC unroll 8
      for (int64_t kx = 0; kx < k; ++kx) {
        const V tap = w[step * kx];
#pragma GCC unroll 16
        for (int j = 0; j < Tile; ++j) acc[j] += from[kx * dilation + j] * tap;
      }
    }
#pragma GCC unroll 16
    for (int j = 0; j < Tile; ++j)
      if (j >= first) store(y, begin + j, acc[j]);
  }

  // A last tile that would stand over the edge is moved left and stores only what is new (stores may add).
  template <int K, int Tile, class F>
  static inline CHASE_FAST_FLAT void tiled(const V* in, const Plane& p, int64_t PW, const V* weights, int64_t step,
                                           int64_t kernel, int64_t dilation, const F& store) {
    for (int64_t y = 0; y < p.height; ++y)
      for (int64_t x = 0; x < p.width; x += Tile) {
        const int64_t begin = std::min(x, p.width - Tile);
        row<K, Tile>(in, PW, weights, step, kernel, dilation, y, begin, x - begin, store);
      }
  }

  template <int K, class F>
  static inline CHASE_FAST_FLAT void convolve(const V* in, const Plane& p, int64_t PW, const V* weights, int64_t step,
                                              int64_t kernel, int64_t dilation, const F& store) {
    const auto rounded = [&](int64_t tile) { return (p.width + tile - 1) / tile * tile; };
    if (p.width >= 9 && rounded(9) <= rounded(6))
      tiled<K, 9>(in, p, PW, weights, step, kernel, dilation, store);
    else if (p.width >= 6)
      tiled<K, 6>(in, p, PW, weights, step, kernel, dilation, store);
    else
      tiled<K, 1>(in, p, PW, weights, step, kernel, dilation, store);
  }

  // in: plane of border `border` >= the padding of this kernel.
  template <class F>
  static inline CHASE_FAST_FLAT void convolve_any(const V* in, const Plane& p, const V* weights, bool turned,
                                                  int64_t kernel, int64_t dilation, const F& store) {
    const int64_t step = turned ? -1 : 1, PW = p.padded_width();
    const V* w = turned ? weights + kernel * kernel - 1 : weights;
    // constants for the usual kernels and dilations: inputs that the taps of neighbours share are then read once
    if (kernel == 3 && dilation == 1)
      convolve<3>(in, p, PW, w, step, kernel, 1, store);
    else if (kernel == 3 && dilation == 2)
      convolve<3>(in, p, PW, w, step, kernel, 2, store);
    else if (kernel == 5 && dilation == 1)
      convolve<5>(in, p, PW, w, step, kernel, 1, store);
    else if (kernel == 5 && dilation == 2)
      convolve<5>(in, p, PW, w, step, kernel, 2, store);
    else
      tiled<0, 1>(in, p, PW, w, step, kernel, dilation, store);
  }

  // sums [KY, KX] (rows of `kernel`) of in, from its tap (0, 0) on, times the inside of grad.
  template <int KY, int KX>
  static inline CHASE_FAST_FLAT void correlate(const V* in, const V* grad, const Plane& p, int64_t kernel,
                                               int64_t dilation, V* sums) {
    const int64_t PW = p.padded_width();
    V acc[KY * KX] = {};
    for (int64_t y = 0; y < p.height; ++y)
      for (int64_t x = 0; x < p.width; ++x) {
        const V g = grad[(y + p.border) * PW + x + p.border];
        const V* at = in + y * PW + x;
#pragma GCC unroll 8
        for (int ky = 0; ky < KY; ++ky)
#pragma GCC unroll 8
          for (int kx = 0; kx < KX; ++kx) acc[ky * KX + kx] += at[ky * dilation * PW + kx * dilation] * g;
      }
#pragma GCC unroll 8
    for (int ky = 0; ky < KY; ++ky)
#pragma GCC unroll 8
      for (int kx = 0; kx < KX; ++kx) sums[ky * kernel + kx] = acc[ky * KX + kx];
  }

  // AVX-512 has registers for 5 x 5 taps, AVX2 for 2 rows of them.
  static inline CHASE_FAST_FLAT void correlate_all(const V* in, const V* grad, const Plane& p, int64_t k,
                                                   int64_t dilation, V* sums) {
    if (k == 3) return correlate<3, 3>(in, grad, p, k, dilation, sums);
    const int64_t down = dilation * p.padded_width();
    if (k == 5 && Vec::bytes == 64) return correlate<5, 5>(in, grad, p, k, dilation, sums);
    if (k == 5) {
      correlate<2, 5>(in, grad, p, k, dilation, sums);
      correlate<2, 5>(in + 2 * down, grad, p, k, dilation, sums + 2 * k);
      return correlate<1, 5>(in + 4 * down, grad, p, k, dilation, sums + 4 * k);
    }
    for (int64_t ky = 0; ky < k; ++ky)
      for (int64_t kx = 0; kx < k; ++kx)
        correlate<1, 1>(in + ky * down + kx * dilation, grad, p, k, dilation, sums + ky * k + kx);
  }
};

}  // namespace chase_fast::cpu
