#include "tracker/json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace chase_fast::tracker {
namespace {

constexpr int kDepth = 64;
constexpr size_t kValues = 1000000;
constexpr uint32_t kReplacement = 0xFFFD;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& to, uint32_t code) {
  const auto tail = [&](int shift) { to += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    to += static_cast<char>(code);
  } else if (code < 0x800) {
    to += static_cast<char>(0xC0 | code >> 6), tail(0);
  } else if (code < 0x10000) {
    to += static_cast<char>(0xE0 | code >> 12), tail(6), tail(0);
  } else {
    to += static_cast<char>(0xF0 | code >> 18), tail(12), tail(6), tail(0);
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Json document() {
    Json value = any(0);
    space();
    if (at_ != text_.size()) fail("text after the end");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw std::runtime_error("no JSON: " + std::string(what) + " at byte " + std::to_string(at_));
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }  // a NUL in the text fits nothing either
  void space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) ++at_;
  }
  bool accept(char c) {
    space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c, const char* what) {
    if (!accept(c)) fail(what);
  }
  void word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) fail("a value is expected");
    at_ += word.size();
  }

  Json any(int depth) {
    if (depth > kDepth) fail("too many levels");
    if (++values_ > kValues) fail("too many values");
    space();
    Json value;
    switch (peek()) {
      case '{':
        object(value, depth);
        break;
      case '[':
        list(value, depth);
        break;
      case '"':
        value.kind = Json::Kind::TEXT;
        value.text = string();
        break;
      case 't':
        word("true");
        value.kind = Json::Kind::BOOLEAN, value.boolean = true;
        break;
      case 'f':
        word("false");
        value.kind = Json::Kind::BOOLEAN;
        break;
      case 'n':
        word("null");
        break;
      default:
        value.kind = Json::Kind::NUMBER;
        value.number = number();
    }
    return value;
  }

  void object(Json& value, int depth) {
    value.kind = Json::Kind::OBJECT;
    ++at_;
    if (accept('}')) return;
    do {
      space();
      if (peek() != '"') fail("a name is expected");
      value.names.push_back(string());
      expect(':', "a colon is expected");
      value.items.push_back(any(depth + 1));
    } while (accept(','));
    expect('}', "a comma or } is expected");
    std::vector<std::string_view> sorted(value.names.begin(), value.names.end());
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) fail("a name comes twice in the object");
  }

  void list(Json& value, int depth) {
    value.kind = Json::Kind::LIST;
    ++at_;
    if (accept(']')) return;
    do value.items.push_back(any(depth + 1));
    while (accept(','));
    expect(']', "a comma or ] is expected");
  }

  double number() {
    const size_t start = at_;
    const auto digits = [&] {
      if (!is_digit(peek())) fail("a value is expected");
      while (is_digit(peek())) ++at_;
    };
    if (peek() == '-') ++at_;
    if (peek() == '0')
      ++at_;
    else
      digits();
    if (peek() == '.') ++at_, digits();
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    std::istringstream in{std::string(text_.substr(start, at_ - start))};
    in.imbue(std::locale::classic());
    double value = 0;
    if (!(in >> value) || !std::isfinite(value)) fail("too large a number");
    return value;
  }

  std::string string() {
    ++at_;
    std::string value;
    while (true) {
      if (at_ == text_.size()) fail("a text without end");
      const unsigned char c = static_cast<unsigned char>(text_[at_]);
      if (c < 0x20) fail("a control character in a text");
      if (c >= 0x80) {
        utf8(value);
        continue;
      }
      ++at_;
      if (c == '"') return value;
      if (c == '\\')
        escape(value);
      else
        value += static_cast<char>(c);
    }
  }

  // A character of several bytes (RFC 3629).
  void utf8(std::string& to) {
    const auto byte = [&](size_t i) {
      return at_ + i < text_.size() ? static_cast<unsigned char>(text_[at_ + i]) : 0u;
    };
    const uint32_t lead = byte(0);
    const size_t count = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = lead & (0xFFu >> (count + 1));
    bool good = lead >= 0xC2 && lead <= 0xF4;
    for (size_t i = 1; i < count; ++i) good = good && (byte(i) & 0xC0) == 0x80, code = code << 6 | (byte(i) & 0x3F);
    if (!good || code < least[count] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) fail("no UTF-8");
    to.append(text_.substr(at_, count));
    at_ += count;
  }

  void escape(std::string& to) {
    const char c = peek();
    constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    if (c == 'u') {
      ++at_;
      uint32_t code = hex();
      if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
        const size_t before = at_;
        at_ += 2;
        const uint32_t low = hex();
        if (low >= 0xDC00 && low < 0xE000)
          code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        else
          at_ = before;
      }
      append_utf8(to, code >= 0xD800 && code < 0xE000 ? kReplacement : code);
      return;
    }
    const size_t place = at_ < text_.size() ? names.find(c) : std::string_view::npos;
    if (place == std::string_view::npos) fail("an unknown escape");
    to += values[place];
    ++at_;
  }

  uint32_t hex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      uint32_t digit = 0;
      if (is_digit(c))
        digit = static_cast<uint32_t>(c - '0');
      else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
        digit = static_cast<uint32_t>((c | 0x20) - 'a' + 10);
      else
        fail("four hexadecimal digits are expected");
      code = code << 4 | digit;
    }
    return code;
  }

  std::string_view text_;
  size_t at_ = 0, values_ = 0;
};

}  // namespace

Json Json::parse(std::string_view text) { return Parser(text).document(); }

const Json* Json::find(std::string_view name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? nullptr : &items[static_cast<size_t>(found - names.begin())];
}

}  // namespace chase_fast::tracker
