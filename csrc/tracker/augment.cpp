#include "tracker/augment.h"

#include <algorithm>
#include <cmath>

namespace chase_fast::tracker {
namespace {

constexpr std::array<double, 4> kSame = {1, 0, 0, 1};

std::vector<float> gaussian(double sigma) {
  const int64_t radius = static_cast<int64_t>(std::ceil(2 * sigma));
  std::vector<double> kernel;
  double sum = 0;
  for (int64_t x = -radius; x <= radius; ++x) {
    kernel.push_back(std::exp(-static_cast<double>(x * x) / (2 * sigma * sigma)));
    sum += kernel.back();
  }
  std::vector<float> out;
  for (double value : kernel) out.push_back(static_cast<float>(value / sum));
  return out;
}

// A pass of a blur along one axis, zeros outside. step: values between pixels of the axis.
void pass(const float* from, int64_t lines, int64_t line, int64_t count, int64_t step, const std::vector<float>& kernel,
          float* to) {
  const int64_t radius = static_cast<int64_t>(kernel.size()) / 2;
  for (int64_t l = 0; l < lines; ++l)
    for (int64_t i = 0; i < count; ++i) {
      float* out = to + l * line + i * step;
      std::fill(out, out + step, 0.0f);
      for (int64_t k = -radius; k <= radius; ++k) {
        if (i + k < 0 || i + k >= count) continue;
        const float* in = from + l * line + (i + k) * step;
        for (int64_t c = 0; c < step; ++c) out[c] += kernel[k + radius] * in[c];
      }
    }
}

Image blurred(const Image& image, double vertical, double horizontal) {
  Image between(image.height, image.width), out(image.height, image.width);
  const int64_t row = 3 * image.width;
  pass(image.pixels.data(), image.height, row, image.width, 3, gaussian(horizontal), between.pixels.data());
  pass(between.pixels.data(), 1, 0, image.height, row, gaussian(vertical), out.pixels.data());
  return out;
}

// Counter-clockwise as seen on a screen, [2, 2] of (x, y).
std::array<double, 4> turn(double degrees) {
  const double angle = degrees * M_PI / 180, cos = std::cos(angle), sin = std::sin(angle);
  return {cos, sin, -sin, cos};
}

// By `turn` about the centre; edge pixels repeat.
Image rotated(const Image& image, double degrees) {
  Image out(image.height, image.width);
  const auto t = turn(degrees);  // its inverse is its transpose
  const double cx = (static_cast<double>(image.width) - 1) / 2, cy = (static_cast<double>(image.height) - 1) / 2;
  const auto pixel = [&](int64_t y, int64_t x) {
    y = std::clamp<int64_t>(y, 0, image.height - 1), x = std::clamp<int64_t>(x, 0, image.width - 1);
    return image.pixels.data() + (y * image.width + x) * 3;
  };
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      const double dx = static_cast<double>(x) - cx, dy = static_cast<double>(y) - cy;
      const double sx = cx + t[0] * dx + t[2] * dy, sy = cy + t[1] * dx + t[3] * dy;
      const int64_t x0 = static_cast<int64_t>(std::floor(sx)), y0 = static_cast<int64_t>(std::floor(sy));
      const float ax = static_cast<float>(sx - std::floor(sx)), ay = static_cast<float>(sy - std::floor(sy));
      const float *a = pixel(y0, x0), *b = pixel(y0, x0 + 1), *c = pixel(y0 + 1, x0), *d = pixel(y0 + 1, x0 + 1);
      float* to = out.pixels.data() + (y * image.width + x) * 3;
      for (int k = 0; k < 3; ++k) to[k] = (a[k] * (1 - ax) + b[k] * ax) * (1 - ay) + (c[k] * (1 - ax) + d[k] * ax) * ay;
    }
  return out;
}

Image mirrored(const Image& image) {
  Image out(image.height, image.width);
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x)
      std::copy_n(image.pixels.data() + (y * image.width + image.width - 1 - x) * 3, 3,
                  out.pixels.data() + (y * image.width + x) * 3);
  return out;
}

// The middle size x size pixels with the content moved by `shift` (down, right); edges repeat.
void middle(const Image& image, int64_t size, std::array<int64_t, 2> shift, float* to) {
  const auto start = [&](int64_t length, int64_t moved) {
    return -static_cast<int64_t>(std::floor(static_cast<double>(size - length) / 2)) - moved;
  };
  const int64_t y0 = start(image.height, shift[0]), x0 = start(image.width, shift[1]);
  for (int64_t y = 0; y < size; ++y) {
    const float* row = image.pixels.data() + std::clamp<int64_t>(y0 + y, 0, image.height - 1) * image.width * 3;
    for (int64_t x = 0; x < size; ++x)
      std::copy_n(row + std::clamp<int64_t>(x0 + x, 0, image.width - 1) * 3, 3, to + (y * size + x) * 3);
  }
}

}  // namespace

std::vector<Copy> augmented(const Image& expanded, const Settings& s, Random& random, float* patches) {
  const int64_t size = s.image_size;
  const double half = static_cast<double>(size) / 2, reach = s.random_shift * static_cast<double>(size);
  std::vector<Copy> copies;
  const auto add = [&](const Image& image, const std::array<double, 4>& turned, std::array<int64_t, 2> shift) {
    middle(image, size, shift, patches + static_cast<int64_t>(copies.size()) * size * size * 3);
    copies.push_back({turned, shift});
  };
  const auto add_moved = [&](const Image& image, const std::array<double, 4>& turned) {
    const int64_t down = static_cast<int64_t>((random() - 0.5) * reach);
    const int64_t right = static_cast<int64_t>((random() - 0.5) * reach);
    add(image, turned, {down, right});
  };
  add(expanded, kSame, {0, 0});
  for (size_t i = 0; i < s.shifts.size(); i += 2)
    add(expanded, kSame, {static_cast<int64_t>(s.shifts[i] * half), static_cast<int64_t>(s.shifts[i + 1] * half)});
  if (s.flip) add_moved(mirrored(expanded), {-1, 0, 0, 1});
  for (size_t i = 0; i < s.blurs.size(); i += 2) add_moved(blurred(expanded, s.blurs[i], s.blurs[i + 1]), kSame);
  for (double degrees : s.rotations) add_moved(rotated(expanded, degrees), turn(degrees));
  return copies;
}

}  // namespace chase_fast::tracker
