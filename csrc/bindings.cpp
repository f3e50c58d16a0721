// Every native function on one screen. Python owns all arrays; kernels write into outputs it allocated.
#include "tracker/bindings.h"

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cpu/batch_norm.h"
#include "cpu/conv3x3.h"
#include "cpu/crop.h"
#include "cpu/depthwise.h"
#include "cpu/isa.h"
#include "cpu/jpeg.h"
#include "cpu/kl_loss.h"
#include "cpu/node_sum.h"
#include "cpu/pool.h"
#include "cpu/pooled_linear.h"
#include "cpu/prroi_pool.h"
#include "cpu/separable_stack.h"
#include "cpu/target_filter.h"
#include "view.h"
#ifdef CHASE_FAST_WITH_CUDA
#include "cuda/node_sum.h"
#include "cuda/prroi_pool.h"
#endif

namespace py = pybind11;
using namespace chase_fast;

// A torch.Tensor is taken as a TensorView, by its Python interface. The call holds the tensor while it runs.
namespace pybind11::detail {
template <>
struct type_caster<TensorView> {
  PYBIND11_TYPE_CASTER(TensorView, const_name("torch.Tensor"));

  bool load(handle tensor, bool) {
    const Known& known = Known::get();
    const auto call = [&](const object& method) {
      PyObject* result = PyObject_CallMethodNoArgs(tensor.ptr(), method.ptr());
      if (!result) throw error_already_set();
      return reinterpret_steal<object>(result);
    };
    if (!hasattr(tensor, known.data_ptr)) return false;
    const object type = tensor.attr(known.dtype);
    const auto found = std::find(known.dtypes.begin(), known.dtypes.end(), type.ptr());
    if (found == known.dtypes.end()) throw type_error("no native kernel takes " + std::string(str(type)));
    value = TensorView(call(known.data_ptr).cast<std::uintptr_t>(), static_cast<int>(found - known.dtypes.begin()),
                       numbers(tensor.attr(known.shape)), numbers(call(known.stride)));
    return true;
  }

 private:
  // Python objects that every call needs, made by the first one and kept: a destructor at exit would come after the
  // interpreter.
  struct Known {
    object data_ptr = interned("data_ptr"), dtype = interned("dtype"), shape = interned("shape"),
           stride = interned("stride");
    std::array<PyObject*, 6> dtypes = [] {  // in the order of DType; torch keeps them for ever
      const module_ torch = module_::import("torch");
      return std::array{torch.attr("float32").ptr(), torch.attr("float64").ptr(), torch.attr("bfloat16").ptr(),
                        torch.attr("uint8").ptr(),   torch.attr("int32").ptr(),   torch.attr("int64").ptr()};
    }();

    static const Known& get() {
      PYBIND11_CONSTINIT static gil_safe_call_once_and_store<Known> storage;
      return storage.call_once_and_store_result([] { return Known{}; }).get_stored();
    }

    static object interned(const char* text) { return reinterpret_steal<object>(PyUnicode_InternFromString(text)); }
  };

  static std::vector<int64_t> numbers(const tuple& from) {
    std::vector<int64_t> to(from.size());
    for (size_t i = 0; i < to.size(); ++i) to[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(from.ptr(), i));
    return to;
  }
};
}  // namespace pybind11::detail

static py::dict build_info() {
  py::dict info;
  info["version"] = CHASE_FAST_VERSION;
  info["compiler"] = __VERSION__;
#ifdef CHASE_FAST_WITH_CUDA
  info["cuda"] = CHASE_FAST_CUDA_VERSION;
  info["cuda_archs"] = CHASE_FAST_CUDA_ARCHS;
#else
  info["cuda"] = py::none();
  info["cuda_archs"] = py::none();
#endif
  info["isa"] = name(isa());
  return info;
}

// Safe without the GIL: the module's only state is `Known`, made once; kernels share nothing but the output that the
// caller gives to one call at a time.
PYBIND11_MODULE(chase_fast_C, m, py::mod_gil_not_used()) {
  m.attr("__version__") = CHASE_FAST_VERSION;
  m.def("build_info", &build_info, "What this binary was built with and what this processor can run.");

  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("cpu_kl_loss", &cpu::kl_loss, nogil);
  m.def("cpu_kl_loss_backward", &cpu::kl_loss_backward, nogil);
  m.def("cpu_depthwise", &cpu::depthwise, nogil);
  m.def("cpu_depthwise_backward", &cpu::depthwise_backward, nogil);
  m.def("cpu_batch_norm_backward", &cpu::batch_norm_backward, nogil);
  m.def("cpu_separable_stack", &cpu::separable_stack, nogil);
  m.def("cpu_separable_stack_backward", &cpu::separable_stack_backward, nogil);
  m.def("cpu_pool_norm", &cpu::pool_norm, nogil);
  m.def("cpu_pool_norm_backward", &cpu::pool_norm_backward, nogil);
  m.def("cpu_crop", &cpu::crop, nogil);
  m.def("cpu_jpeg_size", &cpu::jpeg_size, nogil);
  m.def("cpu_jpeg_part", &cpu::jpeg_part, nogil);
  m.def("cpu_conv3x3", &cpu::conv3x3, nogil);
  m.def("cpu_node_sum", &cpu::node_sum, nogil);
  m.def("cpu_node_sum_backward", &cpu::node_sum_backward, nogil);
  m.def("cpu_pooled_linear_ranges", &cpu::pooled_linear_ranges, nogil);
  m.def("cpu_pooled_linear", &cpu::pooled_linear, nogil);
  m.def("cpu_pooled_linear_backward_rois", &cpu::pooled_linear_backward_rois, nogil);
  m.def("cpu_prroi_pool", &cpu::prroi_pool, nogil);
  m.def("cpu_prroi_pool_backward_features", &cpu::prroi_pool_backward_features, nogil);
  m.def("cpu_prroi_pool_backward_rois", &cpu::prroi_pool_backward_rois, nogil);
  py::class_<cpu::SolverConstants>(m, "SolverConstants")
      .def(py::init([](double min_filter_reg, double alpha_eps, std::optional<double> softmax_reg) {
             return cpu::SolverConstants{min_filter_reg, alpha_eps, softmax_reg.has_value(), softmax_reg.value_or(0)};
           }),
           py::arg("min_filter_reg"), py::arg("alpha_eps"), py::arg("softmax_reg"));
  m.def("cpu_target_filter_apply", &cpu::target_filter_apply, nogil);
  m.def("cpu_target_filter_apply_transpose", &cpu::target_filter_apply_transpose, nogil);
  m.def("cpu_target_filter_unfold", &cpu::target_filter_unfold, nogil);
  m.def("cpu_target_filter_solve", &cpu::target_filter_solve, nogil);
  m.def("cpu_target_filter_solve_backward", &cpu::target_filter_solve_backward, nogil);
  tracker::bind(m);
#ifdef CHASE_FAST_WITH_CUDA
  m.def("cuda_node_sum", &cuda::node_sum, nogil);
  m.def("cuda_node_sum_backward", &cuda::node_sum_backward, nogil);
  m.def("cuda_prroi_pool", &cuda::prroi_pool, nogil);
  m.def("cuda_prroi_pool_backward_features", &cuda::prroi_pool_backward_features, nogil);
  m.def("cuda_prroi_pool_backward_rois", &cuda::prroi_pool_backward_rois, nogil);
#endif
}
