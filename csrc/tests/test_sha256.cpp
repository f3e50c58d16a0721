#include "tests/check.h"
#include "tracker/sha256.h"

namespace chase_fast::tests {
namespace {

std::string digest(const std::string& text) {
  tracker::Sha256 sum;
  sum.add(text.data(), text.size());
  return sum.hex();
}

void expect(const std::string& text, const char* expected) {
  if (digest(text) != expected) fail(text.size(), " bytes: ", digest(text), ", expected ", expected);
}

}  // namespace

void test_sha256(Random& random) {
  // FIPS 180-4 examples, and sha256sum of `a` repeated, around the lengths where a block is added
  expect("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  expect("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  expect(std::string(55, 'a'), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  expect(std::string(56, 'a'), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  expect(std::string(63, 'a'), "7d3e74a05d7db15bce4ad9ec0658ea98e3f06eeecf16b4c6fff2da457ddc2f34");
  expect(std::string(64, 'a'), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
  expect(std::string(65, 'a'), "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0");
  expect(std::string(119, 'a'), "31eba51c313a5c08226adf18d4a359cfdfd8d2e816b13f4af952f7ea6584dcfb");
  expect(std::string(120, 'a'), "2f3d335432c70b580af0e8e1b3674a7c020d683aa5f73aaaedfdc55af904c21c");
  expect(std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");

  std::string text(static_cast<size_t>(random.integer(0, 1000)), '\0');
  for (char& c : text) c = static_cast<char>(random.integer(0, 255));
  tracker::Sha256 pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t size = std::min(text.size() - at, static_cast<size_t>(random.integer(0, 150)));
    pieces.add(text.data() + at, size);
    at += size;
  }
  if (pieces.hex() != digest(text)) fail(text.size(), " bytes in pieces have another sum");
}

}  // namespace chase_fast::tests
