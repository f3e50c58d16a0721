#include <algorithm>

#include "cpu/crop.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

// Bilinear in double, half-pixel centres, edge pixels repeated outside the window's whole pixels and the frame.
struct Taps {
  int64_t first, second;
  double part;
};
Taps taps(double start, double length, int64_t size, int64_t i, int64_t limit) {
  const int64_t offset = int64_t(std::floor(start)), n = int64_t(std::ceil(start + length)) - offset;
  const double position = (double(i) + 0.5) * length / double(size) - 0.5 + (start - std::floor(start));
  const double whole = std::floor(position);
  const auto inside = [&](int64_t k) {
    return std::clamp<int64_t>(offset + std::clamp<int64_t>(k, 0, n - 1), 0, limit - 1);
  };
  return {inside(int64_t(whole)), inside(int64_t(whole) + 1), position - whole};
}

template <class T>
void round(Random& random) {
  using Out = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t H = random.integer(1, 40), W = random.integer(1, 40), size = random.integer(1, 40);
  const int64_t gap = random.chance(0.5) ? 0 : random.integer(1, 20), stride = 3 * W + gap;
  std::array<double, 4> window = {random.uniform(-50, 50), random.uniform(-50, 50), random.uniform(1, 80),
                                  random.uniform(1, 80)};
  if (random.chance(0.5))
    for (double& w : window) w = std::round(w);
  const double gain = random.uniform(0.8, 1.2);
  const std::array<double, 3> mean = {0.485, 0.456, 0.406}, deviation = {0.229, 0.224, 0.225};
  Array<T> frame((H - 1) * stride + 3 * W, random);
  for (int64_t i = 0; i < frame.size(); ++i) frame[i] = T(random.integer(0, 255));
  Array<Out> out(size * size * 3, random);
  cpu::crop(frame.strided({H, W, 3}, {stride, 3, 1}), window, gain, mean, deviation, out.view({size, size, 3}));
  out.check_guards("crop");

  // uint8: pixels are rounded, and the weights have 11 bits; float32: positions are rounded to float32
  const double level = std::is_same_v<T, uint8_t> ? 1.01 : std::is_same_v<T, float> ? 0.02 : 1e-9;
  for (int64_t y = 0; y < size; ++y)
    for (int64_t x = 0; x < size; ++x)
      for (int64_t c = 0; c < 3; ++c) {
        const Taps v = taps(window[1], window[3], size, y, H), u = taps(window[0], window[2], size, x, W);
        const auto pixel = [&](int64_t row, int64_t column) { return double(frame[row * stride + 3 * column + c]); };
        const double top = pixel(v.first, u.first) * (1 - u.part) + pixel(v.first, u.second) * u.part;
        const double bottom = pixel(v.second, u.first) * (1 - u.part) + pixel(v.second, u.second) * u.part;
        const double value = top * (1 - v.part) + bottom * v.part;
        const double expected = (std::clamp(value / 255 * gain, 0.0, 1.0) - mean[c]) / deviation[c];
        const double got = out[(y * size + x) * 3 + c],
                     allowed = level / 255 * gain / deviation[c] + 1e-6 * (level > 1e-6);
        if (!(std::abs(got - expected) <= allowed))
          fail("pixel ", x, ",", y, ",", c, ": ", got, ", expected ", expected);
      }
}

}  // namespace

void test_crop(Random& random) {
  round<uint8_t>(random);
  round<float>(random);
  round<double>(random);
}

}  // namespace chase_fast::tests
