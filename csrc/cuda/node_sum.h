// node_sum on CUDA; arrays and meaning as in cpu/node_sum.h, also bfloat16 branches with float32 tables.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cuda {

constexpr int64_t kNodeSumChunk = 256;  // rows (pixels) of one partial sum

// partial: [2, B, groups, chunks, C], scale: [B, groups, C]; room for intermediate values in the dtype of the tables.
void node_sum(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
              const TensorView& beta, const TensorView& running_mean, const TensorView& running_var,
              const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
              const TensorView& out, const TensorView& mean, const TensorView& var, const TensorView& partial,
              const TensorView& scale, std::uintptr_t stream);

// partial as above, joined: [2, B, groups, C].
void node_sum_backward(const TensorView& grad_out, const std::vector<TensorView>& branches, const TensorView& weights,
                       const TensorView& gamma, const TensorView& beta, const TensorView& mean, const TensorView& var,
                       const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
                       const std::vector<TensorView>& grad_branches, const TensorView& grad_weights,
                       const TensorView& grad_gamma, const TensorView& grad_beta, const TensorView& partial,
                       const TensorView& joined, std::uintptr_t stream);

}  // namespace chase_fast::cuda
