// target_filter on CPU; arrays and meaning: kernels/target_filter/__init__.py, method: target_filter.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// features [n,s,C,H,W]: every image contiguous, or channels-last; the first two strides are free. Everything else is
// contiguous. All float32 or all float64. Score maps are [.., H',W'].

// out [m,n,s,H',W'] = scores of filters [m,s,C,k,k].
void target_filter_apply(const TensorView& features, const TensorView& filters, const TensorView& out, int threads);

// out [m,s,C,k,k] = adjoints of residual [m,n,s,H',W'].
void target_filter_apply_transpose(const TensorView& features, const TensorView& residual, const TensorView& out,
                                   int threads);

// out [n,s,H W,m k k]: element (pixel, map and tap) is the element of maps [m,n,s,H',W'] whose score reads the pixel
// through the tap.
void target_filter_unfold(const TensorView& maps, int64_t k, const TensorView& out, int threads);

// Constants of a solver; with_extra: one more logit softmax_reg (PrDiMP).
struct SolverConstants {
  double min_filter_reg, alpha_eps;
  bool with_extra;
  double softmax_reg;
};

// maps: {p} for PrDiMP, {y, m, v} for DiMP, each [n,s,H',W']; scalars [2] = log step length, filter regulariser;
// weight [n,s]. Writes iterates [T+1,s,C,k,k], losses [T+1] and what the backward needs: gradients [T,s,C,k,k],
// scores [T+1,n,s,H',W'], responses [T,n,s,H',W'].
void target_filter_solve(const TensorView& features, const TensorView& filter, const std::vector<TensorView>& maps,
                         const TensorView& scalars, const TensorView& weight, const SolverConstants& constants,
                         const TensorView& iterates, const TensorView& losses, const TensorView& gradients,
                         const TensorView& scores, const TensorView& responses, int threads);

// Adjoint for grad_iterates and grad_losses. Writes the gradients of filter, maps, scalars and weight; the gradient of
// features is the sum over j of the outer products (tap by tap) of out_maps [2T+1,n,s,H',W'] with
// {gradients, out_filters [T,s,C,k,k], filter}.
void target_filter_solve_backward(const TensorView& features, const std::vector<TensorView>& maps,
                                  const TensorView& scalars, const TensorView& weight, const SolverConstants& constants,
                                  const TensorView& iterates, const TensorView& gradients, const TensorView& scores,
                                  const TensorView& responses, const TensorView& grad_iterates,
                                  const TensorView& grad_losses, const TensorView& grad_filter,
                                  const std::vector<TensorView>& grad_maps, const TensorView& grad_scalars,
                                  const TensorView& grad_weight, const TensorView& out_filters,
                                  const TensorView& out_maps, int threads);

}  // namespace chase_fast::cpu
