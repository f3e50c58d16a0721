// Augmented copies of the first patch: shifted, mirrored, blurred, rotated; see chase_fast/track/augment.py.
#pragma once

#include <array>
#include <vector>

#include "tracker/random.h"
#include "tracker/window.h"

namespace chase_fast::tracker {

struct Copy {
  std::array<double, 4> turn;    // how its content was turned about the middle: [2, 2] of (x, y)
  std::array<int64_t, 2> shift;  // and then shifted: down, right, px
};

// Copies of the middle of an expanded patch [E, E, 3] -> patches [copies, size, size, 3].
std::vector<Copy> augmented(const Image& expanded, const Settings& settings, Random& random, float* patches);

}  // namespace chase_fast::tracker
