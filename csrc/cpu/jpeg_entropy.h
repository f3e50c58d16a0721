// Huffman decoding of JPEG blocks. The next LOOK bits index a table whose entry holds a whole coefficient, its run of
// zeros, its value and the bits it takes, where those fit (all but a few percent); the way between two coefficients is
// one table look-up and one shift.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "cpu/isa.h"
#include "cpu/jpeg_file.h"

namespace chase_fast::cpu::jpeg {

constexpr int LOOK = 11;
constexpr int BLOCK_BITS = 64 * 32;  // a block takes no more, even a damaged one
constexpr int END_OF_BLOCK = 128;    // as a run

// What the next bits are. bits 0: look the code up by its length.
struct Entry {
  int16_t value = 0;
  uint8_t run = 0;
  uint8_t bits = 0;
};

class HuffmanTable {
 public:
  Entry entries[1 << LOOK];

  // dc: symbols are sizes of differences, else run * 16 + size.
  void build(const HuffmanSpec& spec, bool dc) {
    std::memset(static_cast<void*>(entries), 0, sizeof entries);
    std::memcpy(symbols_, spec.symbols, sizeof symbols_);
    int code = 0, index = 0;
    for (int length = 1; length <= 16; ++length, code <<= 1) {
      first_[length] = code;
      offset_[length] = index;
      for (int i = 0; i < spec.counts[length - 1]; ++i, ++code, ++index) fill(code, length, spec.symbols[index], dc);
      end_[length] = code;
    }
  }

  // The entry of a code, or of a code with its value, that is longer than LOOK; bits 0: there is no such code.
  inline CHASE_FAST_FLAT Entry find(uint64_t buffer, bool dc) const {
    for (int length = 1; length <= 16; ++length) {
      const int code = static_cast<int>(buffer >> (64 - length));
      if (code < end_[length] && code >= first_[length])
        return entry(symbols_[offset_[length] + code - first_[length]], length, buffer << length, dc);
    }
    return {};
  }

 private:
  int first_[17] = {}, end_[17] = {}, offset_[17] = {};
  uint8_t symbols_[256] = {};

  // rest: the bits after the code, from the highest on.
  static inline CHASE_FAST_FLAT Entry entry(int symbol, int length, uint64_t rest, bool dc) {
    Entry e;
    const int size = dc ? symbol : symbol & 15, run = dc ? 0 : symbol >> 4;
    if (size > 15) return e;
    if (size > 0) {
      const int bits = static_cast<int>(rest >> (64 - size));
      e.value = static_cast<int16_t>(bits >> (size - 1) ? bits : bits + 1 - (1 << size));
    }
    e.run = static_cast<uint8_t>(!dc && size == 0 && run < 15 ? END_OF_BLOCK : run);
    e.bits = static_cast<uint8_t>(length + size);
    return e;
  }

  void fill(int code, int length, int symbol, bool dc) {
    const int size = dc ? symbol : symbol & 15;
    if (length + size > LOOK) return;
    const int values = 1 << size, same = 1 << (LOOK - length - size);
    Entry* to = entries + (static_cast<int64_t>(code) << (LOOK - length));
    for (int v = 0; v < values; ++v) {
      const Entry e = entry(symbol, length, size ? static_cast<uint64_t>(v) << (64 - size) : 0, dc);
      for (int i = 0; i < same; ++i) *to++ = e;
    }
  }
};

// Bits of one restart interval, stuffed zeros already removed; the data are followed by BLOCK_BITS of padding.
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

// Decodes a block: adds to `dc` and, if store, writes coefficients into block [64], row by row, zero before.
// Returns false on a code that does not exist; `last` is the place of the last coefficient in file order.
template <bool store>
inline CHASE_FAST_FLAT bool read_block(Bits& in, const HuffmanTable& dc_table, const HuffmanTable& ac_table, int& dc,
                                       int16_t* __restrict block, int& last) {
  Bits bits = in;
  bits.refill();
  Entry e = dc_table.entries[bits.buffer >> (64 - LOOK)];
  if (__builtin_expect(e.bits == 0, 0)) {
    e = dc_table.find(bits.buffer, true);
    if (e.bits == 0) return false;
  }
  bits.drop(e.bits);
  dc += e.value;
  if (store) block[0] = static_cast<int16_t>(dc);
  int k = 1, seen = 0;
  while (k < 64) {
    bits.refill();
    e = ac_table.entries[bits.buffer >> (64 - LOOK)];
    if (__builtin_expect(e.bits == 0, 0)) {
      e = ac_table.find(bits.buffer, false);
      if (e.bits == 0) return false;
    }
    bits.drop(e.bits);
    k += e.run;
    if (k > 63) {
      if (k < END_OF_BLOCK) return false;
      break;
    }
    if (store) {
      block[ZIGZAG[k]] = e.value;
      seen = k;
    }
    ++k;
  }
  last = seen;
  in = bits;
  return true;
}

}  // namespace chase_fast::cpu::jpeg
