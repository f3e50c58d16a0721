#include "cpu/depthwise.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

struct Case {
  int64_t images, channels, height, width, kernel, stride, dilation;
  double slope;

  int64_t out_height() const { return (height + stride - 1) / stride; }
  int64_t out_width() const { return (width + stride - 1) / stride; }
};

template <class T>
void round(const Case& c, Random& random) {
  const int64_t C = c.channels, H = c.height, W = c.width, k = c.kernel, OH = c.out_height(), OW = c.out_width();
  const int64_t n = c.images * H * W * C, m = c.images * OH * OW * C, padding = c.dilation * (k - 1) / 2;
  Array<T> x(n, random), weights(C * k * k, random), grad(m, random);
  x.normal(random), weights.normal(random), grad.normal(random);

  std::vector<double> out(m), to_x(n), to_weights(C * k * k);
  for (int64_t i = 0; i < m; ++i) {
    const int64_t channel = i % C, ox = i / C % OW, oy = i / C / OW % OH, image = i / C / OW / OH;
    for (int64_t ky = 0; ky < k; ++ky)
      for (int64_t kx = 0; kx < k; ++kx) {
        const int64_t y = oy * c.stride - padding + ky * c.dilation, z = ox * c.stride - padding + kx * c.dilation;
        if (y < 0 || y >= H || z < 0 || z >= W) continue;
        const int64_t at = ((image * H + y) * W + z) * C + channel, tap = (channel * k + ky) * k + kx;
        const double slope = x[at] > 0 ? 1 : c.slope;
        out[i] += weights[tap] * slope * x[at];
        to_x[at] += grad[i] * weights[tap] * slope;
        to_weights[tap] += grad[i] * slope * x[at];
      }
  }

  const TensorView in = x.map(c.images, C, H, W), w = weights.view({C, k, k}), g = grad.map(c.images, C, OH, OW);
  const auto got = run_with_threads<T>({m}, random, [&](int threads, auto& o) {
    cpu::depthwise(in, w, c.stride, c.dilation, c.slope, o[0].map(c.images, C, OH, OW), threads);
  });
  expect_close(got[0], out, "out");
  const int64_t want_x = random.chance(0.8) ? n : 0, want_weights = random.chance(0.8) ? C * k * k : 0;
  const auto gradients = run_with_threads<T>({want_x, want_weights}, random, [&](int threads, auto& o) {
    cpu::depthwise_backward(g, in, w, c.stride, c.dilation, c.slope,
                            want_x ? o[0].map(c.images, C, H, W) : o[0].view({0}),
                            want_weights ? o[1].view({C, k, k}) : o[1].view({0}), threads);
  });
  if (want_x) expect_close(gradients[0], to_x, "gradient of x");
  if (want_weights) expect_close(gradients[1], to_weights, "gradient of weights", std::sqrt(double(m)));
}

}  // namespace

void test_depthwise(Random& random) {
  const int64_t kernels[] = {3, 3, 5, 5, 1, 7};
  Case c;
  c.images = random.integer(1, 3), c.channels = random.channels();
  c.height = random.integer(1, 13), c.width = random.integer(1, 13);
  c.kernel = kernels[random.integer(0, 5)], c.stride = random.integer(1, 2), c.dilation = random.integer(1, 3);
  c.slope = random.chance(0.3) ? 1 : random.chance(0.5) ? 0 : random.uniform(0, 0.3);
  round<float>(c, random);
  round<double>(c, random);
}

}  // namespace chase_fast::tests
