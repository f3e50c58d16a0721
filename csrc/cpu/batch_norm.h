// Batch norm of the edges of a cell on CPU: tables of its backward. What reads a map normalises it on the way
// (separable_stack.h, pool.h).
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::cpu {

// Backward of z = (x - mean) scale + beta, scale = gamma / sqrt(var + eps), statistics over `rows` elements: the
// gradient of x is scale (grad z - shift - tilt (x - mean)). var, shift, tilt [E,G,C]; sums [2,E,G,C]: sum of grad z
// and of grad z (x - mean); grad_gamma, grad_beta [E,C]. Without `training` (given statistics) shift and tilt are 0.
void batch_norm_backward(const TensorView& sums, const TensorView& var, int64_t rows, bool training, double eps,
                         const TensorView& shift, const TensorView& tilt, const TensorView& grad_gamma,
                         const TensorView& grad_beta, int threads);

// For other C++: mean, var [E,G,C] of this batch; E maps of G x rows x C elements.
template <class T>
void batch_moments(const std::vector<const T*>& maps, int64_t groups, int64_t rows, int64_t channels, T* mean, T* var,
                   int threads);

}  // namespace chase_fast::cpu
