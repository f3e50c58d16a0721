// Depthwise k x k convolutions of several edges on CPU, NHWC, stride 1, with what stands before them (batch norm and
// activation) fused into the read; method: depthwise_stack.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// out_e = DW_e(a(z_e)), a(z) = z > 0 ? z : slope z (slope 1: no activation), padding dilation (k - 1) / 2.
// z_e = x_e, or with tables (x_e - mean) scale + beta: norm is empty or {mean, scale [E,G,C], beta [E,C]}; images are G
// equal runs. x: E maps [N,C,H,W] channels-last or one that all edges read; weights [E,C,k,k] contiguous, k odd; out: E
// maps; all float32 or all float64.
void depthwise_stack(const std::vector<TensorView>& x, const TensorView& weights, const std::vector<TensorView>& norm,
                     int64_t dilation, double slope, const std::vector<TensorView>& out, int threads);

// grad: E maps, the gradients of out. What is written, each where it is not empty:
//   grad_x       as many maps as x, or none: gradients of z; with `add` they are added to what is there
//   grad_weights like weights, or numel 0
//   sums         [2,E,G,C] (with norm and grad_x), or numel 0: sum of grad z and of grad z (x - mean), for its backward
void depthwise_stack_backward(const std::vector<TensorView>& grad, const std::vector<TensorView>& x,
                              const TensorView& weights, const std::vector<TensorView>& norm, int64_t dilation,
                              double slope, bool add, const std::vector<TensorView>& grad_x,
                              const TensorView& grad_weights, const TensorView& sums, int threads);

}  // namespace chase_fast::cpu
