// A whole tracker with random constants and maps on random frames: every address, every branch; boxes stay numbers, and
// no bit depends on the number of threads. That they are the right ones tests/test_track_native.py says.
#include <array>
#include <memory>

#include "tests/check.h"
#include "tracker/target.h"

namespace chase_fast::tests {
namespace {

namespace t = chase_fast::tracker;

struct Setup {
  t::Numbers settings, constants;
  t::Arrays arrays;
  int64_t channels, pooled, low, high, side;
};

void fill(Setup& s, const char* name, std::vector<int64_t> shape, Random& random, double scale) {
  int64_t count = 1;
  for (int64_t n : shape) count *= n;
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(scale * random.normal());
  s.arrays[name] = {std::move(shape), std::move(values)};
}

Setup setup(Random& random) {
  Setup s;
  const auto flag = [&] { return std::vector<double>{random.chance(0.5) ? 1.0 : 0.0}; };
  const auto number = [&](double low, double high) { return std::vector<double>{random.uniform(low, high)}; };
  const auto integer = [&](int64_t low, int64_t high) {
    return std::vector<double>{static_cast<double>(random.integer(low, high))};
  };
  s.side = random.integer(2, 4);
  s.settings = {{"image_size", {16.0 * static_cast<double>(s.side)}},
                {"search_area", number(1.5, 6)},
                {"border", integer(0, 2)},
                {"max_scale_change", random.chance(0.5) ? std::vector<double>{} : number(1, 2)},
                {"smallest_side", number(0, 2)},
                {"largest_side", random.chance(0.5) ? std::vector<double>{} : number(1, 4)},
                {"init_iterations", integer(0, 3)},
                {"update_iterations", integer(0, 2)},
                {"hard_negative_iterations", integer(0, 1)},
                {"update_interval", integer(1, 3)},
                {"random_shift", number(0, 0.5)},
                {"expansion", integer(1, 2)},
                {"memory", integer(9, 12)},
                {"learning_rate", number(0.01, 0.1)},
                {"hard_negative_rate", number(0.01, 0.1)},
                {"init_weight", number(0, 0.5)},
                {"lost_below", number(-1, 0.01)},
                {"distractor_above", number(0.5, 1)},
                {"hard_negative_above", number(0.3, 0.8)},
                {"neighbourhood", number(0.5, 3)},
                {"displacement", number(0.2, 1)},
                {"random_boxes", integer(0, 5)},
                {"position_jitter", number(0, 0.5)},
                {"size_jitter", number(0, 1)},
                {"refine_iterations", integer(0, 4)},
                {"step", {random.uniform(0, 0.01), random.uniform(0, 0.01)}},
                {"step_decay", number(0.5, 1)},
                {"best_boxes", integer(1, 4)},
                {"max_aspect", number(1.5, 6)},
                {"inside_ratio", number(0, 1)},
                {"blurs", random.chance(0.5) ? std::vector<double>{} : std::vector<double>{2, 1}},
                {"rotations", random.chance(0.5) ? std::vector<double>{} : std::vector<double>{10, -45}},
                {"shifts", random.chance(0.5) ? std::vector<double>{} : std::vector<double>{0.6, -0.6}},
                {"dropouts", random.chance(0.5) ? std::vector<double>{} : std::vector<double>{0.2, 0.5}}};
  for (const char* name : {"integer_window", "half_pixel_offset", "thinning_offset", "first_box_offset", "shrink_first",
                           "score_after", "keep_position", "lost_outside", "flip", "softmax", "relative"})
    s.settings[name] = flag();

  s.channels = random.integer(1, 20), s.pooled = random.integer(1, 20);
  s.low = random.integer(1, 8), s.high = random.integer(1, 8);
  const int64_t k = random.integer(1, 4), hidden = random.integer(1, 40), middle = random.integer(1, 8);
  const bool prdimp = random.chance(0.5);
  s.constants = {{"channels", {static_cast<double>(s.channels)}},
                 {"filter_size", {static_cast<double>(k)}},
                 {"prdimp", {prdimp ? 1.0 : 0.0}},
                 {"log_step_length", {0}},
                 {"filter_reg", {0.1}},
                 {"min_filter_reg", {0.01}},
                 {"alpha_eps", {0.05}},
                 {"softmax_reg", random.chance(0.5) ? std::vector<double>{} : number(-1, 1)},
                 {"pool_channels", {static_cast<double>(s.pooled)}},
                 {"hidden", {static_cast<double>(hidden)}},
                 {"reference_low", {static_cast<double>(s.low)}},
                 {"reference_high", {static_cast<double>(s.high)}},
                 {"fc3_1r", {static_cast<double>(middle)}}};
  if (prdimp) {
    s.constants["sigma"] = random.chance(0.3) ? std::vector<double>{0} : number(0.3, 2);
    s.constants["label_threshold"] = number(0, 0.01);
    s.constants["normalize_label"] = flag();
    s.constants["uniform_weight"] = s.constants["label_shrink"] = number(0, 0.1);
  } else {
    const int64_t bins = random.integer(2, 12);
    s.constants["bins"] = {static_cast<double>(bins)};
    s.constants["bin_spacing"] = number(0.1, 1);
    s.constants["sigmoid_mask"] = flag();
    for (const char* name : {"label_map", "target_mask", "spatial_weight"}) fill(s, name, {bins}, random, 0.5);
  }
  fill(s, "initializer.weight", {s.channels, s.channels * 9}, random, 0.1);
  fill(s, "initializer.bias", {s.channels}, random, 0.1);
  const auto linear = [&](const std::string& name, int64_t outputs, int64_t inputs) {
    fill(s, (name + ".weight").c_str(), {outputs, inputs}, random, 0.3);
    fill(s, (name + ".bias").c_str(), {outputs}, random, 0.3);
  };
  linear("fc3_1r", middle, s.low * 9);
  linear("fc34_3r", s.pooled, middle + s.high);
  linear("fc34_4r", s.pooled, middle + s.high);
  linear("fc3_rt", hidden, s.pooled * 25);
  linear("fc4_rt", hidden, s.pooled * 9);
  fill(s, "fc3_rt.out", {hidden}, random, 0.3);
  fill(s, "fc4_rt.out", {hidden}, random, 0.3);
  fill(s, "head_bias", {1}, random, 0.3);
  return s;
}

// A map or features with guards; now and then with a NaN.
Array<float> made(int64_t count, Random& random) {
  Array<float> values(count, random);
  for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(random.normal());
  if (random.chance(0.05)) values[random.integer(0, count - 1)] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

struct Seen {
  Array<float> features, low, high;
  int64_t side, low_channels, high_channels;
  t::Maps maps() const {
    return {features.data(), {low.data(), 2 * side, low_channels}, {high.data(), side, high_channels}};
  }
};

Seen seen(const Setup& s, int64_t n, int64_t low, int64_t high, Random& random) {
  return {made(n * s.channels * s.side * s.side, random),
          made(4 * s.side * s.side * low, random),
          made(s.side * s.side * high, random),
          s.side,
          low,
          high};
}

struct Pixels {
  Array<uint8_t> bytes;
  t::Frame frame;
};

Pixels pixels(Random& random) {
  const int64_t rows = random.integer(1, 60), columns = random.integer(1, 60), gap = random.integer(0, 7);
  const int64_t stride = 3 * columns + gap;
  Array<uint8_t> bytes((rows - 1) * stride + 3 * columns, random);
  for (int64_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(random.integer(0, 255));
  const t::Frame frame{bytes.data(), rows, columns, stride};
  return {std::move(bytes), frame};
}

}  // namespace

void test_tracker(Random& random) {
  const Setup s = setup(random);
  const int64_t size = 16 * s.side;
  std::vector<t::Target> targets;
  for (int threads : {1, 3})
    targets.emplace_back(std::make_shared<t::Model>(s.settings, s.constants, s.arrays, threads), 7, 0);
  const Pixels first = pixels(random);
  const t::Rect box = {random.uniform(-5, 50), random.uniform(-5, 50), random.uniform(1, 80), random.uniform(1, 80)};
  const int64_t n = targets[0].first_patches();
  const Seen given = seen(s, n, s.low, s.high, random);
  for (t::Target& target : targets) {
    Array<float> patches(n * size * size * 3, random);
    target.first(first.frame, box, patches.data());
    patches.check_guards("first");
    for (int64_t i = 0; i < patches.size(); ++i)
      if (!(patches[i] >= -0.01f && patches[i] <= 255.01f)) fail("first: pixel ", i, " is ", patches[i]);
    target.learn_first(given.maps());
  }
  for (int step = 0; step < 6; ++step) {
    const Pixels next = pixels(random);
    const Seen found = seen(s, 1, s.pooled, s.pooled, random);
    std::vector<t::Result> results;
    for (t::Target& target : targets) {
      Array<float> patch(size * size * 3, random);
      target.look(next.frame, patch.data());
      patch.check_guards("look");
      for (int64_t i = 0; i < patch.size(); ++i)
        if (!(patch[i] >= -0.01f && patch[i] <= 255.01f)) fail("look: pixel ", i, " is ", patch[i]);
      results.push_back(target.find(found.maps()));
    }
    for (int k = 0; k < 4; ++k) {
      if (!std::isfinite(results[0].box[k])) fail("box: ", results[0].box[k]);
      if (results[0].box[k] != results[1].box[k]) fail("box: threads change ", k);
    }
    if (results[0].state != results[1].state || results[0].score != results[1].score) fail("threads change the state");
  }
}

}  // namespace chase_fast::tests
