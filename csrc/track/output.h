// Where boxes go: a line x,y,w,h per frame, as `chase-fast track` writes it.
#pragma once

#include <cstdio>
#include <string>

namespace chase_fast::track {

class Output {
 public:
  // file: written beside its place, renamed by finish(); empty: standard output.
  // Raises Wrong (here and below): it cannot be written.
  explicit Output(const std::string& file);
  // Without finish(), a file with boxes takes its place all the same; an empty one is removed.
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void add(const double (&box)[4]);
  void finish();

 private:
  [[noreturn]] void fail() const;

  std::string file_, scratch_;
  std::FILE* stream_;
  bool any_ = false;
};

}  // namespace chase_fast::track
