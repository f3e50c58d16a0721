#pragma once

#include "view.h"

namespace chase_fast::cpu {

constexpr int64_t kConvColumns = 32;  // outputs of a panel of packed weights

// x [N, C, H, W] channels-last -> out [N, D, H, W] channels-last; bias [D]; residual as out, or empty.
// packed [ceil(D / 32), 36, C, 32], 64-byte aligned: G w G' per point, panels of outputs, zeros beyond D.
void conv3x3(const TensorView& x, const TensorView& packed, const TensorView& bias, const TensorView& residual,
             const TensorView& out, bool relu, int threads);

}  // namespace chase_fast::cpu
