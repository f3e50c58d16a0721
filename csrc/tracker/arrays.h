// Contiguous float arrays as the kernels take them.
#pragma once

#include <cstdint>
#include <vector>

#include "view.h"

namespace chase_fast::tracker {

inline TensorView view(const float* data, const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t step = 1;
  for (size_t i = sizes.size(); i-- > 0; step *= sizes[i]) strides[i] = step;
  return TensorView(reinterpret_cast<std::uintptr_t>(data), static_cast<int>(DType::F32), sizes, strides);
}

inline TensorView view(const std::vector<float>& values, const std::vector<int64_t>& sizes) {
  return view(values.data(), sizes);
}

}  // namespace chase_fast::tracker
