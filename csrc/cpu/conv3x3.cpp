// The two transforms of a 3x3 convolution by Winograd's minimal filtering F(4x4, 3x3); between them stand 36 matrix
// products, which are the BLAS's. A tile is 6x6 input pixels d that give 4x4 outputs, tiles are 4 pixels apart:
//   input   B' d B            output   A' m A + bias (+ residual, ReLU)
// One task per tile, vector lanes along the channels. Pixels outside the map are read from a row of zeros, outputs
// outside it are not written. No sums over tasks: no bit depends on the number of threads.
#include "cpu/conv3x3.h"

#include <algorithm>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace chase_fast::cpu {
namespace {

constexpr int OUT = 4, IN = 6, POINTS = IN * IN;
constexpr int64_t GRAIN = 1 << 14;  // values of a transform that are worth a thread

template <class T>
constexpr int lanes() {
  return 64 / sizeof(T);
}

// B' on six vectors `step` rows apart, in place.
template <class T, int L>
inline CHASE_FAST_FLAT void input_axis(T (*d)[L], int step) {
#pragma omp simd
  for (int v = 0; v < L; ++v) {
    const T a = d[0][v], b = d[step][v], c = d[2 * step][v], e = d[3 * step][v], f = d[4 * step][v], g = d[5 * step][v];
    const T even = f - 4 * c, odd = e - 4 * b, even2 = f - c, odd2 = 2 * (e - b);
    d[0][v] = 4 * a - 5 * c + f;
    d[step][v] = even + odd;
    d[2 * step][v] = even - odd;
    d[3 * step][v] = even2 + odd2;
    d[4 * step][v] = even2 - odd2;
    d[5 * step][v] = 4 * b - 5 * e + g;
  }
}

// A' on six vectors `step` rows apart: the first four become the result.
template <class T, int L>
inline CHASE_FAST_FLAT void output_axis(T (*m)[L], int step) {
#pragma omp simd
  for (int v = 0; v < L; ++v) {
    const T a = m[0][v], b = m[step][v], c = m[2 * step][v], e = m[3 * step][v], f = m[4 * step][v], g = m[5 * step][v];
    const T sum = b + c, difference = b - c, sum2 = e + f, difference2 = e - f;
    m[0][v] = a + sum + sum2;
    m[step][v] = difference + 2 * difference2;
    m[2 * step][v] = sum + 4 * sum2;
    m[3 * step][v] = difference + 8 * difference2 + g;
  }
}

struct Grid {
  int64_t images, height, width, rows, columns;

  Grid(const TensorView& map)
      : images(map.size(0)),
        height(map.size(2)),
        width(map.size(3)),
        rows((height + OUT - 1) / OUT),
        columns((width + OUT - 1) / OUT) {}

  int64_t tiles() const { return images * rows * columns; }
};

template <class T>
void input(const Grid& s, int64_t C, const T* x, T* tiles, int threads) {
  constexpr int L = lanes<T>();
  const std::vector<T> zeros(C, T(0));
  const int64_t count = s.tiles();
  parallel_for(count, worthwhile_threads(count * C * POINTS, GRAIN, threads), [&](int64_t t) {
    const int64_t image = t / (s.rows * s.columns), row = t / s.columns % s.rows, column = t % s.columns;
    const T* pixels[POINTS];
    for (int i = 0; i < IN; ++i)
      for (int j = 0; j < IN; ++j) {
        const int64_t y = OUT * row + i - 1, z = OUT * column + j - 1;
        const bool inside = y >= 0 && y < s.height && z >= 0 && z < s.width;
        pixels[i * IN + j] = inside ? x + ((image * s.height + y) * s.width + z) * C : zeros.data();
      }
    const T* const* from = pixels;
    T* to = tiles + t * C;
    const int64_t stride = count * C;
    vectorised([=]() CHASE_FAST_FLAT {
      T d[POINTS][L];
      for (int64_t c = 0; c < C; c += L) {
        const int n = static_cast<int>(std::min<int64_t>(L, C - c));
        for (int k = 0; k < POINTS; ++k) {
          if (n == L) {
#pragma omp simd
            for (int v = 0; v < L; ++v) d[k][v] = from[k][c + v];
          } else {
            for (int v = 0; v < L; ++v) d[k][v] = v < n ? from[k][c + v] : T(0);
          }
        }
        for (int j = 0; j < IN; ++j) input_axis<T, L>(d + j, IN);
        for (int i = 0; i < IN; ++i) input_axis<T, L>(d + i * IN, 1);
        for (int k = 0; k < POINTS; ++k) {
          T* at = to + k * stride + c;
          if (n == L) {
#pragma omp simd
            for (int v = 0; v < L; ++v) at[v] = d[k][v];
          } else {
            for (int v = 0; v < n; ++v) at[v] = d[k][v];
          }
        }
      }
    });
  });
}

template <class T>
void output(const Grid& s, int64_t D, const T* tiles, const T* bias, const T* residual, bool relu, T* out,
            int threads) {
  constexpr int L = lanes<T>();
  const int64_t count = s.tiles();
  parallel_for(count, worthwhile_threads(count * D * POINTS, GRAIN, threads), [&](int64_t t) {
    const int64_t image = t / (s.rows * s.columns), row = t / s.columns % s.rows, column = t % s.columns;
    const int high = static_cast<int>(std::min<int64_t>(OUT, s.height - OUT * row));
    const int wide = static_cast<int>(std::min<int64_t>(OUT, s.width - OUT * column));
    const int64_t corner = ((image * s.height + OUT * row) * s.width + OUT * column) * D, line = s.width * D;
    const T* from = tiles + t * D;
    const int64_t stride = count * D;
    vectorised([=]() CHASE_FAST_FLAT {
      T m[POINTS][L], b[L];
      for (int64_t c = 0; c < D; c += L) {
        const int n = static_cast<int>(std::min<int64_t>(L, D - c));
        for (int v = 0; v < L; ++v) b[v] = v < n ? bias[c + v] : T(0);
        for (int k = 0; k < POINTS; ++k) {
          const T* at = from + k * stride + c;
          if (n == L) {
#pragma omp simd
            for (int v = 0; v < L; ++v) m[k][v] = at[v];
          } else {
            for (int v = 0; v < L; ++v) m[k][v] = v < n ? at[v] : T(0);
          }
        }
        for (int j = 0; j < IN; ++j) output_axis<T, L>(m + j, IN);
        for (int i = 0; i < OUT; ++i) output_axis<T, L>(m + i * IN, 1);
        for (int i = 0; i < high; ++i)
          for (int j = 0; j < wide; ++j) {
            T* value = m[i * IN + j];
            const int64_t place = corner + i * line + j * D + c;
#pragma omp simd
            for (int v = 0; v < L; ++v) value[v] += b[v];
            if (residual)
              for (int v = 0; v < n; ++v) value[v] += residual[place + v];
            if (relu) {
#pragma omp simd
              for (int v = 0; v < L; ++v) value[v] = value[v] < T(0) ? T(0) : value[v];  // NaN stays
            }
            if (n == L) {
#pragma omp simd
              for (int v = 0; v < L; ++v) out[place + v] = value[v];
            } else {
              for (int v = 0; v < n; ++v) out[place + v] = value[v];
            }
          }
      }
    });
  });
}

Grid check_map(const TensorView& map, const TensorView& tiles, const char* what) {
  check(map.dtype == DType::F32 || map.dtype == DType::F64, "conv3x3: float32 or float64");
  check(map.channels_last(), std::string(what) + " must be [N, C, H, W] and channels-last");
  check_dtype(tiles, map.dtype, what);
  check(tiles.contiguous(), "conv3x3: tiles must be contiguous");
  const Grid grid(map);
  check_shape(tiles, {POINTS, grid.tiles(), map.size(1)}, "conv3x3: tiles");
  return grid;
}

template <class F>
void by_dtype(const TensorView& t, const F& call) {
  t.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace

void conv3x3_input(const TensorView& x, const TensorView& tiles, int threads) {
  const Grid grid = check_map(x, tiles, "conv3x3: x");
  by_dtype(x, [&](auto zero) {
    using T = decltype(zero);
    input<T>(grid, x.size(1), x.ptr<T>(), tiles.ptr<T>(), threads);
  });
}

void conv3x3_output(const TensorView& tiles, const TensorView& bias, const TensorView& residual, const TensorView& out,
                    bool relu, int threads) {
  const Grid grid = check_map(out, tiles, "conv3x3: out");
  const bool add = residual.numel() > 0;
  check_shape(bias, {out.size(1)}, "conv3x3: bias");
  check_dtype(bias, out.dtype, "conv3x3: bias");
  check(bias.contiguous(), "conv3x3: bias must be contiguous");
  if (add) {
    check_shape(residual, out.sizes, "conv3x3: residual");
    check_dtype(residual, out.dtype, "conv3x3: residual");
    check(residual.channels_last(), "conv3x3: residual must be channels-last");
  }
  by_dtype(out, [&](auto zero) {
    using T = decltype(zero);
    output<T>(grid, out.size(1), tiles.ptr<T>(), bias.ptr<T>(), add ? residual.ptr<T>() : nullptr, relu, out.ptr<T>(),
              threads);
  });
}

}  // namespace chase_fast::cpu
