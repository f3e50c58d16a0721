// Separable convolutions of several edges on CPU, NHWC, stride 1: a depthwise k x k convolution (DW) and the product
// with a matrix between the channels of every pixel (PW), with what stands before them (batch norm and activation)
// fused into the read; method: separable_stack.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// out_e = PW_e DW_e(a(z_e)), a(z) = z > 0 ? z : slope z (slope 1: no activation), padding dilation (k - 1) / 2.
// z_e = x_e, or with tables (x_e - mean) scale + beta: norm is empty or {mean, scale [E,G,C], beta [E,C]}; images are G
// equal runs. x: E maps [N,C,H,W] channels-last or one that all edges read; depthwise [E,C,k,k], k odd, and pointwise
// [E,C,C] (out, in) contiguous; out: E maps; all float32 or all float64.
// moments is empty, or receives {mean, biased variance [E,G,C]} of out.
void separable_stack(const std::vector<TensorView>& x, const TensorView& depthwise, const TensorView& pointwise,
                     const std::vector<TensorView>& norm, int64_t dilation, double slope,
                     const std::vector<TensorView>& out, const std::vector<TensorView>& moments, int threads);

// grad: E maps, the gradients of out; or, where `through` is not empty, of the batch norm behind it: through is E maps
// out, then {mean, factor, shift, tilt [E,G,C]}, and the gradients of out are factor (grad - shift - tilt (out -
// mean)). What is written, each where it is not empty (numel 0):
//   grad_x          as many maps as x, or none: gradients of z; with `add` they are added to what is there
//   grad_depthwise, grad_pointwise
//   sums            [2,E,G,C] (with norm and grad_x): sum of grad z and of grad z (x - mean), for its backward
void separable_stack_backward(const std::vector<TensorView>& grad, const std::vector<TensorView>& through,
                              const std::vector<TensorView>& x, const TensorView& depthwise,
                              const TensorView& pointwise, const std::vector<TensorView>& norm, int64_t dilation,
                              double slope, bool add, const std::vector<TensorView>& grad_x,
                              const TensorView& grad_depthwise, const TensorView& grad_pointwise,
                              const TensorView& sums, int threads);

}  // namespace chase_fast::cpu
