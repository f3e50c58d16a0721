// Depthwise k x k convolution on CPU, NHWC, with a ReLU or leaky ReLU on its input; method: depthwise.cpp.
#pragma once

#include <cstdint>

#include "view.h"

namespace chase_fast::cpu {

// out = DW(a(x)), a(x) = x > 0 ? x : slope x (slope 1: no activation), padding dilation (k - 1) / 2. x [N,C,H,W] and
// out [N,C,H',W'] channels-last, H' = ceil(H / stride); weights [C,k,k] contiguous, k odd; all float32 or all float64.
void depthwise(const TensorView& x, const TensorView& weights, int64_t stride, int64_t dilation, double slope,
               const TensorView& out, int threads);

// grad like out of depthwise; grad_x like x and grad_weights like weights are written in full, numel 0: not wanted.
void depthwise_backward(const TensorView& grad, const TensorView& x, const TensorView& weights, int64_t stride,
                        int64_t dilation, double slope, const TensorView& grad_x, const TensorView& grad_weights,
                        int threads);

}  // namespace chase_fast::cpu
