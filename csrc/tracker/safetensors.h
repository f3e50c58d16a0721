// Arrays in a .safetensors file: 8 bytes with the length of the header (little-endian), the header (JSON), the data.
#pragma once

#include <string_view>

#include "tracker/model.h"

namespace chase_fast::tracker {

// The arrays of a file's bytes, all float32. What is allocated is not larger than the file.
// Raises std::runtime_error, one line: the header is damaged, or a type, a shape or a range does not fit.
Arrays read_safetensors(std::string_view bytes);

}  // namespace chase_fast::tracker
