#include "cpu/separable_stack.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

template <class T>
void round(Random& random) {
  const int64_t E = random.integer(1, 3), inputs = random.chance(0.5) ? E : 1, G = random.integer(1, 2);
  const int64_t N = G * (random.chance(0.1) ? 10 : random.integer(1, 2)), C = random.channels();
  const int64_t H = random.integer(1, N > 4 ? 3 : 13), W = random.integer(1, N > 4 ? 3 : 13);
  const int64_t kernels[] = {3, 5, 3, 5, 1, 7}, k = kernels[random.integer(0, 5)];
  const int64_t dilation = random.integer(1, 3), padding = dilation * (k - 1) / 2, pixels = H * W, n = N * pixels * C;
  const int64_t table = E * G * C, rows = N / G * pixels;
  const double slope = random.chance(0.3) ? 1 : random.chance(0.5) ? 0 : random.uniform(0, 0.3);
  const bool normed = inputs == E && random.chance(0.5), behind = random.chance(0.5);
  std::vector<Array<T>> xs, grads, ys;
  std::vector<TensorView> x_views, grad_views, norm, through;
  for (int64_t e = 0; e < inputs; ++e) xs.push_back(std::move(Array<T>(n, random).normal(random)));
  for (int64_t e = 0; e < E; ++e) grads.push_back(std::move(Array<T>(n, random).normal(random)));
  for (int64_t e = 0; e < E; ++e) ys.push_back(std::move(Array<T>(n, random).normal(random)));
  for (const Array<T>& x : xs) x_views.push_back(x.map(N, C, H, W));
  for (const Array<T>& grad : grads) grad_views.push_back(grad.map(N, C, H, W));
  Array<T> weights(E * C * k * k, random), pointwise(E * C * C, random);
  Array<T> mean(table, random), scale(table, random), beta(E * C, random);
  Array<T> mean2(table, random), factor(table, random), shift(table, random), tilt(table, random);
  weights.normal(random), pointwise.normal(random);
  mean.normal(random), scale.uniform(random, 0.5, 1.5), beta.normal(random);
  mean2.normal(random), factor.uniform(random, 0.5, 1.5), shift.normal(random), tilt.normal(random);
  if (normed) norm = {mean.view({E, G, C}), scale.view({E, G, C}), beta.view({E, C})};
  if (behind) {
    for (const Array<T>& y : ys) through.push_back(y.map(N, C, H, W));
    for (const Array<T>* t : {&mean2, &factor, &shift, &tilt}) through.push_back(t->view({E, G, C}));
  }

  std::vector<double> between(E * n), out(E * n), to_between(E * n), to_x(inputs * n), to_weights(E * C * k * k);
  std::vector<double> to_pointwise(E * C * C), sums(2 * table), moments(2 * table);
  const auto place = [&](int64_t e, int64_t i) { return (e * G + i / C / pixels / (N / G)) * C + i % C; };
  // f(input element, tap, activated value, its derivative) for all taps of one output element
  const auto taps = [&](int64_t e, int64_t i, const auto& f) {
    const int64_t channel = i % C, ox = i / C % W, oy = i / C / W % H, image = i / C / pixels;
    for (int64_t ky = 0; ky < k; ++ky)
      for (int64_t kx = 0; kx < k; ++kx) {
        const int64_t y = oy - padding + ky * dilation, x = ox - padding + kx * dilation;
        if (y < 0 || y >= H || x < 0 || x >= W) continue;
        const int64_t at = ((image * H + y) * W + x) * C + channel, p = place(e, at);
        double z = xs[inputs == 1 ? 0 : e][at];
        if (normed) z = (z - mean[p]) * scale[p] + beta[e * C + channel];
        const double tilted = z > 0 ? 1 : slope;
        f(at, ((e * C + channel) * k + ky) * k + kx, tilted * z, tilted);
      }
  };
  for (int64_t e = 0; e < E; ++e) {
    for (int64_t i = 0; i < n; ++i)
      taps(e, i, [&](int64_t, int64_t tap, double a, double) { between[e * n + i] += weights[tap] * a; });
    for (int64_t i = 0; i < n; ++i) {
      const int64_t o = i % C, first = e * n + i - o, p = place(e, i);
      double g = grads[e][i];
      if (behind) g = factor[p] * (g - shift[p] - tilt[p] * (ys[e][i] - mean2[p]));
      for (int64_t c = 0; c < C; ++c) {
        const int64_t w = (e * C + o) * C + c;
        out[e * n + i] += pointwise[w] * between[first + c];
        to_pointwise[w] += g * between[first + c];
        to_between[first + c] += g * pointwise[w];
      }
    }
    for (int64_t i = 0; i < n; ++i)
      taps(e, i, [&](int64_t at, int64_t tap, double a, double tilted) {
        const int64_t input = inputs == 1 ? 0 : e, p = place(e, at);
        const double g = to_between[e * n + i], d = g * weights[tap] * tilted;
        to_weights[tap] += g * a;
        to_x[input * n + at] += d;
        if (normed) sums[p] += d, sums[table + p] += d * (xs[input][at] - mean[p]);
      });
    for (int64_t i = 0; i < n; ++i) moments[place(e, i)] += out[e * n + i] / rows;
    for (int64_t i = 0; i < n; ++i) {
      const double d = out[e * n + i] - moments[place(e, i)];
      moments[table + place(e, i)] += d * d / rows;
    }
  }

  const TensorView w = weights.view({E, C, k, k}), pw = pointwise.view({E, C, C});
  const bool want_moments = random.chance(0.5);
  std::vector<int64_t> sizes(E, n);
  for (int i = 0; i < 2 && want_moments; ++i) sizes.push_back(table);
  const auto got = run_with_threads<T>(sizes, random, [&](int threads, auto& o) {
    std::vector<TensorView> outs, tables;
    for (int64_t e = 0; e < E; ++e) outs.push_back(o[e].map(N, C, H, W));
    for (size_t i = E; i < o.size(); ++i) tables.push_back(o[i].view({E, G, C}));
    cpu::separable_stack(x_views, w, pw, norm, dilation, slope, outs, tables, threads);
  });
  for (int64_t e = 0; e < E; ++e) expect_close(got[e], {out.begin() + e * n, out.begin() + (e + 1) * n}, "out");
  if (want_moments) {
    const double size = std::sqrt(double(C));
    expect_close(got[E], {moments.begin(), moments.begin() + table}, "mean", size * std::sqrt(double(table)));
    expect_close(got[E + 1], {moments.begin() + table, moments.end()}, "variance", size);
  }

  const bool want_x = random.chance(0.8), want_weights = random.chance(0.8), want_pointwise = random.chance(0.8);
  const bool add = want_x && random.chance(0.4), want_sums = normed && want_x && !add;
  sizes = {want_weights ? E * C * k * k : 0, want_pointwise ? E * C * C : 0, want_sums ? 2 * table : 0};
  for (int64_t i = 0; i < inputs && want_x; ++i) sizes.push_back(n);
  const auto gradients = run_with_threads<T>(sizes, random, [&](int threads, auto& o) {
    std::vector<TensorView> to_maps;
    for (size_t i = 3; i < o.size(); ++i) {
      if (add) std::copy_n(xs[i - 3].data(), n, o[i].data());
      to_maps.push_back(o[i].map(N, C, H, W));
    }
    cpu::separable_stack_backward(grad_views, through, x_views, w, pw, norm, dilation, slope, add, to_maps,
                                  want_weights ? o[0].view({E, C, k, k}) : o[0].view({0}),
                                  want_pointwise ? o[1].view({E, C, C}) : o[1].view({0}),
                                  want_sums ? o[2].view({2, E, G, C}) : o[2].view({0}), threads);
  });
  const double size = std::sqrt(double(n) * C);
  if (want_weights) expect_close(gradients[0], to_weights, "gradient of DW", size);
  if (want_pointwise) expect_close(gradients[1], to_pointwise, "gradient of PW", size);
  if (want_sums) expect_close(gradients[2], sums, "sums", size);
  for (int64_t i = 0; i < inputs && want_x; ++i) {
    std::vector<double> expected(to_x.begin() + i * n, to_x.begin() + (i + 1) * n);
    for (int64_t j = 0; j < n && add; ++j) expected[j] += xs[i][j];
    expect_close(gradients[3 + i], expected, "gradient of x", size);
  }
}

}  // namespace

void test_separable_stack(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
