// Frames of a video file or of a folder of images, by OpenCV.
#pragma once

#include <cstdint>
#include <memory>
#include <opencv2/core.hpp>
#include <string>

namespace chase_fast::track {

class Video {
 public:
  virtual ~Video() = default;
  // The next frame, RGB with 8 bits per channel; false at the end. Raises Wrong: it cannot be read.
  virtual bool next(cv::Mat& rgb) = 0;
  virtual int64_t frames() const = 0;  // how many there should be; 0: not known
};

// Raises Wrong: there is none, or it cannot be read.
std::unique_ptr<Video> open_video(const std::string& path);

}  // namespace chase_fast::track
