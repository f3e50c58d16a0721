#include "tracker/bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>

#include "tracker/target.h"
#include "view.h"

namespace py = pybind11;

namespace chase_fast::tracker {
namespace {

using Floats = py::array_t<float, py::array::c_style>;

void check_floats(const py::array& array, const char* what) {
  check(py::isinstance<Floats>(array), std::string(what) + " must be a contiguous float32 array");
}

Frame frame_of(const py::array& array) {
  check(py::isinstance<py::array_t<uint8_t>>(array) && array.ndim() == 3 && array.shape(2) == 3 &&
            array.strides(2) == 1 && array.strides(1) == 3 && array.shape(0) > 0 && array.shape(1) > 0,
        "frame must be uint8 [H, W, 3] with packed pixels");
  return {static_cast<const uint8_t*>(array.data()), array.shape(0), array.shape(1), array.strides(0)};
}

Map map_of(const py::array& array, const char* what) {
  check_floats(array, what);
  check(array.ndim() == 3 && array.shape(0) == array.shape(1), std::string(what) + " must be [side, side, channels]");
  return {static_cast<const float*>(array.data()), array.shape(0), array.shape(2)};
}

// Features [n, C, h, w] and maps of a model.
Maps maps_of(const Model& model, int64_t n, const py::array& features, const py::array& low, const py::array& high) {
  check_floats(features, "features");
  const int64_t side = model.feature_side();
  check(features.ndim() == 4 && features.shape(0) == n && features.shape(1) == model.channels &&
            features.shape(2) == side && features.shape(3) == side,
        "features must be [" + std::to_string(n) + ", " + std::to_string(model.channels) + ", " + std::to_string(side) +
            ", " + std::to_string(side) + "]");
  return {static_cast<const float*>(features.data()), map_of(low, "low"), map_of(high, "high")};
}

struct PyTarget {
  std::shared_ptr<Model> model;
  Target target;
  bool first = false, learned = false, looked = false;

  PyTarget(std::shared_ptr<Model> model_, int64_t seed, int64_t number) : model(model_), target(model_, seed, number) {}

  py::array look_first(const py::array& frame, const Rect& box) {
    const int64_t size = model->settings.image_size;
    Floats patches({target.first_patches(), size, size, int64_t{3}});
    const Frame pixels = frame_of(frame);
    float* to = patches.mutable_data();
    {
      py::gil_scoped_release nogil;
      target.first(pixels, box, to);
    }
    first = true;
    return patches;
  }

  void learn_first(const py::array& features, const py::array& low, const py::array& high) {
    check(first, "learn_first comes after first");
    const Maps maps = maps_of(*model, target.first_patches(), features, low, high);
    check(maps.low.channels * 9 == model->fc3_1r.inputs, "low has the wrong channels");
    check(maps.high.channels + model->fc3_1r.outputs == model->fc34_3r.inputs, "high has the wrong channels");
    py::gil_scoped_release nogil;
    target.learn_first(maps);
    learned = true;
  }

  void look(const py::array& frame, py::array& patch) {
    check(learned, "look comes after learn_first");
    check_floats(patch, "patch");
    const int64_t size = model->settings.image_size;
    check(patch.ndim() == 3 && patch.shape(0) == size && patch.shape(1) == size && patch.shape(2) == 3,
          "patch must be [size, size, 3]");
    const Frame pixels = frame_of(frame);
    float* to = static_cast<float*>(patch.mutable_data());
    py::gil_scoped_release nogil;
    target.look(pixels, to);
    looked = true;
  }

  std::tuple<Rect, float, int, bool> find(const py::array& features, const py::array& low, const py::array& high) {
    check(looked, "find comes after look");
    const Maps maps = maps_of(*model, 1, features, low, high);
    check(maps.low.channels == model->head[0].channels && maps.high.channels == model->head[1].channels,
          "low or high has the wrong channels");
    py::gil_scoped_release nogil;
    looked = false;
    const Result r = target.find(maps);
    return {r.box, r.score, static_cast<int>(r.state), r.finite};
  }
};

std::shared_ptr<Model> make_model(const Numbers& settings, const Numbers& constants,
                                  const std::map<std::string, py::array>& given, int64_t threads) {
  Arrays arrays;
  for (const auto& [name, array] : given) {
    check_floats(array, name.c_str());
    const float* values = static_cast<const float*>(array.data());
    arrays[name] = {{array.shape(), array.shape() + array.ndim()}, {values, values + array.size()}};
  }
  return std::make_shared<Model>(settings, constants, std::move(arrays), threads);
}

}  // namespace

void bind(py::module_& module) {
  py::class_<Model, std::shared_ptr<Model>>(module, "TrackerModel")
      .def(py::init(&make_model), py::arg("settings"), py::arg("constants"), py::arg("arrays"), py::arg("threads"));
  py::class_<PyTarget>(module, "TrackerTarget")
      .def(py::init<std::shared_ptr<Model>, int64_t, int64_t>(), py::arg("model"), py::arg("seed"), py::arg("number"))
      .def("first", &PyTarget::look_first)
      .def("learn_first", &PyTarget::learn_first)
      .def("look", &PyTarget::look)
      .def("find", &PyTarget::find)
      .def("move", [](PyTarget& t, const Rect& box) { t.target.move(box); })
      .def_property_readonly("filter", [](const PyTarget& t) { return t.target.filter(); })
      .def_property_readonly("modulation", [](const PyTarget& t) { return t.target.modulation(); });
}

}  // namespace chase_fast::tracker
