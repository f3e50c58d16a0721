#include "track/video.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#include <vector>

#include "track/options.h"
#include "track/silence.h"

namespace chase_fast::track {
namespace {

namespace fs = std::filesystem;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Natural order: runs of digits are compared as numbers of any length, the rest as text.
bool before(const std::string& a, const std::string& b) {
  size_t i = 0, k = 0;
  while (i < a.size() && k < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[k])) {
      if (a[i] != b[k]) return a[i] < b[k];
      ++i, ++k;
      continue;
    }
    const auto run = [](const std::string& text, size_t& at) {
      while (at < text.size() && text[at] == '0') ++at;
      const size_t start = at;
      while (at < text.size() && is_digit(text[at])) ++at;
      return text.substr(start, at - start);
    };
    const std::string x = run(a, i), y = run(b, k);
    if (x.size() != y.size()) return x.size() < y.size();
    if (x != y) return x < y;
  }
  if ((i < a.size()) != (k < b.size())) return k < b.size();
  return a < b;
}

bool is_image(const fs::path& file) {
  std::string end = file.extension().string();
  std::transform(end.begin(), end.end(), end.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* known : {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
    if (end == known) return file.filename().string()[0] != '.';
  return false;
}

void to_rgb(const cv::Mat& bgr, cv::Mat& rgb, const std::string& path) {
  if (bgr.type() != CV_8UC3) throw Wrong(path + ": its pixels are not three channels of 8 bits");
  cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
}

class Images : public Video {
 public:
  explicit Images(const fs::path& folder) {
    std::error_code error;
    for (fs::directory_iterator file(folder, error), end; !error && file != end; file.increment(error))
      if (is_image(file->path())) files_.push_back(file->path().string());
    if (error) throw Wrong(folder.string() + ": this folder cannot be read: " + error.message());
    if (files_.empty()) throw Wrong(folder.string() + ": no images in this folder (jpg, png, bmp, tif, webp, ppm)");
    std::sort(files_.begin(), files_.end(), before);
  }
  bool next(cv::Mat& rgb) override {
    if (at_ == files_.size()) return false;
    const std::string& file = files_[at_++];
    cv::Mat bgr;
    const Silence silence;
    try {  // not turned by EXIF, as in Python
      bgr = cv::imread(file, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
    } catch (const cv::Exception&) {  // such as one of too many pixels
    }
    if (bgr.empty()) throw Wrong(file + ": no image, or a damaged one");
    to_rgb(bgr, rgb, file);
    return true;
  }
  int64_t frames() const override { return static_cast<int64_t>(files_.size()); }

 private:
  std::vector<std::string> files_;
  size_t at_ = 0;
};

class File : public Video {
 public:
  explicit File(const std::string& path) : path_(path) {
    const Silence silence;
    try {
      video_.open(path);
      video_.set(cv::CAP_PROP_ORIENTATION_AUTO, 0);  // pixels as they are stored: boxes are
    } catch (const cv::Exception&) {
    }
    if (!video_.isOpened() || !video_.read(frame_))
      throw Wrong(path + ": no video that this OpenCV can read, or a damaged one");
    count_ = video_.get(cv::CAP_PROP_FRAME_COUNT);
  }
  bool next(cv::Mat& rgb) override {
    const Silence silence;
    if (!first_ && !video_.read(frame_)) return false;
    first_ = false;
    to_rgb(frame_, rgb, path_);
    return true;
  }
  int64_t frames() const override { return count_ > 0 && count_ < 1e9 ? static_cast<int64_t>(count_) : 0; }

 private:
  std::string path_;
  cv::VideoCapture video_;
  cv::Mat frame_;  // first: it was read to see whether there is one
  bool first_ = true;
  double count_ = 0;
};

}  // namespace

std::unique_ptr<Video> open_video(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) throw Wrong(path + ": there is no such file or folder");
  if (fs::is_directory(path, error)) return std::make_unique<Images>(path);
  return std::make_unique<File>(path);
}

}  // namespace chase_fast::track
