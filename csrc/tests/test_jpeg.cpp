// Files come from a small encoder: random coefficients under random Huffman tables of full length. A part must be that
// of the whole decoding, grey pixels those of a cosine transform in double, and damaged files must do no damage.
#include <algorithm>
#include <string>

#include "cpu/jpeg.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

struct Case {
  int64_t height, width;
  int components, h, v, restart;  // restart: minimum coded units, 0: none
  double size;                    // of the coefficients
};

// 16 codes of 4 bits but the last, continued by 4, 8 and 12 more bits: every symbol has a code of at most 16 bits.
struct Huffman {
  std::vector<int> symbols;  // in the order of their codes
  std::vector<int> counts = std::vector<int>(16);

  Huffman(std::vector<int> all, Random& random) : symbols(std::move(all)) {
    for (size_t i = symbols.size(); i > 1; --i) std::swap(symbols[i - 1], symbols[random.integer(0, int64_t(i) - 1)]);
    int64_t left = int64_t(symbols.size()), room = 1;
    for (int length = 1; length <= 16; ++length) {
      room *= 2;
      // keep one code open for everything that is still to come
      int64_t here = length == 16 ? left : std::min(left, random.integer(0, std::max<int64_t>(room - 2, 0)));
      if (length == 16) here = left;
      if (room - here < 1 && here < left) here = room - 1;
      while (length < 16 && here > 0 && (room - here) << (16 - length) <= left - here) --here;
      counts[length - 1] = int(here);
      left -= here, room -= here;
    }
  }

  // (code, length) of a symbol
  std::pair<int, int> code(int symbol) const {
    int code = 0;
    size_t index = 0;
    for (int length = 1; length <= 16; ++length, code <<= 1)
      for (int i = 0; i < counts[length - 1]; ++i, ++code, ++index)
        if (symbols[index] == symbol) return {code, length};
    fail("no code for ", symbol);
  }
};

class Writer {
 public:
  std::string data;

  void byte(int b) { data.push_back(static_cast<char>(b)); }
  void word(int w) { byte(w >> 8), byte(w & 255); }
  void segment(int marker, const std::string& body) {
    byte(0xff), byte(marker), word(int(body.size()) + 2);
    data += body;
  }
  void bits(int value, int count) {
    for (int i = count - 1; i >= 0; --i) {
      current_ = current_ << 1 | (value >> i & 1);
      if (++filled_ == 8) flush_byte();
    }
  }
  void end_of_interval() {
    while (filled_) bits(1, 1);
  }

 private:
  int current_ = 0, filled_ = 0;
  void flush_byte() {
    byte(current_);
    if (current_ == 0xff) byte(0);
    current_ = filled_ = 0;
  }
};

int bit_length(int v) {
  int n = 0;
  for (v = std::abs(v); v; v >>= 1) ++n;
  return n;
}

// Place (8 y + x) of coefficient i in the order of the file.
int place(int i) {
  static const std::vector<int> order = [] {
    std::vector<int> o;
    for (int s = 0; s < 15; ++s)
      for (int j = 0; j <= s; ++j) {
        const int y = s % 2 ? j : s - j, x = s - y;
        if (y < 8 && x < 8) o.push_back(8 * y + x);
      }
    return o;
  }();
  return order[i];
}

struct Encoded {
  std::string file;
  std::vector<std::vector<int>> luma;  // coefficients of every block, row of blocks after row
  int quantiser[64];
};

Encoded encode(const Case& c, Random& random) {
  Encoded e;
  Writer w;
  w.byte(0xff), w.byte(0xd8);
  w.segment(0xe0, std::string("JFIF\0\1\1\0\0\1\0\1\0\0", 14));
  std::string table(1, '\0');
  for (int i = 0; i < 64; ++i) {
    e.quantiser[place(i)] = int(random.integer(1, 30));
    table.push_back(char(e.quantiser[place(i)]));
  }
  w.segment(0xdb, table);
  Writer frame;
  frame.byte(8), frame.word(int(c.height)), frame.word(int(c.width)), frame.byte(c.components);
  for (int i = 0; i < c.components; ++i) frame.byte(i + 1), frame.byte(i ? 0x11 : c.h << 4 | c.v), frame.byte(0);
  w.segment(0xc0, frame.data);
  std::vector<int> sizes, runs;
  for (int s = 0; s < 12; ++s) sizes.push_back(s);
  for (int run = 0; run < 16; ++run)
    for (int s = 0; s < 11; ++s)
      if (s || run == 0 || run == 15) runs.push_back(run << 4 | s);
  const Huffman dc(sizes, random), ac(runs, random);
  for (const Huffman* h : {&dc, &ac}) {
    std::string body(1, h == &dc ? '\0' : '\x10');
    for (int n : h->counts) body.push_back(char(n));
    for (int s : h->symbols) body.push_back(char(s));
    w.segment(0xc4, body);
  }
  if (c.restart) w.segment(0xdd, {char(c.restart >> 8), char(c.restart & 255)});
  Writer scan;
  scan.byte(c.components);
  for (int i = 0; i < c.components; ++i) scan.byte(i + 1), scan.byte(0);
  scan.byte(0), scan.byte(63), scan.byte(0);
  w.segment(0xda, scan.data);

  const int64_t across = (c.width + 8 * c.h - 1) / (8 * c.h), down = (c.height + 8 * c.v - 1) / (8 * c.v);
  int last[3] = {};
  for (int64_t unit = 0; unit < across * down; ++unit) {
    if (c.restart && unit && unit % c.restart == 0) {
      w.end_of_interval();
      w.byte(0xff), w.byte(0xd0 + int(unit / c.restart - 1) % 8);
      last[0] = last[1] = last[2] = 0;
    }
    for (int component = 0; component < c.components; ++component)
      for (int b = 0; b < (component ? 1 : c.h * c.v); ++b) {
        std::vector<int> block(64);
        block[0] = int(std::clamp(random.normal() * c.size * 4, -1000.0, 1000.0));
        const double share = random.chance(0.3) ? 0 : random.uniform(0, 0.5);
        for (int i = 1; i < 64; ++i)
          if (random.chance(share)) block[place(i)] = int(std::clamp(random.normal() * c.size / i, -1000.0, 1000.0));
        const auto value = [&](const Huffman& h, int run, int v) {
          const int size = bit_length(v);
          const auto [code, length] = h.code(run << 4 | size);
          w.bits(code, length);
          if (size) w.bits(v > 0 ? v : v + (1 << size) - 1, size);
        };
        value(dc, 0, block[0] - last[component]);
        last[component] = block[0];
        int run = 0;
        for (int i = 1; i < 64; ++i) {
          if (block[place(i)] == 0) {
            ++run;
            continue;
          }
          for (; run > 15; run -= 16) value(ac, 15, 0);
          value(ac, run, block[place(i)]);
          run = 0;
        }
        if (run) value(ac, 0, 0);
        if (component == 0) e.luma.push_back(block);
      }
  }
  w.end_of_interval();
  w.byte(0xff), w.byte(0xd9);
  e.file = w.data;
  return e;
}

bool decode(const std::string& file, int64_t x0, int64_t y0, int64_t w, int64_t h, Array<uint8_t>& out) {
  const bool ok = cpu::jpeg_part(file, x0, y0, out.view({h, w, 3}));
  out.check_guards("pixels");
  return ok;
}

// Grey: every pixel within one level of the cosine transform.
void expect_cosine_transform(const Case& c, const Encoded& e, const Array<uint8_t>& whole) {
  const int64_t across = (c.width + 7) / 8;
  for (int64_t y = 0; y < c.height; ++y)
    for (int64_t x = 0; x < c.width; ++x) {
      const std::vector<int>& block = e.luma[y / 8 * across + x / 8];
      double value = 128;
      for (int i = 0; i < 64; ++i) {
        const int u = i % 8, v = i / 8;
        const double angle = 3.14159265358979 / 16;
        value += block[i] * e.quantiser[i] / 4.0 * (u ? 1 : std::sqrt(0.5)) * (v ? 1 : std::sqrt(0.5)) *
                 std::cos((2 * (x % 8) + 1) * u * angle) * std::cos((2 * (y % 8) + 1) * v * angle);
      }
      const int got = whole[3 * (y * c.width + x)];
      if (std::abs(got - std::clamp(value, 0.0, 255.0)) > 1.01) fail("pixel ", x, ",", y, " is ", got, ", not ", value);
    }
}

void round(const Case& c, Random& random) {
  const Encoded e = encode(c, random);
  const auto size = cpu::jpeg_size(e.file);
  if (size[0] != c.height || size[1] != c.width) fail("size ", size[0], " x ", size[1]);
  Array<uint8_t> whole(3 * c.height * c.width, random);
  if (!decode(e.file, 0, 0, c.width, c.height, whole)) fail("a sound file was refused");
  if (c.components == 1 && c.size < 40) expect_cosine_transform(c, e, whole);
  for (int repeat = 0; repeat < 6; ++repeat) {
    const int64_t x0 = random.integer(0, c.width - 1), y0 = random.integer(0, c.height - 1);
    const int64_t w = random.integer(1, c.width - x0), h = random.integer(1, c.height - y0);
    Array<uint8_t> part(3 * w * h, random);
    if (!decode(e.file, x0, y0, w, h, part)) fail("a part of a sound file was refused");
    for (int64_t y = 0; y < h; ++y)
      if (std::memcmp(part.data() + 3 * y * w, whole.data() + 3 * ((y0 + y) * c.width + x0), 3 * w) != 0)
        fail("row ", y0 + y, " of ", w, " x ", h, " at ", x0, ",", y0, " differs from the whole image");
    // one to four bytes changed, or the end cut off: any answer but no access outside, which the guards and the
    // sanitizers see (the copy has exactly the bytes of the file)
    std::string damaged = e.file;
    if (random.chance(0.3)) damaged.resize(random.integer(0, int64_t(damaged.size()) - 1));
    for (int64_t i = random.integer(1, 4); i > 0 && !damaged.empty(); --i) {
      const int64_t last =
          random.chance(0.5) ? int64_t(damaged.size()) - 1 : std::min<int64_t>(600, damaged.size() - 1);
      damaged[random.integer(0, last)] = char(random.integer(0, 255));
    }
    Array<uint8_t> file(int64_t(damaged.size()), random);
    std::copy(damaged.begin(), damaged.end(), file.data());
    const std::string_view view(reinterpret_cast<const char*>(file.data()), damaged.size());
    const auto found = cpu::jpeg_size(view);
    if (found[0] < y0 + h || found[1] < x0 + w) continue;
    cpu::jpeg_part(view, x0, y0, part.view({h, w, 3}));
    part.check_guards("pixels of a damaged file");
  }
}

}  // namespace

void test_jpeg(Random& random) {
  Case c;
  c.height = random.integer(16, 70), c.width = random.integer(16, 90);
  c.components = random.chance(0.25) ? 1 : 3;
  c.h = c.components == 3 ? int(random.integer(1, 2)) : 1;
  c.v = c.h == 2 ? int(random.integer(1, 2)) : 1;
  c.restart = random.chance(0.5) ? 0 : int(random.integer(1, 9));
  c.size = random.chance(0.8) ? random.uniform(0, 30) : random.uniform(30, 1000);
  round(c, random);
}

}  // namespace chase_fast::tests
