// 3x3 convolution by Winograd's minimal filtering F(4x4, 3x3). A tile is 6x6 input pixels d that give 4x4 outputs,
// tiles are 4 pixels apart:
//   input   v = B' d B            [36, channels, tiles]
//   product m = v packed          36 products over the input channels
//   output  A' m A + bias (+ residual, ReLU)
// One task per block of tiles: v of a block stays in the second-level cache; m is made for one panel of outputs at a
// time and read at once. A thread's weights stream through its caches once per block. Pixels outside the map are read
// from a line of zeros, outputs outside it are not written. Every product is summed in the order of its channels, so no
// bit depends on the number of threads or on the blocks.
#include "cpu/conv3x3.h"

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/products.h"
#include "cpu/strip.h"

namespace chase_fast::cpu {
namespace {

constexpr int kOut = 4, kIn = 6, kPoints = kIn * kIn;
constexpr int64_t kGrain = 1 << 20;         // multiplications that are worth a thread
constexpr int64_t kColumns = kConvColumns;  // of a panel of weights
constexpr int64_t kRowMultiple = 4;         // blocks are padded to a multiple of so many tiles
constexpr int64_t kTiles = 24;              // of a block at most: v of 256 channels and m fit a mebibyte

// B' of six values.
template <class V>
inline CHASE_FAST_FLAT void input_axis(const V* in, V* out) {
  const V a = in[0], b = in[1], c = in[2], d = in[3], e = in[4], f = in[5];
  const V even = e - 4 * c, odd = d - 4 * b, even2 = e - c, odd2 = 2 * (d - b);
  out[0] = 4 * a - 5 * c + e;
  out[1] = even + odd;
  out[2] = even - odd;
  out[3] = even2 + odd2;
  out[4] = even2 - odd2;
  out[5] = 4 * b - 5 * d + f;
}

// A' of six values: four.
template <class V>
inline CHASE_FAST_FLAT void output_axis(const V* in, V* out) {
  const V sum = in[1] + in[2], difference = in[1] - in[2], sum2 = in[3] + in[4], difference2 = in[3] - in[4];
  out[0] = in[0] + sum + sum2;
  out[1] = difference + 2 * difference2;
  out[2] = sum + 4 * sum2;
  out[3] = difference + 8 * difference2 + in[5];
}

struct Shape {
  int64_t images, inputs, outputs, height, width, rows, columns;

  Shape(const TensorView& x, const TensorView& out)
      : images(x.size(0)),
        inputs(x.size(1)),
        outputs(out.size(1)),
        height(x.size(2)),
        width(x.size(3)),
        rows((height + kOut - 1) / kOut),
        columns((width + kOut - 1) / kOut) {}

  int64_t tiles() const { return images * rows * columns; }
};

struct Tile {
  int64_t image, y, x;  // of its first output

  Tile(const Shape& s, int64_t t)
      : image(t / (s.rows * s.columns)), y(t / s.columns % s.rows * kOut), x(t % s.columns * kOut) {}
};

// Blocks of at most kTiles tiles, the same number for every thread; their sizes differ by kRowMultiple tiles at most.
int64_t count_blocks(int64_t tiles, int threads) {
  const int64_t blocks = (tiles + kTiles - 1) / kTiles;
  return std::min((blocks + threads - 1) / threads * threads, (tiles + kRowMultiple - 1) / kRowMultiple);
}

// What a block holds, [kPoints, vectors, rows], in vectors. A line more per point: else all points share a set of the
// first-level cache.
constexpr int64_t point_step(int64_t vectors, int64_t rows) { return vectors * rows + 1; }

template <class Vec>
struct Block {
  using T = typename Vec::T;
  using V = typename Vec::V;
  using P = Products<Vec>;
  static constexpr int64_t L = Vec::L, kVectors = kColumns / L;  // of a panel

  // v of one tile; v points at its row.
  static inline CHASE_FAST_FLAT void input(const Shape& s, const T* x, const T* zeros, int64_t number, int64_t rows,
                                           V* v) {
    const Tile tile(s, number);
    const int64_t C = s.inputs, step = point_step(Vec::vectors(C), rows);
    const T* pixels[kPoints];
    for (int i = 0; i < kIn; ++i)
      for (int j = 0; j < kIn; ++j) {
        const int64_t y = tile.y + i - 1, z = tile.x + j - 1;
        const bool inside = y >= 0 && y < s.height && z >= 0 && z < s.width;
        pixels[i * kIn + j] = inside ? x + ((tile.image * s.height + y) * s.width + z) * C : zeros;
      }
    for (int64_t c = 0; c < C; c += L, v += rows) {
      const int64_t lanes = std::min(L, C - c);
      V half[kIn][kIn];  // half[j][i]: columns are done
      for (int j = 0; j < kIn; ++j) {
        V in[kIn];
#pragma GCC unroll 6
        for (int i = 0; i < kIn; ++i) Vec::load(pixels[i * kIn + j] + c, lanes, in[i]);
        if (j >= kIn - kOut)  // what the next tile does not share
#pragma GCC unroll 6
          for (int i = 0; i < kIn; ++i) __builtin_prefetch(pixels[i * kIn + j] + c + kOut * C);
        input_axis(in, half[j]);
      }
      for (int i = 0; i < kIn; ++i) {
        V in[kIn], out[kIn];
#pragma GCC unroll 6
        for (int j = 0; j < kIn; ++j) in[j] = half[j][i];
        input_axis(in, out);
#pragma GCC unroll 6
        for (int j = 0; j < kIn; ++j) v[(i * kIn + j) * step] = out[j];
      }
    }
  }

  template <int M, int N, class F>
  static inline CHASE_FAST_FLAT void rows_of(const Rows<T>& a, int64_t rows, int64_t K, const V* b, int64_t first,
                                             const F& store, int64_t& p) {
    for (; p + M <= rows; p += M) P::template block<M, N, L, kVectors>(a, p, K, b, first, store);
  }

  // m [vectors of the panel, rows] of one point; b [K, kVectors].
  template <int N>
  static inline CHASE_FAST_FLAT void product(const Rows<T>& a, int64_t rows, int64_t K, const V* b, int64_t first,
                                             V* m) {
    const auto store = [=](int64_t p, int64_t v, const V& value) CHASE_FAST_FLAT { m[v * rows + p] = value; };
    int64_t p = 0;
    rows_of<P::kRows, N>(a, rows, K, b + first, first, store, p);
    if (P::kRows > 8) rows_of<8, N>(a, rows, K, b + first, first, store, p);
    rows_of<4, N>(a, rows, K, b + first, first, store, p);
    if (P::kRows % 4) rows_of<2, N>(a, rows, K, b + first, first, store, p);
  }

  // One tile's outputs first ... first + lanes; m points at its row of the vector.
  static inline CHASE_FAST_FLAT void output(const Shape& s, const V* m, int64_t step, int64_t number, int64_t first,
                                            int64_t lanes, const T* bias, const T* residual, bool relu, T* out) {
    const Tile tile(s, number);
    const int64_t D = s.outputs, high = std::min<int64_t>(kOut, s.height - tile.y);
    const int64_t wide = std::min<int64_t>(kOut, s.width - tile.x);
    V half[kIn][kOut], added;  // half[j][i]: columns are done
    for (int j = 0; j < kIn; ++j) {
      V in[kIn];
#pragma GCC unroll 6
      for (int i = 0; i < kIn; ++i) in[i] = m[(i * kIn + j) * step];
      output_axis(in, half[j]);
    }
    Vec::load(bias + first, lanes, added);
    for (int i = 0; i < high; ++i) {
      V in[kIn], values[kOut];
#pragma GCC unroll 6
      for (int j = 0; j < kIn; ++j) in[j] = half[j][i];
      output_axis(in, values);
      const int64_t at = ((tile.image * s.height + tile.y + i) * s.width + tile.x) * D + first;
      for (int64_t j = 0; j < wide; ++j) {
        V value = values[j] + added;
        __builtin_prefetch(out + at + (j + kOut) * D, 1);  // of the next tile, as below
        if (residual) {
          V other;
          __builtin_prefetch(residual + at + (j + kOut) * D);
          Vec::load(residual + at + j * D, lanes, other);
          value += other;
        }
        if (relu) value = value < 0 ? V{} : value;  // NaN stays
        Vec::store(value, lanes, out + at + j * D);
      }
    }
  }
};

template <class T>
void convolve(const Shape& s, const T* x, const T* packed, const T* bias, const T* residual, bool relu, T* out,
              int threads) {
  const int64_t C = s.inputs, D = s.outputs, count = s.tiles();
  threads = worthwhile_threads(count * kPoints * C * D, kGrain, threads);
  const int64_t groups = (count + kRowMultiple - 1) / kRowMultiple, blocks = count_blocks(count, threads);
  const std::vector<T> zeros(C, T(0));
  parallel_for(blocks, threads, [&](int64_t number) {
    with_vectors<T>([&](auto type) CHASE_FAST_FLAT {
      using Vec = decltype(type);
      using V = typename Vec::V;
      using B = Block<Vec>;
      constexpr int64_t L = Vec::L;
      const int64_t begin = groups * number / blocks * kRowMultiple;
      const int64_t tiles = std::min(groups * (number + 1) / blocks * kRowMultiple, count) - begin;
      const int64_t rows =
          (tiles + kRowMultiple - 1) / kRowMultiple * kRowMultiple;  // those beyond `tiles` are not read
      const int64_t v_step = point_step(Vec::vectors(C), rows), m_step = point_step(B::kVectors, rows);
      V* v = reinterpret_cast<V*>(thread_scratch<0>(kPoints * v_step * sizeof(V)));
      V* m = reinterpret_cast<V*>(thread_scratch<1>(kPoints * m_step * sizeof(V)));
      for (int64_t t = 0; t < tiles; ++t) B::input(s, x, zeros.data(), begin + t, rows, v + t);
      const T* weights = packed;
      for (int64_t first = 0; first < D; first += kColumns) {
        const int64_t valid = std::min(kColumns, D - first), vectors = Vec::vectors(valid);
        for (int k = 0; k < kPoints; ++k, weights += C * kColumns) {
          const Rows<T> a{reinterpret_cast<const T*>(v + k * v_step), L, rows * L};
          const V* b = reinterpret_cast<const V*>(weights);
          int64_t j = 0;
          for (; j + kPanel <= vectors; j += kPanel) B::template product<kPanel>(a, rows, C, b, j, m + k * m_step);
          if (j < vectors) B::template product<1>(a, rows, C, b, j, m + k * m_step);
        }
        for (int64_t t = 0; t < tiles; ++t)
          for (int64_t j = 0; j < vectors; ++j)
            B::output(s, m + j * rows + t, m_step, begin + t, first + j * L, std::min(L, valid - j * L), bias, residual,
                      relu, out);
      }
    });
  });
}

}  // namespace

void conv3x3(const TensorView& x, const TensorView& packed, const TensorView& bias, const TensorView& residual,
             const TensorView& out, bool relu, int threads) {
  check(x.dtype == DType::F32 || x.dtype == DType::F64, "conv3x3: float32 or float64");
  check(x.channels_last(), "conv3x3: x must be [N, C, H, W] and channels-last");
  check(out.channels_last(), "conv3x3: out must be [N, D, H, W] and channels-last");
  check_dtype(out, x.dtype, "conv3x3: out");
  check_shape(out, {x.size(0), out.size(1), x.size(2), x.size(3)}, "conv3x3: out");
  const Shape s(x, out);
  const int64_t panels = (s.outputs + kColumns - 1) / kColumns;
  check_table(packed, x, {panels, kPoints, s.inputs, kColumns}, "conv3x3: packed");
  check(reinterpret_cast<std::uintptr_t>(packed.data) % 64 == 0, "conv3x3: packed must begin on a cache line");
  check_table(bias, x, {s.outputs}, "conv3x3: bias");
  const bool add = residual.numel() > 0;
  if (add) check_map(residual, out, "conv3x3: residual");
  if (out.numel() == 0) return;
  const auto call = [&](auto zero) {
    using T = decltype(zero);
    convolve<T>(s, x.ptr<T>(), packed.ptr<T>(), bias.ptr<T>(), add ? residual.ptr<T>() : nullptr, relu, out.ptr<T>(),
                threads);
  };
  x.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace chase_fast::cpu
