// pooled_linear on CPU; arrays and meaning: kernels/pooled_linear/__init__.py, method: pooled_linear.cpp.
#pragma once

#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// Cells that any of the boxes [R, 5] needs, for bins x bins bins: begin, end per row of bins, then per column; last the
// map's height and width.
std::vector<int64_t> pooled_linear_ranges(const TensorView& rois, int64_t bins, double scale, int64_t height,
                                          int64_t width);

// table [cells, D]: what a linear layer makes of every cell in every bin, bin by bin, cells row by row, as `ranges`
// says; rois [R, 5] -> out [R, D]. A box that needs other cells raises.
void pooled_linear(const TensorView& table, const std::vector<int64_t>& ranges, const TensorView& rois, double scale,
                   const TensorView& out, int threads);

// grad [R, D] -> grad_rois [R, 5].
void pooled_linear_backward_rois(const TensorView& table, const std::vector<int64_t>& ranges, const TensorView& rois,
                                 double scale, const TensorView& grad, const TensorView& grad_rois, int threads);

}  // namespace chase_fast::cpu
