// Batch norm over [rows, C] matrices (channels-last; a group is a run of rows). Moments per chunk of rows, shifted by
// the chunk's first row (a sample of the set, so nothing cancels), joined by Chan's formula in order, in double: no bit
// depends on the number of threads. Backward: dx = scale (g - S1/M - (x - mean) S2/(M (var + eps))), the last two terms
// with batch statistics only; dgamma = sum over groups of S2 / sqrt(var + eps), dbeta of S1.
#include "cpu/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "cpu/parallel.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kChunk = 256;      // rows per partial sum
constexpr int64_t kGrain = 1 << 16;  // elements per thread

// mean and m2 [C] (sum of squared deviations) of y [rows, C].
template <class T>
inline CHASE_FAST_FLAT void moments(const T* y, int64_t rows, int64_t C, T* mean, T* m2) {
  std::fill(mean, mean + C, T(0));
  std::fill(m2, m2 + C, T(0));
  const T* shift = y;
  for (int64_t r = 0; r < rows; ++r, y += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const T d = y[c] - shift[c];
      mean[c] += d;
      m2[c] += d * d;
    }
  }
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) {
    const T s = mean[c];
    mean[c] = shift[c] + s / T(rows);
    m2[c] -= s * s / T(rows);
  }
}

// g = factor (g - shift - tilt (x - mean)) in place; arrays of C.
template <class T>
inline CHASE_FAST_FLAT void input_grad(const T* x, int64_t rows, int64_t C, const T* mean, const T* factor,
                                       const T* shift, const T* tilt, T* g) {
  for (int64_t r = 0; r < rows; ++r, x += C, g += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) g[c] = factor[c] * (g[c] - shift[c] - tilt[c] * (x[c] - mean[c]));
  }
}

template <class T>
inline CHASE_FAST_FLAT void scale_rows(int64_t rows, int64_t C, const T* factor, T* g) {
  for (int64_t r = 0; r < rows; ++r, g += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) g[c] *= factor[c];
  }
}

struct Shape {
  int64_t maps, groups, rows, channels;  // rows of one group

  int64_t size() const { return maps * groups * channels; }
};

Shape check_inputs(const std::vector<TensorView>& maps, const TensorView& mean, const TensorView& var) {
  check(!maps.empty() && maps[0].dim() == 4 && mean.dim() == 3, "batch_norm: maps [N,C,H,W], statistics [E,G,C]");
  const TensorView& map = maps[0];
  check(map.dtype == DType::F32 || map.dtype == DType::F64, "batch_norm: float32 or float64");
  for (const TensorView& t : maps) check_map(t, map, "batch_norm: map");
  const int64_t E = static_cast<int64_t>(maps.size()), G = mean.size(1), C = map.size(1);
  check(G > 0 && map.size(0) % G == 0, "batch_norm: groups must divide N");
  check_table(mean, map, {E, G, C}, "batch_norm: mean");
  check_table(var, map, {E, G, C}, "batch_norm: var");
  return {E, G, map.size(0) / G * map.size(2) * map.size(3), C};
}

template <class T>
void backward(const Shape& s, const T* sums, const std::vector<TensorView>& maps, const T* mean, const T* var,
              const T* scale, bool training, double eps, const std::vector<TensorView>& grads, T* grad_gamma,
              T* grad_beta, int threads) {
  const int64_t C = s.channels, size = s.size();
  std::vector<T> shift(training ? size : 0), tilt(shift.size());
  for (int64_t e = 0; e < s.maps; ++e)
    for (int64_t c = 0; c < C; ++c) {
      double to_gamma = 0, to_beta = 0;
      for (int64_t g = 0; g < s.groups; ++g) {
        const int64_t i = (e * s.groups + g) * C + c;
        const double rstd = 1 / std::sqrt(double(var[i]) + eps), s1 = sums[i], s2 = sums[size + i] * rstd;
        to_gamma += s2;
        to_beta += s1;
        if (training) {
          shift[i] = T(s1 / s.rows);
          tilt[i] = T(s2 * rstd / s.rows);
        }
      }
      grad_gamma[e * C + c] = T(to_gamma);
      grad_beta[e * C + c] = T(to_beta);
    }
  if (grads.empty()) return;
  const int64_t K = (s.rows + kChunk - 1) / kChunk;
  parallel_for(s.maps * s.groups * K, worthwhile_threads(s.size() * s.rows, kGrain, threads), [&](int64_t unit) {
    const int64_t e = unit / (s.groups * K), g = unit / K % s.groups, k = unit % K, i = (e * s.groups + g) * C;
    const int64_t at = (g * s.rows + k * kChunk) * C, rows = std::min(kChunk, s.rows - k * kChunk);
    const T *x = maps[e].ptr<T>() + at, *m = mean + i, *f = scale + i, *sh = shift.data() + i, *ti = tilt.data() + i;
    T* dx = grads[e].ptr<T>() + at;
    if (training)
      vectorised([=]() CHASE_FAST_FLAT { input_grad(x, rows, C, m, f, sh, ti, dx); });
    else
      vectorised([=]() CHASE_FAST_FLAT { scale_rows(rows, C, f, dx); });
  });
}

}  // namespace

template <class T>
void batch_moments(const std::vector<const T*>& maps, int64_t groups, int64_t rows, int64_t C, T* mean, T* var,
                   int threads) {
  const int64_t E = static_cast<int64_t>(maps.size()), K = (rows + kChunk - 1) / kChunk;
  std::vector<T> part_mean(E * groups * K * C), part_m2(part_mean.size());
  const auto rows_of = [=](int64_t k) { return std::min(kChunk, rows - k * kChunk); };
  parallel_for(E * groups * K, worthwhile_threads(E * groups * rows * C, kGrain, threads), [&](int64_t unit) {
    const int64_t e = unit / (groups * K), g = unit / K % groups, k = unit % K, count = rows_of(k);
    const T* y = maps[e] + (g * rows + k * kChunk) * C;
    T *m = part_mean.data() + unit * C, *m2 = part_m2.data() + unit * C;
    vectorised([=]() CHASE_FAST_FLAT { moments(y, count, C, m, m2); });
  });
  for (int64_t i = 0; i < E * groups; ++i)
    for (int64_t c = 0; c < C; ++c) {
      double m = 0, m2 = 0, count = 0;
      for (int64_t k = 0; k < K; ++k) {
        const int64_t at = (i * K + k) * C + c;
        const double n = rows_of(k), delta = part_mean[at] - m;
        m += delta * n / (count + n);
        m2 += part_m2[at] + delta * delta * n * count / (count + n);
        count += n;
      }
      mean[i * C + c] = T(m);
      var[i * C + c] = T(m2 / count);
    }
}

template void batch_moments<float>(const std::vector<const float*>&, int64_t, int64_t, int64_t, float*, float*, int);
template void batch_moments<double>(const std::vector<const double*>&, int64_t, int64_t, int64_t, double*, double*,
                                    int);

void batch_norm_statistics(const std::vector<TensorView>& maps, const TensorView& mean, const TensorView& var,
                           int threads) {
  const Shape s = check_inputs(maps, mean, var);
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    std::vector<const T*> pointers;
    for (const TensorView& map : maps) pointers.push_back(map.ptr<T>());
    batch_moments<T>(pointers, s.groups, s.rows, s.channels, mean.ptr<T>(), var.ptr<T>(), threads);
  };
  maps[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

void batch_norm_backward(const TensorView& sums, const std::vector<TensorView>& maps, const TensorView& mean,
                         const TensorView& var, const TensorView& scale, bool training, double eps,
                         const std::vector<TensorView>& grads, const TensorView& grad_gamma,
                         const TensorView& grad_beta, int threads) {
  const Shape s = check_inputs(maps, mean, var);
  check_table(scale, maps[0], mean.sizes, "batch_norm: scale");
  check_table(sums, maps[0], {2, s.maps, s.groups, s.channels}, "batch_norm: sums");
  check_table(grad_gamma, maps[0], {s.maps, s.channels}, "batch_norm: gradient of gamma");
  check_table(grad_beta, maps[0], {s.maps, s.channels}, "batch_norm: gradient of beta");
  check(grads.empty() || grads.size() == maps.size(), "batch_norm: one gradient per map, or none");
  for (const TensorView& t : grads) check_map(t, maps[0], "batch_norm: gradient of a map");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(s, sums.ptr<T>(), maps, mean.ptr<T>(), var.ptr<T>(), scale.ptr<T>(), training, eps, grads,
                grad_gamma.ptr<T>(), grad_beta.ptr<T>(), threads);
  };
  maps[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
