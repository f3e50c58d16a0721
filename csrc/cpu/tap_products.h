// The two products of the target filter on CPU, both in one pass over the features.
//
// With the k x k taps of a filter as 16 (padded) columns, X of an image as a [pixels, C] matrix in either memory order:
//   adjoint    G [C, taps]       = X^T U,   U [pixels, taps] the residual map unfolded (tap (a, b) of a pixel is the
//                                           residual of the score that reads the pixel through this tap)
//   response   P [pixels, taps]  = X G,     folded to a score map afterwards.
// One vector holds the 16 taps, or 16 neighbours of the features; the sixteen sums stay in registers. BLAS, which
// also has these shapes, reaches half of the processor's rate on them. A task takes some channels of one sequence in
// blocks that fit the second-level cache: it finishes G for a block, then at once multiplies the same features by it.
// The responses of the tasks of a sequence are joined in order; tasks depend on the shape only.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "view.h"

namespace chase_fast::cpu {

constexpr int64_t kTaps = 16;          // taps are handled in groups of this many
constexpr int64_t kChannelBlock = 64;  // channels whose gradient is finished before their response
constexpr int64_t kPacked = 1 << 19;   // bytes of packed features that are kept from one product to the next
constexpr int64_t kFused = 2 << 20;    // bytes of a block of features that is read twice in one task
constexpr int64_t kTasks = 16;         // tasks at least, where there are enough channels

// out [M, 16] (+)= A [M, K] B [K, 16]: A with rows at `step`, B and out with rows at `pitch`. V: vectors of 16 taps.
template <class T, int Bytes, int M>
inline CHASE_FAST_FLAT void taps_in_lanes(const T* a, int64_t step, int64_t K, const T* b, T* out, int64_t pitch,
                                          bool add) {
  typedef T V __attribute__((vector_size(Bytes)));
  constexpr int lanes = Bytes / sizeof(T), vectors = kTaps / lanes;
  V sum[M][vectors];
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < vectors; ++v) {
      sum[m][v] = V{};
      if (add) std::memcpy(&sum[m][v], out + m * pitch + v * lanes, Bytes);
    }
  for (int64_t k = 0; k < K; ++k, b += pitch) {
    V tap[vectors];
    for (int v = 0; v < vectors; ++v) std::memcpy(&tap[v], b + v * lanes, Bytes);
    for (int m = 0; m < M; ++m)
      for (int v = 0; v < vectors; ++v) sum[m][v] += tap[v] * a[m * step + k];
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < vectors; ++v) std::memcpy(out + m * pitch + v * lanes, &sum[m][v], Bytes);
}

// The same for any number of rows.
template <class T, int Bytes, int M>
inline CHASE_FAST_FLAT void taps_in_lanes_rows(const T* a, int64_t rows, int64_t step, int64_t K, const T* b, T* out,
                                               int64_t pitch, bool add) {
  int64_t r = 0;
  for (; r + M <= rows; r += M) taps_in_lanes<T, Bytes, M>(a + r * step, step, K, b, out + r * pitch, pitch, add);
  for (; r + 3 <= rows; r += 3) taps_in_lanes<T, Bytes, 3>(a + r * step, step, K, b, out + r * pitch, pitch, add);
  for (; r < rows; ++r) taps_in_lanes<T, Bytes, 1>(a + r * step, step, K, b, out + r * pitch, pitch, add);
}

// out [Taps, lanes] (+)= B^T [Taps, K] A [K, lanes]: A with rows at `step`, B at `pitch`, out at `out_step`.
template <class T, int Bytes, int Taps>
inline CHASE_FAST_FLAT void features_in_lanes(const T* a, int64_t step, int64_t K, const T* b, int64_t pitch, T* out,
                                              int64_t out_step, bool add) {
  typedef T V __attribute__((vector_size(Bytes)));
  V sum[Taps];
  for (int t = 0; t < Taps; ++t) {
    sum[t] = V{};
    if (add) std::memcpy(&sum[t], out + t * out_step, Bytes);
  }
  for (int64_t k = 0; k < K; ++k, a += step, b += pitch) {
    V x;
    std::memcpy(&x, a, Bytes);
    for (int t = 0; t < Taps; ++t) sum[t] += x * b[t];
  }
  for (int t = 0; t < Taps; ++t) std::memcpy(out + t * out_step, &sum[t], Bytes);
}

// The same for 16 taps and any number of columns; out has room for whole vectors.
template <class T, int Bytes, int Taps>
inline CHASE_FAST_FLAT void features_in_lanes_columns(const T* a, int64_t columns, int64_t step, int64_t K, const T* b,
                                                      int64_t pitch, T* out, int64_t out_step, bool add, T* spare) {
  constexpr int64_t lanes = Bytes / sizeof(T);
  int64_t c = 0;
  for (; c + lanes <= columns; c += lanes)
    for (int64_t t = 0; t < kTaps; t += Taps)
      features_in_lanes<T, Bytes, Taps>(a + c, step, K, b + t, pitch, out + t * out_step + c, out_step, add);
  if (c == columns) return;
  for (int64_t k = 0; k < K; ++k)  // spare [K, lanes]: zero-padded copy of the last columns
    for (int64_t i = 0; i < lanes; ++i) spare[k * lanes + i] = c + i < columns ? a[k * step + c + i] : T(0);
  for (int64_t t = 0; t < kTaps; t += Taps)
    features_in_lanes<T, Bytes, Taps>(spare, lanes, K, b + t, pitch, out + t * out_step + c, out_step, add);
}

// f runs with tiles for this processor's registers: 32 of 64 bytes, or 16 of 32.
template <class T>
void taps_in_lanes(const T* a, int64_t rows, int64_t step, int64_t K, const T* b, T* out, int64_t pitch, bool add) {
  constexpr int wide = sizeof(T) == 4 ? 16 : 8, narrow = sizeof(T) == 4 ? 6 : 3;  // rows of 16 sums
  if (isa() != Isa::AVX512)
    vectorised([=]() CHASE_FAST_FLAT { taps_in_lanes_rows<T, 32, narrow>(a, rows, step, K, b, out, pitch, add); });
  else if (step == kChannelBlock && pitch == kTaps)  // known strides need no registers for the addresses of the rows
    vectorised([=]()
                   CHASE_FAST_FLAT { taps_in_lanes_rows<T, 64, wide>(a, rows, kChannelBlock, K, b, out, kTaps, add); });
  else
    vectorised([=]() CHASE_FAST_FLAT { taps_in_lanes_rows<T, 64, wide>(a, rows, step, K, b, out, pitch, add); });
}

template <class T>
void features_in_lanes(const T* a, int64_t columns, int64_t step, int64_t K, const T* b, int64_t pitch, T* out,
                       int64_t out_step, bool add, T* spare) {
  if (isa() == Isa::AVX512)
    vectorised([=]() CHASE_FAST_FLAT {
      features_in_lanes_columns<T, 64, 16>(a, columns, step, K, b, pitch, out, out_step, add, spare);
    });
  else
    vectorised([=]() CHASE_FAST_FLAT {
      features_in_lanes_columns<T, 32, 8>(a, columns, step, K, b, pitch, out, out_step, add, spare);
    });
}

// to [rows, kChannelBlock] = the first `channels` of every row of from [rows, C], then 0.
template <class T>
void pack(const T* from, int64_t rows, int64_t C, int64_t channels, T* to) {
  constexpr int64_t line = 64 / sizeof(T), ahead = 12;  // rows; the next one is often in another page
  vectorised([=]() CHASE_FAST_FLAT {
    const T* x = from;
    T* y = to;
    for (int64_t r = 0; r < rows; ++r, x += C, y += kChannelBlock) {
      for (int64_t c = 0; c < channels; c += line) __builtin_prefetch(x + ahead * C + c);
      if (channels == kChannelBlock) {
#pragma omp simd
        for (int64_t c = 0; c < kChannelBlock; ++c) y[c] = x[c];
      } else {
        for (int64_t c = 0; c < kChannelBlock; ++c) y[c] = c < channels ? x[c] : T(0);
      }
    }
  });
}

// Sizes of a call: n frames of s sequences, C channels, H x W cells, k x k taps.
struct Sizes {
  int64_t n, s, C, H, W, k;
  int64_t pixels() const { return H * W; }
  int64_t rows() const { return H + (k + 1) % 2; }
  int64_t columns() const { return W + (k + 1) % 2; }
  int64_t map() const { return rows() * columns(); }
  int64_t taps() const { return k * k; }
  int64_t pitch() const { return (taps() + kTaps - 1) / kTaps * kTaps; }  // taps, padded
  int64_t filter() const { return C * taps(); }                           // elements of one filter
};

// Residual map [rows, columns] -> values [pixels, taps] with rows at `pitch`; padding taps are left alone.
template <class T>
void unfold(const Sizes& z, const T* map, T* values, int64_t pitch) {
  const int64_t k = z.k, rows = z.rows(), columns = z.columns();
  for (int64_t y = 0; y < z.H; ++y)
    for (int64_t x = 0; x < z.W; ++x, values += pitch)
      for (int64_t a = 0; a < k; ++a) {
        const int64_t row = y - a + k / 2;
        const T* from = map + row * columns + x + k / 2;
        const bool inside = row >= 0 && row < rows;
        for (int64_t b = 0; b < k; ++b) {
          const int64_t column = x - b + k / 2;
          values[a * k + b] = inside && column >= 0 && column < columns ? from[-b] : T(0);
        }
      }
}

// Products P of every pixel with every tap -> score map [rows, columns]; P(pixel, tap) at pixel * step + tap *
// tap_step.
template <class T>
void fold(const Sizes& z, const T* products, int64_t step, int64_t tap_step, T* map) {
  const int64_t k = z.k, columns = z.columns();
  std::fill(map, map + z.map(), T(0));
  for (int64_t a = 0; a < k; ++a)
    for (int64_t b = 0; b < k; ++b)
      for (int64_t y = 0; y < z.H; ++y) {
        const int64_t row = y - a + k / 2;
        if (row < 0 || row >= z.rows()) continue;
        const int64_t left = std::max<int64_t>(0, b - k / 2), right = std::min(z.W, columns + b - k / 2);
        const T* from = products + y * z.W * step + (a * k + b) * tap_step;
        T* to = map + row * columns - b + k / 2;
        for (int64_t x = left; x < right; ++x) to[x] += from[x * step];
      }
}

// The products of one set of features. m maps or filters at once share the pass over the features.
template <class T>
class TapProducts {
 public:
  // Of `count` sequences from `begin`; every array that is given covers all of them. count -1: all.
  TapProducts(const TensorView& features, int64_t k, int threads, int64_t begin = 0, int64_t count = -1)
      : x_(features.ptr<T>()), begin_(begin), threads_(threads) {
    z_ = {features.size(0), features.size(1), features.size(2), features.size(3), features.size(4), k};
    count_ = count < 0 ? z_.s : count;
    frame_ = features.stride(0);
    sequence_ = features.stride(1);
    channels_last_ = features.stride(2) == 1 && z_.C > 1;
    const int64_t blocks = (z_.C + kChannelBlock - 1) / kChannelBlock;
    const int64_t tasks = std::min(blocks, (kTasks + z_.s - 1) / z_.s);  // per sequence
    blocks_ = (blocks + tasks - 1) / tasks;
    tasks_ = (blocks + blocks_ - 1) / blocks_;
    image_ = channels_last_ ? z_.pixels() * z_.pitch() : z_.pitch() * width();
    const int64_t packed = z_.n * z_.pixels() * kChannelBlock * static_cast<int64_t>(sizeof(T));
    frames_packed_ = packed <= kPacked ? z_.n : 1;
    fused_ = packed <= kFused;
    work_ = z_.n * count_ * z_.C * z_.pixels();
  }

  const Sizes& sizes() const { return z_; }
  int threads() const { return worthwhile_threads(work_, 1 << 14, threads_); }

  // gradient [m, s, C, taps] = adjoint of residual [m, n, s, map] + scale * base [m, s, C, taps] (base may be null),
  // and response [m, n, s, map] to it (may be null).
  void gradient(int64_t m, const T* residual, const T* base, T scale, T* gradient, T* response) {
    unfolded_.resize(m * z_.n * count_ * z_.pixels() * z_.pitch());
    const int64_t unfolded = z_.pixels() * z_.pitch();
    parallel_for(m * z_.n * count_, threads(), [&](int64_t i) {
      const T* map = residual + (i / count_ * z_.s + begin_ + i % count_) * z_.map();
      unfold(z_, map, unfolded_.data() + i * unfolded, z_.pitch());
    });
    adjoint_tasks(m, base, scale, gradient, fused_ ? response : nullptr);
    if (response && !fused_) response_tasks(m, gradient, response);
  }

  // response [m, n, s, map] of filters [m, s, C, taps].
  void response(int64_t m, const T* filters, T* response) { response_tasks(m, filters, response); }

 private:
  int64_t width() const { return (z_.pixels() + kTaps - 1) / kTaps * kTaps; }  // pixels in whole vectors
  const T* image(int64_t frame, int64_t sequence) const { return x_ + frame * frame_ + sequence * sequence_; }

  // gradient, and response in the same pass unless null. Tasks: some channels of one sequence.
  void adjoint_tasks(int64_t m, const T* base, T scale, T* gradient, T* response) {
    const int64_t part = z_.n * image_;
    if (response) partial_.resize(m * count_ * tasks_ * part);
    parallel_for(count_ * tasks_, threads(), [&](int64_t i) {
      const int64_t sequence = begin_ + i / tasks_, task = i % tasks_;
      T* taps = scratch(2 * kChannelBlock * z_.pitch() + spare());
      T *turned = taps + kChannelBlock * z_.pitch(), *spare = turned + kChannelBlock * z_.pitch();
      std::fill(taps, turned, T(0));
      const int64_t first = task * blocks_ * kChannelBlock, last = std::min(z_.C, first + blocks_ * kChannelBlock);
      for (int64_t c = first; c < last; c += kChannelBlock) {
        const int64_t channels = std::min(kChannelBlock, last - c);
        if (channels_last_ && frames_packed_ == z_.n)
          for (int64_t frame = 0; frame < z_.n; ++frame) pack_frame(frame, sequence, c, channels, spare);
        for (int64_t j = 0; j < m; ++j) {
          const int64_t at = (j * z_.s + sequence) * z_.filter() + c * z_.taps();
          adjoint_block(j, sequence, c, channels, taps, turned, spare);
          write_gradient(channels, base ? base + at : nullptr, scale, taps, gradient + at);
          if (!response) continue;
          T* sums = partial_.data() + ((j * count_ + sequence - begin_) * tasks_ + task) * part;
          for (int64_t frame = 0; frame < z_.n; ++frame)
            response_block(features(frame, sequence, c, channels, spare), channels, taps, sums + frame * image_,
                           c > first, spare);
        }
      }
    });
    if (response) join(m, tasks_, response);
  }

  // Tasks: one image, or some of its channels if there are few images.
  void response_tasks(int64_t m, const T* filters, T* response) {
    const int64_t images = z_.n * z_.s, blocks = (z_.C + kChannelBlock - 1) / kChannelBlock;
    const int64_t in_task = (blocks + std::min(blocks, (kTasks + images - 1) / images) - 1) /
                            std::min(blocks, (kTasks + images - 1) / images);
    const int64_t tasks = (blocks + in_task - 1) / in_task;
    if (tasks > 1) partial_.resize(m * count_ * tasks * z_.n * image_);
    parallel_for(z_.n * count_ * tasks, threads(), [&](int64_t i) {
      const int64_t sequence = begin_ + i / tasks % count_, frame = i / tasks / count_, task = i % tasks;
      const int64_t room = std::max(z_.pixels(), kTaps) * kChannelBlock;  // packed features, or a tail of columns
      T* taps = scratch(kChannelBlock * z_.pitch() + room + m * image_);
      T *spare = taps + kChannelBlock * z_.pitch(), *own = spare + room;
      std::fill(taps, spare, T(0));
      const int64_t first = task * in_task * kChannelBlock, last = std::min(z_.C, first + in_task * kChannelBlock);
      for (int64_t c = first; c < last; c += kChannelBlock) {
        const int64_t channels = std::min(kChannelBlock, last - c);
        const T* x = image(frame, sequence) + c * z_.pixels();
        if (channels_last_) {
          pack(image(frame, sequence) + c, z_.pixels(), z_.C, channels, spare);
          x = spare;
        }
        for (int64_t j = 0; j < m; ++j) {
          const T* filter = filters + (j * z_.s + sequence) * z_.filter() + c * z_.taps();
          for (int64_t r = 0; r < channels; ++r)
            std::copy(filter + r * z_.taps(), filter + (r + 1) * z_.taps(), taps + r * z_.pitch());
          T* sums = tasks == 1
                        ? own + j * image_
                        : partial_.data() + (((j * count_ + sequence - begin_) * tasks + task) * z_.n + frame) * image_;
          response_block(x, channels, taps, sums, c > first, spare);
        }
      }
      if (tasks == 1)
        for (int64_t j = 0; j < m; ++j)
          fold_image(own + j * image_, response + ((j * z_.n + frame) * z_.s + sequence) * z_.map());
    });
    if (tasks > 1) join(m, tasks, response);
  }

  // Uninitialised array of this thread, kept for the next task: a large one is mapped anew each time it is allocated.
  static T* scratch(int64_t size) {
    static thread_local std::vector<T> array;
    if (static_cast<int64_t>(array.size()) < size) array.resize(size);
    return array.data();
  }

  // Elements for the packed features, or for a tail of columns.
  int64_t spare() const {
    return channels_last_ ? frames_packed_ * z_.pixels() * kChannelBlock : kTaps * kChannelBlock;
  }

  // Channels c.. of a frame as [pixels, kChannelBlock]: neighbouring pixels are C elements apart, for many a C in the
  // same set of the first-level cache.
  T* place(int64_t frame, T* packed) const { return packed + frame % frames_packed_ * z_.pixels() * kChannelBlock; }

  void pack_frame(int64_t frame, int64_t sequence, int64_t c, int64_t channels, T* packed) const {
    pack(image(frame, sequence) + c, z_.pixels(), z_.C, channels, place(frame, packed));
  }

  // Channels c.. of a frame, in the order that the products take: packed, or rows of pixels.
  const T* features(int64_t frame, int64_t sequence, int64_t c, int64_t channels, T* packed) const {
    if (!channels_last_) return image(frame, sequence) + c * z_.pixels();
    if (frames_packed_ != z_.n) pack_frame(frame, sequence, c, channels, packed);
    return place(frame, packed);
  }

  // taps [channels, pitch] = adjoint over all frames. Sums of one frame are finished before they are added up.
  void adjoint_block(int64_t j, int64_t sequence, int64_t c, int64_t channels, T* taps, T* turned, T* spare) {
    const int64_t pixels = z_.pixels(), pitch = z_.pitch();
    for (int64_t frame = 0; frame < z_.n; ++frame) {
      const T* x = features(frame, sequence, c, channels, spare);
      const T* u = unfolded_.data() + ((j * z_.n + frame) * count_ + sequence - begin_) * pixels * pitch;
      for (int64_t t = 0; t < pitch; t += kTaps)
        if (channels_last_)
          features_in_lanes(x, kChannelBlock, kChannelBlock, pixels, u + t, pitch, turned + t * kChannelBlock,
                            kChannelBlock, frame > 0, spare);
        else
          taps_in_lanes(x, channels, pixels, pixels, u + t, taps + t, pitch, frame > 0);
    }
    if (channels_last_)
      for (int64_t r = 0; r < channels; ++r)
        for (int64_t t = 0; t < z_.taps(); ++t) taps[r * pitch + t] = turned[t * kChannelBlock + r];
  }

  void write_gradient(int64_t channels, const T* base, T scale, T* taps, T* gradient) {
    for (int64_t r = 0; r < channels; ++r, taps += z_.pitch(), gradient += z_.taps()) {
      if (base)
        for (int64_t t = 0; t < z_.taps(); ++t) taps[t] += scale * base[r * z_.taps() + t];
      std::copy(taps, taps + z_.taps(), gradient);
    }
  }

  // sums (image_) (+)= products of the channels of a frame.
  void response_block(const T* x, int64_t channels, const T* taps, T* sums, bool add, T* spare) const {
    const int64_t pixels = z_.pixels(), pitch = z_.pitch();
    for (int64_t t = 0; t < pitch; t += kTaps)
      if (channels_last_)
        taps_in_lanes(x, pixels, kChannelBlock, channels, taps + t, sums + t, pitch, add);
      else
        features_in_lanes(x, pixels, pixels, channels, taps + t, pitch, sums + t * width(), width(), add, spare);
  }

  void fold_image(const T* sums, T* map) const {
    if (channels_last_)
      fold(z_, sums, z_.pitch(), 1, map);
    else
      fold(z_, sums, 1, width(), map);
  }

  // Adds the tasks' responses up, in the first one's place, and folds them.
  void join(int64_t m, int64_t tasks, T* response) {
    const int64_t part = z_.n * image_;
    parallel_for(m * z_.n * count_, threads(), [&](int64_t i) {
      const int64_t sequence = i % count_, frame = i / count_ % z_.n, j = i / count_ / z_.n, size = image_;
      T* sum = partial_.data() + (j * count_ + sequence) * tasks * part + frame * size;
      for (int64_t task = 1; task < tasks; ++task) {
        const T* other = sum + task * part;
        vectorised([=]() CHASE_FAST_FLAT {
#pragma omp simd
          for (int64_t e = 0; e < size; ++e) sum[e] += other[e];
        });
      }
      fold_image(sum, response + ((j * z_.n + frame) * z_.s + begin_ + sequence) * z_.map());
    });
  }

  const T* x_;
  Sizes z_;
  int64_t begin_, count_, frame_, sequence_, blocks_, tasks_, image_, frames_packed_,
      work_;  // strides; blocks a task, tasks a sequence
  bool channels_last_, fused_;
  int threads_;
  std::vector<T> unfolded_;  // [m, n, s, pixels, pitch]; padding taps stay 0
  std::vector<T> partial_;   // responses of the tasks: [m, s, tasks, n, image_]
};

}  // namespace chase_fast::cpu
