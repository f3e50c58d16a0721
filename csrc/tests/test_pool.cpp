#include "cpu/pool.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

template <class T>
void round(Random& random) {
  const int64_t G = random.integer(1, 2), N = G * random.integer(1, 2), C = random.channels();
  const int64_t H = random.integer(2, 14), W = random.integer(2, 14), n = N * H * W * C, rows = N / G * H * W;
  const bool max = random.chance(0.5), training = random.chance(0.7), add = random.chance(0.4);
  const double eps = 1e-5;
  Array<T> x(n, random), grad(n, random), running_mean(C, random), running_var(C, random);
  x.normal(random), grad.normal(random), running_mean.normal(random), running_var.uniform(random, 0.5, 2);

  const auto image_at = [&](int64_t i, int64_t dy, int64_t dx) -> int64_t {  // the neighbour's element, or -1
    const int64_t y = i / C / W % H + dy, z = i / C % W + dx;
    return y < 0 || y >= H || z < 0 || z >= W ? -1 : i + (dy * W + dx) * C;
  };
  const auto group = [&](int64_t i) { return i / C / rows * C + i % C; };
  std::vector<double> pooled(n), mean(G * C), var(G * C), out(n), to_x(n);
  std::vector<int64_t> chosen(n), count(n);
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    chosen[i] = -1;
    for (int64_t dy = -1; dy <= 1; ++dy)
      for (int64_t dx = -1; dx <= 1; ++dx) {
        const int64_t at = image_at(i, dy, dx);
        if (at < 0) continue;
        sum += x[at], ++count[i];
        if (chosen[i] < 0 || x[at] > x[chosen[i]]) chosen[i] = at;
      }
    pooled[i] = max ? double(x[chosen[i]]) : sum / double(count[i]);
    mean[group(i)] += pooled[i] / double(rows);
  }
  for (int64_t i = 0; i < n; ++i) {
    const double d = pooled[i] - mean[group(i)];
    var[group(i)] += d * d / double(rows);
  }
  for (int64_t i = 0; i < G * C && !training; ++i) mean[i] = running_mean[i % C], var[i] = running_var[i % C];
  std::vector<double> s1(G * C), s2(G * C);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = (pooled[i] - mean[group(i)]) / std::sqrt(var[group(i)] + eps);
    s1[group(i)] += grad[i], s2[group(i)] += grad[i] * out[i];
  }
  for (int64_t i = 0; i < n; ++i) {
    double d = grad[i];
    if (training) d -= (s1[group(i)] + out[i] * s2[group(i)]) / double(rows);
    d /= std::sqrt(var[group(i)] + eps);
    if (max) {
      to_x[chosen[i]] += d;
      continue;
    }
    for (int64_t dy = -1; dy <= 1; ++dy)
      for (int64_t dx = -1; dx <= 1; ++dx)
        if (const int64_t at = image_at(i, dy, dx); at >= 0) to_x[at] += d / double(count[i]);
  }
  for (int64_t i = 0; i < n && add; ++i) to_x[i] += x[i];

  const TensorView in = x.map(N, C, H, W);
  const auto got = run_with_threads<T>({n, G * C, G * C}, random, [&](int threads, auto& o) {
    cpu::pool_norm(in, max, training ? o[1].view({1, G, C}) : running_mean.view({1, C}),
                   training ? o[2].view({1, G, C}) : running_var.view({1, C}), training, eps, o[0].map(N, C, H, W),
                   o[1].view({1, G, C}), o[2].view({1, G, C}), threads);
  });
  // a small variance amplifies the rounding of the mean
  double smallest = 1;
  for (double v : var) smallest = std::min(smallest, std::sqrt(v + eps));
  const double size = std::sqrt(double(n)) / smallest;
  expect_close(got[1], mean, "mean", std::sqrt(double(G * C)));
  expect_close(got[2], var, "variance", std::sqrt(double(G * C)));
  expect_close(got[0], out, "out", size);
  const auto gradients = run_with_threads<T>({n}, random, [&](int threads, auto& o) {
    if (add) std::copy_n(x.data(), n, o[0].data());
    cpu::pool_norm_backward(grad.map(N, C, H, W), in, max, got[0].map(N, C, H, W), got[2].view({1, G, C}), training,
                            eps, add, o[0].map(N, C, H, W), threads);
  });
  expect_close(gradients[0], to_x, "gradient of x", size);
}

}  // namespace

void test_pool(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
