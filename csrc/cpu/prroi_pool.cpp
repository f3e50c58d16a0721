// prroi_pool on CPU. A bin is sum_ij wy_i wx_j f[i,j,:] / area, w = H(right edge - i) - H(left edge - i), where H is
// the integral of hat.
//   forward           one task per (box, row of bins): weighted sums of pixels, vector lanes along the channels.
//   feature gradient  one task per (image, feature row), gathering from the image's boxes in their order.
//   box gradient      one task per box: d out / d edge = (+- line integral of F along the edge -+ extent out) / area,
//                     share 1 - e / bins of edge e to the first corner, e / bins to the second.
// Every element is summed by one task in a fixed order: no bit depends on the number of threads.
#include "cpu/prroi_pool.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/prroi_axis.h"

namespace chase_fast::cpu {
namespace {

struct Shape {
  int64_t images, channels, height, width, boxes, rows, columns;
};

template <class T>
std::vector<Box<T>> read_boxes(const T* rois, const Shape& s, T scale) {
  std::vector<Box<T>> boxes;
  boxes.reserve(s.boxes);
  for (int64_t r = 0; r < s.boxes; ++r) {
    const T index = rois[5 * r];
    if (!(index >= 0 && index < T(s.images)))
      throw std::out_of_range("prroi_pool: box " + std::to_string(r) + " names image " + std::to_string(index) +
                              " of " + std::to_string(s.images));
    boxes.emplace_back(rois + 5 * r, scale, s.rows, s.columns, s.height, s.width);
  }
  return boxes;
}

// [C, bins] of one box to [bins, C].
template <class T>
std::vector<T> channels_inner(const T* from, int64_t channels, int64_t bins) {
  std::vector<T> to(channels * bins);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t b = 0; b < bins; ++b) to[b * channels + c] = from[c * bins + b];
  return to;
}

template <class T>
void forward(const Shape& s, const T* features, const std::vector<Box<T>>& boxes, T* out, int threads) {
  const int64_t C = s.channels, Q = s.columns;
  parallel_for(s.boxes * s.rows, threads, [&](int64_t task) {
    const int64_t r = task / s.rows, p = task % s.rows;
    const Box<T>* box = &boxes[r];
    const T* image = features + box->image * s.height * s.width * C;
    std::vector<T> sums(Q * C);
    T* sum = sums.data();
    if (box->per_area != 0)
      vectorised([=]() CHASE_FAST_FLAT {
        for (int64_t i = box->y.support[p].begin; i < box->y.support[p].end; ++i)
          for (int64_t q = 0; q < Q; ++q) {
            const Range x = box->x.support[q];
            accumulate(sum + q * C, image + (i * s.width + x.begin) * C, C, box->x.bin(q) + x.begin, x.end - x.begin,
                       box->y.bin(p)[i], C);
          }
      });
    for (int64_t c = 0; c < C; ++c)
      for (int64_t q = 0; q < Q; ++q) out[((r * C + c) * s.rows + p) * Q + q] = sums[q * C + c] * box->per_area;
  });
}

template <class T>
void backward_features(const Shape& s, const T* grad, const std::vector<Box<T>>& boxes, T* grad_features, int threads) {
  const int64_t C = s.channels, P = s.rows, Q = s.columns, W = s.width;
  std::vector<std::vector<int64_t>> of_image(s.images);
  for (int64_t r = 0; r < s.boxes; ++r) of_image[boxes[r].image].push_back(r);

  std::vector<std::vector<T>> scaled(s.boxes);     // [bins, C] of grad / area
  std::vector<std::vector<T>> by_column(s.boxes);  // [W, columns]: weights of a cell in every bin
  parallel_for(s.boxes, threads, [&](int64_t r) {
    scaled[r] = channels_inner(grad + r * C * P * Q, C, P * Q);
    for (T& g : scaled[r]) g *= boxes[r].per_area;
    by_column[r].resize(W * Q);
    for (int64_t q = 0; q < Q; ++q)
      for (int64_t j = 0; j < W; ++j) by_column[r][j * Q + q] = boxes[r].x.bin(q)[j];
  });

  parallel_for(s.images * s.height, threads, [&](int64_t task) {
    const int64_t n = task / s.height, i = task % s.height;
    T* row = grad_features + task * W * C;
    std::fill(row, row + W * C, T(0));
    std::vector<T> sums(Q * C);  // over the bins' rows
    T* sum = sums.data();
    for (int64_t r : of_image[n]) {
      const Box<T>* box = &boxes[r];
      const Range rows = box->y.all(), columns = box->x.all();
      if (box->per_area == 0 || i < rows.begin || i >= rows.end) continue;
      std::fill(sums.begin(), sums.end(), T(0));
      const T *g = scaled[r].data(), *weights = by_column[r].data();
      vectorised([=]() CHASE_FAST_FLAT {
        for (int64_t p = 0; p < P; ++p)
          if (i >= box->y.support[p].begin && i < box->y.support[p].end)
            accumulate(sum, g + p * Q * C, 0, box->y.bin(p) + i, 1, T(1), Q * C);
        for (int64_t j = columns.begin; j < columns.end; ++j)
          accumulate(row + j * C, sum, C, weights + j * Q, Q, T(1), C);
      });
    }
  });
}

// d loss / d edge for every edge of an axis, without the factor 1 / area. Pixel (k, l): k along this axis, l along the
// other; g is [bins, C] with the strides of its bins along both axes.
template <class T>
inline CHASE_FAST_FLAT void line_integrals(const T* image, int64_t stride, int64_t other_stride, const Axis<T>& axis,
                                           const Axis<T>& other, const T* g, int64_t g_stride, int64_t g_other_stride,
                                           int64_t C, T* line, T* grad_edges) {
  for (int64_t e = 0; e <= axis.bins(); ++e) {
    grad_edges[e] = 0;
    const int64_t begin = first_cell(axis.edges[e], axis.cells), end = first_cell(axis.edges[e] + T(2), axis.cells);
    for (int64_t b = 0; b < other.bins(); ++b) {
      for (int64_t c = 0; c < C; ++c) line[c] = 0;
      for (int64_t k = begin; k < end; ++k) {
        const Range cells = other.support[b];
        accumulate(line, image + k * stride + cells.begin * other_stride, other_stride, other.bin(b) + cells.begin,
                   cells.end - cells.begin, hat(axis.edges[e] - T(k)), C);
      }
      const T* at = g + b * g_other_stride + e * g_stride;
      if (e > 0) grad_edges[e] += dot(line, at - g_stride, C);
      if (e < axis.bins()) grad_edges[e] -= dot(line, at, C);
    }
  }
}

template <class T>
void backward_rois(const Shape& s, const T* grad, const T* features, const std::vector<Box<T>>& boxes, const T* out,
                   T scale, T* grad_rois, int threads) {
  const int64_t C = s.channels, bins = s.rows * s.columns;
  parallel_for(s.boxes, threads, [&](int64_t r) {
    const Box<T>* box = &boxes[r];
    T* to = grad_rois + 5 * r;
    to[0] = 0;
    if (box->nan || box->per_area == 0) {
      std::fill(to + 1, to + 5, box->per_area);  // NaN or 0
      return;
    }
    const T* image = features + box->image * s.height * s.width * C;
    const std::vector<T> inner = channels_inner(grad + r * C * bins, C, bins);
    std::vector<T> line(C), edges_y(s.rows + 1), edges_x(s.columns + 1);
    T total = 0;
    const T* g = inner.data();
    T *l = line.data(), *ey = edges_y.data(), *ex = edges_x.data(), *sum = &total;
    vectorised([=]() CHASE_FAST_FLAT {
      line_integrals(image, s.width * C, C, box->y, box->x, g, s.columns * C, C, C, l, ey);
      line_integrals(image, C, s.width * C, box->x, box->y, g, C, s.columns * C, C, l, ex);
      *sum = dot(grad + r * C * bins, out + r * C * bins, C * bins);
    });
    to_corners(edges_x, box->x, box->per_area, total, scale, to + 1, to + 3);
    to_corners(edges_y, box->y, box->per_area, total, scale, to + 2, to + 4);
  });
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

}  // namespace

void prroi_pool(const TensorView& features, const TensorView& rois, const TensorView& out, double scale, int threads) {
  const Shape s = check_inputs(features, rois, out);
  by_dtype(features, [&](auto zero) {
    using T = decltype(zero);
    forward<T>(s, features.ptr<T>(), read_boxes<T>(rois.ptr<T>(), s, T(scale)), out.ptr<T>(), threads);
  });
}

void prroi_pool_backward_features(const TensorView& grad, const TensorView& rois, const TensorView& grad_features,
                                  double scale, int threads) {
  const Shape s = check_inputs(grad_features, rois, grad);
  by_dtype(grad, [&](auto zero) {
    using T = decltype(zero);
    backward_features<T>(s, grad.ptr<T>(), read_boxes<T>(rois.ptr<T>(), s, T(scale)), grad_features.ptr<T>(), threads);
  });
}

void prroi_pool_backward_rois(const TensorView& grad, const TensorView& features, const TensorView& rois,
                              const TensorView& out, const TensorView& grad_rois, double scale, int threads) {
  const Shape s = check_inputs(features, rois, grad);
  check_inputs(features, rois, out);
  check_shape(grad_rois, rois.sizes, "prroi_pool: gradient of rois");
  check_dtype(grad_rois, rois.dtype, "prroi_pool: gradient of rois");
  check(grad_rois.contiguous(), "prroi_pool: gradient of rois must be contiguous");
  by_dtype(features, [&](auto zero) {
    using T = decltype(zero);
    backward_rois<T>(s, grad.ptr<T>(), features.ptr<T>(), read_boxes<T>(rois.ptr<T>(), s, T(scale)), out.ptr<T>(),
                     T(scale), grad_rois.ptr<T>(), threads);
  });
}

}  // namespace chase_fast::cpu
