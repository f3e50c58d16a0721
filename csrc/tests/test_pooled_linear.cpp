#include <algorithm>

#include "cpu/pooled_linear.h"
#include "tests/check.h"
#include "tests/pooling.h"

namespace chase_fast::tests {
namespace {

struct Case {
  int64_t outputs, height, width, boxes, bins;
  double scale;
};

template <class T>
void round(const Case& c, Random& random) {
  const int64_t H = c.height, W = c.width, D = c.outputs, R = c.boxes, B = c.bins;
  Array<T> rois(5 * R, random), grad(R * D, random);
  grad.normal(random);
  for (int64_t r = 0; r < R; ++r) {
    T* roi = rois.data() + 5 * r;
    roi[0] = 0;
    for (int axis = 0; axis < 2; ++axis) {
      const double cells = axis ? H : W, from = random.uniform(-3, cells + 1);
      roi[1 + axis] = T(from / c.scale), roi[3 + axis] = T((from + random.uniform(0.5, cells + 2)) / c.scale);
    }
    if (random.chance(0.1)) roi[3] = roi[1];      // without area
    if (random.chance(0.1)) roi[4] = roi[2] - 3;  // turned over
    if (random.chance(0.05)) roi[random.integer(1, 4)] = std::numeric_limits<T>::quiet_NaN();
  }

  // The cells of a bin: those that the boxes need, sometimes all of its axis.
  std::vector<int64_t> ranges = cpu::pooled_linear_ranges(rois.view({R, 5}), B, c.scale, H, W);
  for (int64_t b = 0; b < 2 * B; ++b)
    if (random.chance(0.3)) ranges[2 * b] = 0, ranges[2 * b + 1] = b < B ? H : W;
  std::vector<int64_t> first;  // table row of the first cell of every bin
  int64_t cells = 0;
  for (int64_t p = 0; p < B; ++p)
    for (int64_t q = 0; q < B; ++q) {
      first.push_back(cells);
      cells += (ranges[2 * p + 1] - ranges[2 * p]) * (ranges[2 * (B + q) + 1] - ranges[2 * (B + q)]);
    }
  Array<T> table(cells * D, random);
  table.normal(random);

  std::vector<double> out(R * D), to_rois(5 * R);
  for (int64_t r = 0; r < R; ++r) {
    double box[4];
    for (int i = 0; i < 4; ++i) box[i] = rois[5 * r + 1 + i] * T(c.scale);  // rounded as the kernel rounds
    double width = box[2] - box[0], height = box[3] - box[1];
    if (width < 0) width = 0;
    if (height < 0) height = 0;
    double* to = to_rois.data() + 5 * r;
    if (std::isnan(width) || std::isnan(height)) {
      std::fill(out.begin() + r * D, out.begin() + (r + 1) * D, std::nan(""));
      std::fill(to + 1, to + 5, std::nan(""));
      continue;
    }
    const double area = width / B * (height / B), per_area = area > 0 ? 1 / area : 0;
    if (per_area == 0) continue;
    double along = 0;  // sum of grad times values
    for (int64_t p = 0; p < B; ++p)
      for (int64_t q = 0; q < B; ++q) {
        const int64_t top = ranges[2 * p], bottom = ranges[2 * p + 1];
        const int64_t left = ranges[2 * (B + q)], right = ranges[2 * (B + q) + 1];
        for (int64_t i = top; i < bottom; ++i)
          for (int64_t j = left; j < right; ++j) {
            const Weight y = weight(box[1], box[3], B, p, i), x = weight(box[0], box[2], B, q, j);
            for (int64_t d = 0; d < D; ++d) {
              const int64_t row = first[p * B + q] + (i - top) * (right - left) + j - left;
              const double value = per_area * table[row * D + d], g = grad[r * D + d] * value * c.scale;
              out[r * D + d] += y.value * x.value * value;
              along += grad[r * D + d] * y.value * x.value * value;
              to[1] += g * y.value * x.to_start, to[2] += g * y.to_start * x.value;
              to[3] += g * y.value * x.to_stop, to[4] += g * y.to_stop * x.value;
            }
          }
      }
    const double shrink[4] = {1 / width, 1 / height, -1 / width, -1 / height};
    for (int e = 0; e < 4; ++e) to[1 + e] += c.scale * along * shrink[e];
  }

  const auto values = run_with_threads<T>({R * D}, random, [&](int threads, auto& o) {
    cpu::pooled_linear(table.view({cells, D}), ranges, rois.view({R, 5}), c.scale, o[0].view({R, D}), threads);
  });
  expect_close(values[0], out, "values", 1);
  const auto gradients = run_with_threads<T>({5 * R}, random, [&](int threads, auto& o) {
    cpu::pooled_linear_backward_rois(table.view({cells, D}), ranges, rois.view({R, 5}), c.scale, grad.view({R, D}),
                                     o[0].view({R, 5}), threads);
  });
  expect_close(gradients[0], to_rois, "gradient of boxes", c.scale * std::sqrt(double(R * D)));
}

}  // namespace

void test_pooled_linear(Random& random) {
  Case c;
  c.outputs = random.channels(), c.height = random.integer(1, 12), c.width = random.integer(1, 12);
  c.boxes = random.integer(0, 6), c.bins = random.integer(1, 5);
  c.scale = random.chance(0.5) ? 0.0625 : 0.125;
  round<float>(c, random);
  round<double>(c, random);
}

}  // namespace chase_fast::tests
