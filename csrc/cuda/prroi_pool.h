// prroi_pool on CUDA; the arrays of cpu/prroi_pool.h on the device of the current context, work queued on `stream`.
#pragma once

#include <cstdint>

#include "view.h"

namespace chase_fast::cuda {

void prroi_pool(const TensorView& features, const TensorView& rois, const TensorView& out, double scale,
                std::uintptr_t stream);
// order [R] int64: boxes sorted by image; first [N + 1] int64: where each image's boxes begin in it.
void prroi_pool_backward_features(const TensorView& grad, const TensorView& rois, const TensorView& order,
                                  const TensorView& first, const TensorView& grad_features, double scale,
                                  std::uintptr_t stream);
// partial [R, rows * columns, 4]: work space.
void prroi_pool_backward_rois(const TensorView& grad, const TensorView& features, const TensorView& rois,
                              const TensorView& out, const TensorView& partial, const TensorView& grad_rois,
                              double scale, std::uintptr_t stream);

}  // namespace chase_fast::cuda
