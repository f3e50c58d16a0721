// A strict reader of JSON (RFC 8259) for small files: UTF-8, no repeated names, no trailing text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace chase_fast::tracker {

struct Json {
  enum class Kind { EMPTY, BOOLEAN, NUMBER, TEXT, LIST, OBJECT };  // EMPTY: null

  Kind kind = Kind::EMPTY;
  bool boolean = false;
  double number = 0;
  std::string text;                // UTF-8; half of a surrogate pair reads as U+FFFD
  std::vector<std::string> names;  // of an object, beside its items
  std::vector<Json> items;

  // Raises std::runtime_error, one line that says where: no JSON, deeper than 64 levels, more than a million values.
  static Json parse(std::string_view text);

  // A value of an object; nullptr: this is no object, or there is none of that name.
  const Json* find(std::string_view name) const;
};

}  // namespace chase_fast::tracker
