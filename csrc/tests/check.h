// The skeleton of the C++ tests. A file test_OP.cpp defines `void test_OP(Random&)`, one round on a random shape:
// arrays between guards (Array), outputs full of NaN, naive loops in double, `expect_close`, `expect_same_bits` for
// several numbers of threads. A failure throws; main.cpp prints the op, the round and the seed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "view.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace chase_fast::tests {

// Relative RMS difference that is allowed: KERNEL of tests/tolerances.py.
template <class T>
constexpr double kTolerance = std::is_same_v<T, float> ? 2e-5 : 1e-10;

constexpr int kThreads[] = {1, 2, 3, 7};  // all must give the same bits

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  int64_t integer(int64_t low, int64_t high) {  // both ends included
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(engine_() >> 11) * 0x1p-53;
  }
  double normal() { return std::sqrt(-2 * std::log(1 - uniform(0, 1))) * std::cos(6.283185307179586 * uniform(0, 1)); }
  bool chance(double p) { return uniform(0, 1) < p; }
  // Often a multiple of the vector width or its neighbour.
  int64_t channels() {
    if (chance(0.5)) return integer(1, 40);
    return std::max<int64_t>(1, 16 * integer(1, 5) + integer(-1, 1));
  }

 private:
  std::mt19937_64 engine_;
};

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

// n elements of T at a random alignment, with guards before and after them.
template <class T>
class Array {
 public:
  Array(int64_t n, Random& random) : n_(n), start_(kGuard + sizeof(T) * random.integer(0, 15)) {
    bytes_.resize(start_ + n * sizeof(T) + kGuard + 64);
    std::memset(bytes_.data(), kPattern, bytes_.size());
    if constexpr (std::is_floating_point_v<T>)
      for (int64_t i = 0; i < n; ++i) data()[i] = std::numeric_limits<T>::quiet_NaN();
#if defined(__SANITIZE_ADDRESS__)
    ASAN_POISON_MEMORY_REGION(bytes_.data(), start_);
    ASAN_POISON_MEMORY_REGION(bytes_.data() + start_ + n * sizeof(T), after());
    ASAN_UNPOISON_MEMORY_REGION(data(), n * sizeof(T));
#endif
  }
  Array(Array&&) = default;
  ~Array() { open(); }

  T* data() { return reinterpret_cast<T*>(bytes_.data() + start_); }
  const T* data() const { return reinterpret_cast<const T*>(bytes_.data() + start_); }
  int64_t size() const { return n_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }

  Array& normal(Random& random) {
    for (int64_t i = 0; i < n_; ++i) data()[i] = static_cast<T>(random.normal());
    return *this;
  }
  Array& uniform(Random& random, double low, double high) {
    for (int64_t i = 0; i < n_; ++i) data()[i] = static_cast<T>(random.uniform(low, high));
    return *this;
  }

  // A view of these sizes, the last axis innermost.
  TensorView view(const std::vector<int64_t>& sizes) const {
    std::vector<int64_t> strides(sizes.size());
    int64_t step = 1;
    for (size_t i = sizes.size(); i-- > 0; step *= sizes[i]) strides[i] = step;
    return strided(sizes, strides);
  }
  // [N, C, H, W] over NHWC data.
  TensorView map(int64_t N, int64_t C, int64_t H, int64_t W) const {
    return strided({N, C, H, W}, {H * W * C, 1, W * C, C});
  }
  TensorView strided(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides) const {
    constexpr DType type = std::is_same_v<T, float> ? DType::F32 : std::is_same_v<T, double> ? DType::F64 : DType::U8;
    TensorView view(reinterpret_cast<std::uintptr_t>(data()), static_cast<int>(type), sizes, strides);
    int64_t last = 0;
    for (size_t i = 0; i < sizes.size(); ++i) last += (sizes[i] - 1) * strides[i];
    if (view.numel() && last >= n_) fail("a view up to element ", last, " of an array of ", n_);
    return view;
  }

  void check_guards(const char* what) {
    open();
    for (size_t i = 0; i < bytes_.size(); ++i)
      if ((i < start_ || i >= start_ + n_ * sizeof(T)) && bytes_[i] != kPattern)
        fail(what, ": byte ", static_cast<int64_t>(i - start_), " of ", n_ * sizeof(T), " was written");
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kPattern = 0xA5;

  size_t after() const { return bytes_.size() - start_ - n_ * sizeof(T); }
  void open() {
#if defined(__SANITIZE_ADDRESS__)
    if (!bytes_.empty()) ASAN_UNPOISON_MEMORY_REGION(bytes_.data(), bytes_.size());
#endif
  }

  int64_t n_;
  size_t start_;
  std::vector<unsigned char> bytes_;
};

// got against the expected values; what may stand in the sum of squares without counting is `floor` (values that
// cancel to nothing are compared with the size of what cancelled).
template <class T>
void expect_close(const Array<T>& got, const std::vector<double>& expected, const char* what, double floor = 0) {
  if (got.size() != static_cast<int64_t>(expected.size())) fail(what, ": ", expected.size(), " values expected");
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < got.size(); ++i) {
    if (std::isnan(got[i]) && std::isnan(expected[i])) continue;
    const double d = got[i] - expected[i];
    if (!std::isfinite(d)) fail(what, ": element ", i, " is ", got[i], ", expected ", expected[i]);
    difference += d * d, norm += expected[i] * expected[i];
  }
  const double allowed = kTolerance<T> * (std::sqrt(norm) + floor) + std::numeric_limits<T>::min();
  if (std::sqrt(difference) > allowed)
    fail(what, ": RMS error ", std::sqrt(difference) / (std::sqrt(norm) + floor + 1e-300), " relative, allowed ",
         kTolerance<T>);
}

// Runs compute(threads, outputs) for every number of threads on fresh outputs of `sizes`; all must have the same bits
// and intact guards. Returns the outputs.
template <class T, class F>
std::vector<Array<T>> run_with_threads(const std::vector<int64_t>& sizes, Random& random, const F& compute) {
  std::vector<Array<T>> first;
  for (int threads : kThreads) {
    std::vector<Array<T>> outputs;
    for (int64_t n : sizes) outputs.emplace_back(n, random);
    compute(threads, outputs);
    for (Array<T>& output : outputs) output.check_guards("output");
    if (first.empty()) {
      first = std::move(outputs);
      continue;
    }
    for (size_t i = 0; i < sizes.size(); ++i)
      if (sizes[i] && std::memcmp(first[i].data(), outputs[i].data(), sizes[i] * sizeof(T)) != 0)
        fail("output ", i, ": ", threads, " threads give other bits than one");
  }
  return first;
}

}  // namespace chase_fast::tests
