// What a tracked frame does with a score map and with refined boxes, one target; definition:
// kernels/localize/reference.py.
#pragma once

#include <vector>

#include "tracker/model.h"
#include "tracker/random.h"

namespace chase_fast::tracker {

enum class State { TRACKED, UNCERTAIN, HARD_NEGATIVE, LOST };

// Target and search window in frame pixels, (row, column): position, size (h, w), window centre; frame px per patch
// px; frame size (h, w).
struct Geometry {
  float position[2], size[2], window[2], scale, frame[2];
};

struct Found {
  float position[2], size[2];
  bool refined;  // they come from refinement
  State state;
  float score;
};

using FloatBox = std::array<float, 4>;  // x, y, w, h in patch px

// scores [S, S], changed -> where the target seems to be, and the boxes that are refined.
Found compare(std::vector<float>& scores, const Geometry& where, const Model& model, Random& random,
              std::vector<FloatBox>& boxes);

// Refined boxes and their scores -> place and size in `found`.
void best(const std::vector<FloatBox>& boxes, const std::vector<float>& scores, const Geometry& where,
          const Settings& settings, Found& found);

}  // namespace chase_fast::tracker
