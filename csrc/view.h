// TensorView: a plain view of an array that Python owns. No torch headers anywhere in csrc.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace chase_fast {

enum class DType : int { F32 = 0, F64 = 1, BF16 = 2, U8 = 3, I32 = 4, I64 = 5 };

inline const char* name(DType t) {
  static const char* names[] = {"float32", "float64", "bfloat16", "uint8", "int32", "int64"};
  return names[static_cast<int>(t)];
}

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::F32;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;  // in elements

  TensorView() = default;
  TensorView(std::uintptr_t pointer, int type, std::vector<int64_t> shape, std::vector<int64_t> stride)
      : data(reinterpret_cast<void*>(pointer)),
        dtype(static_cast<DType>(type)),
        sizes(std::move(shape)),
        strides(std::move(stride)) {
    if (sizes.size() != strides.size()) throw std::invalid_argument("TensorView: sizes and strides differ in length");
  }

  int64_t dim() const { return static_cast<int64_t>(sizes.size()); }
  int64_t size(int i) const { return sizes[i]; }
  int64_t stride(int i) const { return strides[i]; }

  int64_t numel() const {
    int64_t n = 1;
    for (int64_t s : sizes) n *= s;
    return n;
  }

  // NHWC data under an [N, C, H, W] shape; a size-1 axis may carry any stride, an empty array all of them.
  bool channels_last() const {
    if (dim() != 4) return false;
    if (numel() == 0) return true;
    const int order[4] = {1, 3, 2, 0};
    int64_t expected = 1;
    for (int axis : order) {
      if (sizes[axis] != 1 && strides[axis] != expected) return false;
      expected *= sizes[axis];
    }
    return true;
  }

  bool contiguous() const {
    if (numel() == 0) return true;
    int64_t expected = 1;
    for (int axis = static_cast<int>(dim()) - 1; axis >= 0; --axis) {
      if (sizes[axis] != 1 && strides[axis] != expected) return false;
      expected *= sizes[axis];
    }
    return true;
  }

  template <class T>
  T* ptr() const {
    return static_cast<T*>(data);
  }
};

inline void check(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

inline void check_shape(const TensorView& t, const std::vector<int64_t>& shape, const char* what) {
  if (t.sizes == shape) return;
  std::string text = std::string(what) + ": expected shape [";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  text += "], got [";
  for (size_t i = 0; i < t.sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(t.sizes[i]);
  throw std::invalid_argument(text + "]");
}

inline void check_dtype(const TensorView& t, DType type, const char* what) {
  check(t.dtype == type, std::string(what) + ": expected " + name(type) + ", got " + name(t.dtype));
}

}  // namespace chase_fast
