// What `python -m chase_fast.export` wrote: manifest.json with settings, constants and checksums of the other files,
// the network, and constants.safetensors with small layers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tracker/model.h"

namespace chase_fast::tracker {

struct Folder {
  std::string network;  // path: frames.xml, beside it frames.bin; or frames.onnx
  std::shared_ptr<const Model> model;
};

// threads: of the loops of the model.
// Raises std::runtime_error, one line with the file and what to do: a file is missing, changed or damaged, or of another
// version.
Folder read_folder(const std::string& path, int64_t threads);

}  // namespace chase_fast::tracker
