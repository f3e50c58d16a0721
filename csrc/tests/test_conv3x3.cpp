// The convolution by Winograd's filtering, weights packed here, against the direct sum.
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
  const int64_t N = random.chance(0.2) ? 9 : random.integer(1, 2), C = random.channels(), D = random.channels();
  const int64_t H = random.integer(1, 13), W = random.integer(1, 13);
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
  const int64_t panels = (D + cpu::kConvColumns - 1) / cpu::kConvColumns, size = panels * 36 * C * cpu::kConvColumns;
  Array<T> packed(size + 64, random);
  T* begin = packed.data();
  while (reinterpret_cast<std::uintptr_t>(begin) % 64) ++begin;
  std::fill_n(begin, size, T(0));
  for (int64_t point = 0; point < 36; ++point)
    for (int64_t d = 0; d < D; ++d)
      for (int64_t c = 0; c < C; ++c) {
        double sum = 0;
        for (int64_t t = 0; t < 9; ++t) sum += G[point / 6][t / 3] * G[point % 6][t % 3] * weights[(d * C + c) * 9 + t];
        begin[((d / cpu::kConvColumns * 36 + point) * C + c) * cpu::kConvColumns + d % cpu::kConvColumns] = T(sum);
      }
  TensorView packed_view = packed.view({panels, 36, C, cpu::kConvColumns});
  packed_view.data = begin;
  const auto got = run_with_threads<T>({outputs}, random, [&](int threads, auto& o) {
    cpu::conv3x3(x.map(N, C, H, W), packed_view, bias.view({D}),
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
