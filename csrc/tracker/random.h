// The random numbers of numpy.random.default_rng(stream(seed, "track", number, frame)), bit by bit: the seed is a
// BLAKE2b hash (RFC 7693) of the text, spread by numpy's SeedSequence, and drives PCG64 (O'Neill 2014).
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>

namespace chase_fast::tracker {

// First 8 bytes of the hash with that digest size, as a big-endian number. Texts of up to 128 bytes.
inline uint64_t blake2b_64(const std::string& text) {
  static const uint64_t iv[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                 0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
  static const uint8_t order[12][16] = {
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
      {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
      {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
      {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
      {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
      {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3}};
  std::array<uint64_t, 16> block{};
  std::memcpy(block.data(), text.data(), std::min<size_t>(text.size(), 128));
  uint64_t h[8], v[16];
  std::memcpy(h, iv, sizeof h);
  h[0] ^= 0x01010000 ^ 8;
  std::memcpy(v, h, sizeof h);
  std::memcpy(v + 8, iv, sizeof iv);
  v[12] ^= text.size();
  v[14] = ~v[14];
  const auto turn = [](uint64_t x, int n) { return x >> n | x << (64 - n); };
  const auto mix = [&](int a, int b, int c, int d, uint64_t x, uint64_t y) {
    v[a] += v[b] + x, v[d] = turn(v[d] ^ v[a], 32), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 24);
    v[a] += v[b] + y, v[d] = turn(v[d] ^ v[a], 16), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 63);
  };
  for (const auto& s : order)
    for (int i = 0; i < 8; ++i) {
      const int k = i % 4, turned = i / 4;  // columns, then diagonals
      mix(k, 4 + (k + turned) % 4, 8 + (k + 2 * turned) % 4, 12 + (k + 3 * turned) % 4, block[s[2 * i]],
          block[s[2 * i + 1]]);
    }
  return __builtin_bswap64(h[0] ^ v[0] ^ v[8]);
}

class Random {
 public:
  explicit Random(uint64_t seed) {
    std::array<uint32_t, 4> pool{};
    const uint32_t entropy[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    uint32_t constant = 0x43b0d7e5;
    const auto hashed = [&](uint32_t value, uint32_t multiplier) {
      value ^= constant;
      constant *= multiplier;
      value *= constant;
      return value ^ value >> 16;
    };
    for (int i = 0; i < 4; ++i) pool[i] = hashed(i < 2 ? entropy[i] : 0, 0x931e8875);
    for (int from = 0; from < 4; ++from)
      for (int to = 0; to < 4; ++to)
        if (from != to) {
          const uint32_t mixed = 0xca01f9ddu * pool[to] - 0x4973f715u * hashed(pool[from], 0x931e8875);
          pool[to] = mixed ^ mixed >> 16;
        }
    constant = 0x8b51f9dd;
    uint64_t words[4] = {};
    for (int i = 0; i < 8; ++i) {
      const uint64_t word = hashed(pool[i % 4], 0x58f38ded);
      words[i / 2] |= i % 2 ? word << 32 : word;
    }
    const auto wide = [&](int i) { return static_cast<Wide>(words[i]) << 64 | words[i + 1]; };
    increment_ = wide(2) << 1 | 1;
    state_ = 0;
    advance();
    state_ += wide(0);
    advance();
  }

  // Of a target in one frame.
  static Random of(int64_t seed, int64_t number, int64_t frame) {
    const std::string text = std::to_string(seed) + ":track:" + std::to_string(number) + ":" + std::to_string(frame);
    return Random(blake2b_64(text) >> 1);
  }

  // Uniform in [0, 1).
  double operator()() {
    advance();
    const uint64_t high = static_cast<uint64_t>(state_ >> 64), low = static_cast<uint64_t>(state_);
    const uint64_t x = high ^ low;
    const int n = static_cast<int>(high >> 58);
    return static_cast<double>((x >> n | x << (-n & 63)) >> 11) * (1.0 / 9007199254740992.0);
  }

 private:
  __extension__ typedef unsigned __int128 Wide;

  void advance() { state_ = state_ * (static_cast<Wide>(0x2360ED051FC65DA4) << 64 | 0x4385DF649FCCF645) + increment_; }

  Wide state_, increment_;
};

}  // namespace chase_fast::tracker
