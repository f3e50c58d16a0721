// Which settings a tracker of an exported folder can have: values in a range where anything works, and no more memory
// than a few GiB. Settings from Python were checked there (chase_fast/track/limits.py).
#pragma once

#include "tracker/model.h"

namespace chase_fast::tracker {

// Raises std::invalid_argument, one line.
void check_limits(const Numbers& settings);
void check_memory(const Model& model);

}  // namespace chase_fast::tracker
