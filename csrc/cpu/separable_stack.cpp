// Separable convolutions of the edges of a cell. A unit of work is one image (the backward: a part of the images): all
// that happens to an image stays in the caches of one core.
//   1  the input is copied into planes with its batch norm and activation, zeros around it (strip.h); once for all
//      edges that read the same map.
//   2  forward: depthwise (depthwise_planes.h), the product with the pointwise weights (products.h), moments of the
//      result.
//   3  backward: the product of the gradient with the pointwise weights goes into planes; from there the gradient to
//      the input, times a'(z), added up over the edges of one input, with the sums that the backward of a batch norm
//      needs, and the gradient to the depthwise weights. Where pointwise weights want a gradient, the depthwise output
//      is made again (a tenth of a product's time).
// Sums per image are joined in order, those of the pointwise weights per part of the images, in double, and nothing
// depends on the number of threads: nor does any bit of the result.
#include "cpu/separable_stack.h"

#include <memory>

#include "cpu/depthwise_planes.h"
#include "cpu/moments.h"
#include "cpu/parallel.h"
#include "cpu/products.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kUnits = 16;  // of the backward, at least, where there are images: inputs times parts of the images

struct Shape {
  int64_t inputs, edges, groups, images, channels, kernel, dilation;
  Plane plane;

  int64_t taps() const { return kernel * kernel; }
  int64_t per_group() const { return images / groups; }
  int64_t edges_per_input() const { return edges / inputs; }
  int64_t map() const { return plane.pixels() * channels; }                          // elements of an image
  int64_t table(int64_t e, int64_t g) const { return (e * groups + g) * channels; }  // in [E, G, C]
  int64_t per_part() const { return (images * inputs + kUnits - 1) / kUnits; }
  int64_t parts() const { return (images + per_part() - 1) / per_part(); }
  int threads(int wanted) const {
    return worthwhile_threads(edges * images * map() * (taps() + channels), 1 << 20, wanted);
  }
};

// Batch norm in front of the convolution; mean is null where there is none.
template <class T>
struct Norm {
  const T *mean = nullptr, *scale = nullptr, *beta = nullptr;
};

// Batch norm behind the convolution, in the backward: its input and tables [E, G, C]; y is empty where there is none.
template <class T>
struct Through {
  std::vector<const T*> y;
  const T *mean = nullptr, *factor = nullptr, *shift = nullptr, *tilt = nullptr;
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
      for (int64_t c = 0; c < s.channels; ++c) {
        T* lane = to + e * edge + c / L * taps * L + c % L;
        for (int64_t t = 0; t < taps; ++t) lane[t * L] = weights[(e * s.channels + c) * taps + t];
      }
  }

  const T* at(int64_t e, int64_t first, int64_t taps) const {
    return reinterpret_cast<const T*>(lines.data()) + e * edge + first * taps;
  }
};

// planes = a(z) of a strip of one image of input r inside a border that is left alone.
template <class Vec, class T = typename Vec::T>
inline CHASE_FAST_FLAT void fill_input(const Shape& s, const T* image, const Norm<T>& norm, int64_t r, int64_t n,
                                       const Strip& strip, T slope, typename Vec::V* planes) {
  using V = typename Vec::V;
  const auto activate = [slope](V& value) CHASE_FAST_FLAT { value = value > 0 ? value : value * slope; };
  const T* from = image + strip.first;
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

// The inside of planes of all channels of one image.
template <class Vec, class T = typename Vec::T>
inline CHASE_FAST_FLAT void fill_image(const Shape& s, const T* image, const Norm<T>& norm, int64_t r, int64_t n,
                                       T slope, typename Vec::V* planes) {
  for (int64_t number = 0; number < Vec::strips(s.channels); ++number)
    fill_input<Vec>(s, image, norm, r, n, Vec::strip(number, s.channels), slope,
                    planes + number * kStrip * s.plane.padded());
}

// outs [vectors, pixels] = DW of planes of all channels.
template <class Vec, class T = typename Vec::T, class V = typename Vec::V>
inline CHASE_FAST_FLAT void depthwise(const Shape& s, const V* planes, const Taps<T>& taps, int64_t e, V* outs) {
  const int64_t W = s.plane.width, pixels = s.plane.pixels();
  for (int64_t v = 0; v < Vec::vectors(s.channels); ++v) {
    V* to = outs + v * pixels;
    const V* w = reinterpret_cast<const V*>(taps.at(e, v * Vec::L, s.taps()));
    const auto store = [=](int64_t py, int64_t px, const V& value) CHASE_FAST_FLAT { to[py * W + px] = value; };
    DepthwisePlanes<Vec>::convolve_any(planes + v * s.plane.padded(), s.plane, w, false, s.kernel, s.dilation, store);
  }
}

template <class T>
void forward(const Shape& s, const std::vector<const T*>& x, const T* depthwise_weights, const T* pointwise,
             const Norm<T>& norm, T slope, const std::vector<T*>& out, T* mean, T* var, int threads) {
  const Taps<T> taps(s, depthwise_weights);
  const Panels<T> panels(pointwise, s.edges, s.channels, true, threads);
  const int64_t C = s.channels;
  std::vector<T> parts(mean ? 2 * s.edges * s.images * C : 0);  // moments [2, E, N, C]
  T *part_mean = parts.data(), *part_m2 = part_mean + s.edges * s.images * C;
  parallel_for(s.inputs * s.images, threads, [&](int64_t unit) {
    const int64_t r = unit / s.images, n = unit % s.images;
    with_vectors<T>([&](auto type) CHASE_FAST_FLAT {
      using Vec = decltype(type);
      using V = typename Vec::V;
      const int64_t vectors = Vec::vectors(C), pixels = s.plane.pixels();
      V* planes = reinterpret_cast<V*>(thread_scratch<0>(vectors * s.plane.padded() * sizeof(V)));
      V* between = reinterpret_cast<V*>(thread_scratch<1>(vectors * pixels * sizeof(V)));
      Vec::fill_border(s.plane, vectors, T(0), planes);
      fill_image<Vec>(s, x[r] + n * s.map(), norm, r, n, slope, planes);
      for (int64_t e = r; e < r + s.edges_per_input(); ++e) {
        depthwise<Vec>(s, planes, taps, e, between);
        const Rows<T> rows{reinterpret_cast<const T*>(between), Vec::L, pixels * Vec::L};
        T* to = out[e] + n * s.map();
        const auto store = [=](int64_t p, int64_t v, const V& value) CHASE_FAST_FLAT {
          T* at = to + p * C + v * Vec::L;
          Vec::store(value, std::min(Vec::L, C - v * Vec::L), at);
          __builtin_prefetch(at + Products<Vec>::kRows * C, 1);
        };
        Products<Vec>::template multiply<Vec::L>(rows, pixels, C, panels.template at<V>(e), vectors, store);
        if (mean) moments(to, pixels, C, part_mean + (e * s.images + n) * C, part_m2 + (e * s.images + n) * C);
      }
    });
  });
  if (!mean) return;
  const int64_t N = s.per_group(), pixels = s.plane.pixels();
  for (int64_t i = 0; i < s.edges * s.groups; ++i)
    join_moments(
        part_mean + i * N * C, part_m2 + i * N * C, N, C, [=](int64_t) { return pixels; }, mean + i * C, var + i * C);
}

// What the backward writes; null or empty: not wanted.
template <class T>
struct Gradients {
  std::vector<T*> x;
  T *depthwise, *pointwise, *sums;
  bool add;
};

// dx (+)= DW^T(g) a'(z) of one vector of channels; iv: the inside of the plane of a(z).
template <bool Masked, class Vec, class T = typename Vec::T, class V = typename Vec::V>
inline CHASE_FAST_FLAT void input_grad(const Shape& s, const V* g, const V* weights, const V* iv, T slope, bool add,
                                       int64_t count, T* dx) {
  const int64_t C = s.channels, W = s.plane.width, PW = s.plane.padded_width();
  const auto store = [=](int64_t py, int64_t px, const V& sum) CHASE_FAST_FLAT {
    T* to = dx + (py * W + px) * C;
    V value = sum;
    if (Masked) value = iv[py * PW + px] > 0 ? value : value * slope;
    if (add) {
      V before;
      Vec::load(to, count, before);
      value += before;
    }
    Vec::store(value, count, to);
    __builtin_prefetch(to + W * C, 1);
  };
  DepthwisePlanes<Vec>::convolve_any(g, s.plane, weights, true, s.kernel, s.dilation, store);
}

// The same without `add`, and the sums of dx and of dx (x - mean).
template <class Vec, class T = typename Vec::T, class V = typename Vec::V>
inline CHASE_FAST_FLAT void input_grad_sums(const Shape& s, const V* g, const V* weights, const V* iv, const T* x,
                                            const V& mean, T slope, int64_t count, T* dx, V& s1, V& s2) {
  const int64_t C = s.channels, W = s.plane.width, PW = s.plane.padded_width();
  V a = {}, b = {};
  const auto store = [&](int64_t py, int64_t px, const V& sum) CHASE_FAST_FLAT {
    const int64_t at = (py * W + px) * C;
    V raw;
    Vec::load(x + at, count, raw);
    const V value = iv[py * PW + px] > 0 ? sum : sum * slope;
    a += value;
    b += value * (raw - mean);
    Vec::store(value, count, dx + at);
    __builtin_prefetch(dx + at + W * C, 1);
  };
  DepthwisePlanes<Vec>::convolve_any(g, s.plane, weights, true, s.kernel, s.dilation, store);
  s1 = a;
  s2 = b;
}

// grad = factor (grad z - shift - tilt (y - mean)) of one image; tables [C].
template <class T>
inline CHASE_FAST_FLAT void through_norm(const T* grad_z, const T* y, int64_t pixels, int64_t C, const T* mean,
                                         const T* factor, const T* shift, const T* tilt, T* grad) {
  for (int64_t p = 0; p < pixels; ++p, grad_z += C, y += C, grad += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) grad[c] = factor[c] * (grad_z[c] - shift[c] - tilt[c] * (y[c] - mean[c]));
  }
}

// total [size] = sum of `parts` arrays that are `step` apart.
template <class T>
std::vector<double> add_up(const T* parts, int64_t count, int64_t step, int64_t size) {
  std::vector<double> total(size);
  double* sum = total.data();
  for (int64_t n = 0; n < count; ++n) {
    const T* part = parts + n * step;
    vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) sum[i] += part[i];
    });
  }
  return total;
}

template <class T>
void backward(const Shape& s, const std::vector<const T*>& grad, const Through<T>& through,
              const std::vector<const T*>& x, const T* depthwise_weights, const T* pointwise, const Norm<T>& norm,
              T slope, const Gradients<T>& to, int threads) {
  const int64_t C = s.channels, L = vector_lanes<T>(), wide = (C + L - 1) / L * L, pixels = s.plane.pixels();
  const bool masked = slope != T(1), down = to.depthwise || !to.x.empty();
  const bool input_needed = to.depthwise || to.pointwise || to.sums || (masked && !to.x.empty());
  const Taps<T> taps(s, depthwise_weights);
  const Panels<T> panels(pointwise, down ? s.edges : 0, C, false, threads);
  std::vector<int64_t> inside(pixels);  // place of a pixel in its plane
  for (int64_t p = 0; p < pixels; ++p)
    inside[p] = (s.plane.border + p / s.plane.width) * s.plane.padded_width() + s.plane.border + p % s.plane.width;
  // taps [E, N, wide / L, k * k, L] and sums [2, E, N, wide] per image, products [E, parts, C, wide] per part
  const int64_t P = s.parts(), matrix = C * wide;
  T* tap_part =
      reinterpret_cast<T*>(thread_scratch<4>(to.depthwise ? s.edges * s.images * wide * s.taps() * sizeof(T) : 0));
  T* product_part = reinterpret_cast<T*>(thread_scratch<5>(to.pointwise ? s.edges * P * matrix * sizeof(T) : 0));
  std::vector<T> sum_parts(to.sums ? 2 * s.edges * s.images * wide : 0);

  parallel_for(s.inputs * P, threads, [&](int64_t unit) {
    const int64_t r = unit / P, part = unit % P, begin = part * s.per_part();
    with_vectors<T>([&](auto type) CHASE_FAST_FLAT {
      using Vec = decltype(type);
      using V = typename Vec::V;
      const Plane& p = s.plane;
      const int64_t vectors = Vec::vectors(C), padded = p.padded();
      V* in = reinterpret_cast<V*>(thread_scratch<0>(vectors * padded * sizeof(V)));
      V* between = reinterpret_cast<V*>(thread_scratch<1>(vectors * pixels * sizeof(V)));
      V* planes = reinterpret_cast<V*>(thread_scratch<2>(vectors * padded * sizeof(V)));
      T* own = reinterpret_cast<T*>(thread_scratch<3>(s.map() * sizeof(T)));
      if (input_needed) Vec::fill_border(p, vectors, T(0), in);
      if (down) Vec::fill_border(p, vectors, T(0), planes);
      for (int64_t n = begin; n < std::min(begin + s.per_part(), s.images); ++n) {
        const T* image = x[r] + n * s.map();
        if (input_needed) fill_image<Vec>(s, image, norm, r, n, slope, in);
        for (int64_t e = r; e < r + s.edges_per_input(); ++e) {
          const T* g = grad[e] + n * s.map();
          if (!through.y.empty()) {
            const int64_t at = s.table(e, n / s.per_group());
            through_norm(g, through.y[e] + n * s.map(), pixels, C, through.mean + at, through.factor + at,
                         through.shift + at, through.tilt + at, own);
            g = own;
          }
          if (down) {
            const int64_t* place = inside.data();
            const auto store = [=](int64_t pixel, int64_t v, const V& value)
                                   CHASE_FAST_FLAT { planes[v * padded + place[pixel]] = value; };
            const Rows<T> rows{g, C, Vec::L};
            Products<Vec>::template multiply<0>(rows, pixels, C, panels.template at<V>(e), vectors, store);
          }
          if (to.pointwise) {
            depthwise<Vec>(s, in, taps, e, between);
            V* sums = reinterpret_cast<V*>(product_part + (e * P + part) * matrix);
            Products<Vec>::multiply_turned(g, C, pixels, between, vectors, n > begin, sums);
          }
          for (int64_t v = 0; v < vectors && down; ++v) {
            const int64_t first = v * Vec::L, count = std::min(Vec::L, C - first), at = n * s.map() + first;
            const V *gv = planes + v * padded, *iv = in + v * padded + p.border * p.padded_width() + p.border;
            if (!to.x.empty()) {
              T* dx = to.x[r] + at;
              const V* w = reinterpret_cast<const V*>(taps.at(e, first, s.taps()));
              const bool add = to.add || e > r;
              if (to.sums) {
                V mean, s1, s2;
                Vec::load(norm.mean + s.table(r, n / s.per_group()) + first, count, mean);
                input_grad_sums<Vec>(s, gv, w, iv, image + first, mean, slope, count, dx, s1, s2);
                T* sum = sum_parts.data() + (e * s.images + n) * wide + first;
                std::memcpy(sum, &s1, sizeof(V));
                std::memcpy(sum + s.edges * s.images * wide, &s2, sizeof(V));
              } else if (masked) {
                input_grad<true, Vec>(s, gv, w, iv, slope, add, count, dx);
              } else {
                input_grad<false, Vec>(s, gv, w, iv, slope, add, count, dx);
              }
            }
            if (to.depthwise) {
              V* sums = reinterpret_cast<V*>(tap_part + ((e * s.images + n) * wide + first) * s.taps());
              DepthwisePlanes<Vec>::correlate_all(in + v * padded, gv, p, s.kernel, s.dilation, sums);
            }
          }
        }
      }
    });
  });

  if (to.pointwise) {
    constexpr int64_t kRowsAtOnce = 8;
    const int64_t blocks = (C + kRowsAtOnce - 1) / kRowsAtOnce;
    parallel_for(s.edges * blocks, threads, [&](int64_t unit) {
      const int64_t e = unit / blocks, m = unit % blocks * kRowsAtOnce, rows = std::min(kRowsAtOnce, C - m);
      const auto total = add_up(product_part + e * P * matrix + m * wide, P, matrix, rows * wide);
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t c = 0; c < C; ++c) to.pointwise[(e * C + m + i) * C + c] = T(total[i * wide + c]);
    });
  }
  if (to.depthwise)
    parallel_for(s.edges * (wide / L), threads, [&](int64_t unit) {
      const int64_t e = unit / (wide / L), first = unit % (wide / L) * L, size = wide * s.taps();
      const auto total = add_up(tap_part + e * s.images * size + first * s.taps(), s.images, size, L * s.taps());
      for (int64_t c = first; c < std::min(first + L, C); ++c)
        for (int64_t t = 0; t < s.taps(); ++t) to.depthwise[(e * C + c) * s.taps() + t] = T(total[t * L + c - first]);
    });
  if (to.sums)
    for (int64_t e = 0; e < 2 * s.edges; ++e)  // of both sums
      for (int64_t g = 0; g < s.groups; ++g)
        for (int64_t c = 0; c < C; ++c) {
          double total = 0;
          for (int64_t n = g * s.per_group(); n < (g + 1) * s.per_group(); ++n)
            total += sum_parts[(e * s.images + n) * wide + c];
          to.sums[s.table(e, g) + c] = T(total);
        }
}

Shape check_inputs(const std::vector<TensorView>& x, const TensorView& depthwise, const TensorView& pointwise,
                   const std::vector<TensorView>& norm, const TensorView* table, int64_t dilation,
                   const std::vector<TensorView>& out) {
  check(!x.empty() && x[0].dim() == 4 && depthwise.dim() == 4,
        "separable_stack: maps [N,C,H,W] and depthwise [E,C,k,k]");
  const TensorView& map = x[0];
  check(map.dtype == DType::F32 || map.dtype == DType::F64, "separable_stack: float32 or float64");
  const int64_t E = depthwise.size(0), C = map.size(1), k = depthwise.size(2);
  check(k % 2 == 1 && dilation >= 1, "separable_stack: an odd kernel, a dilation of at least 1");
  const int64_t inputs = static_cast<int64_t>(x.size());
  check(inputs == 1 || inputs == E, "separable_stack: one input or one per edge");
  check(static_cast<int64_t>(out.size()) == E, "separable_stack: one output per edge");
  for (const TensorView& t : x) check_map(t, map, "separable_stack: x");
  for (const TensorView& t : out) check_map(t, map, "separable_stack: out");
  check_table(depthwise, map, {E, C, k, k}, "separable_stack: depthwise");
  check_table(pointwise, map, {E, C, C}, "separable_stack: pointwise");
  check(norm.empty() || norm.size() == 3, "separable_stack: norm is empty or mean, scale, beta");
  check(norm.empty() || inputs == E, "separable_stack: a norm takes an input per edge");
  int64_t groups = 1;
  if (table) {
    check(table->dim() == 3 && table->size(1) >= 1, "separable_stack: tables [E,G,C]");
    groups = table->size(1);
    check(map.size(0) % groups == 0, "separable_stack: groups must divide N");
  }
  if (!norm.empty()) {
    check_table(norm[0], map, {E, groups, C}, "separable_stack: mean");
    check_table(norm[1], map, {E, groups, C}, "separable_stack: scale");
    check_table(norm[2], map, {E, C}, "separable_stack: beta");
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

void separable_stack(const std::vector<TensorView>& x, const TensorView& depthwise, const TensorView& pointwise,
                     const std::vector<TensorView>& norm, int64_t dilation, double slope,
                     const std::vector<TensorView>& out, const std::vector<TensorView>& moments, int threads) {
  check(moments.empty() || moments.size() == 2, "separable_stack: moments are none or mean, variance");
  const TensorView* table = !norm.empty() ? &norm[0] : !moments.empty() ? &moments[0] : nullptr;
  const Shape s = check_inputs(x, depthwise, pointwise, norm, table, dilation, out);
  for (const TensorView& t : moments) check_table(t, x[0], {s.edges, s.groups, s.channels}, "separable_stack: moments");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    T *mean = moments.empty() ? nullptr : moments[0].ptr<T>(), *var = moments.empty() ? nullptr : moments[1].ptr<T>();
    forward<T>(s, readers<T>(x), depthwise.ptr<T>(), pointwise.ptr<T>(), norm_of<T>(norm), T(slope), pointers<T>(out),
               mean, var, s.threads(threads));
  };
  x[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

void separable_stack_backward(const std::vector<TensorView>& grad, const std::vector<TensorView>& through,
                              const std::vector<TensorView>& x, const TensorView& depthwise,
                              const TensorView& pointwise, const std::vector<TensorView>& norm, int64_t dilation,
                              double slope, bool add, const std::vector<TensorView>& grad_x,
                              const TensorView& grad_depthwise, const TensorView& grad_pointwise,
                              const TensorView& sums, int threads) {
  const size_t E = grad.size();
  check(through.empty() || through.size() == E + 4, "separable_stack: through is empty or maps and four tables");
  const TensorView* table = !norm.empty() ? &norm[0] : !through.empty() ? &through[E] : nullptr;
  const Shape s = check_inputs(x, depthwise, pointwise, norm, table, dilation, grad);
  for (size_t i = 0; i < through.size(); ++i)
    if (i < E)
      check_map(through[i], x[0], "separable_stack: map of the norm behind");
    else
      check_table(through[i], x[0], {s.edges, s.groups, s.channels}, "separable_stack: table of the norm behind");
  check(grad_x.empty() || grad_x.size() == x.size(), "separable_stack: one gradient per input, or none");
  for (const TensorView& t : grad_x) check_map(t, x[0], "separable_stack: gradient of x");
  if (grad_depthwise.numel()) check_table(grad_depthwise, x[0], depthwise.sizes, "separable_stack: gradient of DW");
  if (grad_pointwise.numel()) check_table(grad_pointwise, x[0], pointwise.sizes, "separable_stack: gradient of PW");
  if (sums.numel()) {
    check(!norm.empty() && !grad_x.empty() && !add, "separable_stack: sums need a norm and the gradient of x alone");
    check_table(sums, x[0], {2, s.edges, s.groups, s.channels}, "separable_stack: sums");
  }
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    const auto pointer = [](const TensorView& t) { return t.numel() ? t.ptr<T>() : nullptr; };
    const Gradients<T> to{pointers<T>(grad_x), pointer(grad_depthwise), pointer(grad_pointwise), pointer(sums), add};
    Through<T> behind;
    if (!through.empty()) {
      behind.y = readers<T>({through.begin(), through.begin() + E});
      behind.mean = through[E].ptr<T>(), behind.factor = through[E + 1].ptr<T>();
      behind.shift = through[E + 2].ptr<T>(), behind.tilt = through[E + 3].ptr<T>();
    }
    backward<T>(s, readers<T>(grad), behind, readers<T>(x), depthwise.ptr<T>(), pointwise.ptr<T>(), norm_of<T>(norm),
                T(slope), to, s.threads(threads));
  };
  x[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
