#include "tracker/window.h"

#include <algorithm>
#include <cmath>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace chase_fast::tracker {
namespace {

// The interval shifted into [0, length); if it is longer, it overhangs on both sides.
void shift_inside(double& low, double& high, double length) {
  double shift = std::max(0.0, -low) + std::min(0.0, length - high);
  low += shift, high += shift;
  const double overhang = std::floor((std::max(0.0, -low) + std::max(0.0, high - length)) / 2);
  shift = overhang > 0 ? -low - overhang : 0;
  low += shift, high += shift;
}

// The two pixels of every output pixel along one axis, as places in the frame, and the second one's weight.
struct Taps {
  std::vector<int64_t> first, second;
  std::vector<float> weight;

  // start, count: of the window in the thinned-out frame of `length` pixels; `from`, `every`: see Window.
  Taps(int64_t start, int64_t count, int64_t length, int64_t from, int64_t every, int64_t n_out)
      : first(n_out), second(n_out), weight(n_out) {
    const double scale = static_cast<double>(count) / static_cast<double>(n_out);
    const auto place = [=](int64_t i) {
      return from + every * std::clamp<int64_t>(start + std::clamp<int64_t>(i, 0, count - 1), 0, length - 1);
    };
    for (int64_t i = 0; i < n_out; ++i) {
      const float position = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
      const float whole = std::floor(position);
      const int64_t k = static_cast<int64_t>(whole);
      first[i] = place(k), second[i] = place(k + 1), weight[i] = position - whole;
    }
  }
};

}  // namespace

Point Window::centre() const {
  return {(top_left[0] + bottom_right[0] - 1) / 2, (top_left[1] + bottom_right[1] - 1) / 2};
}

double Window::scale(int64_t size) const {
  const double n = static_cast<double>(size);
  return std::sqrt((bottom_right[0] - top_left[0]) / n * ((bottom_right[1] - top_left[1]) / n));
}

Window search_window(Point centre, double side, const Frame& frame, int64_t size, Border border,
                     double max_scale_change, bool integer, bool thinning_offset) {
  if (border != Border::REPLICATE)  // in float32 as published: a quotient that should be whole may fall below it
    side = std::trunc(static_cast<float>(side) / static_cast<float>(shrinkage(side, frame, border, max_scale_change)));
  Window w;
  w.every = std::max<int64_t>(1, static_cast<int64_t>(side / static_cast<double>(size) - 0.1));
  const double every = static_cast<double>(w.every);
  const double pixels = std::max(2.0, std::nearbyint(side / every));
  const std::array<int64_t, 2> frame_hw = {frame.rows, frame.columns};
  std::array<int64_t, 2> begin, count;
  for (int a = 0; a < 2; ++a) {
    const int64_t c = static_cast<int64_t>(centre[a]);
    w.first[a] = std::min(((c % w.every) + w.every) % w.every, frame_hw[a] - 1);
    const int64_t length = (frame_hw[a] - w.first[a] + w.every - 1) / w.every;
    const double middle = std::floor(static_cast<double>(c - w.first[a]) / every);
    double before = (pixels - 1) / 2, behind = pixels / 2;
    if (integer) before = std::floor(before), behind = std::floor(behind);
    double low = middle - before, high = middle + behind + 1;
    if (border != Border::REPLICATE) shift_inside(low, high, static_cast<double>(length));
    const double shift = thinning_offset ? 0 : static_cast<double>(w.first[a]) - (every - 1) / 2;
    w.top_left[a] = every * low + shift, w.bottom_right[a] = every * high + shift;
    begin[a] = static_cast<int64_t>(low), count[a] = static_cast<int64_t>(high) - begin[a];
  }
  w.y0 = begin[0], w.height = count[0], w.x0 = begin[1], w.width = count[1];
  return w;
}

double shrinkage(double side, const Frame& frame, Border border, double max_scale_change) {
  const double down = side / static_cast<double>(frame.rows), across = side / static_cast<double>(frame.columns);
  const double factor = std::max(1.0, border == Border::INSIDE ? std::max(down, across) : std::min(down, across));
  return std::min(factor, max_scale_change);
}

void take(const Frame& frame, const Window& w, int64_t size, int threads, float* patch) {
  const int64_t lengths[2] = {(frame.rows - w.first[0] + w.every - 1) / w.every,
                              (frame.columns - w.first[1] + w.every - 1) / w.every};
  const Taps rows(w.y0, w.height, lengths[0], w.first[0], w.every, size);
  const Taps columns(w.x0, w.width, lengths[1], w.first[1], w.every, size);
  std::vector<int32_t> left(3 * size), right(3 * size);  // bytes of a row
  std::vector<float> share(3 * size);
  for (int64_t i = 0; i < size; ++i)
    for (int64_t c = 0; c < 3; ++c) {
      left[3 * i + c] = static_cast<int32_t>(3 * columns.first[i] + c);
      right[3 * i + c] = static_cast<int32_t>(3 * columns.second[i] + c);
      share[3 * i + c] = columns.weight[i];
    }
  // rows of the patch look at rows of the frame that move downwards: a thread keeps the last two, resized
  const int64_t parts = std::min<int64_t>(threads, std::max<int64_t>(1, size / 32));
  parallel_for(parts, threads, [&](int64_t part) {
    std::vector<float> kept[2] = {std::vector<float>(3 * size), std::vector<float>(3 * size)};
    int64_t at[2] = {-1, -1};
    const auto resized = [&](int64_t row, int keep) -> int {  // its place among the kept; never `keep`
      for (int k = 0; k < 2; ++k)
        if (at[k] == row) return k;
      const int k = keep == 0 ? 1 : 0;
      at[k] = row;
      const uint8_t* from = frame.data + row * frame.stride;
      const int32_t *l = left.data(), *r = right.data();
      const float* s = share.data();
      float* to = kept[k].data();
      vectorised([=]() CHASE_FAST_FLAT {
        for (int64_t i = 0; i < 3 * size; ++i) {
          const float a = from[l[i]], b = from[r[i]];
          to[i] = a * (1 - s[i]) + b * s[i];
        }
      });
      return k;
    };
    for (int64_t y = size * part / parts; y < size * (part + 1) / parts; ++y) {
      const int a = resized(rows.first[y], -1), b = resized(rows.second[y], a);
      const float share_b = rows.weight[y], share_a = 1 - share_b;
      const float *pa = kept[a].data(), *pb = kept[b].data();
      float* to = patch + y * 3 * size;
      vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
        for (int64_t i = 0; i < 3 * size; ++i) to[i] = pa[i] * share_a + pb[i] * share_b;
      });
    }
  });
}

Rect box_in_patch(Point centre, Point size, Point window_centre, double scale, int64_t patch) {
  const double h = size[0] / scale, w = size[1] / scale, middle = (static_cast<double>(patch) - 1) / 2;
  return {(centre[1] - window_centre[1]) / scale + middle - (w - 1) / 2,
          (centre[0] - window_centre[0]) / scale + middle - (h - 1) / 2, w, h};
}

}  // namespace chase_fast::tracker
