// crop on CPU, one pass over the output. Every frame row that is looked at is resized along x once and kept until the
// output rows have passed it (a row of output looks at two, which move downwards); then, output row by output row, the
// two are mixed and normalised. The border is in the indices: nothing is padded. uint8 is OpenCV's fixed-point
// arithmetic; its 256 results per channel come from a table.
#include "cpu/crop.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cpu/isa.h"

namespace chase_fast::cpu {
namespace {

constexpr int kWeightBits = 11;

typedef int32_t Int4 __attribute__((vector_size(16)));
typedef int16_t Short8 __attribute__((vector_size(16)));
typedef uint8_t Byte16 __attribute__((vector_size(16)));

template <class T>
using Weight = std::conditional_t<std::is_same_v<T, uint8_t>, int32_t, T>;

// The two frame pixels of every output pixel along one axis, and their weights.
template <class T>
struct Taps {
  std::vector<int64_t> first, second;
  std::vector<Weight<T>> w_first, w_second;

  // start, length: the window; limit: pixels of the frame; step: values per pixel.
  Taps(double start, double length, int64_t n_out, int64_t limit, int64_t step)
      : first(n_out), second(n_out), w_first(n_out), w_second(n_out) {
    using P = std::conditional_t<std::is_same_v<T, double>, double, float>;  // OpenCV rounds positions to float32
    const double scale = length / static_cast<double>(n_out), whole_start = std::floor(start);
    const int64_t offset = static_cast<int64_t>(whole_start);
    const int64_t n_in = static_cast<int64_t>(std::ceil(start + length)) - offset;
    const auto inside = [=](int64_t i) {
      return step * std::clamp<int64_t>(offset + std::clamp<int64_t>(i, 0, n_in - 1), 0, limit - 1);
    };
    for (int64_t i = 0; i < n_out; ++i) {
      const P position = static_cast<P>((static_cast<double>(i) + 0.5) * scale - 0.5 + (start - whole_start));
      const P whole = std::floor(position), part = position - whole;
      first[i] = inside(static_cast<int64_t>(whole));
      second[i] = inside(static_cast<int64_t>(whole) + 1);
      if constexpr (std::is_same_v<T, uint8_t>) {
        w_first[i] = static_cast<int32_t>(std::nearbyint((1 - part) * (1 << kWeightBits)));
        w_second[i] = static_cast<int32_t>(std::nearbyint(part * (1 << kWeightBits)));
      } else {
        w_first[i] = 1 - part;
        w_second[i] = part;
      }
    }
  }
};

inline CHASE_FAST_FLAT Int4 load_pixel(const uint8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  const Byte16 bytes = reinterpret_cast<Byte16>(Int4{word, 0, 0, 0});
  const Byte16 halves =
      __builtin_shuffle(bytes, Byte16{}, Byte16{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23});
  return reinterpret_cast<Int4>(
      __builtin_shuffle(reinterpret_cast<Short8>(halves), Short8{}, Short8{0, 8, 1, 9, 2, 10, 3, 11}));
}

// A frame row resized along x: [size, 4], the last lane unused. A byte behind the row's last pixel is read.
inline CHASE_FAST_FLAT void resize_row(const uint8_t* row, const int64_t* first, const int64_t* second,
                                       const int32_t* w_first, const int32_t* w_second, int64_t size, int32_t* out) {
  for (int64_t i = 0; i < size; ++i) {
    const Int4 pixel = load_pixel(row + first[i]) * w_first[i] + load_pixel(row + second[i]) * w_second[i];
    const Int4 rounded = pixel >> 4;
    std::memcpy(out + 4 * i, &rounded, 16);
  }
}

template <class T>
inline CHASE_FAST_FLAT void resize_row(const T* row, const int64_t* first, const int64_t* second, const T* w_first,
                                       const T* w_second, int64_t size, T* out) {
  for (int64_t i = 0; i < size; ++i)
    for (int c = 0; c < 3; ++c) out[3 * i + c] = row[first[i] + c] * w_first[i] + row[second[i] + c] * w_second[i];
}

// Rows resized along x, the two last ones kept.
template <class T, class R>
struct Rows {
  const T* frame;
  int64_t stride, last;  // of rows; the frame's last row
  const Taps<T>& taps;
  int64_t size;
  std::vector<R> buffers[2];
  std::vector<T> padded;  // the last row with room behind it
  int64_t held[2] = {-1, -1};

  Rows(const T* frame_, int64_t stride_, int64_t rows, int64_t columns, const Taps<T>& taps_, int64_t size_)
      : frame(frame_), stride(stride_), last(rows - 1), taps(taps_), size(size_), padded(3 * columns + 4) {
    for (auto& b : buffers) b.resize(4 * size);
    std::copy_n(frame + last * stride, 3 * columns, padded.data());
  }

  // The slot that holds frame row y; `keep` is a row whose slot must stay.
  inline CHASE_FAST_FLAT int slot(int64_t y, int64_t keep) {
    if (held[0] == y) return 0;
    if (held[1] == y) return 1;
    const int s = held[0] == keep ? 1 : 0;
    held[s] = y;
    resize_row(y == last ? padded.data() : frame + y * stride, taps.first.data(), taps.second.data(),
               taps.w_first.data(), taps.w_second.data(), size, buffers[s].data());
    return s;
  }
};

struct Levels {
  float of[3][256];
};

// The normalised value of every level of every channel.
Levels make_levels(double gain, const std::array<double, 3>& mean, const std::array<double, 3>& std) {
  Levels levels;
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v) {
      const float scaled = std::clamp(static_cast<float>(v) / 255.0f * static_cast<float>(gain), 0.0f, 1.0f);
      levels.of[c][v] = (scaled - static_cast<float>(mean[c])) / static_cast<float>(std[c]);
    }
  return levels;
}

// One output row from two resized ones.
inline CHASE_FAST_FLAT void mix_row(const int32_t* __restrict top, const int32_t* __restrict bottom, int32_t w_top,
                                    int32_t w_bottom, int64_t size, const Levels& levels, uint8_t* __restrict pixels,
                                    float* __restrict out) {
#pragma omp simd
  for (int64_t i = 0; i < 4 * size; ++i) {
    const int32_t total = (top[i] * w_top >> 16) + (bottom[i] * w_bottom >> 16);
    pixels[i] = static_cast<uint8_t>(std::min(std::max((total + 2) >> 2, 0), 255));
  }
  for (int64_t i = 0; i < size; ++i) {
    uint32_t pixel;
    std::memcpy(&pixel, pixels + 4 * i, 4);
    out[3 * i] = levels.of[0][pixel & 255];
    out[3 * i + 1] = levels.of[1][pixel >> 8 & 255];
    out[3 * i + 2] = levels.of[2][pixel >> 16 & 255];
  }
}

template <class T>
struct Scale {
  T gain, mean[3], std[3];
};

template <class T>
inline CHASE_FAST_FLAT void mix_row(const T* __restrict top, const T* __restrict bottom, T w_top, T w_bottom,
                                    int64_t size, const Scale<T>& s, T* __restrict out) {
  for (int64_t i = 0; i < size; ++i)
    for (int c = 0; c < 3; ++c) {
      const T level = top[3 * i + c] * w_top + bottom[3 * i + c] * w_bottom;
      out[3 * i + c] = (std::min(std::max(level / T(255) * s.gain, T(0)), T(1)) - s.mean[c]) / s.std[c];
    }
}

template <class T>
void run(const TensorView& frame, const std::array<double, 4>& window, double gain, const std::array<double, 3>& mean,
         const std::array<double, 3>& std, const TensorView& out) {
  constexpr bool bytes = std::is_same_v<T, uint8_t>;
  using Out = std::conditional_t<bytes, float, T>;
  const int64_t height = frame.size(0), width = frame.size(1), size = out.size(0);
  const Taps<T> x(window[0], window[2], size, width, 3), y(window[1], window[3], size, height, 1);
  Rows<T, Weight<T>> rows(frame.ptr<T>(), frame.stride(0), height, width, x, size);
  std::vector<uint8_t> pixels(4 * size);
  Out* to = out.ptr<Out>();
  Levels levels;
  Scale<T> scale;
  if constexpr (bytes) {
    levels = make_levels(gain, mean, std);
  } else {
    scale.gain = static_cast<T>(gain);
    for (int c = 0; c < 3; ++c) scale.mean[c] = static_cast<T>(mean[c]), scale.std[c] = static_cast<T>(std[c]);
  }
  vectorised([&]() CHASE_FAST_FLAT {
    for (int64_t i = 0; i < size; ++i) {
      const int a = rows.slot(y.first[i], y.second[i]), b = rows.slot(y.second[i], y.first[i]);
      const auto *top = rows.buffers[a].data(), *bottom = rows.buffers[b].data();
      if constexpr (bytes)
        mix_row(top, bottom, y.w_first[i], y.w_second[i], size, levels, pixels.data(), to + 3 * size * i);
      else
        mix_row(top, bottom, y.w_first[i], y.w_second[i], size, scale, to + 3 * size * i);
    }
  });
}

}  // namespace

void crop(const TensorView& frame, const std::array<double, 4>& window, double gain, const std::array<double, 3>& mean,
          const std::array<double, 3>& std, const TensorView& out) {
  check(frame.dim() == 3 && frame.size(2) == 3 && frame.numel() > 0 && frame.stride(2) == 1 &&
            (frame.stride(1) == 3 || frame.size(1) == 1),
        "crop: frame must be [H, W, 3] of packed pixels");
  check_shape(out, {out.size(0), out.size(0), 3}, "crop: out");
  check(out.contiguous(), "crop: out must be contiguous");
  check(window[2] > 0 && window[3] > 0, "crop: the window is empty");
  check_dtype(out, frame.dtype == DType::U8 ? DType::F32 : frame.dtype, "crop: out");
  if (frame.dtype == DType::U8) return run<uint8_t>(frame, window, gain, mean, std, out);
  if (frame.dtype == DType::F32) return run<float>(frame, window, gain, mean, std, out);
  check_dtype(frame, DType::F64, "crop: frame");
  run<double>(frame, window, gain, mean, std, out);
}

}  // namespace chase_fast::cpu
