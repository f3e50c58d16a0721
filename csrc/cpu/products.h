// Matrix products of the pixels of one image with weights between channels, in vectors of channels. Blocks of the
// result stay in registers over the whole sum, so every element is summed in the order of its terms, whatever the
// block. The operands of one image are in the second-level cache; a general product (MKL's was measured) copies them,
// scales the result and works on more than the cache holds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {

constexpr int64_t kPanel = 2;  // vectors of columns in a block

// E matrices [K, N] = [C, C] cut into panels of kPanel vectors of columns: [E][panel][K][vectors of the panel]; lanes
// beyond N are zero.
template <class T>
struct Panels {
  std::vector<Line> lines;
  int64_t size;  // elements of a matrix

  // `turned`: of the matrices' transposes.
  Panels(const T* weights, int64_t matrices, int64_t C, bool turned, int threads) {
    const int64_t L = vector_lanes<T>(), width = kPanel * L, vectors = (C + L - 1) / L;
    const int64_t panels = (vectors + kPanel - 1) / kPanel;
    size = vectors * C * L;
    lines.resize((matrices * size * sizeof(T) + 63) / 64);
    T* packed = reinterpret_cast<T*>(lines.data());
    parallel_for(matrices * panels, threads, [&](int64_t i) {
      const int64_t first = i % panels * width, columns = std::min(width, vectors * L - first);
      const int64_t valid = std::min(columns, C - first);
      const T* w = weights + i / panels * C * C;
      T* to = packed + i / panels * size + first * C;
      if (turned)
        for (int64_t n = 0; n < valid; ++n)
          for (int64_t k = 0; k < C; ++k) to[k * columns + n] = w[(first + n) * C + k];
      else
        for (int64_t k = 0; k < C; ++k) std::copy_n(w + k * C + first, valid, to + k * columns);
    });
  }

  template <class V>
  const V* at(int64_t matrix) const {
    return reinterpret_cast<const V*>(reinterpret_cast<const T*>(lines.data()) + matrix * size);
  }
};

// Rows of pixels: element k of row p is at data[k / L * block + p * row + k % L].
template <class T>
struct Rows {
  const T* data;
  int64_t row, block;
};

template <class Vec>
struct Products {
  using T = typename Vec::T;
  using V = typename Vec::V;
  static constexpr int64_t L = Vec::L;
  static constexpr int64_t kLine = 64 / sizeof(T);
  static constexpr int kRows = Vec::bytes == 64 ? 12 : 6;  // of a block: it fills the registers

  // store(p + i, first vector + j, sum) for M rows from p on and N vectors of columns. Row: constant a.row, or 0; Step:
  // vectors of a row of b.
  template <int M, int N, int64_t Row, int64_t Step = N, class F>
  static inline CHASE_FAST_FLAT void block(const Rows<T>& a, int64_t p, int64_t K, const V* b, int64_t first,
                                           const F& store) {
    constexpr int kThird = (M + 2) / 3;
    const int64_t row = Row ? Row : a.row;
    V acc[M][N] = {};
    for (int64_t k = 0; k < K; k += L) {
      const T* from[kThird];  // every third row: the two between are reached by one register
      for (int i = 0; i < kThird; ++i) from[i] = a.data + k / L * a.block + (p + 3 * i) * row;
      const int64_t lanes = std::min(L, K - k);
      for (int64_t l = 0; l < lanes; ++l, b += Step) {
        // the rows of the next block, a line a step: where rows are far from the caches they are read here first
        if (!Row) __builtin_prefetch(a.data + (p + M) * row + (k + l) * kLine);
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
          const T value = from[i / 3][i % 3 * row + l];
#pragma GCC unroll 4
          for (int j = 0; j < N; ++j) acc[i][j] += value * b[j];
        }
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) store(p + i, first + j, acc[i][j]);
  }

  template <int N, int64_t Row, class F>
  static inline CHASE_FAST_FLAT void panel(const Rows<T>& a, int64_t rows, int64_t K, const V* b, int64_t first,
                                           const F& store) {
    if (rows < kRows) {
      for (int64_t p = 0; p < rows; ++p) block<1, N, Row>(a, p, K, b, first, store);
      return;
    }
    for (int64_t p = 0; p < rows; p += kRows)  // a last block that would stand over the end is moved back
      block<kRows, N, Row>(a, std::min(p, rows - kRows), K, b, first, store);
  }

  // store(row, vector, value) of A [rows, K] times B, panels of `vectors` vectors.
  template <int64_t Row, class F>
  static inline CHASE_FAST_FLAT void multiply(const Rows<T>& a, int64_t rows, int64_t K, const V* b, int64_t vectors,
                                              const F& store) {
    for (int64_t first = 0; first < vectors; first += kPanel, b += kPanel * K) {
      if (first + kPanel <= vectors)
        panel<kPanel, Row>(a, rows, K, b, first, store);
      else
        panel<1, Row>(a, rows, K, b, first, store);
    }
  }

  // sums [M, N] (rows of `vectors`) (+)= g^T y: g [pixels, .] rows of C elements, y: N planes of `pixels` vectors.
  template <int M, int N>
  static inline CHASE_FAST_FLAT void turned_block(const T* g, int64_t C, int64_t pixels, const V* y, bool add,
                                                  int64_t vectors, V* sums) {
    V acc[M][N] = {};
    for (int64_t p = 0; p < pixels; ++p, g += C, ++y) {
      V column[N];
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) column[j] = y[j * pixels];
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const T value = g[i];
#pragma GCC unroll 4
        for (int j = 0; j < N; ++j) acc[i][j] += value * column[j];
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < N; ++j) {
        V* to = sums + i * vectors + j;
        *to = add ? *to + acc[i][j] : acc[i][j];
      }
  }

  template <int N>
  static inline CHASE_FAST_FLAT void turned_panel(const T* g, int64_t C, int64_t pixels, const V* y, bool add,
                                                  int64_t vectors, V* sums) {
    int64_t m = 0;
    for (; m + kRows <= C; m += kRows) turned_block<kRows, N>(g + m, C, pixels, y, add, vectors, sums + m * vectors);
    for (; m + 4 <= C; m += 4) turned_block<4, N>(g + m, C, pixels, y, add, vectors, sums + m * vectors);
    for (; m < C; ++m) turned_block<1, N>(g + m, C, pixels, y, add, vectors, sums + m * vectors);
  }

  // sums [C, vectors] (+)= g^T y: g [pixels, C], y [vectors, pixels].
  static inline CHASE_FAST_FLAT void multiply_turned(const T* g, int64_t C, int64_t pixels, const V* y, int64_t vectors,
                                                     bool add, V* sums) {
    for (int64_t first = 0; first < vectors; first += kPanel) {
      if (first + kPanel <= vectors)
        turned_panel<kPanel>(g, C, pixels, y + first * pixels, add, vectors, sums + first);
      else
        turned_panel<1>(g, C, pixels, y + first * pixels, add, vectors, sums + first);
    }
  }
};

}  // namespace chase_fast::cpu
