#include "cpu/depthwise_stack.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

template <class T>
void round(Random& random) {
  const int64_t E = random.integer(1, 3), inputs = random.chance(0.5) ? E : 1, G = random.integer(1, 2);
  const int64_t N = G * random.integer(1, 2), C = random.channels(), H = random.integer(1, 13);
  const int64_t W = random.integer(1, 13), kernels[] = {3, 5, 3, 5, 1, 7}, k = kernels[random.integer(0, 5)];
  const int64_t dilation = random.integer(1, 3), padding = dilation * (k - 1) / 2, n = N * H * W * C;
  const double slope = random.chance(0.3) ? 1 : random.chance(0.5) ? 0 : random.uniform(0, 0.3);
  const bool normed = inputs == E && random.chance(0.5);
  std::vector<Array<T>> xs, grads;
  std::vector<TensorView> x_views, grad_views, norm;
  for (int64_t e = 0; e < inputs; ++e) xs.push_back(std::move(Array<T>(n, random).normal(random)));
  for (int64_t e = 0; e < E; ++e) grads.push_back(std::move(Array<T>(n, random).normal(random)));
  for (const Array<T>& x : xs) x_views.push_back(x.map(N, C, H, W));
  for (const Array<T>& grad : grads) grad_views.push_back(grad.map(N, C, H, W));
  Array<T> weights(E * C * k * k, random), mean(E * G * C, random), scale(E * G * C, random), beta(E * C, random);
  weights.normal(random), mean.normal(random), scale.uniform(random, 0.5, 1.5), beta.normal(random);
  if (normed) norm = {mean.view({E, G, C}), scale.view({E, G, C}), beta.view({E, C})};

  std::vector<double> out(E * n), to_x(inputs * n), to_weights(E * C * k * k), sums(2 * E * G * C);
  for (int64_t e = 0; e < E; ++e) {
    const int64_t input = inputs == 1 ? 0 : e;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t channel = i % C, ox = i / C % W, oy = i / C / W % H, image = i / C / W / H;
      for (int64_t ky = 0; ky < k; ++ky)
        for (int64_t kx = 0; kx < k; ++kx) {
          const int64_t y = oy - padding + ky * dilation, x = ox - padding + kx * dilation;
          if (y < 0 || y >= H || x < 0 || x >= W) continue;
          const int64_t at = ((image * H + y) * W + x) * C + channel, tap = ((e * C + channel) * k + ky) * k + kx;
          const int64_t table = (e * G + image / (N / G)) * C + channel;
          double z = xs[input][at];
          if (normed) z = (z - mean[table]) * scale[table] + beta[e * C + channel];
          const double tilt = z > 0 ? 1 : slope, d = grads[e][i] * weights[tap] * tilt;
          out[e * n + i] += weights[tap] * tilt * z;
          to_weights[tap] += grads[e][i] * tilt * z;
          to_x[input * n + at] += d;
          if (normed) sums[table] += d, sums[E * G * C + table] += d * (xs[input][at] - mean[table]);
        }
    }
  }

  const TensorView w = weights.view({E, C, k, k});
  const auto got = run_with_threads<T>(std::vector<int64_t>(E, n), random, [&](int threads, auto& o) {
    std::vector<TensorView> outs;
    for (Array<T>& a : o) outs.push_back(a.map(N, C, H, W));
    cpu::depthwise_stack(x_views, w, norm, dilation, slope, outs, threads);
  });
  for (int64_t e = 0; e < E; ++e) expect_close(got[e], {out.begin() + e * n, out.begin() + (e + 1) * n}, "out");

  const bool want_x = random.chance(0.8), want_weights = random.chance(0.8), add = want_x && random.chance(0.4);
  const bool want_sums = normed && want_x && !add;
  std::vector<int64_t> sizes = {want_weights ? E * C * k * k : 0, want_sums ? 2 * E * G * C : 0};
  for (int64_t i = 0; i < inputs && want_x; ++i) sizes.push_back(n);
  const auto gradients = run_with_threads<T>(sizes, random, [&](int threads, auto& o) {
    std::vector<TensorView> to_maps;
    for (size_t i = 2; i < o.size(); ++i) {
      if (add) std::copy_n(xs[i - 2].data(), n, o[i].data());
      to_maps.push_back(o[i].map(N, C, H, W));
    }
    cpu::depthwise_stack_backward(grad_views, x_views, w, norm, dilation, slope, add, to_maps,
                                  want_weights ? o[0].view({E, C, k, k}) : o[0].view({0}),
                                  want_sums ? o[1].view({2, E, G, C}) : o[1].view({0}), threads);
  });
  if (want_weights) expect_close(gradients[0], to_weights, "gradient of weights", std::sqrt(double(n)));
  if (want_sums) expect_close(gradients[1], sums, "sums", std::sqrt(double(n)));
  for (int64_t i = 0; i < inputs && want_x; ++i) {
    std::vector<double> expected(to_x.begin() + i * n, to_x.begin() + (i + 1) * n);
    for (int64_t j = 0; j < n && add; ++j) expected[j] += xs[i][j];
    expect_close(gradients[2 + i], expected, "gradient of x", std::sqrt(double(n)));
  }
}

}  // namespace

void test_depthwise_stack(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
