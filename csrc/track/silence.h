// While a Silence lives nothing reaches standard error: libpng, libjpeg, FFmpeg and OpenVINO's readers print there what is
// wrong with a file, beside the one line that we say.
#pragma once

#include <fcntl.h>
#include <unistd.h>

namespace chase_fast::track {

class Silence {
 public:
  Silence() : kept_(::dup(STDERR_FILENO)), nothing_(::open("/dev/null", O_WRONLY)) {
    if (kept_ >= 0 && nothing_ >= 0) ::dup2(nothing_, STDERR_FILENO);
  }
  ~Silence() {
    if (kept_ >= 0) ::dup2(kept_, STDERR_FILENO), ::close(kept_);
    if (nothing_ >= 0) ::close(nothing_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  int kept_, nothing_;
};

}  // namespace chase_fast::track
