// The command line of chase-track.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace chase_fast::track {

// A mistake of the user: `error: ...`, exit code 2.
struct Wrong : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string model, frames;
  std::array<double, 4> box;
  std::string out;  // empty: standard output
  int threads = 0;
  std::string precision = "fp32";
  int64_t seed = 0, most_frames = 0;  // 0: all
  bool help = false;
};

extern const char* const kHelp;

// Raises Wrong.
Options parse(int count, const char* const* arguments);

}  // namespace chase_fast::track
