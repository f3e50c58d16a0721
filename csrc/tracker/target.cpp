#include "tracker/target.h"

#include <algorithm>
#include <cmath>

#include "tracker/augment.h"

namespace chase_fast::tracker {
namespace {

constexpr float kLimit = 1e6f;  // px: what is farther or larger is no box

FloatBox to_float(const Rect& box) {
  return {static_cast<float>(box[0]), static_cast<float>(box[1]), static_cast<float>(box[2]),
          static_cast<float>(box[3])};
}

}  // namespace

Target::Target(std::shared_ptr<const Model> model, int64_t seed, int64_t number)
    : model_(std::move(model)), seed_(seed), number_(number) {}

void Target::first(const Frame& frame, const Rect& box, float* patches) {
  const Settings& s = model_->settings;
  const double size = static_cast<double>(s.image_size);
  frame_ = 1;
  frame_hw_ = {frame.rows, frame.columns};
  move(box);
  area_ = box[2] * box[3] / (place_.scale * place_.scale);

  double scale = place_.scale;
  if (s.border == Border::INSIDE || (s.shrink_first && s.border == Border::INSIDE_MAJOR))
    scale /= shrinkage(scale * size, frame, s.border, s.max_scale_change);
  Point centre = {std::nearbyint(place_.position[0]), std::nearbyint(place_.position[1])};
  const int64_t large = s.expansion * s.image_size;
  const bool published = s.first_box_offset;
  const Window window = search_window(centre, scale * static_cast<double>(large), frame, large, Border::REPLICATE,
                                      std::numeric_limits<double>::infinity(), s.integer_window, published);
  if (!published) centre = window.centre(), scale = window.scale(large);
  Image expanded(large, large);
  take(frame, window, large, static_cast<int>(model_->threads), expanded.pixels.data());
  Random random = Random::of(seed_, number_, 1);
  const auto copies = augmented(expanded, s, random, patches);

  const Rect at = box_in_patch(place_.position, place_.size, centre, scale, s.image_size);
  const double off[2] = {at[0] + at[2] / 2 - size / 2, at[1] + at[3] / 2 - size / 2};
  boxes_.clear();
  for (const Copy& copy : copies) {
    Rect b = at;
    for (int a = 0; a < 2; ++a) {
      if (!published) b[a] += copy.turn[2 * a] * off[0] + copy.turn[2 * a + 1] * off[1] - off[a];
      b[a] += static_cast<double>(copy.shift[1 - a]);
    }
    boxes_.push_back(to_float(b));
  }
  kept_.clear();
  for (double rate : s.dropouts) {
    boxes_.push_back(to_float(at));
    std::vector<float> factors(model_->channels);
    for (float& factor : factors) factor = static_cast<float>((random() >= rate ? 1.0 : 0.0) / (1 - rate));
    kept_.push_back(std::move(factors));
  }
}

void Target::move(const Rect& box) {
  const auto& [x, y, w, h] = box;
  const double area = model_->settings.search_area * model_->settings.search_area * w * h;
  place_ = {{y + (h - 1) / 2, x + (w - 1) / 2},
            {h, w},
            std::sqrt(area) / static_cast<double>(model_->settings.image_size),
            {}};
}

void Target::learn_first(const Maps& maps) {
  const Model& m = *model_;
  const int64_t cells = m.feature_side() * m.feature_side(), sample = m.channels * cells;
  modulation_ = tracker::modulation(m, maps.low, maps.high, boxes_[0]);
  std::vector<float> features(maps.features, maps.features + first_patches() * sample);
  for (const auto& factors : kept_)
    for (int64_t c = 0; c < m.channels; ++c)
      for (int64_t i = 0; i < cells; ++i) features.push_back(maps.features[c * cells + i] * factors[c]);
  memory_.emplace(m, std::move(features), boxes_);
  filter_ = memory_->solve(memory_->initial(), m.settings.init_iterations, false);
}

void Target::look(const Frame& frame, float* patch) {
  const Settings& s = model_->settings;
  ++frame_;
  frame_hw_ = {frame.rows, frame.columns};
  // a target is put on a cell of the score map: with an odd number of cells plus filter taps the window moves by half
  // a cell
  const double odd = static_cast<double>((model_->feature_side() + model_->filter_size) % 2);
  const double shift = odd * place_.scale * 16 / 2;
  window_ = search_window({place_.position[0] + shift, place_.position[1] + shift},
                          place_.scale * static_cast<double>(s.image_size), frame, s.image_size, s.border,
                          s.max_scale_change, s.integer_window, s.thinning_offset);
  take(frame, window_, s.image_size, static_cast<int>(model_->threads), patch);
}

Result Target::find(const Maps& maps) {
  const Model& m = *model_;
  const Point centre = window_.centre();
  Geometry where;
  for (int a = 0; a < 2; ++a) {
    where.position[a] = static_cast<float>(place_.position[a]), where.size[a] = static_cast<float>(place_.size[a]);
    where.window[a] = static_cast<float>(centre[a]), where.frame[a] = static_cast<float>(frame_hw_[a]);
  }
  where.scale = static_cast<float>(window_.scale(m.settings.image_size));
  std::vector<float> map = scores(m, maps.features, filter_), box_scores;
  std::vector<FloatBox> boxes;
  Random random = Random::of(seed_, number_, frame_);
  Found found = compare(map, where, m, random, boxes);
  refine(m, modulation_, {maps.low, maps.high}, boxes, box_scores);
  best(boxes, box_scores, where, m.settings, found);

  const float values[] = {found.position[0], found.position[1], found.size[0], found.size[1], found.score};
  const bool finite = std::all_of(std::begin(values), std::end(values), [](float v) { return std::abs(v) < kLimit; });
  const auto lost = [&] {
    return Result{place_.box(), std::isfinite(found.score) ? found.score : 0, State::LOST, finite};
  };
  if (!finite || found.state == State::LOST) return lost();
  Place next = place_;
  const Point position = {found.position[0], found.position[1]};
  if (found.refined) {
    next.size = {found.size[0], found.size[1]};
    next.position = position, next.refined = position;
    next.scale = std::sqrt(next.size[0] * next.size[1] / area_);
  } else {
    next.position = place_.refined && !m.settings.keep_position ? *place_.refined : position;
  }
  if (!can_be(next.box())) return lost();
  place_ = next;
  if (found.state == State::TRACKED || found.state == State::HARD_NEGATIVE)
    learn(maps.features, found.state == State::HARD_NEGATIVE);
  return {place_.box(), found.score, found.state, true};
}

bool Target::can_be(const Rect& box) const {
  const Settings& s = model_->settings;
  const auto& [x, y, w, h] = box;
  const double rows = static_cast<double>(frame_hw_[0]), columns = static_cast<double>(frame_hw_[1]);
  if (s.lost_outside && !(x < columns && y < rows && x + w > 0 && y + h > 0)) return false;
  if (!(std::min(w, h) >= s.smallest_side)) return false;
  return w <= s.largest_side * columns && h <= s.largest_side * rows;
}

void Target::learn(const float* features, bool hard_negative) {
  const Settings& s = model_->settings;
  const double scale = window_.scale(s.image_size);
  const Rect box = box_in_patch(place_.position, place_.size, window_.centre(), scale, s.image_size);
  memory_->insert(features, to_float(box), hard_negative ? s.hard_negative_rate : s.learning_rate);
  int64_t iterations = 0;
  if (hard_negative)
    iterations = s.hard_negative_iterations;
  else if ((frame_ - 1) % s.update_interval == 0)
    iterations = s.update_iterations;
  if (iterations) filter_ = memory_->solve(filter_, iterations, true);
}

}  // namespace chase_fast::tracker
