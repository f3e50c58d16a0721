// Depthwise convolution on CPU. A unit of work is one image and a strip of kStrip vectors of channels:
//   1  the strip is copied, with the activation, into planes: one vector of channels per pixel, zeros around the map
//      and in channels beyond C. A plane of the cell fits the first-level cache, and no loop below has a border.
//   2  forward: kTile neighbouring outputs stay in registers while the k x k taps pass. The gradient to the input is
//      the same loop on the incoming gradient (zeros between its pixels where the stride is above 1) and the weights
//      turned by 180 degrees, times a'(x). The gradient to the weights keeps a block of taps in registers and walks
//      the pixels; images are joined in order, in double.
// A unit does not depend on the number of threads: nor does any bit of the result.
#include "cpu/depthwise.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kStrip = 4;  // vectors: 256 consecutive bytes of a pixel with AVX-512, which streams well
constexpr int kTile = 6;       // outputs side by side

struct Shape {
  int64_t images, channels, height, width, out_height, out_width, kernel, stride, dilation;

  int64_t padding() const { return dilation * (kernel - 1) / 2; }
  int64_t padded_height() const { return height + 2 * padding(); }
  int64_t padded_width() const { return width + 2 * padding(); }
  int64_t padded() const { return padded_height() * padded_width(); }
  int64_t pixels() const { return height * width; }
  int64_t out_pixels() const { return out_height * out_width; }
  int64_t taps() const { return kernel * kernel; }
  int threads(int wanted) const {
    return worthwhile_threads(images * out_pixels() * channels * taps(), 1 << 19, wanted);
  }
};

// Channels first ... first + vectors * L of a map, of which `valid` exist.
struct Strip {
  int64_t first, vectors, valid;
};

// V is one vector register of the instruction set in use; never a parameter (the calling convention depends on the
// set).
template <class T, int Bytes>
struct Kernels {
  static constexpr int64_t L = Bytes / sizeof(T);
  typedef T V __attribute__((vector_size(Bytes)));

  static Strip strip(int64_t s, int64_t C) {
    const int64_t first = s * kStrip * L, valid = std::min(kStrip * L, C - first);
    return {first, (valid + L - 1) / L, valid};
  }

  static inline CHASE_FAST_FLAT int64_t lanes(const Strip& strip, int64_t v) {
    return std::min(L, strip.valid - v * L);
  }

  // planes [vectors, PH, PW] = a(map), whose pixel (y, x) stands at (offset + step y, offset + step x); zeros
  // elsewhere.
  static inline CHASE_FAST_FLAT void fill(const T* map, int64_t H, int64_t W, int64_t C, const Strip& strip, int64_t PH,
                                          int64_t PW, int64_t offset, int64_t step, T slope, V* planes) {
    if (step != 1) std::memset(static_cast<void*>(planes), 0, strip.vectors * PH * PW * sizeof(V));
    for (int64_t v = 0; v < strip.vectors && step == 1; ++v) {
      V *plane = planes + v * PH * PW, *last = plane + (offset + H) * PW;
      std::memset(static_cast<void*>(plane), 0, offset * PW * sizeof(V));
      for (int64_t y = 0; y < H; ++y) {
        V* row = plane + (offset + y) * PW;
        std::memset(static_cast<void*>(row), 0, offset * sizeof(V));
        std::memset(static_cast<void*>(row + offset + W), 0, (PW - offset - W) * sizeof(V));
      }
      std::memset(static_cast<void*>(last), 0, (PH - offset - H) * PW * sizeof(V));
    }
    for (int64_t y = 0; y < H; ++y)
      for (int64_t x = 0; x < W; ++x) {
        const T* from = map + (y * W + x) * C + strip.first;
        V* to = planes + (offset + step * y) * PW + offset + step * x;
        for (int64_t v = 0; v < strip.vectors; ++v, from += L, to += PH * PW) {
          V value = {};
          if (lanes(strip, v) == L)
            std::memcpy(&value, from, sizeof(V));
          else
            std::memcpy(&value, from, lanes(strip, v) * sizeof(T));
          *to = slope == T(1) ? value : (value > 0 ? value : value * slope);
        }
      }
  }

  // Weights of a strip, [vectors, k * k], turned by 180 degrees for the gradient to the input.
  static inline CHASE_FAST_FLAT void gather(const T* weights, int64_t taps, const Strip& strip, bool turned, V* to) {
    for (int64_t v = 0; v < strip.vectors; ++v)
      for (int64_t t = 0; t < taps; ++t) {
        T value[L] = {};
        for (int64_t c = 0; c < lanes(strip, v); ++c)
          value[c] = weights[(strip.first + v * L + c) * taps + (turned ? taps - 1 - t : t)];
        std::memcpy(&to[v * taps + t], value, sizeof(V));
      }
  }

  // Outputs [Tile] side by side, K taps a side (0: kernel, known at run time only).
  template <int K, int Tile>
  static inline CHASE_FAST_FLAT void tile(const V* in, int64_t PW, const V* weights, int64_t kernel, int64_t stride,
                                          int64_t dilation, V* sums) {
    const int64_t k = K ? K : kernel;
    V acc[Tile] = {};
    for (int64_t ky = 0; ky < k; ++ky) {
      const V* row = in + ky * dilation * PW;
#pragma GCC unroll 8
      for (int64_t kx = 0; kx < k; ++kx) {
        const V w = weights[ky * k + kx];
#pragma GCC unroll 8
        for (int j = 0; j < Tile; ++j) acc[j] += row[kx * dilation + j * stride] * w;
      }
    }
#pragma GCC unroll 8
    for (int j = 0; j < Tile; ++j) sums[j] = acc[j];
  }

  // out [H, W] pixels of C channels apart, `count` of them valid. With `mask` (the input, laid out like out) the result
  // is multiplied by a'(mask).
  template <int K>
  static inline CHASE_FAST_FLAT void convolve(const V* in, int64_t PW, const V* weights, int64_t kernel, int64_t stride,
                                              int64_t dilation, int64_t H, int64_t W, int64_t C, int64_t count,
                                              const T* mask, T slope, T* out) {
    const auto store = [&](int64_t pixel, const V& sum) CHASE_FAST_FLAT {
      V value = sum;
      if (mask) {
        V x = {};
        std::memcpy(&x, mask + pixel * C, count == L ? sizeof(V) : count * sizeof(T));
        value = x > 0 ? value : value * slope;
      }
      if (count == L)
        std::memcpy(out + pixel * C, &value, sizeof(V));
      else
        std::memcpy(out + pixel * C, &value, count * sizeof(T));
    };
    V sums[kTile];
    for (int64_t y = 0; y < H; ++y) {
      const V* row = in + y * stride * PW;
      if (W < kTile) {
        for (int64_t x = 0; x < W; ++x) {
          tile<K, 1>(row + x * stride, PW, weights, kernel, stride, dilation, sums);
          store(y * W + x, sums[0]);
        }
        continue;
      }
      for (int64_t x = 0; x < W; x += kTile) {
        const int64_t begin = std::min(x, W - kTile);  // the last tile may overlap the one before
        tile<K, kTile>(row + begin * stride, PW, weights, kernel, stride, dilation, sums);
        for (int j = 0; j < kTile; ++j) store(y * W + begin + j, sums[j]);
      }
    }
  }

  // sums [KY, KX] of in at the taps from (ky, kx) on, times grad [H, W] (rows of PG vectors, pixels `step` apart).
  template <int KY, int KX>
  static inline CHASE_FAST_FLAT void correlate(const V* in, int64_t PW, const V* grad, int64_t PG, int64_t step,
                                               int64_t H, int64_t W, int64_t stride, int64_t dilation, V* sums,
                                               int64_t sums_row) {
    V acc[KY * KX] = {};
    for (int64_t y = 0; y < H; ++y)
      for (int64_t x = 0; x < W; ++x) {
        const V g = grad[y * step * PG + x * step];
        const V* at = in + y * stride * PW + x * stride;
#pragma GCC unroll 8
        for (int ky = 0; ky < KY; ++ky)
#pragma GCC unroll 8
          for (int kx = 0; kx < KX; ++kx) acc[ky * KX + kx] += at[ky * dilation * PW + kx * dilation] * g;
      }
#pragma GCC unroll 8
    for (int ky = 0; ky < KY; ++ky)
#pragma GCC unroll 8
      for (int kx = 0; kx < KX; ++kx) sums[ky * sums_row + kx] = acc[ky * KX + kx];
  }

  // All taps of one plane. AVX-512 has registers for 5 x 5 of them.
  static inline CHASE_FAST_FLAT void correlate_all(const V* in, int64_t PW, const V* grad, int64_t PG, int64_t step,
                                                   const Shape& s, V* sums) {
    const int64_t k = s.kernel, H = s.out_height, W = s.out_width;
    if (k == 3) return correlate<3, 3>(in, PW, grad, PG, step, H, W, s.stride, s.dilation, sums, k);
    if (k == 5 && Bytes == 64) return correlate<5, 5>(in, PW, grad, PG, step, H, W, s.stride, s.dilation, sums, k);
    for (int64_t ky = 0; ky < k; ++ky) {
      const V* row = in + ky * s.dilation * PW;
      if (k == 5) {
        correlate<1, 5>(row, PW, grad, PG, step, H, W, s.stride, s.dilation, sums + ky * k, k);
        continue;
      }
      for (int64_t kx = 0; kx < k; ++kx)
        correlate<1, 1>(row + kx * s.dilation, PW, grad, PG, step, H, W, s.stride, s.dilation, sums + ky * k + kx, k);
    }
  }

  // Constants for the usual kernels and dilations: taps that tiles share are then read once.
  static inline CHASE_FAST_FLAT void convolve_any(const V* in, int64_t PW, const V* weights, int64_t kernel,
                                                  int64_t stride, int64_t dilation, int64_t H, int64_t W, int64_t C,
                                                  int64_t count, const T* mask, T slope, T* out) {
    if (kernel == 3 && stride == 1 && dilation == 1)
      convolve<3>(in, PW, weights, 3, 1, 1, H, W, C, count, mask, slope, out);
    else if (kernel == 3 && stride == 1 && dilation == 2)
      convolve<3>(in, PW, weights, 3, 1, 2, H, W, C, count, mask, slope, out);
    else if (kernel == 5 && stride == 1 && dilation == 1)
      convolve<5>(in, PW, weights, 5, 1, 1, H, W, C, count, mask, slope, out);
    else if (kernel == 5 && stride == 1 && dilation == 2)
      convolve<5>(in, PW, weights, 5, 1, 2, H, W, C, count, mask, slope, out);
    else
      convolve<0>(in, PW, weights, kernel, stride, dilation, H, W, C, count, mask, slope, out);
  }
};

// The widest vectors of the instruction set in use: f(integral constant of their bytes) inside `vectorised`.
template <class F>
void with_vectors(const F& f) {
#if defined(__x86_64__)
  if (isa() == Isa::AVX512) return vectorised_avx512([&]() CHASE_FAST_FLAT { f(std::integral_constant<int, 64>{}); });
  if (isa() == Isa::AVX2) return vectorised_avx2([&]() CHASE_FAST_FLAT { f(std::integral_constant<int, 32>{}); });
#endif
  vectorised_portable([&]() CHASE_FAST_FLAT { f(std::integral_constant<int, 16>{}); });
}

int vector_bytes() {
#if defined(__x86_64__)
  return isa() == Isa::AVX512 ? 64 : isa() == Isa::AVX2 ? 32 : 16;
#else
  return 16;
#endif
}

// Memory for vectors of one thread, aligned for all of them, kept between calls: planes are above the size from which
// malloc maps fresh pages every time.
class Scratch {
 public:
  template <class V>
  V* vectors(int64_t count) {
    const int64_t wanted = (count * static_cast<int64_t>(sizeof(V)) + sizeof(Line) - 1) / sizeof(Line);
    if (wanted > size_) {
      lines_.reset(new Line[wanted]);
      size_ = wanted;
    }
    return reinterpret_cast<V*>(lines_.get());
  }

 private:
  struct alignas(64) Line {
    unsigned char bytes[64];
  };
  std::unique_ptr<Line[]> lines_;
  int64_t size_ = 0;
};

struct Buffers {
  Scratch input, grad, weights, sums;
};

Buffers& buffers() {
  static thread_local Buffers mine;
  return mine;
}

template <class T>
void forward(const Shape& s, const T* x, const T* weights, T slope, T* out, int threads) {
  const int bytes = vector_bytes();
  const int64_t per_strip = kStrip * bytes / sizeof(T), strips = (s.channels + per_strip - 1) / per_strip;
  parallel_for(s.images * strips, threads, [&](int64_t unit) {
    const int64_t n = unit / strips, number = unit % strips;
    Buffers& memory = buffers();
    with_vectors([&](auto width) CHASE_FAST_FLAT {
      using K = Kernels<T, decltype(width)::value>;
      using V = typename K::V;
      const Strip strip = K::strip(number, s.channels);
      const int64_t PW = s.padded_width();
      V *in = memory.input.template vectors<V>(kStrip * s.padded()),
        *w = memory.weights.template vectors<V>(kStrip * s.taps());
      K::fill(x + n * s.pixels() * s.channels, s.height, s.width, s.channels, strip, s.padded_height(), PW, s.padding(),
              1, slope, in);
      K::gather(weights, s.taps(), strip, false, w);
      for (int64_t v = 0; v < strip.vectors; ++v)
        K::convolve_any(in + v * s.padded(), PW, w + v * s.taps(), s.kernel, s.stride, s.dilation, s.out_height,
                        s.out_width, s.channels, K::lanes(strip, v), nullptr, slope,
                        out + n * s.out_pixels() * s.channels + strip.first + v * K::L);
    });
  });
}

template <class T>
void backward(const Shape& s, const T* grad, const T* x, const T* weights, T slope, T* grad_x, T* grad_weights,
              int threads) {
  const int bytes = vector_bytes();
  const int64_t per_strip = kStrip * bytes / sizeof(T), strips = (s.channels + per_strip - 1) / per_strip;
  const int64_t C = s.channels, taps = s.taps();
  std::vector<T> parts(grad_weights ? s.images * strips * per_strip * taps : 0);  // [N, vectors, k * k, L]
  parallel_for(s.images * strips, threads, [&](int64_t unit) {
    const int64_t n = unit / strips, number = unit % strips;
    Buffers& memory = buffers();
    with_vectors([&](auto width) CHASE_FAST_FLAT {
      using K = Kernels<T, decltype(width)::value>;
      using V = typename K::V;
      const Strip strip = K::strip(number, C);
      const int64_t PH = s.padded_height(), PW = s.padded_width(), P = s.padding();
      const T* image = x + n * s.pixels() * C;
      V* g = memory.grad.template vectors<V>(kStrip * s.padded());
      K::fill(grad + n * s.out_pixels() * C, s.out_height, s.out_width, C, strip, PH, PW, P, s.stride, T(1), g);
      if (grad_x) {
        V* w = memory.weights.template vectors<V>(kStrip * taps);
        K::gather(weights, taps, strip, true, w);
        for (int64_t v = 0; v < strip.vectors; ++v) {
          const int64_t at = strip.first + v * K::L;
          K::convolve_any(g + v * s.padded(), PW, w + v * taps, s.kernel, 1, s.dilation, s.height, s.width, C,
                          K::lanes(strip, v), slope == T(1) ? nullptr : image + at, slope,
                          grad_x + n * s.pixels() * C + at);
        }
      }
      if (grad_weights) {
        V *in = memory.input.template vectors<V>(kStrip * s.padded()),
          *sum = memory.sums.template vectors<V>(kStrip * taps);
        K::fill(image, s.height, s.width, C, strip, PH, PW, P, 1, slope, in);
        for (int64_t v = 0; v < strip.vectors; ++v)
          K::correlate_all(in + v * s.padded(), PW, g + v * s.padded() + P * PW + P, PW, s.stride, s, sum + v * taps);
        std::memcpy(parts.data() + unit * per_strip * taps, sum, strip.vectors * taps * sizeof(V));
      }
    });
  });
  if (!grad_weights) return;
  const int64_t L = bytes / sizeof(T);
  for (int64_t c = 0; c < C; ++c)
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t number = c / per_strip, v = c % per_strip / L;
      double total = 0;
      for (int64_t n = 0; n < s.images; ++n)
        total += parts[((n * strips + number) * kStrip + v) * taps * L + t * L + c % L];
      grad_weights[c * taps + t] = T(total);
    }
}

Shape check_inputs(const TensorView& x, const TensorView& weights, int64_t stride, int64_t dilation,
                   const TensorView& out) {
  check(x.dim() == 4 && weights.dim() == 3, "depthwise: x [N,C,H,W] and weights [C,k,k]");
  check(x.dtype == DType::F32 || x.dtype == DType::F64, "depthwise: float32 or float64");
  check(stride >= 1 && dilation >= 1, "depthwise: stride and dilation of at least 1");
  const int64_t k = weights.size(1);
  check(k % 2 == 1, "depthwise: an odd kernel");
  const Shape s{
      x.size(0), x.size(1), x.size(2), x.size(3), (x.size(2) + stride - 1) / stride, (x.size(3) + stride - 1) / stride,
      k,         stride,    dilation};
  check_shape(weights, {s.channels, k, k}, "depthwise: weights");
  check_dtype(weights, x.dtype, "depthwise: weights");
  check(weights.contiguous(), "depthwise: weights must be contiguous");
  check(x.channels_last(), "depthwise: x must be channels-last");
  check_shape(out, {s.images, s.channels, s.out_height, s.out_width}, "depthwise: out");
  check_dtype(out, x.dtype, "depthwise: out");
  check(out.channels_last(), "depthwise: out must be channels-last");
  return s;
}

void check_like(const TensorView& t, const TensorView& like, const char* what) {
  check_shape(t, like.sizes, what);
  check_dtype(t, like.dtype, what);
}

}  // namespace

void depthwise(const TensorView& x, const TensorView& weights, int64_t stride, int64_t dilation, double slope,
               const TensorView& out, int threads) {
  const Shape s = check_inputs(x, weights, stride, dilation, out);
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    forward<T>(s, x.ptr<T>(), weights.ptr<T>(), T(slope), out.ptr<T>(), s.threads(threads));
  };
  x.dtype == DType::F32 ? call(float{}) : call(double{});
}

void depthwise_backward(const TensorView& grad, const TensorView& x, const TensorView& weights, int64_t stride,
                        int64_t dilation, double slope, const TensorView& grad_x, const TensorView& grad_weights,
                        int threads) {
  const Shape s = check_inputs(x, weights, stride, dilation, grad);
  if (grad_x.numel()) {
    check_like(grad_x, x, "depthwise: gradient of x");
    check(grad_x.channels_last(), "depthwise: gradient of x must be channels-last");
  }
  if (grad_weights.numel()) {
    check_like(grad_weights, weights, "depthwise: gradient of weights");
    check(grad_weights.contiguous(), "depthwise: gradient of weights must be contiguous");
  }
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(s, grad.ptr<T>(), x.ptr<T>(), weights.ptr<T>(), T(slope), grad_x.numel() ? grad_x.ptr<T>() : nullptr,
                grad_weights.numel() ? grad_weights.ptr<T>() : nullptr, s.threads(threads));
  };
  x.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
