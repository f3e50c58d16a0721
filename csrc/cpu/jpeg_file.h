// The headers of a baseline JPEG (ITU-T T.81), as far as jpeg.cpp decodes it: 8 bit, Huffman, one scan, grey or YCbCr
// 4:4:4, 4:2:2, 4:2:0.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace chase_fast::cpu::jpeg {

// Position in the file of coefficient k of a block; the entropy-coded order runs along the antidiagonals.
constexpr std::array<uint8_t, 64> kZigzag = [] {
  std::array<uint8_t, 64> order{};
  int x = 0, y = 0;
  for (int k = 0; k < 64; ++k) {
    order[k] = static_cast<uint8_t>(8 * y + x);
    const bool up = (x + y) % 2 == 0;
    int& forward = up ? x : y;
    int& back = up ? y : x;
    if (forward == 7) {
      ++back;
    } else {
      ++forward;
      if (back > 0) --back;
    }
  }
  return order;
}();

struct HuffmanSpec {
  bool given = false;
  uint8_t counts[16] = {};  // of codes by length
  uint8_t symbols[256] = {};
};

struct File {
  int64_t height = 0, width = 0;
  int components = 0;  // 1 or 3
  int h = 1, v = 1;    // luma samples per chroma sample
  int64_t restart = 0;
  std::array<std::array<int16_t, 64>, 4> quantisers{};  // row by row
  std::array<bool, 4> quantiser_given{};
  std::array<HuffmanSpec, 4> dc, ac;
  std::array<int, 3> quantiser_of{}, dc_of{}, ac_of{};
  std::string_view scan;  // entropy-coded data with its markers, to the end of the file
};

class Parser {
 public:
  explicit Parser(std::string_view data) : data_(data) {}

  // False: damaged, or not what jpeg.cpp decodes.
  bool parse(File& file) {
    if (data_.size() < 4 || byte(0) != 0xff || byte(1) != 0xd8) return false;
    size_t at = 2;
    for (;;) {
      while (at + 1 < data_.size() && byte(at) == 0xff && byte(at + 1) == 0xff) ++at;
      if (at + 4 > data_.size() || byte(at) != 0xff) return false;
      const int marker = byte(at + 1);
      const size_t length = word(at + 2);
      if (length < 2 || at + 2 + length > data_.size()) return false;
      const std::string_view body = data_.substr(at + 4, length - 2);
      at += 2 + length;
      if (marker == 0xda) {
        file.scan = data_.substr(at);
        return scan(body, file);
      }
      if (!segment(marker, body, file)) return false;
    }
  }

 private:
  std::string_view data_;
  bool jfif_ = false, frame_ = false;
  int adobe_ = -1;  // its colour transform
  std::array<int, 3> ids_{};

  static int at(std::string_view s, size_t i) { return static_cast<unsigned char>(s[i]); }
  int byte(size_t i) const { return at(data_, i); }
  size_t word(size_t i) const { return byte(i) * 256u + byte(i + 1); }

  bool segment(int marker, std::string_view body, File& file) {
    switch (marker) {
      case 0xc0:
        return frame(body, file);
      case 0xc4:
        return huffman(body, file);
      case 0xdb:
        return quantisers(body, file);
      case 0xdd:
        if (body.size() != 2) return false;
        file.restart = at(body, 0) * 256 + at(body, 1);
        return true;
      case 0xe0:
        jfif_ = jfif_ || body.substr(0, 5) == std::string_view("JFIF\0", 5);
        return true;
      case 0xee:
        if (body.size() >= 12 && body.substr(0, 5) == "Adobe") adobe_ = at(body, 11);
        return true;
      default:  // application data and comments; other frame kinds, arithmetic coding and the like are not ours
        return (marker > 0xe0 && marker <= 0xef) || marker == 0xfe;
    }
  }

  bool frame(std::string_view body, File& file) {
    if (frame_ || body.size() < 6 || at(body, 0) != 8) return false;
    frame_ = true;
    file.height = at(body, 1) * 256 + at(body, 2);
    file.width = at(body, 3) * 256 + at(body, 4);
    file.components = at(body, 5);
    if (file.height < 16 || file.width < 16) return false;  // libjpeg treats the smallest ones in another way
    if ((file.components != 1 && file.components != 3) || body.size() != 6 + 3u * file.components) return false;
    for (int c = 0; c < file.components; ++c) {
      ids_[c] = at(body, 6 + 3 * c);
      const int h = at(body, 7 + 3 * c) >> 4, v = at(body, 7 + 3 * c) & 15;
      file.quantiser_of[c] = at(body, 8 + 3 * c);
      if (file.quantiser_of[c] > 3) return false;
      if (c == 0) file.h = h, file.v = v;
      if (c > 0 && (h != 1 || v != 1)) return false;
    }
    if (file.components == 1) {
      file.h = file.v = 1;
      return true;
    }
    return (file.h == 1 && file.v == 1) || (file.h == 2 && (file.v == 1 || file.v == 2));
  }

  bool huffman(std::string_view body, File& file) {
    while (!body.empty()) {
      if (body.size() < 17) return false;
      const int kind = at(body, 0) >> 4, index = at(body, 0) & 15;
      if (kind > 1 || index > 3) return false;
      HuffmanSpec& spec = (kind ? file.ac : file.dc)[index];
      size_t count = 0, code = 0;
      for (int i = 0; i < 16; ++i) {
        spec.counts[i] = static_cast<uint8_t>(at(body, 1 + i));
        count += spec.counts[i];
        code = 2 * code + spec.counts[i];
        if (code > size_t(2) << i) return false;  // more codes than bits allow
      }
      if (count > 256 || body.size() < 17 + count) return false;
      std::memcpy(spec.symbols, body.data() + 17, count);
      spec.given = true;
      body.remove_prefix(17 + count);
    }
    return true;
  }

  bool quantisers(std::string_view body, File& file) {
    while (!body.empty()) {
      const int wide = at(body, 0) >> 4, index = at(body, 0) & 15;
      const size_t size = 1 + 64u * (wide + 1);
      if (wide > 1 || index > 3 || body.size() < size) return false;
      for (int k = 0; k < 64; ++k) {
        const int q = wide ? at(body, 1 + 2 * k) * 256 + at(body, 2 + 2 * k) : at(body, 1 + k);
        file.quantisers[index][kZigzag[k]] = static_cast<int16_t>(q);
      }
      file.quantiser_given[index] = true;
      body.remove_prefix(size);
    }
    return true;
  }

  // Colours are YCbCr where libjpeg takes them for that.
  bool ycbcr() const {
    if (jfif_) return true;
    if (adobe_ >= 0) return adobe_ == 1;
    return ids_[0] == 1 && ids_[1] == 2 && ids_[2] == 3;
  }

  bool scan(std::string_view body, File& file) {
    const int n = file.components;
    if (!frame_ || body.size() != 4 + 2u * n || at(body, 0) != n || (n == 3 && !ycbcr())) return false;
    for (int c = 0; c < n; ++c) {
      file.dc_of[c] = at(body, 2 + 2 * c) >> 4;
      file.ac_of[c] = at(body, 2 + 2 * c) & 15;
      if (at(body, 1 + 2 * c) != ids_[c] || file.dc_of[c] > 3 || file.ac_of[c] > 3) return false;
      if (!file.dc[file.dc_of[c]].given || !file.ac[file.ac_of[c]].given) return false;
      if (!file.quantiser_given[file.quantiser_of[c]]) return false;
    }
    return at(body, 1 + 2 * n) == 0 && at(body, 2 + 2 * n) == 63 && at(body, 3 + 2 * n) == 0;
  }
};

}  // namespace chase_fast::cpu::jpeg
