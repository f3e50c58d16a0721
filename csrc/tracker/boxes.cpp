// Refinement as one call. Pooling and the first layer of the head are linear in the map, so the layer is applied to the
// cells that the boxes are near, once per bin; after that a step costs a weighted sum of rows per box
// (cpu/pooled_linear.h). A table is made again when a box leaves it.
#include "tracker/boxes.h"

#include <algorithm>
#include <cmath>

#include "cpu/parallel.h"
#include "cpu/pooled_linear.h"
#include "cpu/products.h"
#include "cpu/prroi_axis.h"
#include "cpu/prroi_pool.h"
#include "tracker/arrays.h"

namespace chase_fast::tracker {
namespace {

constexpr int64_t kMargin = 1;  // cells kept around those that the boxes need now

std::vector<float> relu_layer(const Linear& layer, const std::vector<float>& x) {
  std::vector<float> y(layer.bias);
  const float *weight = layer.weight.data(), *from = x.data();
  float* to = y.data();
  const int64_t outputs = layer.outputs, inputs = layer.inputs;
  vectorised([=]() CHASE_FAST_FLAT {
    for (int64_t o = 0; o < outputs; ++o) {
      const float value = to[o] + cpu::dot(weight + o * inputs, from, inputs);
      to[o] = value < 0 ? 0 : value;  // NaN stays
    }
  });
  return y;
}

std::vector<float> pooled(const Map& map, const float* roi, int64_t bins, int64_t stride) {
  std::vector<float> out(map.channels * bins * bins);
  const TensorView features(reinterpret_cast<std::uintptr_t>(map.data), 0, {1, map.channels, map.side, map.side},
                            {map.side * map.side * map.channels, 1, map.side * map.channels, map.channels});
  cpu::prroi_pool(features, view(roi, {1, 5}), view(out, {1, map.channels, bins, bins}),
                  1.0 / static_cast<double>(stride), 1);
  return out;
}

// Rows of `hidden` numbers for the cells that boxes needed so far.
class Table {
 public:
  Table(const Branch& branch, const Map& map, const std::vector<float>& modulation, int threads)
      : branch_(branch), map_(map), modulation_(modulation), threads_(threads) {}

  // hidden values before the bias [boxes, hidden]
  void values(const std::vector<float>& rois, std::vector<float>& out) {
    cover(rois);
    cpu::pooled_linear(table(), ranges_, roi_view(rois), scale(), view(out, {count(rois), branch_.hidden}), threads_);
  }

  // gradient [boxes, hidden] -> of the boxes [boxes, 5]; after `values` of the same boxes
  void gradient(const std::vector<float>& rois, const std::vector<float>& grad, std::vector<float>& out) {
    cpu::pooled_linear_backward_rois(table(), ranges_, roi_view(rois), scale(),
                                     view(grad, {count(rois), branch_.hidden}), view(out, {count(rois), 5}), threads_);
  }

 private:
  static int64_t count(const std::vector<float>& rois) { return static_cast<int64_t>(rois.size()) / 5; }
  TensorView roi_view(const std::vector<float>& rois) const { return view(rois, {count(rois), 5}); }
  TensorView table() const { return view(rows_, {cells_, branch_.hidden}); }
  double scale() const { return 1.0 / static_cast<double>(branch_.stride); }

  void cover(const std::vector<float>& rois) {
    std::vector<int64_t> needed =
        cpu::pooled_linear_ranges(roi_view(rois), branch_.bins, scale(), map_.side, map_.side);
    const int64_t axes = 2 * branch_.bins;
    bool held = !ranges_.empty();
    for (int64_t a = 0; a < axes && held; ++a)
      held = needed[2 * a] == needed[2 * a + 1] ||
             (ranges_[2 * a] <= needed[2 * a] && needed[2 * a + 1] <= ranges_[2 * a + 1]);
    if (held) return;
    for (int64_t a = 0; a < axes; ++a)
      if (needed[2 * a] != needed[2 * a + 1]) {
        needed[2 * a] = std::max<int64_t>(needed[2 * a] - kMargin, 0);
        needed[2 * a + 1] = std::min(needed[2 * a + 1] + kMargin, map_.side);
      }
    ranges_ = std::move(needed);
    fill();
  }

  void fill() {
    const int64_t bins = branch_.bins, C = branch_.channels, D = branch_.hidden;
    std::vector<int64_t> first(bins * bins + 1, 0);
    const auto range = [&](int64_t a) { return cpu::Range{ranges_[2 * a], ranges_[2 * a + 1]}; };
    for (int64_t b = 0; b < bins * bins; ++b) {
      const cpu::Range y = range(b / bins), x = range(bins + b % bins);
      first[b + 1] = first[b] + (y.end - y.begin) * (x.end - x.begin);
    }
    cells_ = first.back();
    rows_.resize(cells_ * D);
    const Branch* branch = &branch_;
    const Map* map = &map_;
    const float* factor = modulation_.data();
    float* rows = rows_.data();
    parallel_for(bins * bins, threads_, [&](int64_t b) {
      const cpu::Range y = range(b / bins), x = range(bins + b % bins);
      const int64_t wide = x.end - x.begin, count = first[b + 1] - first[b];
      if (!count) return;
      std::vector<float> cells(count * C);  // modulated
      for (int64_t i = 0; i < count; ++i) {
        const float* from = map->data + ((y.begin + i / wide) * map->side + x.begin + i % wide) * C;
        for (int64_t c = 0; c < C; ++c) cells[i * C + c] = from[c] * factor[c];
      }
      multiply(cells.data(), count, C, branch->weight.data() + b * C * D, D, rows + first[b] * D);
    });
  }

  // out [M, N] = a [M, K] b [K, N]
  static void multiply(const float* a, int64_t M, int64_t K, const float* b, int64_t N, float* out) {
    cpu::with_vectors<float>([=](auto type) CHASE_FAST_FLAT {
      using Vec = decltype(type);
      constexpr int64_t L = Vec::L, kRows = cpu::Products<Vec>::kRows;
      int64_t n = 0;
      for (; n + 2 * L <= N; n += 2 * L)
        for (int64_t m = 0; m < M; m += kRows) block<Vec, kRows, 2>(a, std::min(m, M - kRows), M, K, b, N, n, out);
      for (; n + L <= N; n += L)
        for (int64_t m = 0; m < M; m += kRows) block<Vec, kRows, 1>(a, std::min(m, M - kRows), M, K, b, N, n, out);
      for (int64_t m = 0; m < M && n < N; ++m)
        for (int64_t j = n; j < N; ++j) {
          float sum = 0;
          for (int64_t k = 0; k < K; ++k) sum += a[m * K + k] * b[k * N + j];
          out[m * N + j] = sum;
        }
    });
  }

  // Rows m ... m + Rows - 1 (those below 0 do not exist) of `Vectors` vectors of columns from n on.
  template <class Vec, int Rows, int Vectors>
  static inline CHASE_FAST_FLAT void block(const float* a, int64_t m, int64_t, int64_t K, const float* b, int64_t N,
                                           int64_t n, float* out) {
    using V = typename Vec::V;
    V sums[Rows][Vectors] = {};
    const float* from[Rows];
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) from[i] = a + std::max<int64_t>(m + i, 0) * K;
    for (int64_t k = 0; k < K; ++k) {
      V right[Vectors];
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) std::memcpy(&right[j], b + k * N + n + j * Vec::L, sizeof(V));
#pragma GCC unroll 16
      for (int i = 0; i < Rows; ++i) {
        const float value = from[i][k];
#pragma GCC unroll 4
        for (int j = 0; j < Vectors; ++j) sums[i][j] += value * right[j];
      }
    }
    for (int i = 0; i < Rows; ++i)
      for (int j = 0; j < Vectors && m + i >= 0; ++j)
        std::memcpy(out + (m + i) * N + n + j * Vec::L, &sums[i][j], sizeof(V));
  }

  const Branch& branch_;
  const Map map_;
  const std::vector<float>& modulation_;
  const int threads_;
  std::vector<int64_t> ranges_;
  std::vector<float> rows_;
  int64_t cells_ = 0;
};

// Corners [boxes, 5] of boxes given by centre and size.
void corners(const std::vector<std::array<float, 4>>& at, std::vector<float>& rois) {
  for (size_t i = 0; i < at.size(); ++i) {
    const auto& [cx, cy, w, h] = at[i];
    const float roi[5] = {0, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2};
    std::copy_n(roi, 5, rois.begin() + static_cast<int64_t>(5 * i));
  }
}

}  // namespace

Modulation modulation(const Model& model, const Map& low, const Map& high, const FloatBox& box) {
  const float roi[5] = {0, box[0], box[1], box[0] + box[2], box[1] + box[3]};
  std::vector<float> both = relu_layer(model.fc3_1r, pooled(low, roi, 3, 8));
  const std::vector<float> second = pooled(high, roi, 1, 16);
  both.insert(both.end(), second.begin(), second.end());
  return {relu_layer(model.fc34_3r, both), relu_layer(model.fc34_4r, both)};
}

void refine(const Model& model, const Modulation& modulation, const std::array<Map, 2>& maps,
            std::vector<FloatBox>& boxes, std::vector<float>& scores) {
  const Settings& s = model.settings;
  const size_t count = boxes.size(), hidden = model.head[0].hidden;
  Table tables[2] = {{model.head[0], maps[0], modulation[0], static_cast<int>(model.threads)},
                     {model.head[1], maps[1], modulation[1], static_cast<int>(model.threads)}};
  std::vector<std::array<float, 4>> at;  // centre, size
  for (const FloatBox& b : boxes) at.push_back({b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]});
  const float unit[2] = {at[0][2], at[0][3]};
  std::vector<float> rois(5 * count), values(count * hidden), grad(count * hidden), to_rois(5 * count);
  std::vector<float> gradient(4 * count);
  scores.assign(count, 0);

  const auto evaluate = [&](bool with_gradient) {
    corners(at, rois);
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    std::fill(scores.begin(), scores.end(), model.head_bias);
    for (int t = 0; t < 2; ++t) {
      const Branch& branch = model.head[t];
      tables[t].values(rois, values);
      for (size_t i = 0; i < count; ++i) {
        float score = 0;
        for (size_t d = 0; d < hidden; ++d) {
          const float value = values[i * hidden + d] + branch.bias[d];
          const bool active = value > 0;
          score += active ? value * branch.out[d] : value != value ? value : 0;
          grad[i * hidden + d] = active ? branch.out[d] : 0;
        }
        scores[i] += score;
      }
      if (!with_gradient) continue;
      tables[t].gradient(rois, grad, to_rois);
      for (size_t i = 0; i < count; ++i)
        for (int k = 0; k < 4; ++k) gradient[4 * i + k] += to_rois[5 * i + 1 + k];
    }
  };

  double step[2] = {s.step[0], s.step[1]};
  for (int64_t n = 0; n < s.refine_iterations; ++n) {
    evaluate(true);
    const float to_position = static_cast<float>(step[0]), to_size = static_cast<float>(step[1]);
    for (size_t i = 0; i < count; ++i)
      for (int a = 0; a < 2; ++a) {
        const float low = gradient[4 * i + a], high = gradient[4 * i + 2 + a];
        float &centre = at[i][a], &size = at[i][2 + a];
        if (s.relative) {
          centre += to_position * (unit[a] * unit[a]) * (low + high);
          size *= std::exp(to_size * size * (high - low) / 2);
        } else {
          const float corner = centre - size / 2 + to_position * size * (low + high);
          size += to_size * size * high;
          centre = corner + size / 2;
        }
      }
    step[0] *= s.step_decay, step[1] *= s.step_decay;
  }
  if (s.score_after || s.refine_iterations == 0) evaluate(false);
  for (size_t i = 0; i < count; ++i) boxes[i] = {at[i][0] - at[i][2] / 2, at[i][1] - at[i][3] / 2, at[i][2], at[i][3]};
}

}  // namespace chase_fast::tracker
