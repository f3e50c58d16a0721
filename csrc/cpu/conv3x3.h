// The two transforms of conv3x3 on CPU; the op: kernels/conv3x3/__init__.py, method: conv3x3.cpp.
#pragma once

#include "view.h"

namespace chase_fast::cpu {

// x [N, C, H, W] channels_last -> tiles [36, T, C]: T / ceil(W / 4) rows of 4x4 tiles from row `first` on, out of
// N ceil(H / 4).
void conv3x3_input(const TensorView& x, int64_t first, const TensorView& tiles, int threads);

// products [36, T, K] of these rows, bias [K] -> their part of out [N, K, H, W] channels_last.
void conv3x3_output(const TensorView& products, const TensorView& bias, int64_t first, const TensorView& out,
                    int threads);

}  // namespace chase_fast::cpu
