// Both transforms with naive products between them, against the convolution.
#include <algorithm>

#include "cpu/conv3x3.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

constexpr double G[6][3] = {{1 / 4., 0, 0},
                            {-1 / 6., -1 / 6., -1 / 6.},
                            {-1 / 6., 1 / 6., -1 / 6.},
                            {1 / 24., 1 / 12., 1 / 6.},
                            {1 / 24., -1 / 12., 1 / 6.},
                            {0, 0, 1}};

template <class T>
void round(Random& random) {
  const int64_t N = random.integer(1, 2), C = random.channels(), D = random.channels();
  const int64_t H = random.integer(1, 13), W = random.integer(1, 13), tiles = N * ((H + 3) / 4) * ((W + 3) / 4);
  const int64_t outputs = N * H * W * D;
  const bool relu = random.chance(0.5), with_residual = random.chance(0.5);
  Array<T> x(N * H * W * C, random), weights(D * C * 9, random), bias(D, random), residual(outputs, random);
  x.normal(random), weights.normal(random), bias.normal(random), residual.normal(random);
  std::vector<double> out(outputs);
  for (int64_t i = 0; i < outputs; ++i) {
    const int64_t d = i % D, ox = i / D % W, oy = i / D / W % H, image = i / D / W / H;
    out[i] = bias[d] + (with_residual ? double(residual[i]) : 0);
    for (int64_t t = 0; t < 9; ++t) {
      const int64_t y = oy - 1 + t / 3, z = ox - 1 + t % 3;
      if (y < 0 || y >= H || z < 0 || z >= W) continue;
      for (int64_t c = 0; c < C; ++c)
        out[i] += double(weights[(d * C + c) * 9 + t]) * x[((image * H + y) * W + z) * C + c];
    }
    if (relu) out[i] = std::max(out[i], 0.0);
  }
  const auto transformed = run_with_threads<T>({36 * tiles * C}, random, [&](int threads, auto& o) {
    cpu::conv3x3_input(x.map(N, C, H, W), o[0].view({36, tiles, C}), threads);
  });
  Array<T> products(36 * tiles * D, random);
  for (int64_t point = 0; point < 36; ++point) {
    std::vector<double> packed(C * D);  // of this point
    for (int64_t d = 0; d < D; ++d)
      for (int64_t c = 0; c < C; ++c)
        for (int64_t t = 0; t < 9; ++t)
          packed[c * D + d] += G[point / 6][t / 3] * G[point % 6][t % 3] * weights[(d * C + c) * 9 + t];
    std::vector<double> sums(D);
    for (int64_t tile = 0; tile < tiles; ++tile) {
      std::fill(sums.begin(), sums.end(), 0);
      for (int64_t c = 0; c < C; ++c)
        for (int64_t d = 0; d < D; ++d) sums[d] += transformed[0][(point * tiles + tile) * C + c] * packed[c * D + d];
      for (int64_t d = 0; d < D; ++d) products[(point * tiles + tile) * D + d] = T(sums[d]);
    }
  }
  const auto got = run_with_threads<T>({outputs}, random, [&](int threads, auto& o) {
    cpu::conv3x3_output(products.view({36, tiles, D}), bias.view({D}),
                        with_residual ? residual.map(N, D, H, W) : bias.strided({0}, {1}), o[0].map(N, D, H, W), relu,
                        threads);
  });
  expect_close(got[0], out, "out", std::sqrt(double(outputs)));
}

}  // namespace

void test_conv3x3(Random& random) {
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
