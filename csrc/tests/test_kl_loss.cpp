#include <algorithm>

#include "cpu/kl_loss.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

template <class T>
void round(Random& random) {
  const int64_t R = random.integer(1, 5), D = random.integer(1, 6), cells = random.integer(1, 400);
  const double grid = random.uniform(0.01, 2), spread = random.chance(0.2) ? 40 : 3;
  Array<T> scores(R * D * cells, random), density(D * cells, random), grad(R * D, random);
  scores.normal(random), density.uniform(random, 0, 1), grad.normal(random);
  for (int64_t i = 0; i < scores.size(); ++i) scores[i] *= T(spread);

  std::vector<double> loss(R * D), normaliser(R * D), to_scores(scores.size()), to_density(density.size());
  for (int64_t i = 0; i < R * D; ++i) {
    const int64_t s = i * cells, p = i % D * cells;
    double top = -1e300, sum = 0, cross = 0;
    for (int64_t k = 0; k < cells; ++k) top = std::max(top, double(scores[s + k]));
    for (int64_t k = 0; k < cells; ++k)
      sum += std::exp(scores[s + k] - top), cross += double(scores[s + k]) * density[p + k];
    normaliser[i] = top + std::log(sum);
    loss[i] = normaliser[i] + std::log(grid) - grid * cross;
    for (int64_t k = 0; k < cells; ++k) {
      to_scores[s + k] = grad[i] * (std::exp(scores[s + k] - normaliser[i]) - grid * density[p + k]);
      to_density[p + k] -= grad[i] * grid * scores[s + k];
    }
  }
  const TensorView s = scores.view({R, D, cells}), p = density.view({D, cells});
  const auto got = run_with_threads<T>({R * D, R * D}, random, [&](int threads, auto& o) {
    cpu::kl_loss(s, p, grid, o[0].view({R, D}), o[1].view({R, D}), threads);
  });
  const double size = spread * std::sqrt(double(R * D * cells));
  expect_close(got[0], loss, "loss", size);
  expect_close(got[1], normaliser, "normaliser", spread);
  const int64_t want_scores = random.chance(0.8) ? scores.size() : 0,
                want_density = random.chance(0.8) ? density.size() : 0;
  const auto gradients = run_with_threads<T>({want_scores, want_density}, random, [&](int threads, auto& o) {
    cpu::kl_loss_backward(grad.view({R, D}), s, p, got[1].view({R, D}), grid,
                          want_scores ? o[0].view({R, D, cells}) : o[0].view({0}),
                          want_density ? o[1].view({D, cells}) : o[1].view({0}), threads);
  });
  if (want_scores) expect_close(gradients[0], to_scores, "gradient of scores");
  if (want_density) expect_close(gradients[1], to_density, "gradient of density", size);
}

}  // namespace

void test_kl_loss(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
