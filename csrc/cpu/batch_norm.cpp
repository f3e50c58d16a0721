// Moments per chunk of rows (moments.h), so that no bit depends on the number of threads. Backward:
//   dx = scale (g - S1/M - (x - mean) S2/(M (var + eps))), the last two terms with batch statistics only;
//   dgamma = sum over groups of S2 / sqrt(var + eps), dbeta of S1.
#include "cpu/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "cpu/moments.h"
#include "cpu/parallel.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kChunk = 256;      // rows per partial sum
constexpr int64_t kGrain = 1 << 16;  // elements per thread

template <class T>
void backward(const T* sums, const TensorView& var_view, int64_t rows, bool training, double eps, T* shift, T* tilt,
              T* grad_gamma, T* grad_beta) {
  const int64_t E = var_view.size(0), G = var_view.size(1), C = var_view.size(2), size = E * G * C;
  const T* var = var_view.ptr<T>();
  for (int64_t e = 0; e < E; ++e)
    for (int64_t c = 0; c < C; ++c) {
      double to_gamma = 0, to_beta = 0;
      for (int64_t g = 0; g < G; ++g) {
        const int64_t i = (e * G + g) * C + c;
        const double rstd = 1 / std::sqrt(double(var[i]) + eps), s1 = sums[i], s2 = sums[size + i] * rstd;
        to_gamma += s2;
        to_beta += s1;
        shift[i] = training ? T(s1 / rows) : T(0);
        tilt[i] = training ? T(s2 * rstd / rows) : T(0);
      }
      grad_gamma[e * C + c] = T(to_gamma);
      grad_beta[e * C + c] = T(to_beta);
    }
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
    join_moments(part_mean.data() + i * K * C, part_m2.data() + i * K * C, K, C, rows_of, mean + i * C, var + i * C);
}

template void batch_moments<float>(const std::vector<const float*>&, int64_t, int64_t, int64_t, float*, float*, int);
template void batch_moments<double>(const std::vector<const double*>&, int64_t, int64_t, int64_t, double*, double*,
                                    int);

void batch_norm_backward(const TensorView& sums, const TensorView& var, int64_t rows, bool training, double eps,
                         const TensorView& shift, const TensorView& tilt, const TensorView& grad_gamma,
                         const TensorView& grad_beta, int /*threads*/) {
  check(var.dim() == 3, "batch_norm: var [E,G,C]");
  check(var.dtype == DType::F32 || var.dtype == DType::F64, "batch_norm: float32 or float64");
  check(rows > 0, "batch_norm: statistics of at least one row");
  const int64_t E = var.size(0), G = var.size(1), C = var.size(2);
  check_table(var, var, var.sizes, "batch_norm: var");
  check_table(sums, var, {2, E, G, C}, "batch_norm: sums");
  check_table(shift, var, var.sizes, "batch_norm: shift");
  check_table(tilt, var, var.sizes, "batch_norm: tilt");
  check_table(grad_gamma, var, {E, C}, "batch_norm: gradient of gamma");
  check_table(grad_beta, var, {E, C}, "batch_norm: gradient of beta");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(sums.ptr<T>(), var, rows, training, eps, shift.ptr<T>(), tilt.ptr<T>(), grad_gamma.ptr<T>(),
                grad_beta.ptr<T>());
  };
  var.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
