// kl_loss on CPU; arrays and meaning: kernels/kl_loss/__init__.py, method: kl_loss.cpp.
#pragma once

#include "view.h"

namespace chase_fast::cpu {

// scores [R,D,cells], density [D,cells], all contiguous, float32 or float64 -> loss, normaliser [R,D]: the log of the
// sum of exp over the cells.
void kl_loss(const TensorView& scores, const TensorView& density, double grid_scale, const TensorView& loss,
             const TensorView& normaliser, int threads);

// grad, normaliser [R,D] -> grad_scores [R,D,cells], grad_density [D,cells]; one with numel 0 is not wanted.
void kl_loss_backward(const TensorView& grad, const TensorView& scores, const TensorView& density,
                      const TensorView& normaliser, double grid_scale, const TensorView& grad_scores,
                      const TensorView& grad_density, int threads);

}  // namespace chase_fast::cpu
