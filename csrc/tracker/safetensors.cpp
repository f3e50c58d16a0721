#include "tracker/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "tracker/json.h"

namespace chase_fast::tracker {
namespace {

constexpr uint64_t kLargestHeader = 1 << 20;
constexpr size_t kAxes = 8;

struct Entry {
  std::string name;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // bytes of the data
};

[[noreturn]] void refuse(const std::string& name, const char* what) {
  throw std::runtime_error("array " + name + ": " + what);
}

// A whole number from 0 to `most`, or -1.
int64_t whole(const Json& value, uint64_t most) {
  if (value.kind != Json::Kind::NUMBER || !(value.number >= 0 && value.number <= static_cast<double>(most)) ||
      value.number != std::floor(value.number))
    return -1;
  return static_cast<int64_t>(value.number);
}

Entry entry(const std::string& name, const Json& about, uint64_t size) {
  const Json *type = about.find("dtype"), *shape = about.find("shape"), *range = about.find("data_offsets");
  if (!type || type->text != "F32") refuse(name, "its type must be F32");
  if (!shape || shape->kind != Json::Kind::LIST || shape->items.size() > kAxes) refuse(name, "its shape is damaged");
  if (!range || range->kind != Json::Kind::LIST || range->items.size() != 2) refuse(name, "its range is damaged");
  const int64_t begin = whole(range->items[0], size), end = whole(range->items[1], size);
  if (begin < 0 || end < begin) refuse(name, "its range lies outside the file");
  Entry e{name, {}, static_cast<uint64_t>(begin), static_cast<uint64_t>(end)};
  uint64_t bytes = sizeof(float);
  for (const Json& axis : shape->items) {
    const int64_t n = whole(axis, size);
    if (n < 1) refuse(name, "its shape is damaged");
    if (bytes > size / static_cast<uint64_t>(n)) refuse(name, "it is larger than the file");
    bytes *= static_cast<uint64_t>(n);
    e.shape.push_back(n);
  }
  if (bytes != e.end - e.begin) refuse(name, "its shape does not fit its range");
  return e;
}

}  // namespace

Arrays read_safetensors(std::string_view bytes) {
  static_assert(sizeof(float) == 4 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  uint64_t length = 0;
  if (bytes.size() < sizeof length) throw std::runtime_error("the file ends in its header");
  std::memcpy(&length, bytes.data(), sizeof length);
  bytes.remove_prefix(sizeof length);
  if (length > kLargestHeader || length > bytes.size()) throw std::runtime_error("the length of its header is damaged");
  const Json header = Json::parse(bytes.substr(0, length));
  bytes.remove_prefix(length);
  if (header.kind != Json::Kind::OBJECT) throw std::runtime_error("its header is no object");

  std::vector<Entry> entries;
  for (size_t i = 0; i < header.names.size(); ++i)
    if (header.names[i] != "__metadata__") entries.push_back(entry(header.names[i], header.items[i], bytes.size()));
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.begin < b.begin; });
  uint64_t end = 0;  // arrays follow one another: bytes that several share would be many times as many in memory
  Arrays arrays;
  for (const Entry& e : entries) {
    if (e.begin != end) refuse(e.name, "its range overlaps another, or leaves a hole");
    end = e.end;
    Array& array = arrays[e.name];
    array.shape = e.shape;
    array.values.resize((e.end - e.begin) / sizeof(float));
    std::memcpy(array.values.data(), bytes.data() + e.begin, e.end - e.begin);
    if (!std::all_of(array.values.begin(), array.values.end(), [](float v) { return std::isfinite(v); }))
      refuse(e.name, "it holds NaN or infinity");
  }
  if (end != bytes.size()) throw std::runtime_error("it holds bytes that belong to no array");
  return arrays;
}

}  // namespace chase_fast::tracker
