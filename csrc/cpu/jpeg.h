// A part of a baseline JPEG, decoded to the same pixels as libjpeg-turbo's default; method: jpeg.cpp.
#pragma once

#include <array>
#include <string_view>

#include "view.h"

namespace chase_fast::cpu {

// (height, width) of a file that jpeg_part can decode; (0, 0) for any other data.
std::array<int64_t, 2> jpeg_size(std::string_view file);

// Writes RGB pixels from column x0 and row y0 on into out [h, w, 3] uint8, contiguous, inside the image.
// False: the file is of another kind or damaged, out is undefined.
bool jpeg_part(std::string_view file, int64_t x0, int64_t y0, const TensorView& out);

}  // namespace chase_fast::cpu
