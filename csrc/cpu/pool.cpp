// 3x3 pools at stride 1 and their batch norm. A unit of work is one image and one strip of channels in planes with a
// border of one pixel (strip.h), -infinity around the maximum's input and zero elsewhere.
//   forward   pool, moments of the result (batch_norm.cpp), normalise in place.
//   backward  S1 = sum g, S2 = sum g yhat per image, joined in order in double; then per unit the gradient of the pool,
//             dp = (g - S1/M - yhat S2/M) / sqrt(var + eps), and gathered from the windows around a pixel: the average
//             its share of each, the maximum those that chose the pixel.
// No bit depends on the number of threads.
#include "cpu/pool.h"

#include <cmath>
#include <limits>

#include "cpu/batch_norm.h"
#include "cpu/parallel.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {
namespace {

struct Shape {
  int64_t groups, images, channels;
  Plane plane;

  int64_t map() const { return plane.pixels() * channels; }  // elements of an image
  int64_t per_group() const { return images / groups; }
  int threads(int wanted) const { return worthwhile_threads(images * map(), 1 << 16, wanted); }

  int64_t count(int64_t y, int64_t x) const {  // pixels of the window around (y, x) inside the map
    const auto inside = [](int64_t at, int64_t size) { return 1 + (at > 0) + (at + 1 < size); };
    return inside(y, plane.height) * inside(x, plane.width);
  }
};

template <class Vec>
struct Windows {
  using T = typename Vec::T;
  using V = typename Vec::V;

  // The maximum of the window whose first pixel is `in`, NaN if there is one; with Index also where it first stands.
  template <bool Index>
  static inline CHASE_FAST_FLAT void maximum(const V* in, int64_t PW, V& best, V& index) {
    best = in[0];
    index = V{};
#pragma GCC unroll 9
    for (int t = 1; t < 9; ++t) {
      const V value = in[t / 3 * PW + t % 3];
      const auto take = (value > best) | (value != value);
      best = take ? value : best;
      if (Index) index = take ? V{} + T(t) : index;
    }
  }

  static inline CHASE_FAST_FLAT void total(const V* in, int64_t PW, V& sum) {
    sum = V{};
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) sum += in[t / 3 * PW + t % 3];
  }

  // Sum of the gradients around a pixel (middle of the window `grad`) whose window chose that pixel.
  static inline CHASE_FAST_FLAT void chosen(const V* grad, const V* index, int64_t PW, V& sum) {
    sum = V{};
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) {
      const int64_t at = t / 3 * PW + t % 3;
      sum += index[at] == V{} + T(8 - t) ? grad[at] : V{};
    }
  }
};

template <class T, class F>
void for_strips(const Shape& s, int threads, const F& f) {
  const int64_t lanes = vector_lanes<T>(), strips = (s.channels + kStrip * lanes - 1) / (kStrip * lanes);
  parallel_for(s.images * strips, threads, [&](int64_t unit) { f(unit / strips, unit % strips); });
}

template <class T>
void forward(const Shape& s, const T* x, bool max, bool training, double eps, const T* running_mean,
             const T* running_var, T* out, T* mean, T* var, int threads) {
  const int64_t C = s.channels;
  for_strips<T>(s, threads, [&](int64_t n, int64_t number) {
    with_vectors<T>([&](auto vectors) CHASE_FAST_FLAT {
      using Vec = decltype(vectors);
      using V = typename Vec::V;
      const Strip strip = Vec::strip(number, C);
      const int64_t padded = s.plane.padded(), PW = s.plane.padded_width(), at = n * s.map() + strip.first;
      V* planes = reinterpret_cast<V*>(thread_scratch<0>(kStrip * padded * sizeof(V)));
      Vec::fill_border(s.plane, strip.vectors, max ? -std::numeric_limits<T>::infinity() : T(0), planes);
      Vec::fill(x + at, s.plane, C, strip, [](V&, int64_t, int64_t) CHASE_FAST_FLAT {}, planes);
      for (int64_t v = 0; v < strip.vectors; ++v)
        for (int64_t py = 0; py < s.plane.height; ++py)
          for (int64_t px = 0; px < s.plane.width; ++px) {
            const V* in = planes + v * padded + py * PW + px;
            V value, index;
            if (max) {
              Windows<Vec>::template maximum<false>(in, PW, value, index);
            } else {
              Windows<Vec>::total(in, PW, value);
              value *= T(1) / T(s.count(py, px));
            }
            Vec::store(value, Vec::lanes(strip, v), out + at + v * Vec::L + (py * s.plane.width + px) * C);
          }
    });
  });
  const int64_t rows = s.per_group() * s.plane.pixels();
  if (training) {
    batch_moments<T>({out}, s.groups, rows, C, mean, var, threads);
  } else {
    for (int64_t g = 0; g < s.groups; ++g) {
      std::copy(running_mean, running_mean + C, mean + g * C);
      std::copy(running_var, running_var + C, var + g * C);
    }
  }
  std::vector<T> rstd(s.groups * C);
  for (size_t i = 0; i < rstd.size(); ++i) rstd[i] = T(1 / std::sqrt(double(var[i]) + eps));
  parallel_for(s.images, threads, [&](int64_t n) {
    const T *m = mean + n / s.per_group() * C, *r = rstd.data() + n / s.per_group() * C;
    T* y = out + n * s.map();
    const int64_t pixels = s.plane.pixels();
    vectorised([=]() CHASE_FAST_FLAT {
      for (int64_t p = 0; p < pixels; ++p)
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) y[p * C + c] = (y[p * C + c] - m[c]) * r[c];
    });
  });
}

// S1/M and S2/M [G, C].
template <class T>
void mean_sums(const Shape& s, const T* grad, const T* out, T* s1, T* s2, int threads) {
  const int64_t C = s.channels, pixels = s.plane.pixels();
  std::vector<T> parts(2 * s.images * C);
  parallel_for(s.images, threads, [&](int64_t n) {
    const T *g = grad + n * s.map(), *y = out + n * s.map();
    T *a = parts.data() + 2 * n * C, *b = a + C;
    vectorised([=]() CHASE_FAST_FLAT {
      for (int64_t p = 0; p < pixels; ++p)
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) {
          a[c] += g[p * C + c];
          b[c] += g[p * C + c] * y[p * C + c];
        }
    });
  });
  for (int64_t g = 0; g < s.groups; ++g)
    for (int64_t c = 0; c < C; ++c) {
      double a = 0, b = 0;
      for (int64_t n = g * s.per_group(); n < (g + 1) * s.per_group(); ++n) {
        a += parts[2 * n * C + c];
        b += parts[(2 * n + 1) * C + c];
      }
      s1[g * C + c] = T(a / (s.per_group() * pixels));
      s2[g * C + c] = T(b / (s.per_group() * pixels));
    }
}

template <class T>
void backward(const Shape& s, const T* grad, const T* x, bool max, const T* out, const T* var, bool training,
              double eps, bool add, T* grad_x, int threads) {
  const int64_t C = s.channels;
  std::vector<T> s1(s.groups * C), s2(s.groups * C), rstd(s.groups * C);
  for (size_t i = 0; i < rstd.size(); ++i) rstd[i] = T(1 / std::sqrt(double(var[i]) + eps));
  if (training) mean_sums(s, grad, out, s1.data(), s2.data(), threads);
  for_strips<T>(s, threads, [&](int64_t n, int64_t number) {
    with_vectors<T>([&](auto vectors) CHASE_FAST_FLAT {
      using Vec = decltype(vectors);
      using V = typename Vec::V;
      const Strip strip = Vec::strip(number, C);
      const Plane& p = s.plane;
      const int64_t padded = p.padded(), PW = p.padded_width(), at = n * s.map() + strip.first;
      V* g = reinterpret_cast<V*>(thread_scratch<0>(kStrip * padded * sizeof(V)));
      V a[kStrip] = {}, b[kStrip] = {}, r[kStrip] = {};
      for (int64_t v = 0; v < strip.vectors; ++v) {
        const int64_t i = n / s.per_group() * C + strip.first + v * Vec::L, lanes = Vec::lanes(strip, v);
        Vec::load(s1.data() + i, lanes, a[v]);
        Vec::load(s2.data() + i, lanes, b[v]);
        Vec::load(rstd.data() + i, lanes, r[v]);
      }
      const auto through_norm = [&](V& value, int64_t v, int64_t offset) CHASE_FAST_FLAT {
        V y;
        Vec::load(out + at + offset, Vec::lanes(strip, v), y);
        value = (value - a[v] - b[v] * y) * r[v];
      };
      Vec::fill_border(p, strip.vectors, T(0), g);
      Vec::fill(grad + at, p, C, strip, through_norm, g);
      V* in = max ? reinterpret_cast<V*>(thread_scratch<1>((kStrip + 1) * padded * sizeof(V))) : nullptr;
      V* index = in + kStrip * padded;  // one plane
      if (max) {
        Vec::fill_border(p, strip.vectors, -std::numeric_limits<T>::infinity(), in);
        Vec::fill(x + at, p, C, strip, [](V&, int64_t, int64_t) CHASE_FAST_FLAT {}, in);
        Vec::fill_border(p, 1, T(-1), index);
      }
      for (int64_t v = 0; v < strip.vectors; ++v) {
        V* gv = g + v * padded;
        for (int64_t py = 0; py < p.height; ++py)
          for (int64_t px = 0; px < p.width; ++px) {
            const int64_t first = py * PW + px, middle = first + PW + 1;
            V best;
            if (max)
              Windows<Vec>::template maximum<true>(in + v * padded + first, PW, best, index[middle]);
            else
              gv[middle] *= T(1) / T(s.count(py, px));
          }
        for (int64_t py = 0; py < p.height; ++py)
          for (int64_t px = 0; px < p.width; ++px) {
            const int64_t first = py * PW + px, lanes = Vec::lanes(strip, v);
            T* to = grad_x + at + v * Vec::L + (py * p.width + px) * C;
            V sum, before = {};
            if (max)
              Windows<Vec>::chosen(gv + first, index + first, PW, sum);
            else
              Windows<Vec>::total(gv + first, PW, sum);
            if (add) Vec::load(to, lanes, before);
            Vec::store(sum + before, lanes, to);
          }
      }
    });
  });
}

Shape check_inputs(const TensorView& x, const TensorView& out, const TensorView& var) {
  check(x.dim() == 4 && var.dim() == 3 && var.size(1) > 0, "pool_norm: x [N,C,H,W], statistics [1,G,C]");
  check(x.dtype == DType::F32 || x.dtype == DType::F64, "pool_norm: float32 or float64");
  const int64_t groups = var.size(1);
  check(x.size(0) % groups == 0, "pool_norm: groups must divide N");
  check_map(x, x, "pool_norm: x");
  check_map(out, x, "pool_norm: out");
  check_table(var, x, {1, groups, x.size(1)}, "pool_norm: var");
  return {groups, x.size(0), x.size(1), {x.size(2), x.size(3), 1}};
}

}  // namespace

void pool_norm(const TensorView& x, bool max, const TensorView& running_mean, const TensorView& running_var,
               bool training, double eps, const TensorView& out, const TensorView& mean, const TensorView& var,
               int threads) {
  const Shape s = check_inputs(x, out, var);
  check_table(mean, x, var.sizes, "pool_norm: mean");
  if (!training) {
    check_table(running_mean, x, {1, s.channels}, "pool_norm: running mean");
    check_table(running_var, x, {1, s.channels}, "pool_norm: running var");
  }
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    forward<T>(s, x.ptr<T>(), max, training, eps, running_mean.ptr<T>(), running_var.ptr<T>(), out.ptr<T>(),
               mean.ptr<T>(), var.ptr<T>(), s.threads(threads));
  };
  x.dtype == DType::F32 ? call(float{}) : call(double{});
}

void pool_norm_backward(const TensorView& grad, const TensorView& x, bool max, const TensorView& out,
                        const TensorView& var, bool training, double eps, bool add, const TensorView& grad_x,
                        int threads) {
  const Shape s = check_inputs(x, out, var);
  check_map(grad, x, "pool_norm: gradient of out");
  check_map(grad_x, x, "pool_norm: gradient of x");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(s, grad.ptr<T>(), x.ptr<T>(), max, out.ptr<T>(), var.ptr<T>(), training, eps, add, grad_x.ptr<T>(),
                s.threads(threads));
  };
  x.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
