// Depthwise convolutions of the edges of a cell. A unit of work is one image and one strip of channels (strip.h):
//   1  the strip of the input is copied into planes with its batch norm and activation, zeros around it; once for all
//      edges that read the same map.
//   2  forward: some neighbouring outputs stay in registers while the k x k taps pass. The gradient to the input is
//      the same loop over planes of the incoming gradient with the weights turned by 180 degrees, times a'(z), added
//      up over the edges of one input; the sums that the backward of a batch norm needs fall out on the way.
//   3  the gradient to the weights keeps all taps of a kernel in registers and walks the pixels once.
// Sums per image are joined in order, in double, and a unit does not depend on the number of threads: nor does any bit
// of the result.
#include "cpu/depthwise_stack.h"

#include "cpu/parallel.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {
namespace {

struct Shape {
  int64_t inputs, edges, groups, images, channels, kernel, dilation;
  Plane plane;

  int64_t taps() const { return kernel * kernel; }
  int64_t per_group() const { return images / groups; }
  int64_t edges_per_input() const { return edges / inputs; }
  int64_t map() const { return plane.pixels() * channels; }                          // elements of an image
  int64_t table(int64_t e, int64_t g) const { return (e * groups + g) * channels; }  // in [E, G, C]
  int threads(int wanted) const { return worthwhile_threads(edges * images * map() * taps(), 1 << 20, wanted); }
};

// Batch norm in front of the convolution; mean is null where there is none.
template <class T>
struct Norm {
  const T *mean = nullptr, *scale = nullptr, *beta = nullptr;
};

// The loops over the planes of one vector of channels.
template <class Vec>
struct Kernels {
  using T = typename Vec::T;
  using V = typename Vec::V;

  // store(pixel y, pixel x, sum) for all outputs; Tile of them side by side, K taps a side (0: known at run time only).
  // Tap (ky, kx) meets weights[step * (ky * k + kx)].
  template <int K, int Tile, class F>
  static inline CHASE_FAST_FLAT void row(const V* in, int64_t PW, const V* weights, int64_t step, int64_t kernel,
                                         int64_t dilation, int64_t y, int64_t begin, int64_t first, const F& store) {
    const int64_t k = K ? K : kernel;
    V acc[Tile] = {};
    for (int64_t ky = 0; ky < k; ++ky) {
      const V* from = in + (y + ky * dilation) * PW + begin;
      const V* w = weights + step * ky * k;
#pragma GCC unroll 8
      for (int64_t kx = 0; kx < k; ++kx) {
        const V tap = w[step * kx];
#pragma GCC unroll 16
        for (int j = 0; j < Tile; ++j) acc[j] += from[kx * dilation + j] * tap;
      }
    }
#pragma GCC unroll 16
    for (int j = 0; j < Tile; ++j)
      if (j >= first) store(y, begin + j, acc[j]);
  }

  // A last tile that would stand over the edge is moved left and stores only what is new (stores may add).
  template <int K, int Tile, class F>
  static inline CHASE_FAST_FLAT void tiled(const V* in, const Plane& p, int64_t PW, const V* weights, int64_t step,
                                           int64_t kernel, int64_t dilation, const F& store) {
    for (int64_t y = 0; y < p.height; ++y)
      for (int64_t x = 0; x < p.width; x += Tile) {
        const int64_t begin = std::min(x, p.width - Tile);
        row<K, Tile>(in, PW, weights, step, kernel, dilation, y, begin, x - begin, store);
      }
  }

  template <int K, class F>
  static inline CHASE_FAST_FLAT void convolve(const V* in, const Plane& p, int64_t PW, const V* weights, int64_t step,
                                              int64_t kernel, int64_t dilation, const F& store) {
    const auto rounded = [&](int64_t tile) { return (p.width + tile - 1) / tile * tile; };
    if (p.width >= 9 && rounded(9) <= rounded(6))
      tiled<K, 9>(in, p, PW, weights, step, kernel, dilation, store);
    else if (p.width >= 6)
      tiled<K, 6>(in, p, PW, weights, step, kernel, dilation, store);
    else
      tiled<K, 1>(in, p, PW, weights, step, kernel, dilation, store);
  }

  // in: plane of border `border` >= the padding of this kernel.
  template <class F>
  static inline CHASE_FAST_FLAT void convolve_any(const V* in, const Plane& p, const V* weights, bool turned,
                                                  int64_t kernel, int64_t dilation, const F& store) {
    const int64_t step = turned ? -1 : 1, PW = p.padded_width();
    const V* w = turned ? weights + kernel * kernel - 1 : weights;
    if (kernel == 3)
      convolve<3>(in, p, PW, w, step, kernel, dilation, store);
    else if (kernel == 5)
      convolve<5>(in, p, PW, w, step, kernel, dilation, store);
    else
      tiled<0, 1>(in, p, PW, w, step, kernel, dilation, store);
  }

  // sums [KY, KX] (rows of `kernel`) of in, from its tap (0, 0) on, times the inside of grad.
  template <int KY, int KX>
  static inline CHASE_FAST_FLAT void correlate(const V* in, const V* grad, const Plane& p, int64_t kernel,
                                               int64_t dilation, V* sums) {
    const int64_t PW = p.padded_width();
    V acc[KY * KX] = {};
    for (int64_t y = 0; y < p.height; ++y)
      for (int64_t x = 0; x < p.width; ++x) {
        const V g = grad[(y + p.border) * PW + x + p.border];
        const V* at = in + y * PW + x;
#pragma GCC unroll 8
        for (int ky = 0; ky < KY; ++ky)
#pragma GCC unroll 8
          for (int kx = 0; kx < KX; ++kx) acc[ky * KX + kx] += at[ky * dilation * PW + kx * dilation] * g;
      }
#pragma GCC unroll 8
    for (int ky = 0; ky < KY; ++ky)
#pragma GCC unroll 8
      for (int kx = 0; kx < KX; ++kx) sums[ky * kernel + kx] = acc[ky * KX + kx];
  }

  // AVX-512 has registers for 5 x 5 taps, AVX2 for 2 rows of them.
  static inline CHASE_FAST_FLAT void correlate_all(const V* in, const V* grad, const Plane& p, int64_t k,
                                                   int64_t dilation, V* sums) {
    if (k == 3) return correlate<3, 3>(in, grad, p, k, dilation, sums);
    const int64_t down = dilation * p.padded_width();
    if (k == 5 && Vec::bytes == 64) return correlate<5, 5>(in, grad, p, k, dilation, sums);
    if (k == 5) {
      correlate<2, 5>(in, grad, p, k, dilation, sums);
      correlate<2, 5>(in + 2 * down, grad, p, k, dilation, sums + 2 * k);
      return correlate<1, 5>(in + 4 * down, grad, p, k, dilation, sums + 4 * k);
    }
    for (int64_t ky = 0; ky < k; ++ky)
      for (int64_t kx = 0; kx < k; ++kx)
        correlate<1, 1>(in + ky * down + kx * dilation, grad, p, k, dilation, sums + ky * k + kx);
  }
};

// Weights as [E, channels in vectors, k * k] vectors; lanes beyond C are zero.
template <class T>
struct Taps {
  std::vector<Line> lines;
  int64_t edge;  // elements of an edge

  Taps(const Shape& s, const T* weights) {
    const int64_t L = vector_lanes<T>(), strip = kStrip * L, taps = s.taps();
    edge = (s.channels + strip - 1) / strip * strip * taps;
    lines.resize((s.edges * edge * sizeof(T) + 63) / 64);
    T* to = reinterpret_cast<T*>(lines.data());
    for (int64_t e = 0; e < s.edges; ++e)
      for (int64_t c = 0; c < s.channels; ++c)
        for (int64_t t = 0; t < taps; ++t)
          to[e * edge + c / L * taps * L + t * L + c % L] = weights[(e * s.channels + c) * taps + t];
  }

  const T* at(int64_t e, int64_t first, int64_t taps) const {
    return reinterpret_cast<const T*>(lines.data()) + e * edge + first * taps;
  }
};

// planes = a(z) of a strip of one image of input r, zeros around.
template <class Vec, class T = typename Vec::T>
inline CHASE_FAST_FLAT void fill_input(const Shape& s, const T* image, const Norm<T>& norm, int64_t r, int64_t n,
                                       const Strip& strip, T slope, typename Vec::V* planes) {
  using V = typename Vec::V;
  const auto activate = [slope](V& value) CHASE_FAST_FLAT { value = value > 0 ? value : value * slope; };
  const T* from = image + strip.first;
  Vec::fill_border(s.plane, strip.vectors, T(0), planes);
  if (norm.mean) {
    V mean[kStrip] = {}, scale[kStrip] = {}, beta[kStrip] = {};
    const int64_t at = s.table(r, n / s.per_group()) + strip.first;
    for (int64_t v = 0; v < strip.vectors; ++v) {
      const int64_t lanes = Vec::lanes(strip, v);
      Vec::load(norm.mean + at + v * Vec::L, lanes, mean[v]);
      Vec::load(norm.scale + at + v * Vec::L, lanes, scale[v]);
      Vec::load(norm.beta + r * s.channels + strip.first + v * Vec::L, lanes, beta[v]);
    }
    const auto normed = [&](V& value, int64_t v, int64_t) CHASE_FAST_FLAT {
      value = (value - mean[v]) * scale[v] + beta[v];
      activate(value);
    };
    Vec::fill(from, s.plane, s.channels, strip, normed, planes);
  } else if (slope != T(1)) {
    const auto activated = [&](V& value, int64_t, int64_t) CHASE_FAST_FLAT { activate(value); };
    Vec::fill(from, s.plane, s.channels, strip, activated, planes);
  } else {
    Vec::fill(from, s.plane, s.channels, strip, [](V&, int64_t, int64_t) CHASE_FAST_FLAT {}, planes);
  }
}

template <class T>
void forward(const Shape& s, const std::vector<const T*>& x, const T* weights, const Norm<T>& norm, T slope,
             const std::vector<T*>& out, int threads) {
  const Taps<T> taps(s, weights);
  const int64_t lanes = vector_lanes<T>(), strips = (s.channels + kStrip * lanes - 1) / (kStrip * lanes);
  parallel_for(s.inputs * s.images * strips, threads, [&](int64_t unit) {
    const int64_t r = unit / (s.images * strips), n = unit / strips % s.images, number = unit % strips;
    with_vectors<T>([&](auto vectors) CHASE_FAST_FLAT {
      using Vec = decltype(vectors);
      using V = typename Vec::V;
      const Strip strip = Vec::strip(number, s.channels);
      V* planes = reinterpret_cast<V*>(thread_scratch<0>(kStrip * s.plane.padded() * sizeof(V)));
      fill_input<Vec>(s, x[r] + n * s.map(), norm, r, n, strip, slope, planes);
      for (int64_t v = 0; v < strip.vectors; ++v)
        for (int64_t e = r; e < r + s.edges_per_input(); ++e) {
          const int64_t first = strip.first + v * Vec::L, count = Vec::lanes(strip, v);
          T* to = out[e] + n * s.map() + first;
          const V* w = reinterpret_cast<const V*>(taps.at(e, first, s.taps()));
          const auto store = [&](int64_t py, int64_t px, const V& value) CHASE_FAST_FLAT {
            Vec::store(value, count, to + (py * s.plane.width + px) * s.channels);
          };
          Kernels<Vec>::convolve_any(planes + v * s.plane.padded(), s.plane, w, false, s.kernel, s.dilation, store);
        }
    });
  });
}

// What the backward writes; null or empty: not wanted.
template <class T>
struct Gradients {
  std::vector<T*> x;
  T *weights, *sums;
  bool add;
};

template <class T>
void backward(const Shape& s, const std::vector<const T*>& grad, const std::vector<const T*>& x, const T* weights,
              const Norm<T>& norm, T slope, const Gradients<T>& to, int threads) {
  const Taps<T> taps(s, weights);
  const int64_t lanes = vector_lanes<T>(), per_strip = kStrip * lanes;
  const int64_t strips = (s.channels + per_strip - 1) / per_strip, wide = strips * per_strip;  // channels in strips
  const bool masked = slope != T(1), input_needed = to.weights || (masked && !to.x.empty());
  // per image: taps [E, N, wide / L, k * k, L] and sums [2, E, N, wide]
  std::vector<Line> tap_parts(to.weights ? (s.edges * s.images * wide * s.taps() * sizeof(T) + 63) / 64 : 0);
  std::vector<T> sum_parts(to.sums ? 2 * s.edges * s.images * wide : 0);
  T* tap_part = reinterpret_cast<T*>(tap_parts.data());

  parallel_for(s.inputs * s.images * strips, threads, [&](int64_t unit) {
    const int64_t r = unit / (s.images * strips), n = unit / strips % s.images, number = unit % strips;
    with_vectors<T>([&](auto vectors) CHASE_FAST_FLAT {
      using Vec = decltype(vectors);
      using V = typename Vec::V;
      const Strip strip = Vec::strip(number, s.channels);
      const Plane& p = s.plane;
      const int64_t padded = p.padded(), C = s.channels;
      V* in = reinterpret_cast<V*>(thread_scratch<0>(kStrip * padded * sizeof(V)));
      V* g = reinterpret_cast<V*>(thread_scratch<1>(kStrip * padded * sizeof(V)));
      const T* image = x[r] + n * s.map();
      if (input_needed) fill_input<Vec>(s, image, norm, r, n, strip, slope, in);
      Vec::fill_border(p, strip.vectors, T(0), g);
      for (int64_t e = r; e < r + s.edges_per_input(); ++e) {
        Vec::fill(grad[e] + n * s.map() + strip.first, p, C, strip, [](V&, int64_t, int64_t) CHASE_FAST_FLAT {}, g);
        for (int64_t v = 0; v < strip.vectors; ++v) {
          const int64_t first = strip.first + v * Vec::L, count = Vec::lanes(strip, v), at = n * s.map() + first;
          const V *gv = g + v * padded, *iv = in + v * padded + p.border * p.padded_width() + p.border;
          if (!to.x.empty()) {
            T* dx = to.x[r] + at;
            const V* w = reinterpret_cast<const V*>(taps.at(e, first, s.taps()));
            const bool add = to.add || e > r;
            V s1 = {}, s2 = {}, mean = {};
            if (to.sums) Vec::load(norm.mean + s.table(r, n / s.per_group()) + first, count, mean);
            const auto store = [&](int64_t py, int64_t px, const V& sum) CHASE_FAST_FLAT {
              const int64_t pixel = (py * p.width + px) * C;
              V value = sum;
              if (masked) value = iv[py * p.padded_width() + px] > 0 ? value : value * slope;
              if (to.sums) {
                V raw;
                Vec::load(image + first + pixel, count, raw);
                s1 += value;
                s2 += value * (raw - mean);
              }
              if (add) {
                V before;
                Vec::load(dx + pixel, count, before);
                value += before;
              }
              Vec::store(value, count, dx + pixel);
            };
            Kernels<Vec>::convolve_any(gv, p, w, true, s.kernel, s.dilation, store);
            if (to.sums) {
              T* part = sum_parts.data() + (e * s.images + n) * wide + first;
              std::memcpy(part, &s1, sizeof(V));
              std::memcpy(part + s.edges * s.images * wide, &s2, sizeof(V));
            }
          }
          if (to.weights) {
            V* sums = reinterpret_cast<V*>(tap_part + ((e * s.images + n) * wide + first) * s.taps());
            Kernels<Vec>::correlate_all(in + v * padded, gv, p, s.kernel, s.dilation, sums);
          }
        }
      }
    });
  });

  if (to.weights)
    parallel_for(s.edges * strips, threads, [&](int64_t unit) {
      const int64_t e = unit / strips, first = unit % strips * per_strip, size = per_strip * s.taps();
      std::vector<double> total(size);
      for (int64_t n = 0; n < s.images; ++n) {
        const T* part = tap_part + ((e * s.images + n) * wide + first) * s.taps();
        double* sum = total.data();
        vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
          for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
        });
      }
      for (int64_t c = first; c < std::min(first + per_strip, s.channels); ++c)
        for (int64_t t = 0; t < s.taps(); ++t)
          to.weights[(e * s.channels + c) * s.taps() + t] =
              T(total[(c - first) / lanes * lanes * s.taps() + t * lanes + (c - first) % lanes]);
    });
  if (to.sums)
    for (int64_t e = 0; e < 2 * s.edges; ++e)  // of both sums
      for (int64_t g = 0; g < s.groups; ++g)
        for (int64_t c = 0; c < s.channels; ++c) {
          double total = 0;
          for (int64_t n = g * s.per_group(); n < (g + 1) * s.per_group(); ++n)
            total += sum_parts[(e * s.images + n) * wide + c];
          to.sums[s.table(e, g) + c] = T(total);
        }
}

Shape check_inputs(const std::vector<TensorView>& x, const TensorView& weights, const std::vector<TensorView>& norm,
                   int64_t dilation, const std::vector<TensorView>& out) {
  check(!x.empty() && x[0].dim() == 4 && weights.dim() == 4, "depthwise_stack: maps [N,C,H,W] and weights [E,C,k,k]");
  const TensorView& map = x[0];
  check(map.dtype == DType::F32 || map.dtype == DType::F64, "depthwise_stack: float32 or float64");
  const int64_t E = weights.size(0), C = map.size(1), k = weights.size(2);
  check(k % 2 == 1 && dilation >= 1, "depthwise_stack: an odd kernel, a dilation of at least 1");
  const int64_t inputs = static_cast<int64_t>(x.size());
  check(inputs == 1 || inputs == E, "depthwise_stack: one input or one per edge");
  check(static_cast<int64_t>(out.size()) == E, "depthwise_stack: one output per edge");
  for (const TensorView& t : x) check_map(t, map, "depthwise_stack: x");
  for (const TensorView& t : out) check_map(t, map, "depthwise_stack: out");
  check_table(weights, map, {E, C, k, k}, "depthwise_stack: weights");
  check(norm.empty() || norm.size() == 3, "depthwise_stack: norm is empty or mean, scale, beta");
  int64_t groups = 1;
  if (!norm.empty()) {
    check(inputs == E && norm[0].dim() == 3 && norm[0].size(1) >= 1, "depthwise_stack: a norm takes an input per edge");
    groups = norm[0].size(1);
    check(map.size(0) % groups == 0, "depthwise_stack: groups must divide N");
    check_table(norm[0], map, {E, groups, C}, "depthwise_stack: mean");
    check_table(norm[1], map, {E, groups, C}, "depthwise_stack: scale");
    check_table(norm[2], map, {E, C}, "depthwise_stack: beta");
  }
  const Plane plane{map.size(2), map.size(3), dilation * (k - 1) / 2};
  return {inputs, E, groups, map.size(0), C, k, dilation, plane};
}

template <class T>
std::vector<T*> pointers(const std::vector<TensorView>& views) {
  std::vector<T*> found;
  for (const TensorView& v : views) found.push_back(v.ptr<T>());
  return found;
}

template <class T>
std::vector<const T*> readers(const std::vector<TensorView>& views) {
  const std::vector<T*> found = pointers<T>(views);
  return {found.begin(), found.end()};
}

template <class T>
Norm<T> norm_of(const std::vector<TensorView>& tables) {
  if (tables.empty()) return {};
  return {tables[0].ptr<T>(), tables[1].ptr<T>(), tables[2].ptr<T>()};
}

}  // namespace

void depthwise_stack(const std::vector<TensorView>& x, const TensorView& weights, const std::vector<TensorView>& norm,
                     int64_t dilation, double slope, const std::vector<TensorView>& out, int threads) {
  const Shape s = check_inputs(x, weights, norm, dilation, out);
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    forward<T>(s, readers<T>(x), weights.ptr<T>(), norm_of<T>(norm), T(slope), pointers<T>(out), s.threads(threads));
  };
  x[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

void depthwise_stack_backward(const std::vector<TensorView>& grad, const std::vector<TensorView>& x,
                              const TensorView& weights, const std::vector<TensorView>& norm, int64_t dilation,
                              double slope, bool add, const std::vector<TensorView>& grad_x,
                              const TensorView& grad_weights, const TensorView& sums, int threads) {
  const Shape s = check_inputs(x, weights, norm, dilation, grad);
  check(grad_x.empty() || grad_x.size() == x.size(), "depthwise_stack: one gradient per input, or none");
  for (const TensorView& t : grad_x) check_map(t, x[0], "depthwise_stack: gradient of x");
  if (grad_weights.numel())
    check_table(grad_weights, x[0], {s.edges, s.channels, s.kernel, s.kernel}, "depthwise_stack: gradient of weights");
  if (sums.numel()) {
    check(!norm.empty() && !grad_x.empty(), "depthwise_stack: sums need a norm and the gradient of x");
    check_table(sums, x[0], {2, s.edges, s.groups, s.channels}, "depthwise_stack: sums");
  }
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    const Gradients<T> to{pointers<T>(grad_x), grad_weights.numel() ? grad_weights.ptr<T>() : nullptr,
                          sums.numel() ? sums.ptr<T>() : nullptr, add};
    backward<T>(s, readers<T>(grad), readers<T>(x), weights.ptr<T>(), norm_of<T>(norm), T(slope), to,
                s.threads(threads));
  };
  x[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
