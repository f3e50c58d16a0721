// The box regressor: what it keeps of the first frame, and gradient ascent of its score over several boxes. Meaning:
// chase_fast/nn/box_regressor.py and chase_fast/track/refine.py.
#pragma once

#include <array>
#include <vector>

#include "tracker/localize.h"
#include "tracker/model.h"

namespace chase_fast::tracker {

// Two vectors [C] that the maps of strides 8 and 16 are multiplied by.
using Modulation = std::array<std::vector<float>, 2>;

// A map [height, width, C]; all of ours are square.
struct Map {
  const float* data;
  int64_t side, channels;
};

// low, high: reference maps of strides 8 and 16; box in patch px.
Modulation modulation(const Model& model, const Map& low, const Map& high, const FloatBox& box);

// Boxes after all gradient steps, and their scores (before the last step, or after it: Settings::score_after).
void refine(const Model& model, const Modulation& modulation, const std::array<Map, 2>& maps,
            std::vector<FloatBox>& boxes, std::vector<float>& scores);

}  // namespace chase_fast::tracker
