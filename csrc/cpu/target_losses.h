// The data losses of the two filter solvers on one score map, and the exact adjoints of what a solver step takes from
// them: residual r, curvature h. Formulas: kernels/target_filter/__init__.py. An image is a frame of a sequence, j its
// index in [n, s]; every method works on the `size` cells of one image and may run in parallel with other images.
//   residual            prepares the image for a score map s: writes r = d loss / d s, returns the loss
//   curvature           g h for the response u at the prepared s
//   backward_curvature  adjoint of that for its gradient gc: adds to gu (of u) and gs (of s)
//   backward_residual   adjoint of residual for the gradients gr of r (may be null) and gl of the loss: adds to gs
// Gradients of the maps and of the frame weights g are added to grad_maps and grad_weight.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cpu/exp.h"
#include "cpu/isa.h"
#include "view.h"

namespace chase_fast::cpu {

template <class T>
inline CHASE_FAST_FLAT T dot(const T* a, const T* b, int64_t size) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

// q [size] = exp(s - normaliser); returns normaliser = log(sum exp s + exp extra), without the second term if
// !with_extra.
template <class T>
inline CHASE_FAST_FLAT T softmax(const T* s, int64_t size, bool with_extra, T extra, T* q) {
  T top = with_extra ? extra : s[0], sum = 0;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < size; ++i) top = s[i] > top ? s[i] : top;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) {
    q[i] = exponential(s[i] - top);
    sum += q[i];
  }
  if (with_extra) sum += std::exp(extra - top);
  const T scale = 1 / sum;
#pragma omp simd
  for (int64_t i = 0; i < size; ++i) q[i] *= scale;
  return top + std::log(sum);
}

// PrDiMP: maps = {label density p}.
template <class T>
class KlTarget {
 public:
  static constexpr int kMaps = 1;

  KlTarget(int64_t images, int64_t size, const std::vector<const T*>& maps, const T* weight, bool with_extra, T extra)
      : size_(size),
        density_(maps[0]),
        weight_(weight),
        with_extra_(with_extra),
        extra_(extra),
        q_(images * size),
        normaliser_(images) {}

  T residual(int64_t j, const T* s, T* r) {
    const T *p = density_ + j * size_, weight = weight_[j], extra = extra_;
    T *q = q_.data() + j * size_, *normaliser = normaliser_.data() + j, loss = 0, *out = &loss;
    const int64_t size = size_;
    const bool with_extra = with_extra_;
    vectorised([=]() CHASE_FAST_FLAT {
      *normaliser = softmax(s, size, with_extra, extra, q);
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) r[i] = weight * (q[i] - p[i]);
      *out = weight * (*normaliser - dot(p, s, size));
    });
    return loss;
  }

  T curvature(int64_t j, const T*, const T* u) { return weight_[j] * std::max(newton(j, u).second, T(0)); }

  void backward_curvature(int64_t j, const T*, const T* u, T gc, T* gu, T* gs, const std::vector<T*>&, T* grad_weight) {
    const auto [mean, h] = newton(j, u);
    if (!(h >= 0)) return;
    grad_weight[j] += gc * h;
    const T *q = q_.data() + j * size_, gh = gc * weight_[j], centre = mean;
    const int64_t size = size_;
    vectorised([=]() CHASE_FAST_FLAT {  // h = sum q u^2 - mean^2
      T along = 0;                      // sum q dh/dq
#pragma omp simd reduction(+ : along)
      for (int64_t i = 0; i < size; ++i) along += q[i] * (u[i] * (u[i] - 2 * centre));
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        gu[i] += 2 * gh * q[i] * (u[i] - centre);
        gs[i] += gh * q[i] * (u[i] * (u[i] - 2 * centre) - along);
      }
    });
  }

  void backward_residual(int64_t j, const T* s, const T* gr, T gl, T* gs, const std::vector<T*>& grad_maps,
                         T* grad_weight) {
    const T *p = density_ + j * size_, *q = q_.data() + j * size_, weight = weight_[j], normaliser = normaliser_[j];
    T *gp = grad_maps[0] + j * size_, *gw = grad_weight + j;
    const int64_t size = size_;
    vectorised([=]() CHASE_FAST_FLAT {
      *gw += gl * (normaliser - dot(p, s, size));
      const T to_loss = gl * weight;
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        gs[i] += to_loss * (q[i] - p[i]);
        gp[i] -= to_loss * s[i];
      }
      if (!gr) return;
      const T along = dot(q, gr, size);
      *gw += along - dot(p, gr, size);
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        gs[i] += weight * q[i] * (gr[i] - along);
        gp[i] -= weight * gr[i];
      }
    });
  }

 private:
  // (mean of u under q, h before the clamp)
  std::pair<T, T> newton(int64_t j, const T* u) const {
    const T* q = q_.data() + j * size_;
    const int64_t size = size_;
    T mean = 0, h = 0, *mean_out = &mean, *h_out = &h;
    vectorised([=]() CHASE_FAST_FLAT {
      const T centre = dot(q, u, size);
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < size; ++i) sum += q[i] * u[i] * (u[i] - centre);
      *mean_out = centre;
      *h_out = sum;
    });
    return {mean, h};
  }

  int64_t size_;
  const T *density_, *weight_;
  bool with_extra_;
  T extra_;
  std::vector<T> q_, normaliser_;  // of the prepared score maps
};

// DiMP: maps = {label y, target mask m, spatial weight v}; V^2 = g v^2, so g is kept apart and may be 0.
template <class T>
class SquaredTarget {
 public:
  static constexpr int kMaps = 3;

  SquaredTarget(int64_t, int64_t size, const std::vector<const T*>& maps, const T* weight, bool, T)
      : size_(size), label_(maps[0]), mask_(maps[1]), cell_(maps[2]), weight_(weight) {}

  T residual(int64_t j, const T* s, T* r) {
    const T *y = label_ + j * size_, *m = mask_ + j * size_, *v = cell_ + j * size_, weight = weight_[j];
    const int64_t size = size_;
    T loss = 0, *out = &loss;
    vectorised([=]() CHASE_FAST_FLAT {
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < size; ++i) {
        const T error = v[i] * (score(s[i], m[i]) - y[i]);
        r[i] = weight * v[i] * slope(s[i], m[i]) * error;
        sum += error * error;
      }
      *out = weight * sum;
    });
    return loss;
  }

  T curvature(int64_t j, const T* s, const T* u) { return weight_[j] * gauss_newton(j, s, u); }

  void backward_curvature(int64_t j, const T* s, const T* u, T gc, T* gu, T*, const std::vector<T*>& grad_maps,
                          T* grad_weight) {
    grad_weight[j] += gc * gauss_newton(j, s, u);
    const T *m = mask_ + j * size_, *v = cell_ + j * size_, factor = 2 * gc * weight_[j];
    T *gm = grad_maps[1] + j * size_, *gv = grad_maps[2] + j * size_;
    const int64_t size = size_;
    vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
      for (int64_t i = 0; i < size; ++i) {
        const T a = slope(s[i], m[i]), tilt = v[i] * a;  // h = sum (tilt u)^2
        const T to_tilt = factor * tilt * u[i] * u[i];
        gu[i] += factor * tilt * tilt * u[i];
        gm[i] += to_tilt * v[i] * (1 - sign(s[i])) / 2;
        gv[i] += to_tilt * a;
      }
    });
  }

  void backward_residual(int64_t j, const T* s, const T* gr, T gl, T* gs, const std::vector<T*>& grad_maps,
                         T* grad_weight) {
    const T *y = label_ + j * size_, *m = mask_ + j * size_, *v = cell_ + j * size_, weight = weight_[j];
    T *gy = grad_maps[0] + j * size_, *gm = grad_maps[1] + j * size_, *gv = grad_maps[2] + j * size_;
    T* gw = grad_weight + j;
    const int64_t size = size_;
    vectorised([=]() CHASE_FAST_FLAT {
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < size; ++i) {
        const T to_r = gr ? gr[i] : T(0);
        const T a = slope(s[i], m[i]), difference = score(s[i], m[i]) - y[i];
        const T tilt = v[i] * a, error = v[i] * difference;  // loss = g sum error^2, r = g tilt error
        sum += gl * error * error + to_r * tilt * error;
        const T to_error = weight * (2 * gl * error + to_r * tilt), to_tilt = weight * to_r * error;
        gs[i] += to_error * tilt;
        gy[i] -= to_error * v[i];
        gm[i] += (to_error * v[i] * (s[i] - std::abs(s[i])) + to_tilt * v[i] * (1 - sign(s[i]))) / 2;
        gv[i] += to_error * difference + to_tilt * a;
      }
      *gw += sum;
    });
  }

 private:
  static inline CHASE_FAST_FLAT T sign(T s) { return s > 0 ? T(1) : s < 0 ? T(-1) : T(0); }
  static inline CHASE_FAST_FLAT T score(T s, T m) { return (1 - m) / 2 * std::abs(s) + (1 + m) / 2 * s; }  // a(s)
  static inline CHASE_FAST_FLAT T slope(T s, T m) { return (1 - m) / 2 * sign(s) + (1 + m) / 2; }          // a'(s)

  // sum (v a' u)^2
  T gauss_newton(int64_t j, const T* s, const T* u) const {
    const T *m = mask_ + j * size_, *v = cell_ + j * size_;
    const int64_t size = size_;
    T sum = 0, *out = &sum;
    vectorised([=]() CHASE_FAST_FLAT {
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t i = 0; i < size; ++i) {
        const T value = v[i] * slope(s[i], m[i]) * u[i];
        total += value * value;
      }
      *out = total;
    });
    return sum;
  }

  int64_t size_;
  const T *label_, *mask_, *cell_, *weight_;
};

}  // namespace chase_fast::cpu
