// crop on CPU; arrays and meaning: kernels/crop/__init__.py, method: crop.cpp.
#pragma once

#include <array>
#include <cstdint>

#include "view.h"

namespace chase_fast::cpu {

// frame [H, W, 3] uint8, float32 or float64, pixels packed, rows at any stride; window x0, y0, width, height.
// Writes out [size, size, 3] contiguous, float32 for uint8 frames, else of the frame's type.
void crop(const TensorView& frame, const std::array<double, 4>& window, double gain, const std::array<double, 3>& mean,
          const std::array<double, 3>& std, const TensorView& out);

}  // namespace chase_fast::cpu
