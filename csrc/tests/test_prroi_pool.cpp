#include <algorithm>

#include "cpu/prroi_pool.h"
#include "tests/check.h"
#include "tests/pooling.h"

namespace chase_fast::tests {
namespace {

struct Case {
  int64_t images, channels, height, width, boxes, rows, columns;
  double scale;
};

template <class T>
void round(const Case& c, Random& random) {
  const int64_t H = c.height, W = c.width, C = c.channels, P = c.rows, Q = c.columns, R = c.boxes;
  const int64_t values = R * C * P * Q, pixels = c.images * H * W * C;
  Array<T> features(pixels, random), rois(5 * R, random), grad(values, random);
  features.normal(random), grad.normal(random);
  for (int64_t r = 0; r < R; ++r) {
    T* roi = rois.data() + 5 * r;
    roi[0] = T(random.integer(0, c.images - 1));
    for (int axis = 0; axis < 2; ++axis) {
      const double cells = axis ? H : W, from = random.uniform(-3, cells + 1);
      roi[1 + axis] = T(from / c.scale), roi[3 + axis] = T((from + random.uniform(0.5, cells + 2)) / c.scale);
    }
    if (random.chance(0.1)) roi[3] = roi[1];      // without area
    if (random.chance(0.1)) roi[4] = roi[2] - 3;  // turned over
    if (random.chance(0.05)) roi[random.integer(1, 4)] = std::numeric_limits<T>::quiet_NaN();
    if (random.chance(0.05)) roi[3] = std::numeric_limits<T>::infinity();
    if (random.chance(0.05)) roi[2] = -std::numeric_limits<T>::infinity();
    if (random.chance(0.05)) roi[1] = T(-1e9), roi[3] = T(1e9);
  }

  std::vector<double> out(values), to_features(pixels), to_rois(5 * R);
  for (int64_t r = 0; r < R; ++r) {
    double box[4];
    for (int i = 0; i < 4; ++i) box[i] = rois[5 * r + 1 + i] * T(c.scale);  // rounded as the kernel rounds
    double width = box[2] - box[0], height = box[3] - box[1];
    if (width < 0) width = 0;
    if (height < 0) height = 0;
    const bool broken = !std::isfinite(width) || !std::isfinite(height);
    const double area = width / Q * (height / P), per_area = area > 0 ? 1 / area : 0;
    const int64_t image = int64_t(rois[5 * r]) * H * W * C;
    double* to = to_rois.data() + 5 * r;
    for (int64_t p = 0; p < P; ++p)
      for (int64_t q = 0; q < Q; ++q)
        for (int64_t k = 0; k < C; ++k) {
          const int64_t at = ((r * C + k) * P + p) * Q + q;
          if (broken) {
            out[at] = std::nan("");
            continue;
          }
          double value = 0, sums[4] = {};
          for (int64_t i = 0; i < H && per_area > 0; ++i) {
            const Weight y = weight(box[1], box[3], P, p, i);
            if (y.value == 0 && y.to_start == 0 && y.to_stop == 0) continue;
            for (int64_t j = 0; j < W; ++j) {
              const Weight x = weight(box[0], box[2], Q, q, j);
              const int64_t pixel = image + (i * W + j) * C + k;
              const double f = features[pixel];
              value += y.value * x.value * f;
              to_features[pixel] += grad[at] * y.value * x.value * per_area;
              sums[0] += y.value * x.to_start * f, sums[1] += y.to_start * x.value * f;
              sums[2] += y.value * x.to_stop * f, sums[3] += y.to_stop * x.value * f;
            }
          }
          out[at] = value * per_area;
          if (per_area == 0) continue;
          const double shrink[4] = {1 / width, 1 / height, -1 / width, -1 / height};
          for (int e = 0; e < 4; ++e) to[1 + e] += c.scale * grad[at] * (sums[e] * per_area + out[at] * shrink[e]);
        }
    if (broken) std::fill(to + 1, to + 5, std::nan(""));
    if (broken)  // NaN wherever the box might reach: not compared
      std::fill(to_features.begin() + image, to_features.begin() + image + H * W * C, std::nan(""));
  }

  const auto pooled = run_with_threads<T>({values}, random, [&](int threads, auto& o) {
    cpu::prroi_pool(features.map(c.images, C, H, W), rois.view({R, 5}), o[0].view({R, C, P, Q}), c.scale, threads);
  });
  expect_close(pooled[0], out, "values");
  const auto gradients = run_with_threads<T>({pixels, 5 * R}, random, [&](int threads, auto& o) {
    cpu::prroi_pool_backward_features(grad.view({R, C, P, Q}), rois.view({R, 5}), o[0].map(c.images, C, H, W), c.scale,
                                      threads);
    cpu::prroi_pool_backward_rois(grad.view({R, C, P, Q}), features.map(c.images, C, H, W), rois.view({R, 5}),
                                  pooled[0].view({R, C, P, Q}), o[1].view({R, 5}), c.scale, threads);
  });
  for (int64_t i = 0; i < pixels; ++i)
    if (std::isnan(to_features[i])) to_features[i] = gradients[0][i];
  expect_close(gradients[0], to_features, "gradient of features");
  expect_close(gradients[1], to_rois, "gradient of boxes", c.scale * std::sqrt(double(values)));
}

}  // namespace

void test_prroi_pool(Random& random) {
  Case c;
  c.images = random.integer(1, 3), c.channels = random.channels();
  c.height = random.integer(1, 12), c.width = random.integer(1, 12);
  c.boxes = random.integer(0, 6), c.rows = random.integer(1, 5), c.columns = random.integer(1, 5);
  c.scale = random.chance(0.5) ? 0.0625 : 0.125;
  round<float>(c, random);
  round<double>(c, random);
}

}  // namespace chase_fast::tests
