#include "cpu/batch_norm.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

template <class T>
void round(Random& random) {
  const int64_t E = random.integer(1, 3), G = random.integer(1, 3), C = random.channels();
  const int64_t N = G * random.integer(1, 2), H = random.integer(2, 20), W = random.integer(2, 20);
  const int64_t n = N * H * W * C, rows = N / G * H * W, table = E * G * C;
  const double eps = 1e-5;
  std::vector<Array<T>> maps, grads;
  std::vector<TensorView> views;
  for (int64_t e = 0; e < E; ++e) {
    maps.push_back(std::move(Array<T>(n, random).normal(random)));
    grads.push_back(std::move(Array<T>(n, random).normal(random)));
    views.push_back(maps.back().map(N, C, H, W));
  }
  std::vector<double> mean(table), var(table), sums(2 * table);
  const auto at = [&](int64_t e, int64_t i) { return (e * G + i / C / rows) * C + i % C; };
  for (int64_t e = 0; e < E; ++e) {
    for (int64_t i = 0; i < n; ++i) mean[at(e, i)] += maps[e][i] / double(rows);
    for (int64_t i = 0; i < n; ++i) {
      const double d = maps[e][i] - mean[at(e, i)];
      var[at(e, i)] += d * d / double(rows);
      sums[at(e, i)] += grads[e][i], sums[table + at(e, i)] += grads[e][i] * d;
    }
  }
  const auto got = run_with_threads<T>({table, table}, random, [&](int threads, auto& o) {
    cpu::batch_norm_statistics(views, o[0].view({E, G, C}), o[1].view({E, G, C}), threads);
  });
  expect_close(got[0], mean, "mean", std::sqrt(double(table)));
  expect_close(got[1], var, "variance");

  const bool training = random.chance(0.7), maps_too = random.chance(0.8);
  Array<T> scale(table, random), given(2 * table, random);
  scale.uniform(random, 0.5, 1.5);
  for (int64_t i = 0; i < 2 * table; ++i) given[i] = T(sums[i]);
  std::vector<double> to_gamma(E * C), to_beta(E * C), to_x(E * n);
  for (int64_t i = 0; i < table; ++i) {
    to_beta[i / C / G * C + i % C] += sums[i];
    to_gamma[i / C / G * C + i % C] += sums[table + i] / std::sqrt(var[i] + eps);
  }
  for (int64_t e = 0; e < E; ++e)
    for (int64_t i = 0; i < n; ++i) {
      const int64_t k = at(e, i);
      double d = grads[e][i];
      if (training) d -= (sums[k] + (maps[e][i] - mean[k]) * sums[table + k] / (var[k] + eps)) / double(rows);
      to_x[e * n + i] = scale[k] * d;
    }
  std::vector<int64_t> sizes = {E * C, E * C};
  for (int64_t e = 0; e < E && maps_too; ++e) sizes.push_back(n);
  const auto gradients = run_with_threads<T>(sizes, random, [&](int threads, auto& o) {
    std::vector<TensorView> in_place;
    for (int64_t e = 0; e < E && maps_too; ++e) {
      std::copy_n(grads[e].data(), n, o[2 + e].data());
      in_place.push_back(o[2 + e].map(N, C, H, W));
    }
    cpu::batch_norm_backward(given.view({2, E, G, C}), views, got[0].view({E, G, C}), got[1].view({E, G, C}),
                             scale.view({E, G, C}), training, eps, in_place, o[0].view({E, C}), o[1].view({E, C}),
                             threads);
  });
  expect_close(gradients[0], to_gamma, "gradient of gamma", std::sqrt(double(n)));
  expect_close(gradients[1], to_beta, "gradient of beta", std::sqrt(double(n)));
  for (int64_t e = 0; e < E && maps_too; ++e)
    expect_close(gradients[2 + e], {to_x.begin() + e * n, to_x.begin() + (e + 1) * n}, "gradient of a map",
                 std::sqrt(double(n)));
}

}  // namespace

void test_batch_norm(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
