// One target: what is known of it, how it is found in a frame and learned from. The convolutions in between belong to
// the caller, who may run them for several targets at once:
//
//   patches = target.first(frame, box);  maps = network(patches);  target.learn_first(maps);
//   patch = target.look(frame);          maps = network(patch);    result = target.find(maps);
//
// Meaning: chase_fast/track/target.py and step.py.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "tracker/boxes.h"
#include "tracker/learn.h"
#include "tracker/localize.h"
#include "tracker/model.h"
#include "tracker/random.h"
#include "tracker/window.h"

namespace chase_fast::tracker {

// What the network makes of patches [n, size, size, 3]: classification features [n, C, h, w], and maps
// [n, side, side, channels] of strides 8 and 16 that boxes are pooled from: for frames, or for the first one.
struct Maps {
  const float* features;
  Map low, high;
};

struct Result {
  Rect box;  // x, y, w, h in frame pixels
  float score;
  State state;
  bool finite;  // the network's output was
};

struct Place {
  Point position, size;          // (row, column), (h, w) in frame pixels
  double scale;                  // frame px per patch px
  std::optional<Point> refined;  // the last position that came from box refinement

  Rect box() const { return {position[1] - (size[1] - 1) / 2, position[0] - (size[0] - 1) / 2, size[1], size[0]}; }
};

class Target {
 public:
  // number: tells the random numbers of targets with one seed apart.
  Target(std::shared_ptr<const Model> model, int64_t seed, int64_t number);

  int64_t first_patches() const { return model_->settings.copies(); }

  // First frame: what the network is to see, [first_patches, size, size, 3]. box: x, y, w, h in the frame.
  void first(const Frame& frame, const Rect& box, float* patches);
  // reference maps: of the first patch; features of all.
  void learn_first(const Maps& maps);

  // A further frame: what the network is to see, [size, size, 3].
  void look(const Frame& frame, float* patch);
  Result find(const Maps& maps);

  // Puts the target elsewhere, as the first frame would.
  void move(const Rect& box);

  const std::vector<float>& filter() const { return filter_; }
  const Modulation& modulation() const { return modulation_; }

 private:
  bool can_be(const Rect& box) const;
  void learn(const float* features, bool hard_negative);

  std::shared_ptr<const Model> model_;
  int64_t seed_, number_, frame_ = 1;
  Place place_;
  double area_ = 0;  // of the target in patch px
  Window window_;
  std::array<int64_t, 2> frame_hw_;
  std::vector<FloatBox> boxes_;           // of the first samples
  std::vector<std::vector<float>> kept_;  // of the dropouts: factors of the channels
  std::vector<float> filter_;
  std::optional<Memory> memory_;
  Modulation modulation_;
};

}  // namespace chase_fast::tracker
