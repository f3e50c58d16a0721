#include "tracker/folder.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "tracker/json.h"
#include "tracker/limits.h"
#include "tracker/safetensors.h"
#include "tracker/sha256.h"

namespace chase_fast::tracker {
namespace {

namespace fs = std::filesystem;

constexpr int kVersion = 2;
constexpr uint64_t kLargestManifest = 1 << 22, kLargestConstants = 1 << 30;
constexpr const char* kConstants = "constants.safetensors";

[[noreturn]] void refuse(const fs::path& file, std::string what) {
  what = file.string() + ": " + what + "; export again with python -m chase_fast.export";
  for (char& c : what)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';  // names in a file may hold anything
  throw std::runtime_error(what);
}

// Hands the file over in pieces; none is opened that could make a reader wait, such as a pipe.
template <class F>
void read(const fs::path& file, const F& piece) {
  std::error_code error;
  if (!fs::is_regular_file(file, error)) refuse(file, "it is missing");
  std::ifstream in(file, std::ios::binary);
  std::vector<char> buffer(1 << 18);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    piece(buffer.data(), static_cast<size_t>(in.gcount()));
  }
  if (!in.eof()) refuse(file, "it cannot be read");
}

std::string text_of(const fs::path& file, uint64_t most) {
  std::string text;
  read(file, [&](const char* data, size_t size) {
    if (text.size() + size > most) refuse(file, "it is too large");
    text.append(data, size);
  });
  return text;
}

const Json& part(const fs::path& file, const Json& manifest, const char* name, Json::Kind kind) {
  const Json* found = manifest.find(name);
  if (!found || found->kind != kind) refuse(file, std::string(name) + " is missing or of another type");
  return *found;
}

Numbers numbers(const fs::path& file, const Json& manifest, const char* name) {
  const Json& object = part(file, manifest, name, Json::Kind::OBJECT);
  Numbers result;
  for (size_t i = 0; i < object.names.size(); ++i) {
    const Json& list = object.items[i];
    std::vector<double>& values = result[object.names[i]];
    if (list.kind != Json::Kind::LIST)
      refuse(file, std::string(name) + ": " + object.names[i] + " must be a list of numbers");
    for (const Json& value : list.items) {
      if (value.kind != Json::Kind::NUMBER)
        refuse(file, std::string(name) + ": " + object.names[i] + " must be a list of numbers");
      values.push_back(value.number);
    }
  }
  return result;
}

bool is_plain(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\:") == std::string::npos &&
         std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

// Checks every file; returns the bytes of the constants.
std::string checked(const fs::path& folder, const fs::path& manifest, const Json& files) {
  std::string constants;
  for (size_t i = 0; i < files.names.size(); ++i) {
    const std::string& name = files.names[i];
    if (!is_plain(name) || files.items[i].kind != Json::Kind::TEXT)
      refuse(manifest, name + " is no name of a file in this folder");
    Sha256 sum;
    if (name == kConstants) {
      constants = text_of(folder / name, kLargestConstants);
      sum.add(constants.data(), constants.size());
    } else {
      read(folder / name, [&](const char* data, size_t size) { sum.add(data, size); });
    }
    if (sum.hex() != files.items[i].text)
      refuse(folder / name, "it is not the file that was exported: its checksum differs");
  }
  return constants;
}

}  // namespace

Folder read_folder(const std::string& path, int64_t threads) {
  std::error_code error;
  const fs::path folder(path), file = folder / "manifest.json";
  if (!fs::is_directory(folder, error)) throw std::runtime_error(path + ": there is no such folder");
  if (!fs::is_regular_file(file, error))
    throw std::runtime_error(path + ": it holds no manifest.json: give a folder that python -m chase_fast.export made");
  Json manifest;
  const std::string text = text_of(file, kLargestManifest);
  try {
    manifest = Json::parse(text);
  } catch (const std::runtime_error& e) {
    refuse(file, e.what());
  }
  const Json *by = manifest.find("exported_by"), *version = manifest.find("manifest");
  if (!by || by->text != "chase_fast" || !version || version->number != kVersion)
    refuse(file, "it is no manifest of version " + std::to_string(kVersion));

  const std::string& format = part(file, manifest, "format", Json::Kind::TEXT).text;
  if (format != "openvino" && format != "onnx") refuse(file, "its format is unknown");
  std::vector<std::string> needed = {kConstants, format == "onnx" ? "frames.onnx" : "frames.xml"};
  if (format == "openvino") needed.push_back("frames.bin");
  const Json& files = part(file, manifest, "files", Json::Kind::OBJECT);
  for (const std::string& name : needed)
    if (!files.find(name)) refuse(file, "it does not name " + name);
  const std::string constants = checked(folder, file, files);

  Arrays arrays;
  try {
    arrays = read_safetensors(constants);
  } catch (const std::runtime_error& e) {
    refuse(folder / kConstants, e.what());
  }
  std::shared_ptr<const Model> model;
  try {
    const Numbers settings = numbers(file, manifest, "settings");
    check_limits(settings);
    model = std::make_shared<const Model>(settings, numbers(file, manifest, "constants"), std::move(arrays), threads);
    check_memory(*model);
  } catch (const std::invalid_argument& e) {  // of Model
    refuse(file, e.what());
  }
  const double size = part(file, manifest, "size", Json::Kind::NUMBER).number;
  if (size != static_cast<double>(model->settings.image_size)) refuse(file, "size is not that of the settings");
  return {(folder / needed[1]).string(), std::move(model)};
}

}  // namespace chase_fast::tracker
