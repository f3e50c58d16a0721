// kl_loss on CPU: loss = log(a sum exp s) - a sum p s per score map s, for R maps per density p (iterates share one).
//   forward   one task per map, which stays in the first-level cache: maximum, then sum of exp and cross term together.
//   backward  ds = g (exp(s - normaliser) - a p) per map; dp = -a sum over the R maps of g s, in order.
#include "cpu/kl_loss.h"

#include <algorithm>
#include <cmath>

#include "cpu/exp.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kGrain = 1 << 14;  // cells per thread at least

struct Shape {
  int64_t repeats, densities, cells;
  int64_t maps() const { return repeats * densities; }
  int threads(int wanted) const { return worthwhile_threads(maps() * cells, kGrain, wanted); }
};

// (normaliser, sum p s) of one map.
template <class T>
inline CHASE_FAST_FLAT void statistics(const T* s, const T* p, int64_t cells, T* normaliser, T* cross) {
  T top = s[0], sum = 0, dot = 0;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < cells; ++i) top = s[i] > top ? s[i] : top;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t i = 0; i < cells; ++i) {
    sum += exponential(s[i] - top);
    dot += p[i] * s[i];
  }
  *normaliser = top + std::log(sum);
  *cross = dot;
}

template <class T>
void forward(const Shape& z, const T* scores, const T* density, T scale, T* loss, T* normaliser, int threads) {
  const T log_scale = std::log(scale);
  parallel_for(z.maps(), z.threads(threads), [&](int64_t j) {
    const T *s = scores + j * z.cells, *p = density + j % z.densities * z.cells;
    const int64_t cells = z.cells;
    T cross = 0, *cross_out = &cross, *normaliser_out = normaliser + j;
    vectorised([=]() CHASE_FAST_FLAT { statistics(s, p, cells, normaliser_out, cross_out); });
    loss[j] = normaliser[j] + log_scale - scale * cross;
  });
}

template <class T>
void to_scores(const Shape& z, const T* grad, const T* scores, const T* density, const T* normaliser, T scale, T* out,
               int threads) {
  parallel_for(z.maps(), z.threads(threads), [&](int64_t j) {
    const T *s = scores + j * z.cells, *p = density + j % z.densities * z.cells, g = grad[j], top = normaliser[j];
    T* to = out + j * z.cells;
    const int64_t cells = z.cells;
    vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
      for (int64_t i = 0; i < cells; ++i) to[i] = g * (exponential(s[i] - top) - scale * p[i]);
    });
  });
}

template <class T>
void to_density(const Shape& z, const T* grad, const T* scores, T scale, T* out, int threads) {
  parallel_for(z.densities, z.threads(threads), [&](int64_t d) {
    T* to = out + d * z.cells;
    std::fill(to, to + z.cells, T(0));
    for (int64_t j = d; j < z.maps(); j += z.densities) {
      const T *s = scores + j * z.cells, factor = -scale * grad[j];
      const int64_t cells = z.cells;
      vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
        for (int64_t i = 0; i < cells; ++i) to[i] += factor * s[i];
      });
    }
  });
}

void check_array(const TensorView& t, const TensorView& like, const std::vector<int64_t>& shape, const char* what) {
  check_shape(t, shape, what);
  check_dtype(t, like.dtype, what);
  check(t.contiguous(), std::string(what) + ": must be contiguous");
}

Shape check_inputs(const TensorView& scores, const TensorView& density, const TensorView& normaliser) {
  check(scores.dim() == 3 && scores.size(2) > 0, "kl_loss: scores [R,D,cells]");
  check(scores.dtype == DType::F32 || scores.dtype == DType::F64, "kl_loss: float32 or float64");
  const Shape z{scores.size(0), scores.size(1), scores.size(2)};
  check_array(scores, scores, scores.sizes, "kl_loss: scores");
  check_array(density, scores, {z.densities, z.cells}, "kl_loss: density");
  check_array(normaliser, scores, {z.repeats, z.densities}, "kl_loss: normaliser");
  return z;
}

}  // namespace

void kl_loss(const TensorView& scores, const TensorView& density, double grid_scale, const TensorView& loss,
             const TensorView& normaliser, int threads) {
  const Shape z = check_inputs(scores, density, normaliser);
  check_array(loss, scores, {z.repeats, z.densities}, "kl_loss: loss");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    forward<T>(z, scores.ptr<T>(), density.ptr<T>(), T(grid_scale), loss.ptr<T>(), normaliser.ptr<T>(), threads);
  };
  scores.dtype == DType::F32 ? call(float{}) : call(double{});
}

void kl_loss_backward(const TensorView& grad, const TensorView& scores, const TensorView& density,
                      const TensorView& normaliser, double grid_scale, const TensorView& grad_scores,
                      const TensorView& grad_density, int threads) {
  const Shape z = check_inputs(scores, density, normaliser);
  check_array(grad, scores, {z.repeats, z.densities}, "kl_loss: gradient of loss");
  if (grad_scores.numel()) check_array(grad_scores, scores, scores.sizes, "kl_loss: gradient of scores");
  if (grad_density.numel()) check_array(grad_density, scores, density.sizes, "kl_loss: gradient of density");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    const T *g = grad.ptr<T>(), *s = scores.ptr<T>(), scale = T(grid_scale);
    if (grad_scores.numel())
      to_scores<T>(z, g, s, density.ptr<T>(), normaliser.ptr<T>(), scale, grad_scores.ptr<T>(), threads);
    if (grad_density.numel()) to_density<T>(z, g, s, scale, grad_density.ptr<T>(), threads);
  };
  scores.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
