// node_sum on CPU; arrays and meaning: kernels/node_sum/__init__.py, method: node_sum.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// branches: B x [N,C,H,W] channels-last; weights [B]; gamma, beta, running_mean, running_var [B,C]; all float32 or all
// float64. Writes out [N,C,H,W] channels-last, mean and var [B,groups,C].
void node_sum(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
              const TensorView& beta, const TensorView& running_mean, const TensorView& running_var,
              const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
              const TensorView& out, const TensorView& mean, const TensorView& var, int threads);

// grad_branches: B views like branches; one with numel 0 is not wanted. mean, var [B,groups,C] as node_sum wrote them.
void node_sum_backward(const TensorView& grad_out, const std::vector<TensorView>& branches, const TensorView& weights,
                       const TensorView& gamma, const TensorView& beta, const TensorView& mean, const TensorView& var,
                       const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
                       const std::vector<TensorView>& grad_branches, const TensorView& grad_weights,
                       const TensorView& grad_gamma, const TensorView& grad_beta, int threads);

}  // namespace chase_fast::cpu
