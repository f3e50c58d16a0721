// conv3x3 on CPU by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2016): 36 products instead of 144 for a
// 4x4 tile of the output, over NHWC arrays.
//   input   every 6x6 tile d of x (4 apart, zeros outside) becomes B^T d B: 36 matrices [T, C]
//   (product with the transformed weights [36, C, K], by the caller's BLAS)
//   output  every 6x6 tile m of the products becomes A^T m A, a 4x4 tile of the output, plus the bias
// Both are loops over blocks of channels, the lanes of a vector. A row of tiles is one unit of work.
#include "cpu/conv3x3.h"

#include <algorithm>
#include <stdexcept>

#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace chase_fast::cpu {
namespace {

constexpr int64_t kTile = 4, kWide = 6;  // output and input side of a tile

template <class T>
constexpr int64_t lanes() {
  return 64 / sizeof(T);
}

struct Shape {
  int64_t images, height, width, channels;
  int64_t first, count;  // rows of tiles
  int64_t plane;         // elements from one of the 36 matrices to the next

  int64_t down() const { return (height + kTile - 1) / kTile; }
  int64_t across() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return count * across(); }
  int64_t at(int64_t n, int64_t y, int64_t x) const { return ((n * height + y) * width + x) * channels; }
};

// o = B^T d for 6 vectors of d and o, `step` vectors apart.
template <class T>
inline CHASE_FAST_FLAT void input_transform(const T* d, T* o, int64_t step) {
  constexpr int64_t L = lanes<T>();
  const int64_t s = step * L;
#pragma omp simd
  for (int64_t l = 0; l < L; ++l) {
    const T d0 = d[l], d1 = d[s + l], d2 = d[2 * s + l], d3 = d[3 * s + l], d4 = d[4 * s + l], d5 = d[5 * s + l];
    const T even = d4 - 4 * d2, odd = d3 - 4 * d1, far = d4 - d2, near = 2 * (d3 - d1);
    o[l] = 4 * d0 - 5 * d2 + d4;
    o[s + l] = even + odd;
    o[2 * s + l] = even - odd;
    o[3 * s + l] = far + near;
    o[4 * s + l] = far - near;
    o[5 * s + l] = 4 * d1 - 5 * d3 + d5;
  }
}

// o = A^T m: 6 vectors of m, `from` vectors apart, to 4 of o, `to` vectors apart.
template <class T>
inline CHASE_FAST_FLAT void output_transform(const T* m, int64_t from, T* o, int64_t to) {
  constexpr int64_t L = lanes<T>();
  const int64_t s = from * L, t = to * L;
#pragma omp simd
  for (int64_t l = 0; l < L; ++l) {
    const T m1 = m[s + l], m2 = m[2 * s + l], m3 = m[3 * s + l], m4 = m[4 * s + l];
    const T sum12 = m1 + m2, sum34 = m3 + m4, difference12 = m1 - m2, difference34 = m3 - m4;
    o[l] = m[l] + sum12 + sum34;
    o[t + l] = difference12 + 2 * difference34;
    o[2 * t + l] = sum12 + 4 * sum34;
    o[3 * t + l] = difference12 + 8 * difference34 + m[5 * s + l];
  }
}

template <class T>
inline CHASE_FAST_FLAT void input_row(const T* x, Shape s, int64_t row, T* tiles) {
  constexpr int64_t L = lanes<T>();
  const int64_t n = row / s.down(), y0 = row % s.down() * kTile - 1;
  alignas(64) T d[kWide * kWide * L], half[kWide * kWide * L];
  for (int64_t tile = 0; tile < s.across(); ++tile) {
    const int64_t x0 = tile * kTile - 1;
    for (int64_t c = 0; c < s.channels; c += L) {
      const int64_t count = std::min(L, s.channels - c);
      for (int64_t i = 0; i < kWide; ++i)
        for (int64_t j = 0; j < kWide; ++j) {
          T* to = d + (i * kWide + j) * L;
          const int64_t y = y0 + i, column = x0 + j;
          const bool inside = y >= 0 && y < s.height && column >= 0 && column < s.width;
          if (inside && count == L) {
            const T* from = x + s.at(n, y, column) + c;
#pragma omp simd
            for (int64_t l = 0; l < L; ++l) to[l] = from[l];
          } else {
            std::fill(to, to + L, T(0));
            if (inside) std::copy_n(x + s.at(n, y, column) + c, count, to);
          }
        }
      for (int64_t j = 0; j < kWide; ++j) input_transform(d + j * L, half + j * L, kWide);
      for (int64_t i = 0; i < kWide; ++i) input_transform(half + i * kWide * L, d + i * kWide * L, 1);
      T* to = tiles + ((row - s.first) * s.across() + tile) * s.channels + c;
      for (int64_t q = 0; q < kWide * kWide; ++q, to += s.plane) {
        const T* from = d + q * L;
        if (count == L) {
#pragma omp simd
          for (int64_t l = 0; l < L; ++l) to[l] = from[l];
        } else {
          std::copy_n(from, count, to);
        }
      }
    }
  }
}

template <class T>
inline CHASE_FAST_FLAT void output_row(const T* products, const T* bias, Shape s, int64_t row, T* out) {
  constexpr int64_t L = lanes<T>();
  const int64_t n = row / s.down(), y0 = row % s.down() * kTile;
  alignas(64) T m[kWide * kWide * L], half[kTile * kWide * L], o[kTile * kTile * L], shift[L];
  for (int64_t tile = 0; tile < s.across(); ++tile) {
    const int64_t x0 = tile * kTile;
    for (int64_t c = 0; c < s.channels; c += L) {
      const int64_t count = std::min(L, s.channels - c);
      std::fill(shift, shift + L, T(0));
      std::copy_n(bias + c, count, shift);
      const T* from = products + ((row - s.first) * s.across() + tile) * s.channels + c;
      for (int64_t q = 0; q < kWide * kWide; ++q, from += s.plane) {
        T* to = m + q * L;
        if (count == L) {
#pragma omp simd
          for (int64_t l = 0; l < L; ++l) to[l] = from[l];
        } else {
          std::fill(to, to + L, T(0));
          std::copy_n(from, count, to);
        }
      }
      for (int64_t j = 0; j < kWide; ++j) output_transform(m + j * L, kWide, half + j * L, kWide);
      for (int64_t i = 0; i < kTile; ++i) output_transform(half + i * kWide * L, 1, o + i * kTile * L, 1);
      for (int64_t i = 0; i < std::min(kTile, s.height - y0); ++i)
        for (int64_t j = 0; j < std::min(kTile, s.width - x0); ++j) {
          const T* value = o + (i * kTile + j) * L;
          T* to = out + s.at(n, y0 + i, x0 + j) + c;
          for (int64_t l = 0; l < count; ++l) to[l] = value[l] + shift[l];
        }
    }
  }
}

Shape shape_of(const TensorView& map, int64_t first, const TensorView& tiles) {
  Shape s{map.size(0), map.size(2), map.size(3), map.size(1), first, 0, 0};
  s.count = tiles.dim() == 3 ? tiles.size(1) / std::max<int64_t>(s.across(), 1) : 0;
  s.plane = tiles.dim() == 3 ? tiles.stride(0) : 0;
  if (!map.channels_last() || tiles.dim() != 3 || tiles.stride(1) != s.channels || tiles.stride(2) != 1 ||
      tiles.size(0) != kWide * kWide || tiles.size(1) != s.tiles() || tiles.size(2) != s.channels ||
      map.dtype != tiles.dtype || first < 0 || first + s.count > s.images * s.down())
    throw std::invalid_argument("conv3x3: tiles must be [36, T, C], rows contiguous, for a channels_last map");
  return s;
}

int threads_for(const Shape& s, int wanted) {
  return worthwhile_threads(s.tiles() * kTile * kTile * s.channels, 1 << 14, wanted);
}

template <class T>
void input(const TensorView& x, int64_t first, const TensorView& tiles, int threads) {
  const Shape s = shape_of(x, first, tiles);
  const T* from = static_cast<const T*>(x.data);
  T* to = static_cast<T*>(tiles.data);
  parallel_for(s.count, threads_for(s, threads),
               [&](int64_t row) { vectorised([=]() CHASE_FAST_FLAT { input_row(from, s, first + row, to); }); });
}

template <class T>
void output(const TensorView& products, const TensorView& bias, int64_t first, const TensorView& out, int threads) {
  const Shape s = shape_of(out, first, products);
  if (!bias.contiguous() || bias.numel() != s.channels || bias.dtype != out.dtype)
    throw std::invalid_argument("conv3x3: bias must be contiguous [K]");
  const T *from = static_cast<const T*>(products.data), *shift = static_cast<const T*>(bias.data);
  T* to = static_cast<T*>(out.data);
  parallel_for(s.count, threads_for(s, threads), [&](int64_t row) {
    vectorised([=]() CHASE_FAST_FLAT { output_row(from, shift, s, first + row, to); });
  });
}

}  // namespace

void conv3x3_input(const TensorView& x, int64_t first, const TensorView& tiles, int threads) {
  x.dtype == DType::F64 ? input<double>(x, first, tiles, threads) : input<float>(x, first, tiles, threads);
}

void conv3x3_output(const TensorView& products, const TensorView& bias, int64_t first, const TensorView& out,
                    int threads) {
  out.dtype == DType::F64 ? output<double>(products, bias, first, out, threads)
                          : output<float>(products, bias, first, out, threads);
}

}  // namespace chase_fast::cpu
