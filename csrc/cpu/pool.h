// 3x3 max and average pools at stride 1 with the batch norm (no affine part) behind them, on CPU, NHWC; method:
// pool.cpp.
#pragma once

#include <cstdint>

#include "view.h"

namespace chase_fast::cpu {

// out = (pool(x) - mean) / sqrt(var + eps); the average counts only pixels inside the map. x, out [N,C,H,W]
// channels-last; mean, var [1,G,C]: statistics used, of each of G equal runs of images with `training`, else copies of
// the running ones [1,C]. All float32 or all float64.
void pool_norm(const TensorView& x, bool max, const TensorView& running_mean, const TensorView& running_var,
               bool training, double eps, const TensorView& out, const TensorView& mean, const TensorView& var,
               int threads);

// out and var as pool_norm wrote them; grad_x like x, with `add` added to what is there. The gradient of a maximum goes
// to its first pixel in reading order.
void pool_norm_backward(const TensorView& grad, const TensorView& x, bool max, const TensorView& out,
                        const TensorView& var, bool training, double eps, bool add, const TensorView& grad_x,
                        int threads);

}  // namespace chase_fast::cpu
