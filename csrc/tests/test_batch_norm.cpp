#include "cpu/batch_norm.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

template <class T>
void round(Random& random) {
  const int64_t E = random.integer(1, 3), G = random.integer(1, 3), C = random.channels();
  const int64_t rows = random.integer(2, 600), n = G * rows * C, table = E * G * C;
  const double eps = 1e-5;
  std::vector<Array<T>> maps;
  std::vector<const T*> pointers;
  for (int64_t e = 0; e < E; ++e) maps.push_back(std::move(Array<T>(n, random).normal(random)));
  for (const Array<T>& map : maps) pointers.push_back(map.data());
  std::vector<double> mean(table), var(table);
  const auto at = [&](int64_t e, int64_t i) { return (e * G + i / C / rows) * C + i % C; };
  for (int64_t e = 0; e < E; ++e) {
    for (int64_t i = 0; i < n; ++i) mean[at(e, i)] += maps[e][i] / double(rows);
    for (int64_t i = 0; i < n; ++i) {
      const double d = maps[e][i] - mean[at(e, i)];
      var[at(e, i)] += d * d / double(rows);
    }
  }
  const auto got = run_with_threads<T>({table, table}, random, [&](int threads, auto& o) {
    cpu::batch_moments<T>(pointers, G, rows, C, o[0].data(), o[1].data(), threads);
  });
  expect_close(got[0], mean, "mean", std::sqrt(double(table)));
  expect_close(got[1], var, "variance");

  const bool training = random.chance(0.7);
  Array<T> sums(2 * table, random);
  sums.normal(random);
  std::vector<double> to_gamma(E * C), to_beta(E * C), shift(table), tilt(table);
  for (int64_t i = 0; i < table; ++i) {
    const double v = got[1][i] + eps;
    to_beta[i / C / G * C + i % C] += sums[i];
    to_gamma[i / C / G * C + i % C] += sums[table + i] / std::sqrt(v);
    if (training) shift[i] = sums[i] / double(rows), tilt[i] = sums[table + i] / v / double(rows);
  }
  const auto gradients = run_with_threads<T>({table, table, E * C, E * C}, random, [&](int threads, auto& o) {
    cpu::batch_norm_backward(sums.view({2, E, G, C}), got[1].view({E, G, C}), rows, training, eps, o[0].view({E, G, C}),
                             o[1].view({E, G, C}), o[2].view({E, C}), o[3].view({E, C}), threads);
  });
  expect_close(gradients[0], shift, "shift");
  expect_close(gradients[1], tilt, "tilt");
  expect_close(gradients[2], to_gamma, "gradient of gamma", std::sqrt(double(G)));
  expect_close(gradients[3], to_beta, "gradient of beta", std::sqrt(double(G)));
}

}  // namespace

void test_batch_norm(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
