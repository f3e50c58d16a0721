#include "track/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <locale>
#include <sstream>

#include "track/options.h"

namespace chase_fast::track {

namespace fs = std::filesystem;

Output::Output(const std::string& file) : file_(file), stream_(stdout) {
  if (file.empty()) return;
  std::error_code error;
  if (fs::exists(file, error) && !fs::is_regular_file(file, error)) throw Wrong("--out " + file + ": this is no file");
  scratch_ = file + "." + std::to_string(::getpid()) + ".part";
  stream_ = std::fopen(scratch_.c_str(), "wb");
  if (!stream_) fail();
}

Output::~Output() {
  if (scratch_.empty()) return;
  if (any_) {
    try {
      finish();
    } catch (const Wrong&) {  // what led here was said already
    }
  } else {
    std::fclose(stream_);
    std::remove(scratch_.c_str());
  }
}

void Output::add(const double (&box)[4]) {
  std::ostringstream line;
  line.imbue(std::locale::classic());
  line.setf(std::ios::fixed);
  line.precision(3);
  line << box[0] << ',' << box[1] << ',' << box[2] << ',' << box[3] << '\n';
  const std::string text = line.str();
  any_ = true;
  if (std::fwrite(text.data(), 1, text.size(), stream_) != text.size() || std::fflush(stream_)) fail();
}

void Output::finish() {
  if (scratch_.empty()) return;
  const std::string scratch = std::move(scratch_);
  scratch_.clear();
  const bool written = std::fflush(stream_) == 0 && ::fsync(::fileno(stream_)) == 0;
  const bool closed = std::fclose(stream_) == 0;
  if (!written || !closed || std::rename(scratch.c_str(), file_.c_str())) fail();
}

void Output::fail() const {
  const std::string where = file_.empty() ? "standard output" : "--out " + file_;
  throw Wrong(where + ": it cannot be written: " + std::strerror(errno));
}

}  // namespace chase_fast::track
