#include "tracker/localize.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace chase_fast::tracker {
namespace {

// Softmax with an additional logit, if there is one.
void softmax(std::vector<float>& scores, const Model& model) {
  float top = -std::numeric_limits<float>::infinity();
  bool nan = false;
  for (float s : scores) {
    nan |= std::isnan(s);
    top = std::max(top, s);
  }
  if (nan) {
    std::fill(scores.begin(), scores.end(), std::numeric_limits<float>::quiet_NaN());
    return;
  }
  const float extra = static_cast<float>(model.extra_logit);
  const float base = model.extra ? std::max(top, extra) : top;
  double sum = model.extra ? std::exp(static_cast<double>(extra - base)) : 0;
  for (float s : scores) sum += std::exp(static_cast<double>(s - base));
  const float normaliser = base + static_cast<float>(std::log(sum));
  for (float& s : scores) s = std::exp(s - normaliser);
}

struct Peak {
  float value;
  float place[2];  // row, column
};

// Ties: the first column, in it the first row; NaN is the highest.
Peak highest(const std::vector<float>& scores, int64_t side) {
  Peak peak{-std::numeric_limits<float>::infinity(), {0, 0}};
  bool any = false;
  for (int64_t x = 0; x < side; ++x)
    for (int64_t y = 0; y < side; ++y) {
      const float s = scores[y * side + x];
      if (any && !(s > peak.value) && !(std::isnan(s) && !std::isnan(peak.value))) continue;
      peak = {s, {static_cast<float>(y), static_cast<float>(x)}};
      any = true;
      if (std::isnan(s)) return peak;
    }
  return peak;
}

float distance(const float* a, const float* b) { return std::hypot(a[0] - b[0], a[1] - b[1]); }

}  // namespace

Found compare(std::vector<float>& scores, const Geometry& where, const Model& model, Random& random,
              std::vector<FloatBox>& boxes) {
  const Settings& s = model.settings;
  const int64_t side = model.score_side();
  if (s.softmax) softmax(scores, model);

  const float cell = 16 * where.scale;  // frame px per cell
  const Peak first = highest(scores, side);
  float low[2], high[2];
  for (int a = 0; a < 2; ++a) {
    const float extent = static_cast<float>(s.neighbourhood) * where.size[a] / cell;
    low[a] = std::nearbyint(first.place[a] - extent / 2);
    high[a] = std::nearbyint(first.place[a] + extent / 2 + 1);
  }
  std::vector<float> rest = scores;
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x)
      if (static_cast<float>(y) >= low[0] && static_cast<float>(y) < high[0] && static_cast<float>(x) >= low[1] &&
          static_cast<float>(x) < high[1])
        rest[y * side + x] = 0;
  const Peak second = highest(rest, side);

  const float middle = static_cast<float>(side - 1) / 2;
  float move[2], other[2], before[2];
  for (int a = 0; a < 2; ++a) {
    move[a] = first.place[a] - middle, other[a] = second.place[a] - middle;
    before[a] = (where.position[a] - where.window[a]) / cell;
  }
  const float far = static_cast<float>(s.displacement * static_cast<double>(side) / 2);
  const float d = distance(move, before), other_d = distance(other, before);
  const bool rival = second.value > static_cast<float>(s.distractor_above) * first.value;
  const bool first_is_it = other_d > far && d < far, second_is_it = other_d < far && d > far;
  const bool similar = second.value > static_cast<float>(s.hard_negative_above) * first.value &&
                       second.value > static_cast<float>(s.lost_below);
  const bool negative = rival ? first_is_it || second_is_it : similar;

  Found found;
  found.state = negative ? State::HARD_NEGATIVE : rival ? State::UNCERTAIN : State::TRACKED;
  if (!(first.value >= static_cast<float>(s.lost_below))) found.state = State::LOST;  // NaN compares false
  found.score = first.value;
  found.refined = false;
  const float* taken = rival && second_is_it ? other : move;
  FloatBox box;
  for (int a = 0; a < 2; ++a) {
    const float outside = static_cast<float>(s.inside_ratio - 0.5) * where.size[a];
    const float position = where.window[a] + taken[a] * cell;
    found.position[a] = std::max(std::min(position, where.frame[a] - outside), outside);
    found.size[a] = where.size[a];
    const float extent = where.size[a] / where.scale, centre = static_cast<float>(s.image_size - 1) / 2;
    box[1 - a] = (found.position[a] - where.window[a]) / where.scale + centre - (extent - 1) / 2;
    box[3 - a] = extent;
  }

  boxes.assign(1, box);
  const float smallest = std::min(box[2], box[3]) / 3, spread = std::sqrt(box[2] * box[3]);
  for (int64_t i = 0; i < s.random_boxes; ++i) {
    float noise[4];
    for (float& n : noise) n = spread * (static_cast<float>(random()) - 0.5f);
    FloatBox copy;
    for (int a = 0; a < 2; ++a) {
      const float size = std::max(box[2 + a] + static_cast<float>(s.size_jitter) * noise[2 + a], smallest);
      const float centre = box[a] + box[2 + a] / 2 + static_cast<float>(s.position_jitter) * noise[a];
      copy[a] = centre - size / 2, copy[2 + a] = size;
    }
    boxes.push_back(copy);
  }
  return found;
}

void best(const std::vector<FloatBox>& boxes, const std::vector<float>& scores, const Geometry& where,
          const Settings& settings, Found& found) {
  std::vector<size_t> valid;
  const float most = static_cast<float>(settings.max_aspect), least = static_cast<float>(1 / settings.max_aspect);
  for (size_t i = 0; i < boxes.size(); ++i) {
    const FloatBox& b = boxes[i];
    const float aspect = std::max(b[2], 1.0f) / std::max(b[3], 1.0f);
    const bool finite = std::isfinite(b[0]) && std::isfinite(b[1]) && std::isfinite(b[2]) && std::isfinite(b[3]);
    if (finite && std::isfinite(scores[i]) && aspect < most && aspect > least) valid.push_back(i);
  }
  if (valid.empty()) return;
  std::stable_sort(valid.begin(), valid.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  valid.resize(std::min<size_t>(valid.size(), settings.best_boxes));
  FloatBox mean{};
  for (size_t i : valid)
    for (int k = 0; k < 4; ++k) mean[k] += k < 2 ? boxes[i][k] : std::max(boxes[i][k], 1.0f);
  for (float& value : mean) value /= static_cast<float>(valid.size());
  const float middle = static_cast<float>(settings.image_size - 1) / 2;
  for (int a = 0; a < 2; ++a) {
    float centre = mean[1 - a] + mean[3 - a] / 2;
    if (!settings.half_pixel_offset) centre -= 0.5f;
    found.position[a] = (centre - middle) * where.scale + where.window[a];
    found.size[a] = mean[3 - a] * where.scale;
  }
  found.refined = true;
}

}  // namespace chase_fast::tracker
