#include "tracker/model.h"

namespace chase_fast::tracker {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

std::string shape_of(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// The values of an array that must have this shape.
std::vector<float> take(Arrays& arrays, const std::string& name, const std::vector<int64_t>& shape) {
  const auto found = arrays.find(name);
  if (found == arrays.end()) throw std::invalid_argument("model: array " + name + " is missing");
  if (found->second.shape != shape)
    throw std::invalid_argument("model: array " + name + " must be " + shape_of(shape) + ", not " +
                                shape_of(found->second.shape));
  int64_t count = 1;
  for (int64_t n : shape) count *= n;
  if (static_cast<int64_t>(found->second.values.size()) != count)
    throw std::invalid_argument("model: array " + name + " has too few values");
  std::vector<float> values = std::move(found->second.values);
  arrays.erase(found);
  return values;
}

Linear linear(Arrays& arrays, const std::string& name, int64_t outputs, int64_t inputs) {
  return {outputs, inputs, take(arrays, name + ".weight", {outputs, inputs}), take(arrays, name + ".bias", {outputs})};
}

Branch branch(Arrays& arrays, const std::string& name, int64_t bins, int64_t stride, int64_t channels, int64_t hidden) {
  Branch b{bins,
           stride,
           channels,
           hidden,
           {},
           take(arrays, name + ".bias", {hidden}),
           take(arrays, name + ".out", {hidden})};
  const std::vector<float> weight = take(arrays, name + ".weight", {hidden, channels * bins * bins});
  b.weight.resize(weight.size());
  for (int64_t d = 0; d < hidden; ++d)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t i = 0; i < bins * bins; ++i)
        b.weight[(i * channels + c) * hidden + d] = weight[(d * channels + c) * bins * bins + i];
  return b;
}

}  // namespace

Settings::Settings(const Numbers& numbers) {
  Reader r(numbers, "settings");
  image_size = r.integer("image_size", 32, 4096);
  if (image_size % 16) throw std::invalid_argument("settings: image_size must be a multiple of 16");
  search_area = r.number("search_area");
  border = static_cast<Border>(r.integer("border", 0, 2));
  max_scale_change = r.number_or("max_scale_change", kNoLimit);
  integer_window = r.flag("integer_window");
  half_pixel_offset = r.flag("half_pixel_offset");
  thinning_offset = r.flag("thinning_offset");
  first_box_offset = r.flag("first_box_offset");
  shrink_first = r.flag("shrink_first");
  score_after = r.flag("score_after");
  keep_position = r.flag("keep_position");
  lost_outside = r.flag("lost_outside");
  smallest_side = r.number("smallest_side");
  largest_side = r.number_or("largest_side", kNoLimit);
  init_iterations = r.integer("init_iterations", 0, 10000);
  update_iterations = r.integer("update_iterations", 0, 10000);
  hard_negative_iterations = r.integer("hard_negative_iterations", 0, 10000);
  update_interval = r.integer("update_interval", 1, 1 << 30);
  flip = r.flag("flip");
  blurs = r.list("blurs", 2);
  rotations = r.list("rotations");
  shifts = r.list("shifts", 2);
  random_shift = r.number("random_shift");
  expansion = r.integer("expansion", 1, 16);
  dropouts = r.list("dropouts");
  memory = r.integer("memory", copies() + static_cast<int64_t>(dropouts.size()) + 1, 1 << 20);
  learning_rate = r.number("learning_rate");
  hard_negative_rate = r.number("hard_negative_rate");
  init_weight = r.number("init_weight");
  softmax = r.flag("softmax");
  lost_below = r.number("lost_below");
  distractor_above = r.number("distractor_above");
  hard_negative_above = r.number("hard_negative_above");
  neighbourhood = r.number("neighbourhood");
  displacement = r.number("displacement");
  relative = r.flag("relative");
  random_boxes = r.integer("random_boxes", 0, 4096);
  position_jitter = r.number("position_jitter");
  size_jitter = r.number("size_jitter");
  refine_iterations = r.integer("refine_iterations", 0, 10000);
  const auto steps = r.list("step", 2);
  if (steps.size() != 2) throw std::invalid_argument("settings: step must be two numbers");
  step = {steps[0], steps[1]};
  step_decay = r.number("step_decay");
  best_boxes = r.integer("best_boxes", 1, 4096);
  max_aspect = r.number("max_aspect");
  inside_ratio = r.number("inside_ratio");
  r.done();
}

Model::Model(const Numbers& settings_, const Numbers& constants, Arrays arrays, int64_t threads_)
    : settings(settings_), threads(threads_) {
  Reader r(constants, "model");
  channels = r.integer("channels", 1, 1 << 16);
  filter_size = r.integer("filter_size", 1, 64);
  prdimp = r.flag("prdimp");
  log_step_length = static_cast<float>(r.number("log_step_length"));
  filter_reg = static_cast<float>(r.number("filter_reg"));
  min_filter_reg = r.number("min_filter_reg");
  alpha_eps = r.number("alpha_eps");
  const auto logit = r.list("softmax_reg");
  extra = !logit.empty();
  extra_logit = extra ? logit[0] : 0;
  sigma = label_threshold = uniform_weight = label_shrink = bin_spacing = 0;
  normalize_label = sigmoid_mask = false;
  if (prdimp) {
    sigma = r.number("sigma");
    label_threshold = r.number("label_threshold");
    normalize_label = r.flag("normalize_label");
    uniform_weight = r.number("uniform_weight");
    label_shrink = r.number("label_shrink");
  } else {
    const int64_t bins = r.integer("bins", 2, 1 << 16);
    bin_spacing = r.number("bin_spacing");
    sigmoid_mask = r.flag("sigmoid_mask");
    label_map = take(arrays, "label_map", {bins});
    target_mask = take(arrays, "target_mask", {bins});
    spatial_weight = take(arrays, "spatial_weight", {bins});
  }
  const int64_t pooled = r.integer("pool_channels", 1, 1 << 14), hidden = r.integer("hidden", 1, 1 << 14);
  const int64_t low = r.integer("reference_low", 1, 1 << 14), high = r.integer("reference_high", 1, 1 << 14);
  const int64_t middle = r.integer("fc3_1r", 1, 1 << 14);
  r.done();
  initializer = linear(arrays, "initializer", channels, channels * 9);
  fc3_1r = linear(arrays, "fc3_1r", middle, low * 9);
  fc34_3r = linear(arrays, "fc34_3r", pooled, middle + high);
  fc34_4r = linear(arrays, "fc34_4r", pooled, middle + high);
  head = {branch(arrays, "fc3_rt", 5, 8, pooled, hidden), branch(arrays, "fc4_rt", 3, 16, pooled, hidden)};
  head_bias = take(arrays, "head_bias", {1})[0];
  if (!arrays.empty()) throw std::invalid_argument("model: array " + arrays.begin()->first + " is unknown");
}

}  // namespace chase_fast::tracker
