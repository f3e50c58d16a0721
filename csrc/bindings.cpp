// Every native function on one screen. Python owns all arrays; kernels write into outputs it allocated.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <optional>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "cpu/batch_norm.h"
#include "cpu/conv3x3.h"
#include "cpu/crop.h"
#include "cpu/depthwise.h"
#include "cpu/isa.h"
#include "cpu/jpeg.h"
#include "cpu/kl_loss.h"
#include "cpu/node_sum.h"
#include "cpu/pool.h"
#include "cpu/prroi_linear.h"
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

// A step makes and frees the same maps as the one before. glibc would give such memory back to the kernel and fault it
// in again page by page (measured 3 to 7 % of a step): up to 256 MiB of freed memory stay with the process.
static void keep_freed_memory() {
#ifdef __GLIBC__
  if (!std::getenv("MALLOC_MMAP_THRESHOLD_")) mallopt(M_MMAP_THRESHOLD, 32 << 20);
  if (!std::getenv("MALLOC_TRIM_THRESHOLD_")) mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

PYBIND11_MODULE(chase_fast_C, m) {
  keep_freed_memory();
  m.attr("__version__") = CHASE_FAST_VERSION;
  m.def("build_info", &build_info, "What this binary was built with and what this processor can run.");

  py::class_<TensorView>(m, "TensorView")
      .def(py::init<std::uintptr_t, int, std::vector<int64_t>, std::vector<int64_t>>(), py::arg("pointer"),
           py::arg("dtype"), py::arg("sizes"), py::arg("strides"));

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
  m.def("cpu_prroi_linear_ranges", &cpu::prroi_linear_ranges, nogil);
  m.def("cpu_prroi_linear", &cpu::prroi_linear, nogil);
  m.def("cpu_prroi_linear_backward_rois", &cpu::prroi_linear_backward_rois, nogil);
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
#ifdef CHASE_FAST_WITH_CUDA
  m.def("cuda_node_sum", &cuda::node_sum, nogil);
  m.def("cuda_node_sum_backward", &cuda::node_sum_backward, nogil);
  m.def("cuda_prroi_pool", &cuda::prroi_pool, nogil);
  m.def("cuda_prroi_pool_backward_features", &cuda::prroi_pool_backward_features, nogil);
  m.def("cuda_prroi_pool_backward_rois", &cuda::prroi_pool_backward_rois, nogil);
#endif
}
