// What is expected of damaged files: a std::runtime_error of one line.
#pragma once

#include <stdexcept>
#include <string>

#include "tests/check.h"

namespace chase_fast::tests {

// Whether f raised one.
template <class F>
bool read_or_refused(const F& f, const std::string& what, const std::string& expected = "") {
  std::string message;
  try {
    f();
    return false;
  } catch (const std::runtime_error& e) {
    message = e.what();
  }
  if (message.empty() || message.find('\n') != std::string::npos) fail(what, ": no line: ", message);
  if (message.find(expected) == std::string::npos) fail(what, ": `", expected, "` is not said: ", message);
  return true;
}

template <class F>
void refused(const F& f, const std::string& what, const std::string& expected = "") {
  if (!read_or_refused(f, what, expected)) fail(what, ": not refused");
}

}  // namespace chase_fast::tests
