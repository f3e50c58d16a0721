// The native CPU code on random shapes, without Python: `native_tests [--only OP] [--rounds N] [--seed S]`. A round is
// its seed: a failure prints the command that repeats it alone.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "cpu/isa.h"
#include "tests/check.h"

namespace chase_fast::tests {

void test_batch_norm(Random& random);
void test_conv3x3(Random& random);
void test_crop(Random& random);
void test_depthwise(Random& random);
void test_folder(Random& random);
void test_jpeg(Random& random);
void test_json(Random& random);
void test_kl_loss(Random& random);
void test_node_sum(Random& random);
void test_pool(Random& random);
void test_pooled_linear(Random& random);
void test_prroi_pool(Random& random);
void test_separable_stack(Random& random);
void test_sha256(Random& random);
void test_target_filter(Random& random);
void test_tracker(Random& random);

namespace {

struct Test {
  const char* name;
  void (*round)(Random&);
};

constexpr Test kTests[] = {
    {"batch_norm", test_batch_norm},
    {"conv3x3", test_conv3x3},
    {"crop", test_crop},
    {"depthwise", test_depthwise},
    {"folder", test_folder},
    {"jpeg", test_jpeg},
    {"json", test_json},
    {"kl_loss", test_kl_loss},
    {"node_sum", test_node_sum},
    {"pool", test_pool},
    {"pooled_linear", test_pooled_linear},
    {"prroi_pool", test_prroi_pool},
    {"separable_stack", test_separable_stack},
    {"sha256", test_sha256},
    {"target_filter", test_target_filter},
    {"tracker", test_tracker},
};

bool run(const Test& test, uint64_t seed, int rounds) {
  const auto start = std::chrono::steady_clock::now();
  for (int r = 0; r < rounds; ++r) {
    Random random(seed + r);
    try {
      test.round(random);
    } catch (const std::exception& e) {
      std::printf("%s FAILED: %s\n  again: --only %s --rounds 1 --seed %llu\n", test.name, e.what(), test.name,
                  static_cast<unsigned long long>(seed + r));
      return false;
    }
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%-14s %d rounds from seed %llu, %s: %.1f s\n", test.name, rounds, static_cast<unsigned long long>(seed),
              name(isa()), seconds.count());
  std::fflush(stdout);
  return true;
}

}  // namespace
}  // namespace chase_fast::tests

int main(int count, char** arguments) {
  using namespace chase_fast::tests;
  const char* only = nullptr;
  int rounds = 4;
  uint64_t seed = 1;
  for (int i = 1; i < count; i += 2) {
    const char* value = i + 1 < count ? arguments[i + 1] : nullptr;
    if (value && !std::strcmp(arguments[i], "--only")) {
      only = value;
    } else if (value && !std::strcmp(arguments[i], "--rounds")) {
      rounds = std::atoi(value);
    } else if (value && !std::strcmp(arguments[i], "--seed")) {
      seed = std::strtoull(value, nullptr, 10);
    } else {
      std::printf("usage: %s [--only OP] [--rounds N] [--seed S]\n", arguments[0]);
      return 2;
    }
  }
  bool ok = true, found = false;
  for (const Test& test : kTests) {
    if (only && std::strcmp(only, test.name)) continue;
    found = true;
    ok = run(test, seed, rounds) && ok;
  }
  if (!found) std::printf("no test is called %s\n", only);
  return ok && found ? 0 : 1;
}
