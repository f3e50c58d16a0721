#pragma once

#include "view.h"

namespace chase_fast::cpu {

// x [N, C, H, W] channels-last -> tiles [36, N * rows * columns, C], rows = ceil(H / 4), columns = ceil(W / 4).
void conv3x3_input(const TensorView& x, const TensorView& tiles, int threads);

// tiles [36, N * rows * columns, D] -> out [N, D, H, W] channels-last; bias [D]; residual as out, or empty.
void conv3x3_output(const TensorView& tiles, const TensorView& bias, const TensorView& residual, const TensorView& out,
                    bool relu, int threads);

}  // namespace chase_fast::cpu
