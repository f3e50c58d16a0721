// Huffman decoding of JPEG blocks. The next kLook bits index a table whose entry holds up to two coefficients, run of
// zeros and value, and the bits they take (those of larger values do not fit: their code only); blocks that are not
// wanted are read by a table of all the symbols in the next kSkip bits. So the way from symbol to symbol is shorter
// than one look-up and one shift each.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/isa.h"
#include "cpu/jpeg_file.h"

namespace chase_fast::cpu::jpeg {

constexpr int kLook = 11, kSkip = 12;
constexpr int kBlockBits = 64 * 32;  // a block takes no more, even a damaged one
constexpr int kEnd = 128;            // end of block, as an advance
constexpr int kBlock = 64 + 8;       // coefficients, and room for writes beyond the last

// Where coefficient k goes; beyond the block: into the room behind it.
constexpr std::array<uint8_t, 256> kPlace = [] {
  std::array<uint8_t, 256> place{};
  for (int k = 0; k < 256; ++k) place[k] = k < 64 ? kZigzag[k] : 64;
  return place;
}();

// One symbol with its value. bits 0: there is no such code.
struct Symbol {
  int16_t value = 0;
  uint8_t run = 0;
  uint8_t bits = 0;
  bool end = false;
};

// What the next bits are; from the first not yet known coefficient on, value[0] at +at[0], value[1] at +at[1], the
// next at +advance. bits 0: look the code up.
struct Pair {
  int16_t value[2];
  uint8_t at[2];
  uint8_t advance;
  uint8_t bits;
};

struct Skipped {
  uint8_t advance, bits;
};

class HuffmanTable {
 public:
  Pair pairs[1 << kLook];     // of dc tables value[0] and bits only
  Skipped skips[1 << kSkip];  // ac only

  // dc: symbols are sizes of differences, else run * 16 + size.
  void build(const HuffmanSpec& spec, bool dc) {
    if (built_ && dc == dc_ && !std::memcmp(&spec, &spec_, sizeof spec)) return;
    built_ = true, dc_ = dc, spec_ = spec;
    int code = 0, index = 0;
    for (int length = 1; length <= 16; ++length, code <<= 1) {
      first_[length] = code;
      offset_[length] = index - code;
      code += spec.counts[length - 1];
      index += spec.counts[length - 1];
      end_[length] = code;
    }
    for (int i = 0; i < 1 << kLook; ++i) pairs[i] = pair(static_cast<uint64_t>(i) << (64 - kLook));
    if (dc) return;
    for (int i = 0; i < 1 << kSkip; ++i) skips[i] = skip(static_cast<uint64_t>(i) << (64 - kSkip));
  }

  // The first symbol of these bits.
  inline CHASE_FAST_FLAT Symbol find(uint64_t buffer) const {
    Symbol s;
    for (int length = 1; length <= 16; ++length) {
      const int code = static_cast<int>(buffer >> (64 - length));
      if (code >= end_[length] || code < first_[length]) continue;
      const int symbol = spec_.symbols[offset_[length] + code];
      const int size = dc_ ? symbol : symbol & 15, run = dc_ ? 0 : symbol >> 4;
      if (size > 15) return s;
      if (size > 0) {
        const int bits = static_cast<int>(buffer << length >> (64 - size));
        s.value = static_cast<int16_t>(bits >> (size - 1) ? bits : bits + 1 - (1 << size));
      }
      s.run = static_cast<uint8_t>(run);
      s.end = !dc_ && size == 0 && run < 15;
      s.bits = static_cast<uint8_t>(length + size);
      return s;
    }
    return s;
  }

 private:
  HuffmanSpec spec_;
  bool built_ = false, dc_ = false;
  int first_[17] = {}, end_[17] = {}, offset_[17] = {};

  Pair pair(uint64_t bits) const {
    Pair p{};
    Symbol s = find(bits);
    if (s.bits == 0 || s.bits > kLook) return p;
    p.bits = s.bits;
    if (s.end) {
      p.advance = kEnd;
      return p;
    }
    p.value[0] = s.value, p.at[0] = s.run;
    p.advance = p.at[1] = static_cast<uint8_t>(s.run + 1);
    if (dc_) return p;
    s = find(bits << p.bits);
    if (s.bits == 0 || p.bits + s.bits > kLook) return p;
    p.bits = static_cast<uint8_t>(p.bits + s.bits);
    if (s.end) {
      p.advance = static_cast<uint8_t>(p.advance + kEnd);
      return p;
    }
    p.value[1] = s.value, p.at[1] = static_cast<uint8_t>(p.advance + s.run);
    p.advance = static_cast<uint8_t>(p.at[1] + 1);
    return p;
  }

  Skipped skip(uint64_t bits) const {
    Skipped k{};
    for (;;) {
      const Symbol s = find(bits << k.bits);
      if (s.bits == 0 || k.bits + s.bits > kSkip || (!s.end && k.advance + s.run + 1 > 63)) return k;
      k.bits = static_cast<uint8_t>(k.bits + s.bits);
      k.advance = static_cast<uint8_t>(k.advance + (s.end ? kEnd : s.run + 1));
      if (s.end) return k;
    }
  }
};

// Bits of one restart interval, stuffed zeros already removed; the data are followed by kBlockBits of padding.
struct Bits {
  const uint8_t* next;
  uint64_t buffer = 0;  // the coming bits, from the highest on
  int count = 0;        // how many of them are counted

  inline CHASE_FAST_FLAT void refill() {
    uint64_t word;
    std::memcpy(&word, next, 8);
    buffer |= __builtin_bswap64(word) >> count;
    next += (63 - count) >> 3;
    count |= 56;
  }

  inline CHASE_FAST_FLAT void drop(int n) {
    buffer <<= n;
    count -= n;
  }

  int64_t used(const uint8_t* begin) const { return 8 * (next - begin) - count; }
};

// Decodes a block: adds to `dc` and, if store, writes coefficients into block [kBlock], row by row, zero before.
// Returns false on a code that does not exist; flat: all but the first coefficient are zero.
template <bool store>
inline CHASE_FAST_FLAT bool read_block(Bits& in, const HuffmanTable& dc_table, const HuffmanTable& ac_table, int& dc,
                                       int16_t* __restrict block, bool& flat) {
  Bits bits = in;
  bits.refill();
  const Pair* first = dc_table.pairs + (bits.buffer >> (64 - kLook));
  if (__builtin_expect(first->bits != 0, 1)) {
    dc = static_cast<int16_t>(dc + first->value[0]);
    bits.drop(first->bits);
  } else {
    const Symbol s = dc_table.find(bits.buffer);
    if (s.bits == 0) return false;
    dc = static_cast<int16_t>(dc + s.value);
    bits.drop(s.bits);
  }
  if (store) block[0] = static_cast<int16_t>(dc);
  int k = 1;
  do {
    bits.refill();
    int after, used;
    if (store) {
      const Pair p = ac_table.pairs[bits.buffer >> (64 - kLook)];
      block[kPlace[k + p.at[0]]] = p.value[0];
      block[kPlace[k + p.at[1]]] = p.value[1];
      after = k + p.advance, used = p.bits;
    } else {
      const Skipped p = ac_table.skips[bits.buffer >> (64 - kSkip)];
      after = k + p.advance, used = p.bits;
    }
    // no entry, or its later symbols belong to the next block: one symbol
    if (__builtin_expect((used == 0) | ((after > 64) & (after < kEnd)) | (after > kEnd + 63), 0)) {
      const Symbol s = ac_table.find(bits.buffer);
      used = s.bits;
      after = s.end ? k + kEnd : k + s.run + 1;
      if (used == 0 || (after > 64 && !s.end)) return false;
      if (store && !s.end) block[kPlace[after - 1]] = s.value;
    }
    bits.drop(used);
    flat = k == 1 && after == kEnd + 1;
    k = after;
  } while (k < 64);
  in = bits;
  return true;
}

}  // namespace chase_fast::cpu::jpeg
