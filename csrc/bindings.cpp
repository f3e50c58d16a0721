// Every native function on one screen. Python owns all arrays; kernels write into outputs it allocated.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "cpu/conv3x3.h"
#include "cpu/isa.h"
#include "cpu/node_sum.h"
#include "cpu/prroi_pool.h"
#include "view.h"
#ifdef CHASE_FAST_WITH_CUDA
#include "cuda/node_sum.h"
#include "cuda/prroi_pool.h"
#endif

namespace py = pybind11;
using namespace chase_fast;

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

PYBIND11_MODULE(chase_fast_C, m) {
  m.attr("__version__") = CHASE_FAST_VERSION;
  m.def("build_info", &build_info, "What this binary was built with and what this processor can run.");

  py::class_<TensorView>(m, "TensorView")
      .def(py::init<std::uintptr_t, int, std::vector<int64_t>, std::vector<int64_t>>(), py::arg("pointer"),
           py::arg("dtype"), py::arg("sizes"), py::arg("strides"));

  const auto nogil = py::call_guard<py::gil_scoped_release>();
  m.def("cpu_conv3x3_input", &cpu::conv3x3_input, nogil);
  m.def("cpu_conv3x3_output", &cpu::conv3x3_output, nogil);
  m.def("cpu_node_sum", &cpu::node_sum, nogil);
  m.def("cpu_node_sum_backward", &cpu::node_sum_backward, nogil);
  m.def("cpu_prroi_pool", &cpu::prroi_pool, nogil);
  m.def("cpu_prroi_pool_backward_features", &cpu::prroi_pool_backward_features, nogil);
  m.def("cpu_prroi_pool_backward_rois", &cpu::prroi_pool_backward_rois, nogil);
#ifdef CHASE_FAST_WITH_CUDA
  m.def("cuda_node_sum", &cuda::node_sum, nogil);
  m.def("cuda_node_sum_backward", &cuda::node_sum_backward, nogil);
  m.def("cuda_prroi_pool", &cuda::prroi_pool, nogil);
  m.def("cuda_prroi_pool_backward_features", &cuda::prroi_pool_backward_features, nogil);
  m.def("cuda_prroi_pool_backward_rois", &cuda::prroi_pool_backward_rois, nogil);
#endif
}
