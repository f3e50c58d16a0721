#include "track/chase_track.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "track/network.h"
#include "tracker/folder.h"
#ifdef __linux__
#include <sched.h>
#endif

namespace t = chase_fast::tracker;

struct chase_track {
  std::string error;
  std::shared_ptr<const t::Model> model;
  std::unique_ptr<chase_fast::track::Network> network;
  int64_t seed = 0;
  std::optional<t::Target> target;
  t::Rect box{};
  float score = 0;
  int state = CHASE_TRACK_GIVEN;
};

namespace {

constexpr int kMostThreads = 1024, kLargestSide = 1 << 16;
constexpr double kFarthest = 1e6;  // px

int available_threads() {
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Runs f; what it throws becomes the tracker's error.
template <class F>
int guarded(chase_track* tracker, const F& f) noexcept {
  if (!tracker) return 1;
  try {
    try {
      tracker->error.clear();
      f();
      return 0;
    } catch (const std::bad_alloc&) {
      tracker->error = "out of memory";
    } catch (const std::exception& e) {
      tracker->error = e.what();
      std::replace_if(
          tracker->error.begin(), tracker->error.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; },
          ' ');
    } catch (...) {
      tracker->error = "an unknown error";
    }
  } catch (...) {  // no memory for the text
  }
  return 1;
}

void need(bool fine, const char* what) {
  if (!fine) throw std::invalid_argument(what);
}

t::Frame frame_of(const uint8_t* rgb, int width, int height, ptrdiff_t stride) {
  need(rgb, "a frame must not be NULL");
  need(width > 0 && height > 0 && width <= kLargestSide && height <= kLargestSide,
       "a frame must have 1 to 65536 pixels in width and height");
  need(stride >= 3 * static_cast<ptrdiff_t>(width), "the stride of a frame must be at least 3 bytes per pixel");
  return {rgb, height, width, stride};
}

t::Rect box_of(const double* given, const t::Frame& frame) {
  need(given, "a box must not be NULL");
  const t::Rect box = {given[0], given[1], given[2], given[3]};
  const auto& [x, y, w, h] = box;
  std::ostringstream text;
  text << "box " << x << "," << y << "," << w << "," << h;
  const auto refuse = [&](const char* what) { throw std::invalid_argument(text.str() + what); };
  for (double v : box)
    if (!(std::abs(v) <= kFarthest)) refuse(" is NaN or has no bounds: give x,y,w,h in pixels");
  if (w < 1 || h < 1) refuse(" has no size: width and height must be at least 1 pixel");
  text << " lies outside the frame of " << frame.columns << "x" << frame.rows << " pixels";
  if (x >= static_cast<double>(frame.columns) || y >= static_cast<double>(frame.rows) || x + w <= 0 || y + h <= 0)
    refuse("");
  return box;
}

}  // namespace

int chase_track_create(const char* folder, const char* precision, int threads, int64_t seed, chase_track** tracker) {
  if (!tracker) return 1;
  *tracker = new (std::nothrow) chase_track;
  return guarded(*tracker, [&] {
    need(folder, "the folder must not be NULL");
    need(threads >= 0 && threads <= kMostThreads, "threads must be from 0 to 1024");
    chase_track& c = **tracker;
    const t::Folder read = t::read_folder(folder, threads ? threads : available_threads());
    c.network = std::make_unique<chase_fast::track::Network>(read.network, *read.model, precision ? precision : "fp32");
    c.model = read.model, c.seed = seed;
  });
}

int chase_track_init(chase_track* tracker, const uint8_t* rgb, int width, int height, ptrdiff_t stride,
                     const double box[4]) {
  return guarded(tracker, [&] {
    chase_track& c = *tracker;
    need(c.model != nullptr, "chase_track_create failed: this tracker cannot track");
    const t::Frame frame = frame_of(rgb, width, height, stride);
    const t::Rect given = box_of(box, frame);
    c.target.reset();
    t::Target target(c.model, c.seed, 0);
    target.first(frame, given, c.network->first_patches());
    target.learn_first(c.network->first());
    c.target = std::move(target);
    c.box = given, c.score = std::numeric_limits<float>::quiet_NaN(), c.state = CHASE_TRACK_GIVEN;
  });
}

int chase_track_update(chase_track* tracker, const uint8_t* rgb, int width, int height, ptrdiff_t stride) {
  return guarded(tracker, [&] {
    chase_track& c = *tracker;
    need(c.target.has_value(), "chase_track_init comes before chase_track_update");
    const t::Frame frame = frame_of(rgb, width, height, stride);
    c.target->look(frame, c.network->patch());
    const t::Result found = c.target->find(c.network->later());
    c.box = found.box, c.score = found.score, c.state = static_cast<int>(found.state);
  });
}

int chase_track_result(chase_track* tracker, double box[4], float* score, int* state) {
  return guarded(tracker, [&] {
    need(tracker->target.has_value(), "chase_track_init comes before chase_track_result");
    need(box, "a box must not be NULL");
    std::copy(tracker->box.begin(), tracker->box.end(), box);
    if (score) *score = tracker->score;
    if (state) *state = tracker->state;
  });
}

const char* chase_track_error(const chase_track* tracker) {
  return tracker ? tracker->error.c_str() : "there is no tracker: out of memory, or NULL was given";
}

void chase_track_destroy(chase_track* tracker) { delete tracker; }
