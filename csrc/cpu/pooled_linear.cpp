// pooled_linear on CPU, from a table. Pooling and layer are linear in the map, so the layer was applied to the cells:
// table row of (bin, cell) = weights of the bin times the cell's channels, a matrix product per bin.
//   out = sum over bins and cells of wy wx row / area
//   d out / d edge: as in prroi_pool, with the scalar map <grad, row> in place of the features.
// One task per box; no bit depends on the number of threads.
#include "cpu/pooled_linear.h"

#include "cpu/parallel.h"
#include "cpu/prroi_axis.h"

namespace chase_fast::cpu {
namespace {

struct Table {
  int64_t bins;
  std::vector<Range> rows, columns;  // [bins]
  std::vector<int64_t> first;        // [bins * bins]: table row of a bin's first cell
  int64_t height, width;             // of the map
  int64_t cells = 0;

  explicit Table(const std::vector<int64_t>& ranges) : bins((static_cast<int64_t>(ranges.size()) - 2) / 4) {
    check(bins > 0 && static_cast<int64_t>(ranges.size()) == 4 * bins + 2,
          "pooled_linear: ranges must be 4 per bin + 2");
    height = ranges[4 * bins], width = ranges[4 * bins + 1];
    for (int64_t b = 0; b < 2 * bins; ++b) {
      const Range range{ranges[2 * b], ranges[2 * b + 1]};
      check(0 <= range.begin && range.begin <= range.end && range.end <= (b < bins ? height : width),
            "pooled_linear: wrong ranges");
      (b < bins ? rows : columns).push_back(range);
    }
    for (const Range& r : rows)
      for (const Range& c : columns) {
        first.push_back(cells);
        cells += (r.end - r.begin) * (c.end - c.begin);
      }
  }
};

bool inside(const Range& part, const Range& whole) {
  return part.begin >= part.end || (part.begin >= whole.begin && part.end <= whole.end);
}

template <class T>
std::vector<Box<T>> read_boxes(const Table& t, const TensorView& rois, T scale) {
  std::vector<Box<T>> boxes;
  boxes.reserve(rois.size(0));
  for (int64_t r = 0; r < rois.size(0); ++r) {
    boxes.emplace_back(rois.ptr<T>() + 5 * r, scale, t.bins, t.bins, t.height, t.width);
    for (int64_t b = 0; b < t.bins; ++b)
      check(boxes.back().nan || boxes.back().per_area == 0 ||
                (inside(boxes.back().y.support[b], t.rows[b]) && inside(boxes.back().x.support[b], t.columns[b])),
            "pooled_linear: a box needs cells that are not in the table");
  }
  return boxes;
}

template <class T>
void forward(const Table& t, const std::vector<Box<T>>& boxes, const T* table, int64_t D, T* out, int threads) {
  parallel_for(static_cast<int64_t>(boxes.size()), threads, [&](int64_t r) {
    const Box<T>* box = &boxes[r];
    T* to = out + r * D;
    std::fill(to, to + D, box->nan ? box->per_area : T(0));
    if (box->nan || box->per_area == 0) return;
    const Table* at = &t;
    vectorised([=]() CHASE_FAST_FLAT {
      for (int64_t p = 0; p < at->bins; ++p)
        for (int64_t q = 0; q < at->bins; ++q) {
          const Range y = box->y.support[p], x = box->x.support[q];
          const int64_t wide = at->columns[q].end - at->columns[q].begin;
          for (int64_t i = y.begin; i < y.end; ++i) {
            const int64_t row =
                at->first[p * at->bins + q] + (i - at->rows[p].begin) * wide + x.begin - at->columns[q].begin;
            accumulate(to, table + row * D, D, box->x.bin(q) + x.begin, x.end - x.begin,
                       box->y.bin(p)[i] * box->per_area, D);
          }
        }
    });
  });
}

template <class T>
void backward_rois(const Table& t, const std::vector<Box<T>>& boxes, const T* table, int64_t D, const T* grad, T scale,
                   T* grad_rois, int threads) {
  parallel_for(static_cast<int64_t>(boxes.size()), threads, [&](int64_t r) {
    const Box<T>* box = &boxes[r];
    T* to = grad_rois + 5 * r;
    to[0] = 0;
    if (box->nan || box->per_area == 0) {
      std::fill(to + 1, to + 5, box->per_area);  // NaN or 0
      return;
    }
    std::vector<T> edges_y(t.bins + 1), edges_x(t.bins + 1);
    T total = 0;
    T *ey = edges_y.data(), *ex = edges_x.data(), *sum = &total;
    const Table* at = &t;
    vectorised([=]() CHASE_FAST_FLAT {
      for (int64_t p = 0; p < at->bins; ++p)
        for (int64_t q = 0; q < at->bins; ++q) {
          const Range y = box->y.support[p], x = box->x.support[q];
          const int64_t wide = at->columns[q].end - at->columns[q].begin;
          for (int64_t i = y.begin; i < y.end; ++i) {
            const int64_t row = at->first[p * at->bins + q] + (i - at->rows[p].begin) * wide - at->columns[q].begin;
            T inner = 0, left = 0, right = 0;  // sums over the row with bin weights, and along both vertical edges
            for (int64_t j = x.begin; j < x.end; ++j) {
              const T value = dot(table + (row + j) * D, grad + r * D, D);
              inner += box->x.bin(q)[j] * value;
              left += hat(box->x.edges[q] - T(j)) * value;
              right += hat(box->x.edges[q + 1] - T(j)) * value;
            }
            const T weight = box->y.bin(p)[i];
            *sum += weight * inner;
            ex[q] -= weight * left;
            ex[q + 1] += weight * right;
            ey[p] -= hat(box->y.edges[p] - T(i)) * inner;
            ey[p + 1] += hat(box->y.edges[p + 1] - T(i)) * inner;
          }
        }
    });
    total *= box->per_area;
    to_corners(edges_x, box->x, box->per_area, total, scale, to + 1, to + 3);
    to_corners(edges_y, box->y, box->per_area, total, scale, to + 2, to + 4);
  });
}

Table check_inputs(const TensorView& table, const std::vector<int64_t>& ranges, const TensorView& rois,
                   const TensorView& values) {
  const Table t(ranges);
  check(table.dtype == DType::F32 || table.dtype == DType::F64, "pooled_linear: float32 or float64");
  check(table.dim() == 2 && rois.dim() == 2, "pooled_linear: table must be [cells, D], rois [R, 5]");
  check_shape(table, {t.cells, table.size(1)}, "pooled_linear: table");
  check_shape(rois, {rois.size(0), 5}, "pooled_linear: rois");
  check_shape(values, {rois.size(0), table.size(1)}, "pooled_linear: values");
  for (const TensorView* v : {&table, &rois, &values}) {
    check_dtype(*v, table.dtype, "pooled_linear");
    check(v->contiguous(), "pooled_linear: table, rois and values must be contiguous");
  }
  return t;
}

template <class F>
void by_dtype(const TensorView& t, const F& call) {
  t.dtype == DType::F32 ? call(float{}) : call(double{});
}

}  // namespace

std::vector<int64_t> pooled_linear_ranges(const TensorView& rois, int64_t bins, double scale, int64_t height,
                                          int64_t width) {
  check(rois.dtype == DType::F32 || rois.dtype == DType::F64, "pooled_linear: float32 or float64");
  check(rois.dim() == 2 && rois.contiguous(), "pooled_linear: rois must be [R, 5] and contiguous");
  check_shape(rois, {rois.size(0), 5}, "pooled_linear: rois");
  std::vector<int64_t> ranges(4 * bins + 2, 0);
  ranges[4 * bins] = height, ranges[4 * bins + 1] = width;
  by_dtype(rois, [&](auto zero) {
    using T = decltype(zero);
    std::vector<bool> seen(2 * bins);
    for (int64_t r = 0; r < rois.size(0); ++r) {
      const Box<T> box(rois.ptr<T>() + 5 * r, T(scale), bins, bins, height, width);
      if (box.nan || box.per_area == 0) continue;
      for (int64_t b = 0; b < 2 * bins; ++b) {
        const Range range = b < bins ? box.y.support[b] : box.x.support[b - bins];
        if (range.begin >= range.end) continue;
        int64_t &begin = ranges[2 * b], &end = ranges[2 * b + 1];
        begin = seen[b] ? std::min(begin, range.begin) : range.begin;
        end = seen[b] ? std::max(end, range.end) : range.end;
        seen[b] = true;
      }
    }
  });
  return ranges;
}

void pooled_linear(const TensorView& table, const std::vector<int64_t>& ranges, const TensorView& rois, double scale,
                   const TensorView& out, int threads) {
  const Table t = check_inputs(table, ranges, rois, out);
  by_dtype(table, [&](auto zero) {
    using T = decltype(zero);
    forward<T>(t, read_boxes<T>(t, rois, T(scale)), table.ptr<T>(), table.size(1), out.ptr<T>(), threads);
  });
}

void pooled_linear_backward_rois(const TensorView& table, const std::vector<int64_t>& ranges, const TensorView& rois,
                                 double scale, const TensorView& grad, const TensorView& grad_rois, int threads) {
  const Table t = check_inputs(table, ranges, rois, grad);
  check_shape(grad_rois, rois.sizes, "pooled_linear: gradient of rois");
  check_dtype(grad_rois, rois.dtype, "pooled_linear: gradient of rois");
  check(grad_rois.contiguous(), "pooled_linear: gradient of rois must be contiguous");
  by_dtype(table, [&](auto zero) {
    using T = decltype(zero);
    backward_rois<T>(t, read_boxes<T>(t, rois, T(scale)), table.ptr<T>(), table.size(1), grad.ptr<T>(), T(scale),
                     grad_rois.ptr<T>(), threads);
  });
}

}  // namespace chase_fast::cpu
