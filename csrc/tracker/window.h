// Search windows: where the tracker looks in a frame, and the pixels it sees there. Coordinates and meaning:
// chase_fast/track/patch.py.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tracker/model.h"

namespace chase_fast::tracker {

// RGB, 8 bits; rows at any stride (bytes).
struct Frame {
  const uint8_t* data;
  int64_t rows, columns, stride;
};

using Point = std::array<double, 2>;  // row, column
using Rect = std::array<double, 4>;   // x, y, w, h

// [height, width, 3]
struct Image {
  int64_t height, width;
  std::vector<float> pixels;

  Image(int64_t h, int64_t w) : height(h), width(w), pixels(static_cast<size_t>(3 * h * w)) {}
};

// A square window in every `every`-th pixel of a frame, from pixel `first` on.
struct Window {
  Point top_left, bottom_right;  // edges in the frame
  int64_t every;
  std::array<int64_t, 2> first;
  int64_t x0, y0, width, height;  // pixels taken of the thinned-out frame

  Point centre() const;
  double scale(int64_t size) const;  // frame px per patch px
};

Window search_window(Point centre, double side, const Frame& frame, int64_t size, Border border,
                     double max_scale_change, bool integer, bool thinning_offset);

// Factor >= 1 by which a window shrinks: inside until both axes fit the frame, inside_major until one.
double shrinkage(double side, const Frame& frame, Border border, double max_scale_change);

// The window's pixels, resized bilinearly (half-pixel centres): [size, size, 3], 0..255; edges repeat.
void take(const Frame& frame, const Window& window, int64_t size, int threads, float* patch);

// Target at `centre` of size (h, w), frame px -> x, y, w, h in patch pixels.
Rect box_in_patch(Point centre, Point size, Point window_centre, double scale, int64_t patch);

}  // namespace chase_fast::tracker
