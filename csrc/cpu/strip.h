// Work on NHWC maps by strips of channels: a strip of kStrip vectors of one image is copied into planes, one vector of
// channels per pixel with a border around the map, so that no loop over a plane has a condition. A plane of the cell's
// maps about fits the first-level cache. Used by separable_stack.cpp and pool.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "cpu/isa.h"
#include "view.h"

namespace chase_fast::cpu {

constexpr int64_t kStrip = 4;  // vectors: 256 consecutive bytes of a pixel with AVX-512, which stream well

// Channels first ... first + vectors * lanes of a map, of which `valid` exist.
struct Strip {
  int64_t first, vectors, valid;
};

// Sizes of a map and of a plane that holds it inside a border of `border` pixels.
struct Plane {
  int64_t height, width, border;

  int64_t padded_width() const { return width + 2 * border; }
  int64_t padded() const { return (height + 2 * border) * padded_width(); }
  int64_t pixels() const { return height * width; }
};

// V is one register of the instruction set in use. Never a parameter by value: the calling convention depends on it.
template <class T_, int Bytes>
struct Vectors {
  using T = T_;
  static constexpr int bytes = Bytes;
  static constexpr int64_t L = Bytes / sizeof(T);
  typedef T V __attribute__((vector_size(Bytes)));

  static int64_t vectors(int64_t C) { return (C + L - 1) / L; }

  static int64_t strips(int64_t C) { return (C + kStrip * L - 1) / (kStrip * L); }

  static Strip strip(int64_t s, int64_t C) {
    const int64_t first = s * kStrip * L, valid = std::min(kStrip * L, C - first);
    return {first, (valid + L - 1) / L, valid};
  }

  static int64_t lanes(const Strip& strip, int64_t v) { return std::min(L, strip.valid - v * L); }

  static inline CHASE_FAST_FLAT void load(const T* from, int64_t lanes, V& to) {
    if (lanes == L) {
      std::memcpy(&to, from, sizeof(V));
      return;
    }
    to = V{};
    for (int64_t c = 0; c < lanes; ++c) to[c] = from[c];
  }

  static inline CHASE_FAST_FLAT void store(const V& value, int64_t lanes, T* to) {
    if (lanes == L) {
      std::memcpy(to, &value, sizeof(V));
      return;
    }
    for (int64_t c = 0; c < lanes; ++c) to[c] = value[c];
  }

  // The border of the planes [vectors, padded] = value.
  static inline CHASE_FAST_FLAT void fill_border(const Plane& p, int64_t vectors, T value, V* planes) {
    const V filled = V{} + value;
    const int64_t PW = p.padded_width(), band = p.border * PW;
    for (int64_t v = 0; v < vectors; ++v, planes += p.padded()) {
      std::fill(planes, planes + band, filled);
      for (int64_t y = 0; y < p.height; ++y) {
        V* row = planes + band + y * PW;
        std::fill(row, row + p.border, filled);
        std::fill(row + p.border + p.width, row + PW, filled);
      }
      std::fill(planes + band + p.height * PW, planes + p.padded(), filled);
    }
  }

  // The inside of the planes = f(value, v, offset in the map); map points at the strip's first channel.
  template <int64_t Count, class F>
  static inline CHASE_FAST_FLAT void fill_inside(const T* map, const Plane& p, int64_t C, const Strip& strip,
                                                 const F& f, V* planes) {
    const int64_t PW = p.padded_width(), padded = p.padded(), count = Count ? Count : strip.vectors;
    for (int64_t y = 0; y < p.height; ++y)
      for (int64_t x = 0; x < p.width; ++x) {
        const int64_t at = (y * p.width + x) * C;
        V* to = planes + (p.border + y) * PW + p.border + x;
#pragma GCC unroll 4
        for (int64_t v = 0; v < count; ++v) {
          V value;
          if (Count)
            std::memcpy(&value, map + at + v * L, sizeof(V));
          else
            load(map + at + v * L, lanes(strip, v), value);
          f(value, v, at + v * L);
          to[v * padded] = value;
        }
      }
  }

  // f may read and change its first argument.
  template <class F>
  static inline CHASE_FAST_FLAT void fill(const T* map, const Plane& p, int64_t C, const Strip& strip, const F& f,
                                          V* planes) {
    if (strip.valid == kStrip * L)
      fill_inside<kStrip>(map, p, C, strip, f, planes);
    else
      fill_inside<0>(map, p, C, strip, f, planes);
  }
};

// f(Vectors<T, bytes>{}) inside `vectorised`, with the widest vectors of the instruction set in use.
template <class T, class F>
void with_vectors(const F& f) {
#if defined(__x86_64__)
  if (isa() == Isa::AVX512) return vectorised_avx512([&]() CHASE_FAST_FLAT { f(Vectors<T, 64>{}); });
  if (isa() == Isa::AVX2) return vectorised_avx2([&]() CHASE_FAST_FLAT { f(Vectors<T, 32>{}); });
#endif
  vectorised_portable([&]() CHASE_FAST_FLAT { f(Vectors<T, 16>{}); });
}

template <class T>
int64_t vector_lanes() {
#if defined(__x86_64__)
  if (isa() == Isa::AVX512) return 64 / sizeof(T);
  if (isa() == Isa::AVX2) return 32 / sizeof(T);
#endif
  return 16 / sizeof(T);
}

// Uninitialised memory for vectors, aligned for all of them, kept by the thread from call to call.
struct alignas(64) Line {
  unsigned char bytes[64];
};

template <int Slot>
inline Line* thread_scratch(int64_t bytes) {
  static thread_local std::vector<Line> lines;
  const size_t count = (bytes + 63) / 64;
  if (lines.size() < count) lines.resize(count);
  return lines.data();
}

inline void check_map(const TensorView& t, const TensorView& like, const char* what) {
  check_shape(t, like.sizes, what);
  check_dtype(t, like.dtype, what);
  check(t.channels_last(), std::string(what) + ": must be channels-last");
}

inline void check_table(const TensorView& t, const TensorView& like, const std::vector<int64_t>& shape,
                        const char* what) {
  check_shape(t, shape, what);
  check_dtype(t, like.dtype, what);
  check(t.contiguous(), std::string(what) + ": must be contiguous");
}

}  // namespace chase_fast::cpu
