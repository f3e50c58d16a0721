#include "track/network.h"

#include <algorithm>
#include <openvino/openvino.hpp>
#include <stdexcept>
#include <vector>

namespace chase_fast::track {
namespace {

using Shape = std::vector<int64_t>;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw std::runtime_error(file + ": " + what + "; export again with python -m chase_fast.export");
}

std::string first_words(const std::exception& e) {
  std::string text(e.what(), std::min<size_t>(std::char_traits<char>::length(e.what()), 120));
  std::replace_if(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return text;
}

// The outputs by these names alone, for n patches.
std::shared_ptr<ov::Model> part(const ov::Model& whole, const std::vector<std::string>& names, int64_t n,
                                int64_t size) {
  const auto copy = whole.clone();
  ov::OutputVector outputs;
  for (const std::string& name : names) outputs.push_back(copy->output(name));
  auto model = std::make_shared<ov::Model>(outputs, copy->get_parameters());
  model->reshape(ov::PartialShape{n, size, size, 3});
  return model;
}

}  // namespace

struct Network::Part {
  std::string file;
  ov::InferRequest request;
  float* patches;
  Shape low, high;

  Part(const std::string& file_, ov::Core& core, const std::shared_ptr<ov::Model>& model, const ov::AnyMap& how)
      : file(file_), request(core.compile_model(model, "CPU", how).create_infer_request()) {
    patches = request.get_input_tensor().data<float>();
  }

  // Shapes as the model must have them; a negative number of channels: any.
  void check(size_t output, const std::string& name, const Shape& wanted) {
    const ov::Tensor tensor = request.get_output_tensor(output);
    const ov::Shape shape = tensor.get_shape();
    bool same = tensor.get_element_type() == ov::element::f32 && shape.size() == wanted.size();
    for (size_t i = 0; same && i < wanted.size(); ++i) same = static_cast<int64_t>(shape[i]) == wanted[i];
    if (!same) refuse(file, "its output " + name + " has another shape than the constants want");
  }

  tracker::Maps run() {
    request.infer();
    const auto map = [&](size_t output) {
      const ov::Tensor tensor = request.get_output_tensor(output);
      const ov::Shape shape = tensor.get_shape();
      return tracker::Map{tensor.data<const float>(), static_cast<int64_t>(shape[1]), static_cast<int64_t>(shape[3])};
    };
    return {request.get_output_tensor(0).data<const float>(), map(1), map(2)};
  }
};

Network::Network(const std::string& file, const tracker::Model& m, const std::string& precision) {
  ov::Core core;
  const bool bf16 = precision == "bf16";
  if (!bf16 && precision != "fp32") throw std::runtime_error("precision " + precision + " is unknown: fp32 or bf16");
  const auto able = core.get_property("CPU", ov::device::capabilities);
  if (bf16 && std::find(able.begin(), able.end(), ov::device::capability::BF16) == able.end())
    throw std::runtime_error("precision bf16: OpenVINO has no bfloat16 on this processor, use fp32");

  const ov::AnyMap how = {ov::hint::inference_precision(bf16 ? ov::element::bf16 : ov::element::f32),
                          ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                          ov::inference_num_threads(static_cast<int>(m.threads))};
  const int64_t n = m.settings.copies(), size = m.settings.image_size, side = m.feature_side();
  try {
    const auto whole = core.read_model(file);
    if (whole->inputs().size() != 1 || !whole->input().get_partial_shape().compatible({n, size, size, 3}))
      throw std::runtime_error("it is not for " + std::to_string(n) + " patches of the size in the manifest");
    const auto make = [&](const std::vector<std::string>& names, int64_t count) {
      return std::make_unique<Part>(file, core, part(*whole, names, count, size), how);
    };
    first_ = make({"features", "reference_low", "reference_high"}, n);
    later_ = make({"features", "low", "high"}, 1);
  } catch (const std::exception& e) {
    refuse(file, "OpenVINO cannot use it (" + first_words(e) + ")");
  }
  first_->check(0, "features", {n, m.channels, side, side});
  first_->check(1, "reference_low", {n, 2 * side, 2 * side, m.fc3_1r.inputs / 9});
  first_->check(2, "reference_high", {n, side, side, m.fc34_3r.inputs - m.fc3_1r.outputs});
  later_->check(0, "features", {1, m.channels, side, side});
  later_->check(1, "low", {1, 2 * side, 2 * side, m.head[0].channels});
  later_->check(2, "high", {1, side, side, m.head[1].channels});
}

Network::~Network() = default;

float* Network::first_patches() { return first_->patches; }
float* Network::patch() { return later_->patches; }
tracker::Maps Network::first() { return first_->run(); }
tracker::Maps Network::later() { return later_->run(); }

}  // namespace chase_fast::track
