// prroi_pool on CPU; arrays and meaning: kernels/prroi_pool/__init__.py, method: prroi_pool.cpp.
#pragma once

#include "view.h"

namespace chase_fast::cpu {

// All arrays float32 or all float64. features, grad_features [N,C,H,W] channels-last; rois, grad_rois [R,5] contiguous;
// out, grad [R,C,rows,columns] contiguous. Outputs are written in full.
void prroi_pool(const TensorView& features, const TensorView& rois, const TensorView& out, double scale, int threads);
void prroi_pool_backward_features(const TensorView& grad, const TensorView& rois, const TensorView& grad_features,
                                  double scale, int threads);
void prroi_pool_backward_rois(const TensorView& grad, const TensorView& features, const TensorView& rois,
                              const TensorView& out, const TensorView& grad_rois, double scale, int threads);

}  // namespace chase_fast::cpu
