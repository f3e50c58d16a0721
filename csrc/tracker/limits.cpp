#include "tracker/limits.h"

#include <stdexcept>

namespace chase_fast::tracker {
namespace {

struct Limit {
  const char* name;
  double least, most;
};

// chase_fast/track/limits.py
constexpr Limit kLimits[] = {
    {"image_size", 16, 4096},
    {"search_area", 1, 100},
    {"max_scale_change", 1, 1000},
    {"smallest_side", 0, 1e6},
    {"largest_side", 1e-3, 1e6},
    {"init_iterations", 0, 10000},
    {"update_iterations", 0, 10000},
    {"hard_negative_iterations", 0, 10000},
    {"update_interval", 1, 1e9},
    {"blurs", 0.01, 100},
    {"rotations", -360, 360},
    {"shifts", -2, 2},
    {"random_shift", 0, 4},
    {"expansion", 1, 8},
    {"dropouts", 0, 0.99},
    {"memory", 2, 10000},
    {"learning_rate", 0, 0.99},
    {"hard_negative_rate", 0, 0.99},
    {"init_weight", 0, 1},
    {"lost_below", -1e6, 1e6},
    {"distractor_above", 0, 1e6},
    {"hard_negative_above", 0, 1e6},
    {"neighbourhood", 0, 1000},
    {"displacement", 0, 1000},
    {"random_boxes", 0, 1000},
    {"position_jitter", 0, 100},
    {"size_jitter", 0, 100},
    {"refine_iterations", 0, 1000},
    {"step", 0, 1e6},
    {"step_decay", 0, 10},
    {"best_boxes", 1, 1000},
    {"max_aspect", 1, 1e6},
    {"inside_ratio", 0, 1},
};

constexpr int64_t kPatches = 64;         // of the first frame: those that a network was exported for
constexpr int64_t kSide = 8192;          // px, of the patch that they are cut from
constexpr int64_t kPixels = 1 << 24;     // of all of them: a network makes some hundred bytes of each
constexpr double kMostValues = 1 << 29;  // floats in the memory of samples

}  // namespace

void check_limits(const Numbers& settings) {
  for (const auto& [name, least, most] : kLimits) {
    const auto found = settings.find(name);
    if (found == settings.end()) continue;
    for (double value : found->second)
      if (!(value >= least && value <= most))
        throw std::invalid_argument("settings: " + std::string(name) + " is out of range");
  }
}

void check_memory(const Model& model) {
  const Settings& s = model.settings;
  if (s.copies() + static_cast<int64_t>(s.dropouts.size()) > kPatches)
    throw std::invalid_argument("settings: too many copies of the first patch");
  if (s.copies() * s.image_size * s.image_size > kPixels)
    throw std::invalid_argument("settings: image_size is too large for so many patches");
  if (s.image_size * s.expansion > kSide) throw std::invalid_argument("settings: image_size x expansion is too large");
  const double side = static_cast<double>(model.feature_side());
  if (static_cast<double>(s.memory) * static_cast<double>(model.channels) * side * side > kMostValues)
    throw std::invalid_argument("settings: memory is too large");
}

}  // namespace chase_fast::tracker
