// What a tracker is made of besides its convolutions: settings (meaning: chase_fast/track/settings.py), learned
// constants and small layers. They come as named numbers and named arrays, from Python or from an exported folder.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace chase_fast::tracker {

// A switch is 0 or 1, a choice the place in its list, an absent value an empty list.
using Numbers = std::map<std::string, std::vector<double>>;

struct Array {
  std::vector<int64_t> shape;
  std::vector<float> values;
};
using Arrays = std::map<std::string, Array>;

// Takes numbers by name and shape; at the end every number must have been taken.
class Reader {
 public:
  Reader(Numbers numbers, std::string what) : numbers_(std::move(numbers)), what_(std::move(what)) {}

  std::vector<double> list(const std::string& name, size_t multiple = 1) {
    const auto found = numbers_.find(name);
    if (found == numbers_.end()) throw std::invalid_argument(what_ + ": " + name + " is missing");
    std::vector<double> values = std::move(found->second);
    numbers_.erase(found);
    if (values.size() % multiple) throw std::invalid_argument(what_ + ": " + name + " has a value too few");
    return values;
  }
  double number(const std::string& name) {
    const auto values = list(name);
    if (values.size() != 1) throw std::invalid_argument(what_ + ": " + name + " must be one number");
    return values[0];
  }
  double number_or(const std::string& name, double absent) {
    const auto values = list(name);
    if (values.size() > 1) throw std::invalid_argument(what_ + ": " + name + " must be one number");
    return values.empty() ? absent : values[0];
  }
  int64_t integer(const std::string& name, int64_t low, int64_t high) {
    const double value = number(name);
    if (!(value >= static_cast<double>(low) && value <= static_cast<double>(high)) ||
        value != static_cast<double>(static_cast<int64_t>(value)))
      throw std::invalid_argument(what_ + ": " + name + " must be a whole number, from " + std::to_string(low) +
                                  " to " + std::to_string(high));
    return static_cast<int64_t>(value);
  }
  bool flag(const std::string& name) { return integer(name, 0, 1) == 1; }

  void done() const {
    if (!numbers_.empty()) throw std::invalid_argument(what_ + ": " + numbers_.begin()->first + " is unknown");
  }

 private:
  Numbers numbers_;
  std::string what_;
};

enum class Border { REPLICATE, INSIDE, INSIDE_MAJOR };

struct Settings {
  int64_t image_size;
  double search_area;
  Border border;
  double max_scale_change;  // infinity: no limit
  bool integer_window, half_pixel_offset, thinning_offset, first_box_offset, shrink_first, score_after, keep_position;
  bool lost_outside;
  double smallest_side, largest_side;  // infinity: no limit
  int64_t init_iterations, update_iterations, hard_negative_iterations, update_interval;
  bool flip;
  std::vector<double> blurs;  // pairs (vertical, horizontal)
  std::vector<double> rotations;
  std::vector<double> shifts;  // pairs (down, right)
  double random_shift;
  int64_t expansion;
  std::vector<double> dropouts;
  int64_t memory;
  double learning_rate, hard_negative_rate, init_weight;
  bool softmax;
  double lost_below, distractor_above, hard_negative_above, neighbourhood, displacement;
  bool relative;
  int64_t random_boxes;
  double position_jitter, size_jitter;
  int64_t refine_iterations;
  std::array<double, 2> step;  // of position, of size
  double step_decay;
  int64_t best_boxes;
  double max_aspect, inside_ratio;

  explicit Settings(const Numbers& numbers);

  int64_t copies() const {  // patches of the first frame
    return 1 + static_cast<int64_t>(shifts.size() / 2 + (flip ? 1 : 0) + blurs.size() / 2 + rotations.size());
  }
};

// y = weight x + bias, weight [outputs, inputs].
struct Linear {
  int64_t outputs = 0, inputs = 0;
  std::vector<float> weight, bias;
};

// One of the two branches of the box regressor's head: pooled bins x bins cells of C channels -> hidden units -> score.
struct Branch {
  int64_t bins, stride, channels, hidden;
  std::vector<float> weight;  // [bins bins, C, hidden]
  std::vector<float> bias;    // [hidden]
  std::vector<float> out;     // [hidden]
};

struct Model {
  Settings settings;
  int64_t channels, filter_size;  // of the classification features and of the filter [C, k, k]
  int64_t threads;

  // the first filter: 3 x 3 convolution [C, C 3 3], bias [C]
  Linear initializer;

  // the solver and its labels
  bool prdimp;
  float log_step_length, filter_reg;
  double min_filter_reg, alpha_eps;
  bool extra;  // one more logit
  double extra_logit;
  double sigma, label_threshold, uniform_weight, label_shrink;  // PrDiMP
  bool normalize_label;
  double bin_spacing;  // DiMP: radial maps [bins]
  bool sigmoid_mask;
  std::vector<float> label_map, target_mask, spatial_weight;

  // the box regressor
  Linear fc3_1r, fc34_3r, fc34_4r;
  std::array<Branch, 2> head;
  float head_bias;

  // threads: of the loops.
  // Raises std::invalid_argument: a name is missing or unknown, or a shape cannot be.
  Model(const Numbers& settings, const Numbers& constants, Arrays arrays, int64_t threads);

  int64_t feature_side() const { return settings.image_size / 16; }
  int64_t score_side() const { return feature_side() + (filter_size + 1) % 2; }
};

}  // namespace chase_fast::tracker
