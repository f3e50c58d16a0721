#include <functional>

#include "tests/check.h"
#include "tests/refused.h"
#include "tracker/json.h"

namespace chase_fast::tests {
namespace {

using tracker::Json;
using Kind = Json::Kind;

const char* const kWrong[] = {
    "",
    " ",
    "{",
    "[",
    "\"",
    "[1,]",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{a:1}",
    "[1 2]",
    "01",
    "-",
    "1.",
    ".5",
    "1e",
    "+1",
    "NaN",
    "Infinity",
    "nul",
    "true false",
    "[1]]",
    "1e999",
    "-1e999",
    "\"\x01\"",
    "\"\n\"",
    "\"\\x\"",
    "\"\\u12G4\"",
    "\"\\u12",
    "\"\\",
    "\"\xff\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xe2\x82\"",
    "\"\xf4\x90\x80\x80\"",
    "{\"a\":1,\"b\":2,\"a\":3}",
    "// x\n1",
    "'a'",
    "[\"a\":1]",
    "{1:2}",
    "\xef\xbb\xbf"
    "1",
};

std::string quoted(const std::string& text, Random& random) {
  std::string out = "\"";
  for (char c : text) {
    char code[8];
    std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
    const bool plain = c >= 0x20 && c != '"' && c != '\\' && static_cast<unsigned char>(c) < 0x80;
    out += plain && random.chance(0.8) ? std::string(1, c) : std::string(code);
  }
  return out + "\"";
}

std::string spaces(Random& random) { return std::string(random.integer(0, 2), random.chance(0.5) ? ' ' : '\n'); }

// A random value, and the same as text.
Json value(Random& random, int depth, std::string& text) {
  Json v;
  v.kind = static_cast<Kind>(random.integer(0, depth > 4 ? 3 : 5));
  text += spaces(random);
  if (v.kind == Kind::EMPTY) text += "null";
  if (v.kind == Kind::BOOLEAN) v.boolean = random.chance(0.5), text += v.boolean ? "true" : "false";
  if (v.kind == Kind::NUMBER) {
    v.number = random.chance(0.5) ? static_cast<double>(random.integer(-1000, 1000))
                                  : random.normal() * std::pow(10, random.integer(-300, 300));
    char digits[40];
    std::snprintf(digits, sizeof digits, random.chance(0.5) ? "%.17g" : "%.17E", v.number);
    text += digits;
  }
  if (v.kind == Kind::TEXT) {
    for (int64_t n = random.integer(0, 6); n > 0; --n) v.text += static_cast<char>(random.integer(0, 127));
    text += quoted(v.text, random);
  }
  if (v.kind == Kind::LIST || v.kind == Kind::OBJECT) {
    const bool object = v.kind == Kind::OBJECT;
    text += object ? "{" : "[";
    const int64_t count = random.integer(0, 4);
    for (int64_t i = 0; i < count; ++i) {
      if (i) text += ",";
      if (object) {
        v.names.push_back("name " + std::to_string(i));
        text += spaces(random) + quoted(v.names.back(), random) + spaces(random) + ":";
      }
      v.items.push_back(value(random, depth + 1, text));
    }
    text += spaces(random) + (object ? "}" : "]");
  }
  text += spaces(random);
  return v;
}

bool same(const Json& a, const Json& b) {
  if (a.kind != b.kind || a.boolean != b.boolean || a.number != b.number || a.text != b.text || a.names != b.names ||
      a.items.size() != b.items.size())
    return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!same(a.items[i], b.items[i])) return false;
  return true;
}

void known() {
  for (const char* text : kWrong) refused([&] { Json::parse(text); }, text);
  refused([] { Json::parse(std::string_view("\"a\0b\"", 5)); }, "a NUL");
  const std::string deep(1000000, '[');
  refused([&] { Json::parse(deep); }, "a million brackets");
  std::string many = "[0";
  for (int i = 0; i < 1000001; ++i) many += ",0";
  refused([&] { Json::parse(many + "]"); }, "a million values");
  const Json text = Json::parse("[\"\\u00e9\\ud83d\\ude00\\ud83d!\\ude00\", \"\xc3\xa9\xf0\x9f\x98\x80\"]");
  if (text.items[0].text != "\xc3\xa9\xf0\x9f\x98\x80\xef\xbf\xbd!\xef\xbf\xbd" ||
      text.items[1].text != "\xc3\xa9\xf0\x9f\x98\x80")
    fail("characters beyond ASCII");
  if (Json::parse("1e-999").number != 0 || Json::parse("-0.5e+1").number != -5) fail("numbers");
  const Json object = Json::parse("{\"a\": null, \"b\": [true]}");
  if (!object.find("b") || object.find("b")->items.size() != 1 || object.find("c") || Json::parse("3").find("a"))
    fail("names");
}

}  // namespace

void test_json(Random& random) {
  static const bool once = (known(), true);
  (void)once;
  std::string text;
  const Json expected = value(random, 0, text);
  if (!same(Json::parse(text), expected)) fail("read differently: ", text);
  for (int i = 0; i < 50; ++i) {  // read or refused, never anything else
    std::string damaged = text;
    const size_t at = static_cast<size_t>(random.integer(0, static_cast<int64_t>(damaged.size()) - 1));
    if (random.chance(0.3))
      damaged.resize(at);
    else
      damaged[at] = static_cast<char>(random.integer(0, 255));
    read_or_refused([&] { Json::parse(damaged); }, damaged);
  }
}

}  // namespace chase_fast::tests
