// The convolutions of a tracker, by OpenVINO on the CPU.
#pragma once

#include <memory>
#include <string>

#include "tracker/target.h"

namespace chase_fast::track {

// Patches [n, size, size, 3] -> Maps, for the first frame or for one patch of a later one.
class Network {
 public:
  // file: of tracker::Folder. precision: fp32 or bf16.
  // Raises std::runtime_error, one line: the file is damaged or no network of this model, or there is no such precision.
  Network(const std::string& file, const tracker::Model& model, const std::string& precision);
  ~Network();

  // To be filled with patches of a first frame, of a later frame.
  float* first_patches();
  float* patch();
  // Of these patches; the next call overwrites them. Raises std::exception.
  tracker::Maps first();
  tracker::Maps later();

 private:
  struct Part;
  std::unique_ptr<Part> first_, later_;
};

}  // namespace chase_fast::track
