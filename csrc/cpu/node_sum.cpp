// node_sum on CPU: out = sum_b w_b phi_b(z_b), z = (y - mean) scale + beta, scale = gamma / sqrt(var + eps), over
// [rows, C] matrices (channels-last; a BN group is a run of rows). phi is z > 0 ? z : slope z, with slope 1 for the
// kind NORM; IDENTITY is NORM with mean 0, scale 1, beta 0.
//   forward   moments of every branch per chunk of rows (shifted by the chunk's first row: a sample of the set, so
//             nothing cancels), joined by Chan's formula; then one pass over row tiles reads every branch and
//             writes the node.
//   backward  S1 = sum g phi'(z), S2 = sum g phi'(z) yhat per chunk, joined; dgamma = w S2, dbeta = w S1,
//             dw = sum_c gamma S2 + beta S1 (phi is homogeneous); then dy = w scale (g phi' - S1/M - yhat S2/M). Small
//             maps take these steps branch by branch, large ones step by step.
// Chunks do not depend on the number of threads and are joined in order, in double: nor does any bit of the result.
#include "cpu/node_sum.h"

#include <algorithm>
#include <cmath>

#include "cpu/isa.h"
#include "cpu/moments.h"
#include "cpu/parallel.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kChunk = 256;  // rows per partial sum
constexpr int64_t kTile = 16;    // rows of the node that stay in the first-level cache while the branches stream by

constexpr int64_t kWhole = 1 << 19;  // elements of a map that is still in the caches when it is read again

enum Kind : int64_t { IDENTITY = 0, NORM = 1, NORM_LRELU = 2 };

struct Shape {
  int64_t branches, groups, rows, channels;  // rows of one group

  int threads(int wanted) const { return worthwhile_threads(branches * groups * rows * channels, 1 << 15, wanted); }
  int64_t chunks() const { return (rows + kChunk - 1) / kChunk; }
  int64_t chunk_rows(int64_t k) const { return std::min(kChunk, rows - k * kChunk); }
  int64_t at(int64_t b, int64_t g) const { return (b * groups + g) * channels; }  // in [B, G, C]
  int64_t at(int64_t b, int64_t g, int64_t k) const {                             // in [B, G, chunks, C]
    return ((b * groups + g) * chunks() + k) * channels;
  }
  int64_t row(int64_t g, int64_t r) const { return (g * rows + r) * channels; }  // in [G rows, C]
};

// Coefficients of one branch in one group: arrays of C.
template <class T>
struct Norm {
  const T *mean, *scale, *beta;
  T slope;
};

// The kernels walk one row after the other (coefficients come from the first-level cache): several rows at once would
// save instructions but break the pattern that the hardware prefetcher follows; measured half as fast.

// out = w phi(z) for the first branch, out += for the others. The tile read next is somewhere else in memory: it is
// fetched ahead by hand (measured 1.6 times as fast).
template <bool First, class T>
inline CHASE_FAST_FLAT void accumulate(const T* y, const T* next, int64_t rows, int64_t C, Norm<T> n, T w, T* out) {
  constexpr int64_t line = 64 / sizeof(T);
  for (int64_t r = 0; r < rows; ++r, y += C, next += C, out += C) {
    for (int64_t c = 0; c < C; c += line) __builtin_prefetch(next + c, 0, 2);
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const T z = (y[c] - n.mean[c]) * n.scale[c] + n.beta[c];
      const T value = w * z * (z > 0 ? T(1) : n.slope);
      if (First)
        out[c] = value;
      else
        out[c] += value;
    }
  }
}

// s1 = sum g phi'(z), s2 = sum g phi'(z) (y - mean): [C].
template <class T>
inline CHASE_FAST_FLAT void sums(const T* y, const T* g, int64_t rows, int64_t C, Norm<T> n, T* s1, T* s2) {
  std::fill(s1, s1 + C, T(0));
  std::fill(s2, s2 + C, T(0));
  for (int64_t r = 0; r < rows; ++r, y += C, g += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const T d = y[c] - n.mean[c];
      const T v = g[c] * (d * n.scale[c] + n.beta[c] > 0 ? T(1) : n.slope);
      s1[c] += v;
      s2[c] += v * d;
    }
  }
}

// dy = factor (g phi'(z) - shift - tilt (y - mean)).
template <class T>
inline CHASE_FAST_FLAT void input_grad(const T* y, const T* g, int64_t rows, int64_t C, Norm<T> n, const T* factor,
                                       const T* shift, const T* tilt, T* dy) {
  for (int64_t r = 0; r < rows; ++r, y += C, g += C, dy += C) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      const T d = y[c] - n.mean[c];
      const T v = g[c] * (d * n.scale[c] + n.beta[c] > 0 ? T(1) : n.slope);
      dy[c] = factor[c] * (v - shift[c] - tilt[c] * d);
    }
  }
}

// dy of an IDENTITY.
template <class T>
inline CHASE_FAST_FLAT void scaled(const T* g, int64_t rows, int64_t C, T w, T* dy) {
#pragma omp simd
  for (int64_t i = 0; i < rows * C; ++i) dy[i] = w * g[i];
}

// mean, var [B,G,C] of this batch; rows of IDENTITY are left alone.
template <class T>
void batch_moments(const Shape& s, const std::vector<const T*>& branches, const std::vector<int64_t>& kinds, T* mean,
                   T* var, int threads) {
  const int64_t C = s.channels, K = s.chunks();
  std::vector<T> part_mean(s.at(s.branches, 0, 0)), part_m2(part_mean.size());
  parallel_for(s.branches * s.groups * K, threads, [&](int64_t i) {
    const int64_t b = i / (s.groups * K), g = i / K % s.groups, k = i % K;
    if (kinds[b] == IDENTITY) return;
    const T* y = branches[b] + s.row(g, k * kChunk);
    const int64_t rows = s.chunk_rows(k), at = s.at(b, g, k);
    T *m = part_mean.data() + at, *m2 = part_m2.data() + at;
    vectorised([=]() CHASE_FAST_FLAT { moments(y, rows, C, m, m2); });
  });
  parallel_for(s.branches * s.groups, threads, [&](int64_t i) {
    const int64_t b = i / s.groups, g = i % s.groups;
    if (kinds[b] == IDENTITY) return;
    join_moments(
        part_mean.data() + s.at(b, g, 0), part_m2.data() + s.at(b, g, 0), K, C,
        [&](int64_t k) { return s.chunk_rows(k); }, mean + s.at(b, g), var + s.at(b, g));
  });
}

// gamma / sqrt(var + eps) as [B,G,C], and the affine part of IDENTITY made neutral.
template <class T>
struct Coefficients {
  std::vector<T> rstd, scale, beta;  // [B,G,C]
  std::vector<T> slope;              // [B]
  const T* mean;
  const Shape& shape;

  Coefficients(const Shape& s, const std::vector<int64_t>& kinds, const T* mean_, const T* var, const T* gamma,
               const T* beta_, double eps, double slope_)
      : rstd(s.at(s.branches, 0)), scale(rstd.size()), beta(rstd.size()), slope(s.branches), mean(mean_), shape(s) {
    for (int64_t b = 0; b < s.branches; ++b) {
      const bool identity = kinds[b] == IDENTITY;
      slope[b] = kinds[b] == NORM_LRELU ? T(slope_) : T(1);
      for (int64_t g = 0; g < s.groups; ++g)
        for (int64_t c = 0; c < s.channels; ++c) {
          const int64_t i = s.at(b, g) + c, p = b * s.channels + c;
          rstd[i] = identity ? T(1) : T(1 / std::sqrt(double(var[i]) + eps));
          scale[i] = identity ? T(1) : gamma[p] * rstd[i];
          beta[i] = identity ? T(0) : beta_[p];
        }
    }
  }

  Norm<T> at(int64_t b, int64_t g) const {
    const int64_t i = shape.at(b, g);
    return {mean + i, scale.data() + i, beta.data() + i, slope[b]};
  }
};

template <class T>
std::vector<const T*> pointers(const std::vector<TensorView>& views) {
  std::vector<const T*> out;
  for (const TensorView& v : views) out.push_back(v.ptr<T>());
  return out;
}

template <class T>
void forward(const Shape& s, const std::vector<TensorView>& views, const T* w, const T* gamma, const T* beta,
             const T* running_mean, const T* running_var, const std::vector<int64_t>& kinds, bool training, double eps,
             double slope, T* out, T* mean, T* var, int threads) {
  const std::vector<const T*> branches = pointers<T>(views);
  const int64_t C = s.channels;
  for (int64_t b = 0; b < s.branches; ++b)
    for (int64_t g = 0; g < s.groups; ++g) {
      T *m = mean + s.at(b, g), *v = var + s.at(b, g);
      if (kinds[b] == IDENTITY) {
        std::fill(m, m + C, T(0));
        std::fill(v, v + C, T(1));
      } else if (!training) {
        std::copy(running_mean + b * C, running_mean + (b + 1) * C, m);
        std::copy(running_var + b * C, running_var + (b + 1) * C, v);
      }
    }
  if (training) batch_moments(s, branches, kinds, mean, var, threads);

  const Coefficients<T> norm(s, kinds, mean, var, gamma, beta, eps, slope);
  const int64_t tiles = (s.rows + kTile - 1) / kTile;
  parallel_for(s.groups * tiles, threads, [&](int64_t i) {
    const int64_t g = i / tiles, t = i % tiles;
    const int64_t at = s.row(g, t * kTile), rows = std::min(kTile, s.rows - t * kTile);
    for (int64_t b = 0; b < s.branches; ++b) {
      const T* y = branches[b] + at;
      const Norm<T> n = norm.at(b, g);
      const T* next = b + 1 < s.branches ? branches[b + 1] + at : branches[0] + at + rows * C;
      const T weight = w[b];
      T* o = out + at;
      if (b == 0)
        vectorised([=]() CHASE_FAST_FLAT { accumulate<true>(y, next, rows, C, n, weight, o); });
      else
        vectorised([=]() CHASE_FAST_FLAT { accumulate<false>(y, next, rows, C, n, weight, o); });
    }
  });
}

template <class T>
void backward(const Shape& s, const T* grad, const std::vector<TensorView>& views, const T* w, const T* gamma,
              const T* beta, const T* mean, const T* var, const std::vector<int64_t>& kinds, bool training, double eps,
              double slope, const std::vector<TensorView>& grad_views, T* grad_w, T* grad_gamma, T* grad_beta,
              int threads) {
  const std::vector<const T*> branches = pointers<T>(views);
  const Coefficients<T> norm(s, kinds, mean, var, gamma, beta, eps, slope);
  const int64_t C = s.channels, K = s.chunks();

  std::vector<T> part1(s.at(s.branches, 0, 0)), part2(part1.size());
  const auto sum = [&](int64_t b, int64_t g, int64_t k) {
    const T *y = branches[b] + s.row(g, k * kChunk), *u = grad + s.row(g, k * kChunk);
    const int64_t rows = s.chunk_rows(k), at = s.at(b, g, k);
    const Norm<T> n = norm.at(b, g);
    T *s1 = part1.data() + at, *s2 = part2.data() + at;
    vectorised([=]() CHASE_FAST_FLAT { sums(y, u, rows, C, n, s1, s2); });
  };

  std::vector<T> factor(s.at(s.branches, 0)), shift(factor.size()), tilt(factor.size());
  const auto join = [&](int64_t b) {
    const bool identity = kinds[b] == IDENTITY, batch = training && !identity;
    double dot = 0;
    for (int64_t c = 0; c < C; ++c) {
      double all1 = 0, all2 = 0;  // over the groups
      for (int64_t g = 0; g < s.groups; ++g) {
        const int64_t i = s.at(b, g) + c;
        double s1 = 0, s2 = 0;
        for (int64_t k = 0; k < K; ++k) {
          s1 += part1[s.at(b, g, k) + c];
          s2 += part2[s.at(b, g, k) + c];
        }
        s2 *= norm.rstd[i];
        factor[i] = w[b] * norm.scale[i];
        shift[i] = batch ? T(s1 / s.rows) : T(0);
        tilt[i] = batch ? T(s2 * norm.rstd[i] / s.rows) : T(0);
        all1 += s1;
        all2 += s2;
      }
      const int64_t p = b * C + c;
      dot += identity ? all2 : gamma[p] * all2 + beta[p] * all1;
      grad_gamma[p] = identity ? T(0) : T(w[b] * all2);
      grad_beta[p] = identity ? T(0) : T(w[b] * all1);
    }
    grad_w[b] = T(dot);
  };

  const auto write = [&](int64_t b, int64_t g, int64_t k) {
    if (grad_views[b].numel() == 0) return;
    const int64_t at = s.row(g, k * kChunk), rows = s.chunk_rows(k), table = s.at(b, g);
    const T *y = branches[b] + at, *u = grad + at;
    const T *f = factor.data() + table, *sh = shift.data() + table, *ti = tilt.data() + table;
    const Norm<T> n = norm.at(b, g);
    T* dy = grad_views[b].ptr<T>() + at;
    if (kinds[b] == IDENTITY) return vectorised([=]() CHASE_FAST_FLAT { scaled(u, rows, C, f[0], dy); });
    vectorised([=]() CHASE_FAST_FLAT { input_grad(y, u, rows, C, n, f, sh, ti, dy); });
  };

  const auto chunks_of = [&](int64_t b, const auto& f) {
    for (int64_t i = 0; i < s.groups * K; ++i) f(b, i / K, i % K);
  };
  if (s.branches >= 4 * threads && s.groups * s.rows * C <= kWhole) {
    parallel_for(s.branches, threads, [&](int64_t b) {
      chunks_of(b, sum);
      join(b);
      chunks_of(b, write);
    });
    return;
  }
  // the branches innermost: this chunk of grad stays in the second-level cache
  const auto all = [&](const auto& f) {
    parallel_for(s.groups * K * s.branches, threads,
                 [&](int64_t i) { f(i % s.branches, i / s.branches / K, i / s.branches % K); });
  };
  all(sum);
  parallel_for(s.branches, threads, join);
  all(write);
}

void check_map(const TensorView& t, const TensorView& like, const char* what) {
  check_shape(t, like.sizes, what);
  check_dtype(t, like.dtype, what);
  check(t.channels_last(), std::string(what) + ": must be channels-last");
}

void check_table(const TensorView& t, const TensorView& like, const std::vector<int64_t>& shape, const char* what) {
  check_shape(t, shape, what);
  check_dtype(t, like.dtype, what);
  check(t.contiguous(), std::string(what) + ": must be contiguous");
}

Shape check_inputs(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
                   const TensorView& beta, const std::vector<int64_t>& kinds, int64_t groups) {
  check(!branches.empty() && branches.size() == kinds.size(), "node_sum: one kind per branch, at least one branch");
  const TensorView& y = branches[0];
  check(y.dtype == DType::F32 || y.dtype == DType::F64, "node_sum: float32 or float64");
  for (const TensorView& branch : branches) check_map(branch, y, "node_sum: branch");
  check(groups > 0 && y.size(0) % groups == 0, "node_sum: groups must divide N");
  const int64_t B = static_cast<int64_t>(branches.size()), C = y.size(1);
  check_table(weights, y, {B}, "node_sum: weights");
  check_table(gamma, y, {B, C}, "node_sum: gamma");
  check_table(beta, y, {B, C}, "node_sum: beta");
  return {B, groups, y.size(0) / groups * y.size(2) * y.size(3), C};
}

}  // namespace

void node_sum(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
              const TensorView& beta, const TensorView& running_mean, const TensorView& running_var,
              const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
              const TensorView& out, const TensorView& mean, const TensorView& var, int threads) {
  const Shape s = check_inputs(branches, weights, gamma, beta, kinds, groups);
  check_table(running_mean, branches[0], {s.branches, s.channels}, "node_sum: running mean");
  check_table(running_var, branches[0], {s.branches, s.channels}, "node_sum: running var");
  check_map(out, branches[0], "node_sum: out");
  check_table(mean, branches[0], {s.branches, groups, s.channels}, "node_sum: mean");
  check_table(var, branches[0], {s.branches, groups, s.channels}, "node_sum: var");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    forward<T>(s, branches, weights.ptr<T>(), gamma.ptr<T>(), beta.ptr<T>(), running_mean.ptr<T>(),
               running_var.ptr<T>(), kinds, training, eps, slope, out.ptr<T>(), mean.ptr<T>(), var.ptr<T>(),
               s.threads(threads));
  };
  branches[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

void node_sum_backward(const TensorView& grad_out, const std::vector<TensorView>& branches, const TensorView& weights,
                       const TensorView& gamma, const TensorView& beta, const TensorView& mean, const TensorView& var,
                       const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
                       const std::vector<TensorView>& grad_branches, const TensorView& grad_weights,
                       const TensorView& grad_gamma, const TensorView& grad_beta, int threads) {
  const Shape s = check_inputs(branches, weights, gamma, beta, kinds, groups);
  check_map(grad_out, branches[0], "node_sum: gradient of out");
  check_table(mean, branches[0], {s.branches, groups, s.channels}, "node_sum: mean");
  check_table(var, branches[0], {s.branches, groups, s.channels}, "node_sum: var");
  check(grad_branches.size() == branches.size(), "node_sum: one gradient per branch");
  for (const TensorView& grad : grad_branches)
    if (grad.numel()) check_map(grad, branches[0], "node_sum: gradient of a branch");
  check_table(grad_weights, branches[0], {s.branches}, "node_sum: gradient of weights");
  check_table(grad_gamma, branches[0], {s.branches, s.channels}, "node_sum: gradient of gamma");
  check_table(grad_beta, branches[0], {s.branches, s.channels}, "node_sum: gradient of beta");
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    backward<T>(s, grad_out.ptr<T>(), branches, weights.ptr<T>(), gamma.ptr<T>(), beta.ptr<T>(), mean.ptr<T>(),
                var.ptr<T>(), kinds, training, eps, slope, grad_branches, grad_weights.ptr<T>(), grad_gamma.ptr<T>(),
                grad_beta.ptr<T>(), s.threads(threads));
  };
  branches[0].dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
