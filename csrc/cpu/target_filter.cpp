// target_filter on CPU. The products with the features are those of tap_products.h; here are the solvers around them,
// with the losses of target_losses.h. A step reads the features once: the gradient G of a block of channels is finished
// and at once multiplied by the same features (the response u = X G); scores follow without another product.
//   step      r = dloss/ds;  G = X^T r + lambda f;  u = X G;  N = |G|^2;  D = max(1e-8, c + (lambda + eps) N)
//             a = eta N / D;  f' = f - a G;  s' = s - a u
// The backward keeps the adjoints F of f and S of s and goes through the steps from the last one:
//             A = -<F, G> - <S, u>;  gradients of N, D, c, lambda and log eta (A a) from A
//             gu = -a S + dc/du;  gG = -a F + 2 gN G + X^T gu;  gr = X gG      (again one reading of the features)
//             F += lambda gG + dloss;  S += dc/ds + dr/ds
// The gradient of the features is the sum of 2T + 1 outer products (gu, G), (r, gG), (S, f of the start): one large
// matrix product, left to BLAS; the factors are returned.
#include "cpu/target_filter.h"

#include <cmath>

#include "cpu/parallel.h"
#include "cpu/tap_products.h"
#include "cpu/target_losses.h"

namespace chase_fast::cpu {
namespace {

constexpr double kSmallest = 1e-8;  // of the denominator D

// to [size] (+)= scale * from
template <class T>
void add_scaled(T scale, const T* from, T* to, int64_t size) {
  vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) to[i] += scale * from[i];
  });
}

template <class T>
T inner(const T* a, const T* b, int64_t size) {
  T result = 0, *out = &result;
  vectorised([=]() CHASE_FAST_FLAT { *out = dot(a, b, size); });
  return result;
}

template <class T>
T regulariser(const TensorView& scalars, const SolverConstants& constants) {
  const T root = scalars.ptr<T>()[1];
  return std::max(root * root, T(constants.min_filter_reg * constants.min_filter_reg));
}

// f(begin, count, threads) for every sequence, or for all together if there are more threads than sequences: the
// features of one sequence stay in the last-level cache from step to step. Results do not depend on it.
template <class F>
void by_sequence(int64_t s, int threads, const F& f) {
  if (s < threads)
    f(0, s, threads);
  else
    parallel_for(s, threads, [&](int64_t q) { f(q, 1, 1); });
}

// A solver on some sequences of a batch. Arrays of a step: filters [s, filter], maps [n, s, map].
template <class T, class Loss>
class Solver {
 public:
  Solver(const TensorView& features, int64_t k, const std::vector<TensorView>& maps, const TensorView& scalars,
         const TensorView& weight, const SolverConstants& constants, int threads, int64_t begin, int64_t count)
      : products_(features, k, threads, begin, count),
        begin_(begin),
        count_(count),
        z_(products_.sizes()),
        images_(z_.n * z_.s),
        filters_(z_.s * z_.filter()),
        cells_(images_ * z_.map()),
        threads_(products_.threads()),
        loss_(images_, z_.map(), pointers(maps), weight.ptr<T>(), constants.with_extra, T(constants.softmax_reg)),
        step_(std::exp(scalars.ptr<T>()[0])),
        reg_(regulariser<T>(scalars, constants)),
        damping_(reg_ + T(constants.alpha_eps)) {}

  void forward(const T* start, int64_t iterations, T* iterates, double* losses, T* gradients, T* scores, T* responses) {
    std::vector<T> residual(cells_), image_values(images_);
    std::copy(start + begin_ * z_.filter(), start + (begin_ + count_) * z_.filter(), iterates + begin_ * z_.filter());
    products_.response(1, iterates, scores);
    for (int64_t i = 0;; ++i) {
      T *f = iterates + i * filters_, *s = scores + i * cells_;
      each_image(
          [&](int64_t j) { image_values[j] = loss_.residual(j, s + j * z_.map(), residual.data() + j * z_.map()); });
      for (int64_t q = begin_; q < begin_ + count_; ++q) losses[i * z_.s + q] = loss(q, f, image_values);
      if (i == iterations) return;
      T *g = gradients + i * filters_, *u = responses + i * cells_;
      products_.gradient(1, residual.data(), f, reg_, g, u);
      const std::vector<Step> steps = descent(g, s, u);
      each_sequence([&](int64_t q) {
        const T factor = -steps[q].factor;
        const int64_t at = q * z_.filter();
        std::copy(f + at, f + at + z_.filter(), f + filters_ + at);
        add_scaled(factor, g + at, f + filters_ + at, z_.filter());
        for (int64_t frame = 0; frame < z_.n; ++frame) {
          const int64_t map = (frame * z_.s + q) * z_.map();
          std::copy(s + map, s + map + z_.map(), s + cells_ + map);
          add_scaled(factor, u + map, s + cells_ + map, z_.map());
        }
      });
    }
  }

  void backward(int64_t iterations, const T* iterates, const T* gradients, const T* scores, const T* responses,
                const T* grad_iterates, const T* grad_losses, T* grad_filter, const std::vector<TensorView>& grad_maps,
                double* to_reg, double* to_log_step, T* grad_weight, T* out_filters, T* out_maps) {
    const std::vector<T*> to_maps = pointers_to(grad_maps);
    each_image([&](int64_t j) {
      for (T* map : to_maps) std::fill(map + j * z_.map(), map + (j + 1) * z_.map(), T(0));
      grad_weight[j] = 0;
    });
    const int64_t own = begin_ * z_.filter(), own_size = count_ * z_.filter();
    const T* last = grad_iterates + iterations * filters_ + own;
    T* to_f = grad_filter;
    std::copy(last, last + own_size, to_f + own);
    std::vector<T> to_s(cells_), to_residual(cells_);

    const auto start = [&](int64_t i, T* residual) {  // prepares the losses at iterate i
      each_image([&](int64_t j) { loss_.residual(j, scores + i * cells_ + j * z_.map(), residual + j * z_.map()); });
    };
    const auto through_loss = [&](int64_t i, const T* from_residual) {  // loss i and residual i
      const T to_loss = grad_losses[i] / T(z_.s);
      each_image([&](int64_t j) {
        const int64_t at = j * z_.map();
        loss_.backward_residual(j, scores + i * cells_ + at, from_residual ? from_residual + at : nullptr, to_loss,
                                to_s.data() + at, to_maps, grad_weight);
      });
      for (int64_t q = begin_; q < begin_ + count_; ++q) {
        const T* f = iterates + i * filters_ + q * z_.filter();
        to_reg[q] += to_loss * inner(f, f, z_.filter());
        add_scaled(2 * to_loss * reg_, f, to_f + q * z_.filter(), z_.filter());
      }
    };

    start(iterations, to_residual.data());
    through_loss(iterations, nullptr);
    for (int64_t i = iterations - 1; i >= 0; --i) {
      const T *f = iterates + i * filters_, *g = gradients + i * filters_, *s = scores + i * cells_;
      const T* u = responses + i * cells_;
      T *to_u = out_maps + i * cells_, *residual = out_maps + (iterations + i) * cells_;
      T* to_g = out_filters + i * filters_;
      start(i, residual);
      const std::vector<Step> steps = descent(g, s, u);
      each_sequence([&](int64_t q) {
        const int64_t at = q * z_.filter();
        const Step step = steps[q];
        double to_factor = -inner(to_f + at, g + at, z_.filter());
        for (int64_t frame = 0; frame < z_.n; ++frame) {
          const int64_t map = (frame * z_.s + q) * z_.map();
          to_factor -= inner(to_s.data() + map, u + map, z_.map());
        }
        const double to_bottom = step.clamped ? 0 : -to_factor * step.factor / step.bottom;
        const double to_squared = to_factor * step_ / step.bottom + to_bottom * damping_;
        to_log_step[q] += to_factor * step.factor;
        to_reg[q] += to_bottom * step.squared;
        std::fill(to_g + at, to_g + at + z_.filter(), T(0));
        add_scaled(-step.factor, to_f + at, to_g + at, z_.filter());
        add_scaled(T(2 * to_squared), g + at, to_g + at, z_.filter());
        for (int64_t frame = 0; frame < z_.n; ++frame) {
          const int64_t j = frame * z_.s + q, map = j * z_.map();
          std::fill(to_u + map, to_u + map + z_.map(), T(0));
          add_scaled(-step.factor, to_s.data() + map, to_u + map, z_.map());
          loss_.backward_curvature(j, s + map, u + map, T(to_bottom), to_u + map, to_s.data() + map, to_maps,
                                   grad_weight);
        }
      });
      products_.gradient(1, to_u, to_g, T(1), to_g, to_residual.data());
      each_sequence([&](int64_t q) {
        const int64_t at = q * z_.filter();
        to_reg[q] += inner(to_g + at, f + at, z_.filter());
      });
      add_scaled(reg_, to_g + own, to_f + own, own_size);
      through_loss(i, to_residual.data());
      add_scaled(T(1), grad_iterates + i * filters_ + own, to_f + own, own_size);
    }
    each_image([&](int64_t j) {
      const int64_t at = j * z_.map();
      std::copy(to_s.data() + at, to_s.data() + at + z_.map(), out_maps + 2 * iterations * cells_ + at);
    });
    products_.gradient(1, to_s.data(), to_f, T(1), grad_filter, nullptr);
  }

 private:
  struct Step {
    T squared, bottom, factor;  // N, D, a
    bool clamped;
  };

  static std::vector<const T*> pointers(const std::vector<TensorView>& views) {
    std::vector<const T*> out;
    for (const TensorView& v : views) out.push_back(v.ptr<T>());
    return out;
  }

  static std::vector<T*> pointers_to(const std::vector<TensorView>& views) {
    std::vector<T*> out;
    for (const TensorView& v : views) out.push_back(v.ptr<T>());
    return out;
  }

  // Data losses [n, s] and regulariser of one sequence.
  double loss(int64_t q, const T* f, const std::vector<T>& data) const {
    double sum = reg_ * inner(f + q * z_.filter(), f + q * z_.filter(), z_.filter());
    for (int64_t frame = 0; frame < z_.n; ++frame) sum += data[frame * z_.s + q];
    return sum;
  }

  // Step of every sequence along gradients g with responses u, at the prepared scores s.
  std::vector<Step> descent(const T* g, const T* s, const T* u) {
    std::vector<Step> steps(z_.s);
    each_sequence([&](int64_t q) {
      T curvature = 0;
      for (int64_t frame = 0; frame < z_.n; ++frame) {
        const int64_t j = frame * z_.s + q, at = j * z_.map();
        curvature += loss_.curvature(j, s + at, u + at);
      }
      const T squared = inner(g + q * z_.filter(), g + q * z_.filter(), z_.filter());
      const T bottom = curvature + damping_ * squared;
      const bool clamped = bottom < T(kSmallest);
      steps[q].squared = squared;
      steps[q].bottom = clamped ? T(kSmallest) : bottom;
      steps[q].factor = step_ * squared / steps[q].bottom;
      steps[q].clamped = clamped;
    });
    return steps;
  }

  template <class F>
  void each_image(const F& f) {
    parallel_for(z_.n * count_, threads_, [&](int64_t i) { f(i / count_ * z_.s + begin_ + i % count_); });
  }

  template <class F>
  void each_sequence(const F& f) {
    parallel_for(count_, threads_, [&](int64_t i) { f(begin_ + i); });
  }

  TapProducts<T> products_;
  const int64_t begin_, count_;  // its sequences
  const Sizes z_;
  const int64_t images_, filters_, cells_;  // elements of a step
  const int threads_;
  Loss loss_;
  const T step_, reg_, damping_;  // eta, lambda, lambda + alpha_eps
};

double sum(const double* values, int64_t size) {
  double total = 0;
  for (int64_t i = 0; i < size; ++i) total += values[i];
  return total;
}

void check_features(const TensorView& x) {
  check(x.dim() == 5 && (x.dtype == DType::F32 || x.dtype == DType::F64), "target_filter: features float [n,s,C,H,W]");
  const int64_t C = x.size(2), H = x.size(3), W = x.size(4);
  const auto strides = [&](int64_t c, int64_t h, int64_t w) {
    return (C == 1 || x.stride(2) == c) && (H == 1 || x.stride(3) == h) && (W == 1 || x.stride(4) == w);
  };
  check(strides(H * W, W, 1) || strides(1, W * C, C), "target_filter: features: images contiguous or channels-last");
}

void check_array(const TensorView& t, const TensorView& like, const std::vector<int64_t>& shape, const char* what) {
  const std::string name = std::string("target_filter: ") + what;
  check_shape(t, shape, name.c_str());
  check_dtype(t, like.dtype, name.c_str());
  check(t.contiguous(), name + ": must be contiguous");
}

Sizes sizes_of(const TensorView& x, int64_t k) { return {x.size(0), x.size(1), x.size(2), x.size(3), x.size(4), k}; }

template <class F>
void by_dtype(const TensorView& x, const F& call) {
  x.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace

void target_filter_apply(const TensorView& features, const TensorView& filters, const TensorView& out, int threads) {
  check_features(features);
  const int64_t m = filters.size(0);
  const Sizes z = sizes_of(features, filters.size(filters.dim() - 1));
  check_array(filters, features, {m, z.s, z.C, z.k, z.k}, "filters");
  check_array(out, features, {m, z.n, z.s, z.rows(), z.columns()}, "scores");
  by_dtype(features, [&](auto zero) {
    using T = decltype(zero);
    TapProducts<T>(features, z.k, threads).response(m, filters.ptr<T>(), out.ptr<T>());
  });
}

void target_filter_apply_transpose(const TensorView& features, const TensorView& residual, const TensorView& out,
                                   int threads) {
  check_features(features);
  const int64_t m = out.size(0);
  const Sizes z = sizes_of(features, out.size(out.dim() - 1));
  check_array(residual, features, {m, z.n, z.s, z.rows(), z.columns()}, "residual");
  check_array(out, features, {m, z.s, z.C, z.k, z.k}, "adjoint");
  by_dtype(features, [&](auto zero) {
    using T = decltype(zero);
    TapProducts<T>(features, z.k, threads).gradient(m, residual.ptr<T>(), nullptr, T(0), out.ptr<T>(), nullptr);
  });
}

void target_filter_unfold(const TensorView& maps, int64_t k, const TensorView& out, int threads) {
  check(maps.dim() == 5, "target_filter: maps [m,n,s,H',W']");
  const int64_t m = maps.size(0), even = (k + 1) % 2;
  const Sizes z{maps.size(1), maps.size(2), 1, maps.size(3) - even, maps.size(4) - even, k};
  check_array(maps, maps, maps.sizes, "maps");
  check_array(out, maps, {z.n, z.s, z.pixels(), m * z.taps()}, "unfolded maps");
  by_dtype(maps, [&](auto zero) {
    using T = decltype(zero);
    const int64_t images = z.n * z.s, pitch = m * z.taps();
    parallel_for(images, worthwhile_threads(out.numel(), 1 << 14, threads), [&](int64_t i) {
      for (int64_t j = 0; j < m; ++j)
        unfold(z, maps.ptr<T>() + (j * images + i) * z.map(), out.ptr<T>() + i * z.pixels() * pitch + j * z.taps(),
               pitch);
    });
  });
}

void target_filter_solve(const TensorView& features, const TensorView& filter, const std::vector<TensorView>& maps,
                         const TensorView& scalars, const TensorView& weight, const SolverConstants& constants,
                         const TensorView& iterates, const TensorView& losses, const TensorView& gradients,
                         const TensorView& scores, const TensorView& responses, int threads) {
  check_features(features);
  const Sizes z = sizes_of(features, filter.size(filter.dim() - 1));
  const int64_t T = gradients.size(0), rows = z.rows(), columns = z.columns();
  check_array(filter, features, {z.s, z.C, z.k, z.k}, "filter");
  for (const TensorView& map : maps) check_array(map, features, {z.n, z.s, rows, columns}, "map");
  check_array(scalars, features, {2}, "scalars");
  check_array(weight, features, {z.n, z.s}, "sample weight");
  check_array(iterates, features, {T + 1, z.s, z.C, z.k, z.k}, "iterates");
  check_array(losses, features, {T + 1}, "losses");
  check_array(gradients, features, {T, z.s, z.C, z.k, z.k}, "gradients");
  check_array(scores, features, {T + 1, z.n, z.s, rows, columns}, "scores");
  check_array(responses, features, {T, z.n, z.s, rows, columns}, "responses");
  by_dtype(features, [&](auto zero) {
    using S = decltype(zero);
    std::vector<double> parts((T + 1) * z.s);  // losses of the sequences
    const auto run = [&](auto loss) {
      by_sequence(z.s, worthwhile_threads(features.numel(), 1 << 14, threads),
                  [&](int64_t begin, int64_t count, int inner_threads) {
                    Solver<S, decltype(loss)>(features, z.k, maps, scalars, weight, constants, inner_threads, begin,
                                              count)
                        .forward(filter.ptr<S>(), T, iterates.ptr<S>(), parts.data(), gradients.ptr<S>(),
                                 scores.ptr<S>(), responses.ptr<S>());
                  });
    };
    maps.size() == KlTarget<S>::kMaps ? run(KlTarget<S>()) : run(SquaredTarget<S>());
    for (int64_t i = 0; i <= T; ++i) losses.ptr<S>()[i] = S(sum(parts.data() + i * z.s, z.s) / double(z.s));
  });
}

void target_filter_solve_backward(const TensorView& features, const std::vector<TensorView>& maps,
                                  const TensorView& scalars, const TensorView& weight, const SolverConstants& constants,
                                  const TensorView& iterates, const TensorView& gradients, const TensorView& scores,
                                  const TensorView& responses, const TensorView& grad_iterates,
                                  const TensorView& grad_losses, const TensorView& grad_filter,
                                  const std::vector<TensorView>& grad_maps, const TensorView& grad_scalars,
                                  const TensorView& grad_weight, const TensorView& out_filters,
                                  const TensorView& out_maps, int threads) {
  check_features(features);
  const Sizes z = sizes_of(features, iterates.size(iterates.dim() - 1));
  const int64_t T = gradients.size(0), rows = z.rows(), columns = z.columns();
  check(maps.size() == grad_maps.size(), "target_filter: one gradient per map");
  for (const TensorView& map : maps) check_array(map, features, {z.n, z.s, rows, columns}, "map");
  for (const TensorView& map : grad_maps) check_array(map, features, {z.n, z.s, rows, columns}, "gradient of a map");
  check_array(scalars, features, {2}, "scalars");
  check_array(grad_scalars, features, {2}, "gradient of scalars");
  check_array(weight, features, {z.n, z.s}, "sample weight");
  check_array(grad_weight, features, {z.n, z.s}, "gradient of sample weight");
  check_array(iterates, features, {T + 1, z.s, z.C, z.k, z.k}, "iterates");
  check_array(grad_iterates, features, iterates.sizes, "gradient of iterates");
  check_array(grad_losses, features, {T + 1}, "gradient of losses");
  check_array(gradients, features, {T, z.s, z.C, z.k, z.k}, "gradients");
  check_array(scores, features, {T + 1, z.n, z.s, rows, columns}, "scores");
  check_array(responses, features, {T, z.n, z.s, rows, columns}, "responses");
  check_array(grad_filter, features, {z.s, z.C, z.k, z.k}, "gradient of filter");
  check_array(out_filters, features, gradients.sizes, "factors of the features' gradient");
  check_array(out_maps, features, {2 * T + 1, z.n, z.s, rows, columns}, "factors of the features' gradient");
  by_dtype(features, [&](auto zero) {
    using S = decltype(zero);
    std::vector<double> to_reg(z.s), to_log_step(z.s);
    const auto run = [&](auto loss) {
      by_sequence(
          z.s, worthwhile_threads(features.numel(), 1 << 14, threads),
          [&](int64_t begin, int64_t count, int inner_threads) {
            Solver<S, decltype(loss)>(features, z.k, maps, scalars, weight, constants, inner_threads, begin, count)
                .backward(T, iterates.ptr<S>(), gradients.ptr<S>(), scores.ptr<S>(), responses.ptr<S>(),
                          grad_iterates.ptr<S>(), grad_losses.ptr<S>(), grad_filter.ptr<S>(), grad_maps, to_reg.data(),
                          to_log_step.data(), grad_weight.ptr<S>(), out_filters.ptr<S>(), out_maps.ptr<S>());
          });
    };
    maps.size() == KlTarget<S>::kMaps ? run(KlTarget<S>()) : run(SquaredTarget<S>());
    const S root = scalars.ptr<S>()[1];
    const bool free = root * root >= S(constants.min_filter_reg * constants.min_filter_reg);
    grad_scalars.ptr<S>()[0] = S(sum(to_log_step.data(), z.s));
    grad_scalars.ptr<S>()[1] = free ? S(2 * sum(to_reg.data(), z.s) * root) : S(0);
  });
}

}  // namespace chase_fast::cpu
