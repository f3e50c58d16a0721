// prroi_pool on CUDA; formula: kernels/prroi_pool/__init__.py, derivation of the gradients: cpu/prroi_pool.cpp.
//   forward, box gradient   one block per bin, threads along the channels (NHWC reads are coalesced); the box
//                           gradient leaves four partial sums per bin, a second kernel adds them per box.
//   feature gradient        one block per pixel, gathering from the image's boxes in sorted order.
// No atomics; block sums run over a fixed tree.
#include "cuda/launch.h"
#include "cuda/prroi_pool.h"

namespace chase_fast::cuda {
namespace {

constexpr int kThreads = 128;

struct Shape {
  int64_t images, channels, height, width, boxes, rows, columns;
};

template <class T>
__device__ T quiet_nan() {
  return T(__longlong_as_double(0x7ff8000000000000LL));
}

template <class T>
__device__ T hat_integral(T u) {
  const T v = min(max(u, T(-1)), T(1));
  return T(0.5) + v - T(0.5) * v * abs(v);
}

template <class T>
__device__ T hat(T u) {
  return max(T(0), T(1) - abs(u));
}

template <class T>
__device__ int first_cell(T u, int64_t cells) {
  return static_cast<int>(min(max(floor(u), T(0)), T(cells)));
}

// One bin on one axis of a box, in feature cells.
template <class T>
struct Interval {
  T size, low, high;  // of the box; edges of the bin
  int begin, end;     // cells with a weight other than 0

  __device__ Interval(T start, T stop, int64_t bin, int64_t bins, int64_t cells) {
    size = stop < start ? T(0) : stop - start;
    low = start + size * (T(bin) / T(bins));
    high = start + size * (T(bin + 1) / T(bins));
    begin = first_cell(low, cells);
    end = first_cell(high + T(2), cells);
  }

  __device__ T weight(int cell) const { return hat_integral(high - T(cell)) - hat_integral(low - T(cell)); }
};

template <class T>
struct Bin {
  Interval<T> y, x;

  __device__ Bin(const T* roi, T scale, const Shape& s, int64_t p, int64_t q)
      : y(roi[2] * scale, roi[4] * scale, p, s.rows, s.height),
        x(roi[1] * scale, roi[3] * scale, q, s.columns, s.width) {}

  // 1 / area; 0 for a box without area, NaN for NaN coordinates.
  __device__ T per_area(const Shape& s) const {
    const T area = (y.size / T(s.rows)) * (x.size / T(s.columns));
    return area > 0 ? T(1) / area : area * T(0);
  }
};

template <class T>
__device__ int64_t image_of(const T* roi, const Shape& s) {
  return roi[0] >= 0 && roi[0] < T(s.images) ? static_cast<int64_t>(roi[0]) : -1;
}

template <class T>
__global__ void prroi_pool_fwd_kernel(const T* __restrict__ features, const T* __restrict__ rois, T* __restrict__ out,
                                      Shape s, T scale) {
  const int64_t bins = s.rows * s.columns, r = blockIdx.x / bins, bin = blockIdx.x % bins;
  const T* roi = rois + 5 * r;
  const Bin<T> b(roi, scale, s, bin / s.columns, bin % s.columns);
  const int64_t image = image_of(roi, s);
  const T per_area = image < 0 ? quiet_nan<T>() : b.per_area(s);
  const bool empty = image < 0 || per_area == 0;
  for (int64_t c = threadIdx.x; c < s.channels; c += kThreads) {
    T sum = 0;
    for (int i = empty ? b.y.end : b.y.begin; i < b.y.end; ++i) {
      const T* row = features + (image * s.height + i) * s.width * s.channels + c;
      T row_sum = 0;
      for (int j = b.x.begin; j < b.x.end; ++j) row_sum += b.x.weight(j) * row[j * s.channels];
      sum += b.y.weight(i) * row_sum;
    }
    out[(r * s.channels + c) * bins + bin] = sum * per_area;
  }
}

template <class T>
__global__ void prroi_pool_bwd_features_kernel(const T* __restrict__ grad, const T* __restrict__ rois,
                                               const int64_t* __restrict__ order, const int64_t* __restrict__ first,
                                               T* __restrict__ grad_features, Shape s, T scale) {
  const int64_t pixel = blockIdx.x, n = pixel / (s.height * s.width);
  const int i = pixel / s.width % s.height, j = pixel % s.width;
  const int64_t bins = s.rows * s.columns;
  for (int64_t c = threadIdx.x; c < s.channels; c += kThreads) {
    T sum = 0;
    for (int64_t k = first[n]; k < first[n + 1]; ++k) {
      const int64_t r = order[k];
      const T* roi = rois + 5 * r;
      const T per_area = Bin<T>(roi, scale, s, 0, 0).per_area(s);
      if (per_area == 0) continue;
      const T* g = grad + (r * s.channels + c) * bins;
      T box_sum = 0;
      for (int64_t p = 0; p < s.rows; ++p) {
        const Interval<T> y(roi[2] * scale, roi[4] * scale, p, s.rows, s.height);
        if (i < y.begin || i >= y.end) continue;
        const T wy = y.weight(i);
        for (int64_t q = 0; q < s.columns; ++q) {
          const Interval<T> x(roi[1] * scale, roi[3] * scale, q, s.columns, s.width);
          if (j >= x.begin && j < x.end) box_sum += wy * x.weight(j) * g[p * s.columns + q];
        }
      }
      sum += box_sum * per_area;
    }
    grad_features[pixel * s.channels + c] = sum;
  }
}

// Sum over the block in every thread's order: a fixed tree.
template <class T>
__device__ T block_sum(T value, T* shared) {
  shared[threadIdx.x] = value;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  __syncthreads();
  const T total = shared[0];
  __syncthreads();
  return total;
}

// partial[r, bin] = d loss / d (left, top, right, bottom) of the bin, in feature cells.
template <class T>
__global__ void prroi_pool_bwd_rois_kernel(const T* __restrict__ grad, const T* __restrict__ features,
                                           const T* __restrict__ rois, const T* __restrict__ out,
                                           T* __restrict__ partial, Shape s, T scale) {
  __shared__ T shared[kThreads];
  const int64_t bins = s.rows * s.columns, r = blockIdx.x / bins, bin = blockIdx.x % bins;
  const T* roi = rois + 5 * r;
  const Bin<T> b(roi, scale, s, bin / s.columns, bin % s.columns);
  const int64_t image = image_of(roi, s);
  const T per_area = image < 0 ? quiet_nan<T>() : b.per_area(s);
  T edge[4] = {0, 0, 0, 0};
  if (image < 0 || per_area != per_area) {
    for (T& e : edge) e = quiet_nan<T>();
  } else if (per_area != 0) {
    const T* f = features + image * s.height * s.width * s.channels;
    const T width = b.x.size / T(s.columns), height = b.y.size / T(s.rows);
    for (int64_t c = threadIdx.x; c < s.channels; c += kThreads) {
      const T g = grad[(r * s.channels + c) * bins + bin], value = out[(r * s.channels + c) * bins + bin];
      T line[4] = {0, 0, 0, 0};  // integrals of F along the four sides
      for (int side = 0; side < 2; ++side) {
        const T u = side ? b.x.high : b.x.low;
        for (int j = first_cell(u, s.width); j < first_cell(u + T(2), s.width); ++j)
          for (int i = b.y.begin; i < b.y.end; ++i)
            line[2 * side] += hat(u - T(j)) * b.y.weight(i) * f[(i * s.width + j) * s.channels + c];
        const T v = side ? b.y.high : b.y.low;
        for (int i = first_cell(v, s.height); i < first_cell(v + T(2), s.height); ++i)
          for (int j = b.x.begin; j < b.x.end; ++j)
            line[2 * side + 1] += hat(v - T(i)) * b.x.weight(j) * f[(i * s.width + j) * s.channels + c];
      }
      edge[0] += g * (value / width - line[0] * per_area);
      edge[1] += g * (value / height - line[1] * per_area);
      edge[2] += g * (line[2] * per_area - value / width);
      edge[3] += g * (line[3] * per_area - value / height);
    }
  }
  for (int k = 0; k < 4; ++k) {
    const T total = block_sum(edge[k], shared);
    if (threadIdx.x == 0) partial[blockIdx.x * 4 + k] = total;
  }
}

template <class T>
__global__ void prroi_pool_bwd_corners_kernel(const T* __restrict__ partial, T* __restrict__ grad_rois, Shape s,
                                              T scale) {
  const int64_t r = blockIdx.x * int64_t(kThreads) + threadIdx.x;
  if (r >= s.boxes) return;
  T corner[4] = {0, 0, 0, 0};
  for (int64_t p = 0; p < s.rows; ++p)
    for (int64_t q = 0; q < s.columns; ++q) {
      const T* edge = partial + 4 * ((r * s.rows + p) * s.columns + q);
      for (int axis = 0; axis < 2; ++axis) {  // 0: x, 1: y
        const T bins = axis ? T(s.rows) : T(s.columns), bin = axis ? T(p) : T(q);
        corner[axis] += (1 - bin / bins) * edge[axis] + (1 - (bin + 1) / bins) * edge[2 + axis];
        corner[2 + axis] += bin / bins * edge[axis] + (bin + 1) / bins * edge[2 + axis];
      }
    }
  grad_rois[5 * r] = 0;
  for (int k = 0; k < 4; ++k) grad_rois[5 * r + 1 + k] = scale * corner[k];
}

Shape check_inputs(const TensorView& features, const TensorView& rois, const TensorView& pooled) {
  check(features.dtype == DType::F32 || features.dtype == DType::F64, "prroi_pool: float32 or float64");
  check(features.channels_last(), "prroi_pool: features must be [N, C, H, W] and channels-last");
  check(rois.dim() == 2 && pooled.dim() == 4, "prroi_pool: rois must be [R, 5], values [R, C, rows, columns]");
  check_shape(rois, {rois.size(0), 5}, "prroi_pool: rois");
  check_shape(pooled, {rois.size(0), features.size(1), pooled.size(2), pooled.size(3)}, "prroi_pool: values");
  for (const TensorView* t : {&rois, &pooled}) {
    check_dtype(*t, features.dtype, "prroi_pool");
    check(t->contiguous(), "prroi_pool: rois and values must be contiguous");
  }
  return {features.size(0), features.size(1), features.size(2), features.size(3),
          rois.size(0),     pooled.size(2),   pooled.size(3)};
}

template <class F>
void by_dtype(const TensorView& t, const F& call) {
  t.dtype == DType::F32 ? call(float{}) : call(double{});
}

cudaStream_t queue(std::uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

}  // namespace

void prroi_pool(const TensorView& features, const TensorView& rois, const TensorView& out, double scale,
                std::uintptr_t stream) {
  const Shape s = check_inputs(features, rois, out);
  if (out.numel() == 0) return;
  by_dtype(features, [&](auto zero) {
    using T = decltype(zero);
    prroi_pool_fwd_kernel<T><<<s.boxes * s.rows * s.columns, kThreads, 0, queue(stream)>>>(
        features.ptr<T>(), rois.ptr<T>(), out.ptr<T>(), s, T(scale));
  });
  check_launch("prroi_pool");
}

void prroi_pool_backward_features(const TensorView& grad, const TensorView& rois, const TensorView& order,
                                  const TensorView& first, const TensorView& grad_features, double scale,
                                  std::uintptr_t stream) {
  const Shape s = check_inputs(grad_features, rois, grad);
  check_shape(order, {s.boxes}, "prroi_pool: order");
  check_shape(first, {s.images + 1}, "prroi_pool: first");
  for (const TensorView* t : {&order, &first}) check_dtype(*t, DType::I64, "prroi_pool: order of the boxes");
  if (grad_features.numel() == 0) return;
  by_dtype(grad, [&](auto zero) {
    using T = decltype(zero);
    prroi_pool_bwd_features_kernel<T><<<s.images * s.height * s.width, kThreads, 0, queue(stream)>>>(
        grad.ptr<T>(), rois.ptr<T>(), order.ptr<int64_t>(), first.ptr<int64_t>(), grad_features.ptr<T>(), s, T(scale));
  });
  check_launch("prroi_pool_backward_features");
}

void prroi_pool_backward_rois(const TensorView& grad, const TensorView& features, const TensorView& rois,
                              const TensorView& out, const TensorView& partial, const TensorView& grad_rois,
                              double scale, std::uintptr_t stream) {
  const Shape s = check_inputs(features, rois, grad);
  check_inputs(features, rois, out);
  check_shape(partial, {s.boxes, s.rows * s.columns, 4}, "prroi_pool: work space");
  check_shape(grad_rois, rois.sizes, "prroi_pool: gradient of rois");
  for (const TensorView* t : {&partial, &grad_rois}) check_dtype(*t, rois.dtype, "prroi_pool: gradient of rois");
  if (s.boxes == 0) return;
  by_dtype(features, [&](auto zero) {
    using T = decltype(zero);
    prroi_pool_bwd_rois_kernel<T><<<s.boxes * s.rows * s.columns, kThreads, 0, queue(stream)>>>(
        grad.ptr<T>(), features.ptr<T>(), rois.ptr<T>(), out.ptr<T>(), partial.ptr<T>(), s, T(scale));
    prroi_pool_bwd_corners_kernel<T><<<(s.boxes + kThreads - 1) / kThreads, kThreads, 0, queue(stream)>>>(
        partial.ptr<T>(), grad_rois.ptr<T>(), s, T(scale));
  });
  check_launch("prroi_pool_backward_rois");
}

}  // namespace chase_fast::cuda
