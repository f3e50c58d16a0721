// Batch norm of the edges of a cell on CPU: statistics and backward over NHWC maps; what reads the normalised map
// normalises on the way (depthwise_stack.h, pool.h). Method: batch_norm.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// Mean and biased variance [E,G,C] of E maps [N,C,H,W] channels-last whose images are G equal runs; all float32 or all
// float64.
void batch_norm_statistics(const std::vector<TensorView>& maps, const TensorView& mean, const TensorView& var,
                           int threads);

// Backward of z = (x - mean) scale + beta, scale [E,G,C] = gamma / sqrt(var + eps). sums [2,E,G,C]: sum of grad z and
// of grad z (x - mean). grads: E maps, grad z on entry, grad x on return; none: only grad_gamma and grad_beta [E,C] are
// written.
void batch_norm_backward(const TensorView& sums, const std::vector<TensorView>& maps, const TensorView& mean,
                         const TensorView& var, const TensorView& scale, bool training, double eps,
                         const std::vector<TensorView>& grads, const TensorView& grad_gamma,
                         const TensorView& grad_beta, int threads);

// For other C++: mean, var [E,G,C] of this batch; E maps of G x rows x C elements.
template <class T>
void batch_moments(const std::vector<const T*>& maps, int64_t groups, int64_t rows, int64_t channels, T* mean, T* var,
                   int threads);

}  // namespace chase_fast::cpu
