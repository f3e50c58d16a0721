#include "tracker/learn.h"

#include <algorithm>
#include <cmath>

#include "cpu/parallel.h"
#include "cpu/prroi_axis.h"
#include "cpu/target_filter.h"
#include "tracker/arrays.h"

namespace chase_fast::tracker {
namespace {

// Weight of every cell in the mean over every bin of an axis, [bins, cells]; 0 for an empty box.
std::vector<float> bin_means(float start, float size, int64_t bins, int64_t cells) {
  const cpu::Axis<float> axis(start, start + std::max(size, 0.0f), bins, cells);
  const float bin = axis.size / static_cast<float>(bins), inverse = bin > 0 ? 1 / bin : 0;
  std::vector<float> means(bins * cells, 0);
  for (int64_t b = 0; b < bins; ++b)
    for (int64_t i = axis.support[b].begin; i < axis.support[b].end; ++i)
      means[b * cells + i] = axis.weights[b * cells + i] * inverse;
  return means;
}

// Weights for pooling x[i - 1], x[i] and x[i + 1] (zero outside), [3 bins, cells].
std::vector<float> shifted(const std::vector<float>& means, int64_t bins, int64_t cells) {
  std::vector<float> out(3 * bins * cells, 0);
  for (int64_t d = 0; d < 3; ++d)  // the tap d - 1 reads x[i + d - 1]: its weight moves to that cell
    for (int64_t b = 0; b < bins; ++b)
      for (int64_t i = 0; i < cells; ++i) {
        const int64_t to = i + d - 1;
        if (to >= 0 && to < cells) out[(d * bins + b) * cells + to] = means[b * cells + i];
      }
  return out;
}

std::array<float, 2> score_centre(const Model& model, const FloatBox& box) {
  const float odd = static_cast<float>(model.filter_size % 2) / 2;
  return {(box[1] + box[3] / 2) / 16 - odd, (box[0] + box[2] / 2) / 16 - odd};  // row, column
}

std::vector<float> density(const Model& model, const FloatBox& box) {
  const auto centre = score_centre(model, box);
  const int64_t side = model.score_side(), cells = side * side;
  const float scale = static_cast<float>(-2 * model.sigma * model.sigma);
  const float height = static_cast<float>(2 * M_PI * model.sigma * model.sigma);
  std::vector<float> p(cells), squares(cells);
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x) {
      const float dy = static_cast<float>(y) - centre[0], dx = static_cast<float>(x) - centre[1];
      squares[y * side + x] = dy * dy + dx * dx;
    }
  if (model.sigma == 0)
    p[std::min_element(squares.begin(), squares.end()) - squares.begin()] = 1;
  else
    for (int64_t i = 0; i < cells; ++i) p[i] = std::exp(squares[i] / scale) / height;
  double sum = 0;
  for (float& value : p) {
    if (!(value > static_cast<float>(model.label_threshold))) value = 0;
    sum += value;
  }
  const float total = model.normalize_label ? static_cast<float>(sum) + 1e-8f : 1;
  const float kept = static_cast<float>(1 - model.label_shrink), own = static_cast<float>(1 - model.uniform_weight);
  const float uniform = static_cast<float>(model.uniform_weight / static_cast<double>(cells));
  for (float& value : p) value = kept * (own * (value / total) + uniform);
  return p;
}

// Value of a radial map [bins] at a distance in cells: triangular bins, the last one saturates.
float radial(const std::vector<float>& map, float distance, double spacing) {
  const int64_t last = static_cast<int64_t>(map.size()) - 1;
  const float at = distance / static_cast<float>(spacing);
  float value = 0;
  const int64_t near = static_cast<int64_t>(std::min(at, static_cast<float>(last)));
  for (int64_t j = std::max<int64_t>(near - 1, 0); j <= std::min(near + 1, last); ++j) {
    const float offset = at - static_cast<float>(j);
    const float weight = j < last ? std::max(0.0f, 1 - std::abs(offset)) : std::clamp(1 + offset, 0.0f, 1.0f);
    value += map[j] * weight;
  }
  return value;
}

}  // namespace

Memory::Memory(const Model& model, std::vector<float> features, const std::vector<FloatBox>& boxes)
    : model_(&model),
      first_(static_cast<int64_t>(boxes.size())),
      count_(first_),
      sample_(model.channels * model.feature_side() * model.feature_side()),
      weights_(model.settings.memory, 0),
      features_(std::move(features)),
      boxes_(boxes) {
  std::fill(weights_.begin(), weights_.begin() + first_, 1.0 / static_cast<double>(first_));
  features_.resize(model.settings.memory * sample_);
  boxes_.resize(model.settings.memory);
}

void Memory::insert(const float* features, const FloatBox& box, double rate) {
  const int64_t to = slot(rate);
  std::copy_n(features, sample_, features_.begin() + to * sample_);
  boxes_[to] = box;
}

int64_t Memory::slot(double rate) {
  auto& w = weights_;
  int64_t to;
  if (count_ < static_cast<int64_t>(w.size()))
    to = count_++;
  else
    to = std::min_element(w.begin() + first_, w.end()) - w.begin();
  const auto divide = [&](double by) {
    for (double& value : w) value /= by;
  };
  if (newest_ < 0) {
    divide(1 - rate);
    w[to] = rate;
  } else {
    w[to] = w[newest_] / (1 - rate);
  }
  double sum = 0, of_first = 0;
  for (double value : w) sum += value;
  divide(sum);
  for (int64_t i = 0; i < first_; ++i) of_first += w[i];
  const double share = model_->settings.init_weight;
  if (of_first < share) {
    divide(share + 1 - of_first);
    std::fill(w.begin(), w.begin() + first_, share / static_cast<double>(first_));
  }
  newest_ = to;
  return to;
}

std::vector<std::vector<float>> Memory::labels() const {
  const Model& m = *model_;
  const int64_t side = m.score_side(), cells = side * side;
  std::vector<std::vector<float>> maps(m.prdimp ? 1 : 3);
  for (auto& map : maps) map.reserve(count_ * cells);
  for (int64_t i = 0; i < count_; ++i) {
    if (m.prdimp) {
      const auto p = density(m, boxes_[i]);
      maps[0].insert(maps[0].end(), p.begin(), p.end());
      continue;
    }
    const auto centre = score_centre(m, boxes_[i]);
    for (int64_t y = 0; y < side; ++y)
      for (int64_t x = 0; x < side; ++x) {
        const float distance = std::hypot(static_cast<float>(y) - centre[0], static_cast<float>(x) - centre[1]);
        const float mask = radial(m.target_mask, distance, m.bin_spacing);
        maps[0].push_back(radial(m.label_map, distance, m.bin_spacing));
        maps[1].push_back(m.sigmoid_mask ? 1 / (1 + std::exp(-mask)) : mask);
        maps[2].push_back(radial(m.spatial_weight, distance, m.bin_spacing));
      }
  }
  return maps;
}

std::vector<float> Memory::solve(const std::vector<float>& start, int64_t iterations, bool weighted) const {
  const Model& m = *model_;
  const int64_t C = m.channels, h = m.feature_side(), k = m.filter_size, side = m.score_side(), n = count_;
  const int64_t T = iterations, filter = C * k * k, map = side * side;
  const auto maps = labels();
  std::vector<TensorView> views;
  for (const auto& values : maps) views.push_back(view(values, {n, 1, side, side}));
  std::vector<float> weight(n, static_cast<float>(1.0 / static_cast<double>(n)));
  if (weighted)
    for (int64_t i = 0; i < n; ++i) weight[i] = static_cast<float>(weights_[i]);
  const std::vector<float> scalars = {m.log_step_length, m.filter_reg};
  std::vector<float> iterates((T + 1) * filter), losses(T + 1), gradients(T * filter), scores((T + 1) * n * map),
      responses(T * n * map);
  const cpu::SolverConstants constants{m.min_filter_reg, m.alpha_eps, m.extra, m.extra_logit};
  cpu::target_filter_solve(view(features_, {n, 1, C, h, h}), view(start, {1, C, k, k}), views, view(scalars, {2}),
                           view(weight, {n, 1}), constants, view(iterates, {T + 1, 1, C, k, k}), view(losses, {T + 1}),
                           view(gradients, {T, 1, C, k, k}), view(scores, {T + 1, n, 1, side, side}),
                           view(responses, {T, n, 1, side, side}), static_cast<int>(m.threads));
  return {iterates.end() - filter, iterates.end()};
}

std::vector<float> Memory::initial() const {
  const Model& m = *model_;
  const int64_t C = m.channels, h = m.feature_side(), k = m.filter_size, n = count_, wide = 3 * k;
  std::vector<std::vector<float>> down, across;  // [3 k, h] of every sample
  std::vector<float> covered(k * k, 0);
  for (int64_t i = 0; i < n; ++i) {
    const FloatBox& b = boxes_[i];
    const auto y = bin_means(b[1] / 16, b[3] / 16, k, h), x = bin_means(b[0] / 16, b[2] / 16, k, h);
    for (int64_t p = 0; p < k; ++p)
      for (int64_t q = 0; q < k; ++q) {
        float in_y = 0, in_x = 0;
        for (int64_t j = 0; j < h; ++j) in_y += y[p * h + j], in_x += x[q * h + j];
        covered[p * k + q] += in_y * in_x / static_cast<float>(n);
      }
    down.push_back(shifted(y, k, h));
    across.push_back(shifted(x, k, h));
  }
  // mean over the samples of the box pooled k x k, once per shift of the 3 x 3 kernel: [k k, C 9]
  std::vector<float> patches(k * k * C * 9);
  parallel_for(C, static_cast<int>(m.threads), [&](int64_t c) {
    std::vector<float> mean(wide * wide, 0), rows(wide * h);
    for (int64_t i = 0; i < n; ++i) {
      const float* x = features_.data() + i * sample_ + c * h * h;
      std::fill(rows.begin(), rows.end(), 0.0f);
      for (int64_t p = 0; p < wide; ++p)
        for (int64_t j = 0; j < h; ++j)
          if (const float weight = down[i][p * h + j]; weight != 0)
            for (int64_t v = 0; v < h; ++v) rows[p * h + v] += weight * x[j * h + v];
      for (int64_t p = 0; p < wide; ++p)
        for (int64_t q = 0; q < wide; ++q)
          mean[p * wide + q] += cpu::dot(rows.data() + p * h, across[i].data() + q * h, h);
    }
    for (int64_t dy = 0; dy < 3; ++dy)
      for (int64_t dx = 0; dx < 3; ++dx)
        for (int64_t p = 0; p < k; ++p)
          for (int64_t q = 0; q < k; ++q)
            patches[((p * k + q) * C + c) * 9 + dy * 3 + dx] =
                mean[(dy * k + p) * wide + dx * k + q] / static_cast<float>(n);
  });
  std::vector<float> filter(C * k * k);
  parallel_for(C, static_cast<int>(m.threads), [&](int64_t o) {
    const float *pooled = patches.data(), *weight = m.initializer.weight.data() + o * C * 9, *share = covered.data();
    const float bias = m.initializer.bias[o];
    float* to = filter.data() + o * k * k;
    vectorised([=]() CHASE_FAST_FLAT {
      for (int64_t tap = 0; tap < k * k; ++tap)
        to[tap] = share[tap] * bias + cpu::dot(pooled + tap * C * 9, weight, C * 9);
    });
  });
  return filter;
}

std::vector<float> scores(const Model& model, const float* features, const std::vector<float>& filter) {
  const int64_t C = model.channels, h = model.feature_side(), k = model.filter_size, side = model.score_side();
  std::vector<float> out(side * side);
  cpu::target_filter_apply(view(features, {1, 1, C, h, h}), view(filter, {1, 1, C, k, k}),
                           view(out, {1, 1, 1, side, side}), static_cast<int>(model.threads));
  return out;
}

}  // namespace chase_fast::tracker
