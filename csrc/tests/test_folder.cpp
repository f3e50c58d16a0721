#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "tests/check.h"
#include "tests/refused.h"
#include "tracker/folder.h"
#include "tracker/safetensors.h"
#include "tracker/sha256.h"

namespace chase_fast::tests {
namespace {

namespace fs = std::filesystem;
using tracker::Arrays;

const std::string kSettings =
    R"("image_size": [64.0], "search_area": [5], "border": [1], "max_scale_change": [], "integer_window": [0],
"half_pixel_offset": [0], "thinning_offset": [0], "first_box_offset": [0], "shrink_first": [1], "score_after": [0],
"keep_position": [0], "lost_outside": [1], "smallest_side": [2], "largest_side": [1], "init_iterations": [2],
"update_iterations": [1], "hard_negative_iterations": [1], "update_interval": [20], "flip": [1], "blurs": [3, 1],
"rotations": [10, -10], "shifts": [0.5, 0.5], "random_shift": [0.3], "expansion": [2], "dropouts": [0.2],
"memory": [50], "learning_rate": [0.01], "hard_negative_rate": [0.02], "init_weight": [0.25], "softmax": [1],
"lost_below": [0.04], "distractor_above": [0.8], "hard_negative_above": [0.5], "neighbourhood": [2.2],
"displacement": [0.8], "relative": [1], "random_boxes": [9], "position_jitter": [0.1], "size_jitter": [0.5],
"refine_iterations": [2], "step": [0.0025, 0.0025], "step_decay": [1], "best_boxes": [3], "max_aspect": [6],
"inside_ratio": [0.2])";
const std::string kConstants =
    R"("channels": [2], "filter_size": [4], "prdimp": [1], "log_step_length": [0], "filter_reg": [0.1],
"min_filter_reg": [0.001], "alpha_eps": [0.05], "softmax_reg": [], "sigma": [0.9], "label_threshold": [0],
"normalize_label": [0], "uniform_weight": [0], "label_shrink": [0], "pool_channels": [3], "hidden": [4],
"reference_low": [2], "reference_high": [3], "fc3_1r": [5])";

Arrays arrays() {
  Arrays all;
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (int64_t n : shape) count *= n;
    all[name] = {std::move(shape), std::vector<float>(static_cast<size_t>(count), 0.5f)};
  };
  add("initializer.weight", {2, 18}), add("initializer.bias", {2});
  add("fc3_1r.weight", {5, 18}), add("fc3_1r.bias", {5});
  for (const char* name : {"fc34_3r", "fc34_4r"})
    add((std::string(name) + ".weight").c_str(), {3, 8}), add((std::string(name) + ".bias").c_str(), {3});
  for (const char* name : {"fc3_rt", "fc4_rt"}) {
    const int64_t bins = name[2] == '3' ? 25 : 9;
    add((std::string(name) + ".weight").c_str(), {4, 3 * bins});
    add((std::string(name) + ".bias").c_str(), {4}), add((std::string(name) + ".out").c_str(), {4});
  }
  add("head_bias", {1});
  return all;
}

std::string whole(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

std::string safetensors(const Arrays& all) {
  std::string header = R"({"__metadata__": {"made": "here"})", data;
  for (const auto& [name, array] : all) {
    std::string shape;
    for (int64_t n : array.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(n);
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(array.values.data()), array.values.size() * sizeof(float));
    header += ", \"" + name + R"(": {"dtype": "F32", "shape": [)" + shape + R"(], "data_offsets": [)" +
              std::to_string(begin) + ", " + std::to_string(data.size()) + "]}";
  }
  return whole(header + "}", data);
}

struct Made {
  fs::path path = fs::temp_directory_path() / ("chase_fast_" + std::to_string(::getpid()));
  std::string settings = kSettings, constants = kConstants, more = R"("size": 64, "note": [null, {"a": "\u00e9"}])";
  std::map<std::string, std::string> files = {{"frames.xml", "<net/>"}, {"frames.bin", "weights"}};

  Made() { files["constants.safetensors"] = safetensors(arrays()); }
  ~Made() {
    std::error_code error;
    fs::remove_all(path, error);
  }
  void put(const std::string& name, const std::string& data) const {
    std::ofstream(path / name, std::ios::binary) << data;
  }
  std::string manifest(const std::string& version = "2", const std::string& format = "openvino") const {
    std::string sums;
    for (const auto& [name, data] : files) {
      tracker::Sha256 sum;
      sum.add(data.data(), data.size());
      sums += (sums.empty() ? "\"" : ", \"") + name + "\": \"" + sum.hex() + "\"";
    }
    return R"({"exported_by": "chase_fast", "manifest": )" + version + R"(, "format": ")" + format + R"(", )" + more +
           R"(, "settings": {)" + settings + R"(}, "constants": {)" + constants + R"(}, "files": {)" + sums + "}}";
  }
  void write() const {
    fs::create_directories(path);
    for (const auto& [name, data] : files) put(name, data);
    put("manifest.json", manifest());
  }
  void expect(const std::string& message) const {
    refused([&] { tracker::read_folder(path.string(), 1); }, message, message);
    refused([&] { tracker::read_folder(path.string(), 1); }, message, "export again with python -m chase_fast.export");
  }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) fail(from, " is not there");
  return text.replace(at, from.size(), to);
}

void known() {
  const std::pair<const char*, const char*> headers[] = {
      {R"({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 8]}})", "its type must be F32"},
      {R"({"a": {"shape": [2], "data_offsets": [0, 8]}})", "its type must be F32"},
      {R"({"a": 3})", "its type must be F32"},
      {R"({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}})", "its shape is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}})", "its shape is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 8]}})", "its shape is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})", "its shape is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [1e18], "data_offsets": [0, 8]}})", "its shape is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [8, 8, 8, 8, 8, 8, 8, 8], "data_offsets": [0, 8]}})", "larger than the file"},
      {R"({"a": {"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,2], "data_offsets": [0, 8]}})", "its shape is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}})", "does not fit its range"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 12]}})", "outside the file"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}})", "outside the file"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}})", "outside the file"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}})", "its range is damaged"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}})", "leaves a hole"},
      {R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
           "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})",
       "overlaps another"},
      {R"({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})", "belong to no array"},
      {R"({})", "belong to no array"},
      {R"([])", "no object"},
      {R"({"a": )", "no JSON"},
  };
  const std::string data(8, '\0');
  for (const auto& [header, message] : headers)
    refused([header = header, &data] { tracker::read_safetensors(whole(header, data)); }, header, message);
  refused([] { tracker::read_safetensors("1234567"); }, "seven bytes", "ends in its header");
  for (const char* length : {"\xff\xff\xff\xff\xff\xff\xff\xff", "\x09\0\0\0\0\0\0\0"})
    refused([&] { tracker::read_safetensors(std::string(length, 8) + "{}"); }, "a wrong length",
            "length of its header");
  const std::string nan =
      whole(R"({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})", std::string(8, '\xff'));
  refused([&] { tracker::read_safetensors(nan); }, "NaN", "it holds NaN");

  Made made;
  made.write();
  const auto folder = tracker::read_folder(made.path.string(), 3);
  if (folder.network != (made.path / "frames.xml").string() || folder.model->threads != 3 ||
      folder.model->settings.image_size != 64 || folder.model->channels != 2 || folder.model->head[1].weight[0] != 0.5f)
    fail("a sound folder is read wrongly");
  const std::string sound = made.manifest();

  made.put("frames.bin", "weightz");
  made.expect("frames.bin: it is not the file that was exported: its checksum differs");
  fs::remove(made.path / "frames.bin");
  made.expect("frames.bin: it is missing");
  made.put("frames.bin", "weights");
  const std::tuple<std::string, std::string, const char*> manifests[] = {
      {"\"manifest\": 2", "\"manifest\": 1", "it is no manifest of version 2"},
      {"\"manifest\": 2", "\"manifest\": \"2\"", "it is no manifest of version 2"},
      {"chase_fast", "other", "it is no manifest of version 2"},
      {"\"openvino\"", "\"onnx\"", "it does not name frames.onnx"},
      {"\"openvino\"", "\"tensorrt\"", "its format is unknown"},
      {"\"openvino\"", "3", "format is missing or of another type"},
      {"\"files\": {", "\"files\": {\"../x\": \"0\", ", "is no name of a file in this folder"},
      {"\"files\": {", "\"files\": {\"a\\nb\": \"0\", ", "is no name of a file in this folder"},
      {"\"size\": 64", "\"size\": 80", "size is not that of the settings"},
      {"\"size\": 64", "\"size\": true", "size is missing or of another type"},
      {"\"settings\"", "\"setings\"", "settings is missing or of another type"},
      {"\"image_size\": [64.0]", "\"image_size\": 64", "settings: image_size must be a list of numbers"},
      {"\"image_size\": [64.0]", "\"image_size\": [\"64\"]", "settings: image_size must be a list of numbers"},
      {"\"image_size\": [64.0]", "\"image_size\": [64, 64]", "image_size must be one number"},
      {"\"image_size\": [64.0]", "\"image_size\": [1e9]", "settings: image_size is out of range"},
      {"\"image_size\"", "\"image_sise\"", "image_size is missing"},
      {"\"memory\": [50]", "\"memory\": [10000], \"x\": [1]", "x is unknown"},
      {"\"rotations\": [10, -10]", "\"rotations\": [10, 1e300]", "settings: rotations is out of range"},
      {"\"channels\": [2]", "\"channels\": [65536]", "array initializer.weight must be"},
      {"\"channels\": [2]", "\"channels\": [-1]", "channels must be a whole number"},
      {"{", "", "no JSON"},
  };
  for (const auto& [from, to, message] : manifests) {
    made.put("manifest.json", replaced(sound, from, to));
    made.expect(message);
  }
  std::string copies = "[10";
  for (int i = 0; i < 100; ++i) copies += ", 10";
  made.put("manifest.json", replaced(replaced(sound, "\"rotations\": [10, -10", "\"rotations\": " + copies),
                                     "\"memory\": [50]", "\"memory\": [500]"));
  made.expect("too many copies");
  made.put("manifest.json", std::string((1 << 22) + 1, ' '));
  made.expect("it is too large");
  fs::remove(made.path / "manifest.json");
  refused([&] { tracker::read_folder(made.path.string(), 1); }, "no manifest", "it holds no manifest.json");
  refused([&] { tracker::read_folder("/nowhere", 1); }, "no folder", "/nowhere: there is no such folder");
}

}  // namespace

void test_folder(Random& random) {
  static const bool once = (known(), true);
  (void)once;
  const std::string sound = safetensors(arrays());
  if (tracker::read_safetensors(sound).size() != arrays().size()) fail("a sound file is read wrongly");
  const auto damaged = [&](std::string bytes, int64_t end) {
    const size_t at = static_cast<size_t>(random.integer(0, end - 1));
    if (random.chance(0.2))
      bytes.resize(at);
    else
      bytes[at] = static_cast<char>(random.integer(0, 255));
    return bytes;
  };
  for (int i = 0; i < 20; ++i) {
    const std::string bytes = damaged(sound, 1200);  // the header
    read_or_refused([&] { tracker::read_safetensors(bytes); }, "damage");
  }
  Made made;
  made.write();
  const std::string manifest = made.manifest();
  for (int i = 0; i < 10; ++i) {
    made.put("manifest.json", damaged(manifest, static_cast<int64_t>(manifest.size())));
    read_or_refused([&] { tracker::read_folder(made.path.string(), 1); }, "damage");
  }
}

}  // namespace chase_fast::tests
