// node_sum on CUDA, formulas as in cpu/node_sum.cpp, over [rows, C] matrices (channels-last; a BN group is a run of
// rows). A block is 32 lanes of V channels x 8 rows. Launches:
//   forward   moments (chunk x channels x branch and group) -> prepare (joins the chunks in order) -> weighted_sum:
//             a thread keeps kRows x V elements of the node in registers while all branches stream by
//   backward  sums (as moments) -> join -> table_grads (one block per branch) -> branch_grads: the same loop over
//             branches, with the node's gradient in registers
// No atomics: partial sums are joined in a fixed order, in double.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "cuda/launch.h"
#include "cuda/node_sum.h"

namespace chase_fast::cuda {
namespace {

constexpr int kMaxBranches = 64;
constexpr int kLanes = 32, kStep = 8;  // threads of a block along channels and rows
constexpr int kRows = 4;               // rows of one thread in the element-wise kernels
constexpr int kTile = kStep * kRows;

enum Kind { IDENTITY = 0, NORM = 1, NORM_LRELU = 2 };

template <class A>
struct Node {  // A: type of the tables and of all arithmetic
  const void* y[kMaxBranches];
  void* dy[kMaxBranches];
  int8_t kind[kMaxBranches];
  int branches, groups, channels, chunks;
  int64_t rows;  // of one group
  bool training;
  A eps, slope;
  const A *weights, *gamma, *beta;

  __device__ int64_t at(int b, int g) const { return (int64_t(b) * groups + g) * channels; }
  __device__ int64_t at(int b, int g, int k) const { return ((int64_t(b) * groups + g) * chunks + k) * channels; }
  __device__ int64_t partials() const { return at(branches, 0, 0); }
  __device__ A slope_of(int b) const { return kind[b] == NORM_LRELU ? slope : A(1); }
};

template <class T, int V>
struct alignas(sizeof(T) * V < 16 ? sizeof(T) * V : 16) Pack {
  T v[V];
};

template <int V, class T, class A>
__device__ void load(const T* p, A (&x)[V]) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(p);
#pragma unroll
  for (int i = 0; i < V; ++i) x[i] = A(pack.v[i]);
}

template <int V, class T, class A>
__device__ void store(T* p, const A (&x)[V]) {
  Pack<T, V> pack;
#pragma unroll
  for (int i = 0; i < V; ++i) pack.v[i] = T(x[i]);
  *reinterpret_cast<Pack<T, V>*>(p) = pack;
}

// Coefficients of V channels of one branch in one group; IDENTITY has mean 0, rstd 1, gamma 1, beta 0.
template <int V, class A>
struct Norm {
  A mean[V], rstd[V], scale[V], beta[V];

  __device__ Norm(const Node<A>& node, const A* means, const A* vars, int b, int g, int c) {
    const int64_t i = node.at(b, g) + c, p = int64_t(b) * node.channels + c;
    load<V>(means + i, mean);
    if (node.kind[b] == IDENTITY) {
#pragma unroll
      for (int v = 0; v < V; ++v) rstd[v] = scale[v] = A(1), beta[v] = A(0);
      return;
    }
    A var[V], gamma[V];
    load<V>(vars + i, var);
    load<V>(node.gamma + p, gamma);
    load<V>(node.beta + p, beta);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      rstd[v] = A(1) / sqrt(var[v] + node.eps);
      scale[v] = gamma[v] * rstd[v];
    }
  }
};

// Sums s1, s2 over the rows of the block, in order; the threads of row 0 hold the result.
template <int V, class A>
__device__ void join_rows(A (&s1)[V], A (&s2)[V]) {
  __shared__ A shared[2][kStep][kLanes * V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    shared[0][threadIdx.y][threadIdx.x * V + v] = s1[v];
    shared[1][threadIdx.y][threadIdx.x * V + v] = s2[v];
  }
  __syncthreads();
  if (threadIdx.y) return;
#pragma unroll
  for (int v = 0; v < V; ++v)
    for (int r = 1; r < kStep; ++r) {
      s1[v] += shared[0][r][threadIdx.x * V + v];
      s2[v] += shared[1][r][threadIdx.x * V + v];
    }
}

// Mean and sum of squared deviations of one chunk, shifted by the chunk's first row.
template <class T, class A, int V>
__global__ void node_sum_moments_kernel(const __grid_constant__ Node<A> node, A* partial) {
  const int k = blockIdx.x, c = (blockIdx.y * kLanes + threadIdx.x) * V;
  const int b = blockIdx.z / node.groups, g = blockIdx.z % node.groups;
  if (node.kind[b] == IDENTITY) return;
  const int64_t first = k * kNodeSumChunk, rows = min(kNodeSumChunk, node.rows - first);
  A shift[V] = {}, s1[V] = {}, s2[V] = {};
  if (c < node.channels) {
    const T* y = static_cast<const T*>(node.y[b]) + (g * node.rows + first) * node.channels + c;
    load<V>(y, shift);
#pragma unroll 4
    for (int64_t r = threadIdx.y; r < rows; r += kStep) {
      A x[V];
      load<V>(y + r * node.channels, x);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A d = x[v] - shift[v];
        s1[v] += d;
        s2[v] += d * d;
      }
    }
  }
  join_rows<V>(s1, s2);
  if (threadIdx.y || c >= node.channels) return;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    s2[v] -= s1[v] * s1[v] / A(rows);
    s1[v] = shift[v] + s1[v] / A(rows);
  }
  store<V>(partial + node.at(b, g, k) + c, s1);
  store<V>(partial + node.partials() + node.at(b, g, k) + c, s2);
}

// mean, var and scale = gamma / sqrt(var + eps) per (branch, group, channel), from the chunks or the running
// statistics.
template <class A>
__global__ void node_sum_prepare_kernel(const __grid_constant__ Node<A> node, const A* partial, const A* running_mean,
                                        const A* running_var, A* mean, A* var, A* scale) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x, b = blockIdx.y, g = blockIdx.z;
  if (c >= node.channels) return;
  const int64_t i = node.at(b, g) + c, p = int64_t(b) * node.channels + c;
  if (node.kind[b] == IDENTITY) {
    mean[i] = A(0);
    var[i] = scale[i] = A(1);
    return;
  }
  double m = running_mean[p], s = running_var[p];
  if (node.training) {
    m = 0;
    for (int k = 0; k < node.chunks; ++k)
      m += double(partial[node.at(b, g, k) + c]) * min(kNodeSumChunk, node.rows - k * kNodeSumChunk);
    m /= node.rows;
    s = 0;
    for (int k = 0; k < node.chunks; ++k) {
      const double d = partial[node.at(b, g, k) + c] - m;
      s += partial[node.partials() + node.at(b, g, k) + c] + d * d * min(kNodeSumChunk, node.rows - k * kNodeSumChunk);
    }
    s /= node.rows;
  }
  mean[i] = A(m);
  var[i] = A(s);
  scale[i] = node.gamma[p] / sqrt(var[i] + node.eps);
}

template <class T, class A, int V>
__global__ void node_sum_weighted_sum_kernel(const __grid_constant__ Node<A> node, const A* mean, const A* scale,
                                             T* out) {
  const int c = (blockIdx.y * kLanes + threadIdx.x) * V, g = blockIdx.z;
  if (c >= node.channels) return;
  const int64_t first = int64_t(blockIdx.x) * kTile + threadIdx.y, base = (g * node.rows + first) * node.channels + c;
  A sum[kRows][V] = {};
  for (int b = 0; b < node.branches; ++b) {
    const T* y = static_cast<const T*>(node.y[b]) + base;
    A m[V], s[V], beta[V] = {};
    load<V>(mean + node.at(b, g) + c, m);
    load<V>(scale + node.at(b, g) + c, s);
    if (node.kind[b] != IDENTITY) load<V>(node.beta + int64_t(b) * node.channels + c, beta);
    const A w = node.weights[b], slope = node.slope_of(b);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (first + i * kStep >= node.rows) break;
      A x[V];
      load<V>(y + int64_t(i) * kStep * node.channels, x);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A z = (x[v] - m[v]) * s[v] + beta[v];
        sum[i][v] += w * (z > 0 ? z : z * slope);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    if (first + i * kStep < node.rows) store<V>(out + base + int64_t(i) * kStep * node.channels, sum[i]);
}

// s1 = sum g phi'(z), s2 = sum g phi'(z) yhat of one chunk.
template <class T, class A, int V>
__global__ void node_sum_sums_kernel(const __grid_constant__ Node<A> node, const T* grad, const A* mean, const A* var,
                                     A* partial) {
  const int k = blockIdx.x, c = (blockIdx.y * kLanes + threadIdx.x) * V;
  const int b = blockIdx.z / node.groups, g = blockIdx.z % node.groups;
  const int64_t first = k * kNodeSumChunk, rows = min(kNodeSumChunk, node.rows - first);
  A s1[V] = {}, s2[V] = {};
  if (c < node.channels) {
    const int64_t base = (g * node.rows + first) * node.channels + c;
    const T *y = static_cast<const T*>(node.y[b]) + base, *q = grad + base;
    const Norm<V, A> n(node, mean, var, b, g, c);
    const A slope = node.slope_of(b);
#pragma unroll 4
    for (int64_t r = threadIdx.y; r < rows; r += kStep) {
      A x[V], u[V];
      load<V>(y + r * node.channels, x);
      load<V>(q + r * node.channels, u);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A d = x[v] - n.mean[v];
        const A t = d * n.scale[v] + n.beta[v] > 0 ? u[v] : u[v] * slope;
        s1[v] += t;
        s2[v] += t * d;
      }
    }
#pragma unroll
    for (int v = 0; v < V; ++v) s2[v] *= n.rstd[v];
  }
  join_rows<V>(s1, s2);
  if (threadIdx.y || c >= node.channels) return;
  store<V>(partial + node.at(b, g, k) + c, s1);
  store<V>(partial + node.partials() + node.at(b, g, k) + c, s2);
}

// [2, B, G, C] from [2, B, G, chunks, C].
template <class A>
__global__ void node_sum_join_kernel(const __grid_constant__ Node<A> node, const A* partial, A* joined) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x, b = blockIdx.y, g = blockIdx.z;
  if (c >= node.channels) return;
  double s1 = 0, s2 = 0;
  for (int k = 0; k < node.chunks; ++k) {
    s1 += partial[node.at(b, g, k) + c];
    s2 += partial[node.partials() + node.at(b, g, k) + c];
  }
  joined[node.at(b, g) + c] = A(s1);
  joined[node.at(node.branches, 0) + node.at(b, g) + c] = A(s2);
}

// Gradients of gamma, beta and the weight of branch blockIdx.x.
template <class A>
__global__ void node_sum_table_grads_kernel(const __grid_constant__ Node<A> node, const A* joined, A* grad_weights,
                                            A* grad_gamma, A* grad_beta) {
  const int b = blockIdx.x;
  const bool identity = node.kind[b] == IDENTITY;
  double dot = 0;
  for (int c = threadIdx.x; c < node.channels; c += blockDim.x) {
    double s1 = 0, s2 = 0;
    for (int g = 0; g < node.groups; ++g) {
      s1 += joined[node.at(b, g) + c];
      s2 += joined[node.at(node.branches, 0) + node.at(b, g) + c];
    }
    const int64_t p = int64_t(b) * node.channels + c;
    grad_gamma[p] = identity ? A(0) : A(node.weights[b] * s2);
    grad_beta[p] = identity ? A(0) : A(node.weights[b] * s1);
    dot += identity ? s2 : node.gamma[p] * s2 + node.beta[p] * s1;
  }
  __shared__ double shared[kLanes * kStep];
  shared[threadIdx.x] = dot;
  for (int half = kLanes * kStep / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  if (threadIdx.x == 0) grad_weights[b] = A(shared[0]);
}

// dy = w scale (g phi'(z) - S1/M - yhat S2/M) of every wanted branch.
template <class T, class A, int V>
__global__ void node_sum_branch_grads_kernel(const __grid_constant__ Node<A> node, const T* grad, const A* mean,
                                             const A* var, const A* joined) {
  const int c = (blockIdx.y * kLanes + threadIdx.x) * V, g = blockIdx.z;
  if (c >= node.channels) return;
  const int64_t first = int64_t(blockIdx.x) * kTile + threadIdx.y, base = (g * node.rows + first) * node.channels + c;
  A u[kRows][V] = {};
#pragma unroll
  for (int i = 0; i < kRows; ++i)
    if (first + i * kStep < node.rows) load<V>(grad + base + int64_t(i) * kStep * node.channels, u[i]);
  for (int b = 0; b < node.branches; ++b) {
    if (!node.dy[b]) continue;
    const T* y = static_cast<const T*>(node.y[b]) + base;
    T* dy = static_cast<T*>(node.dy[b]) + base;
    const Norm<V, A> n(node, mean, var, b, g, c);
    const A w = node.weights[b], slope = node.slope_of(b);
    A shift[V] = {}, tilt[V] = {};
    if (node.training && node.kind[b] != IDENTITY) {
      load<V>(joined + node.at(b, g) + c, shift);
      load<V>(joined + node.at(node.branches, 0) + node.at(b, g) + c, tilt);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      shift[v] /= A(node.rows);
      tilt[v] *= n.rstd[v] / A(node.rows);
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (first + i * kStep >= node.rows) break;
      A x[V];
      load<V>(y + int64_t(i) * kStep * node.channels, x);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A d = x[v] - n.mean[v];
        const A t = d * n.scale[v] + n.beta[v] > 0 ? u[i][v] : u[i][v] * slope;
        x[v] = w * n.scale[v] * (t - shift[v] - tilt[v] * d);
      }
      store<V>(dy + int64_t(i) * kStep * node.channels, x);
    }
  }
}

unsigned blocks(int64_t count, int64_t per_block) { return static_cast<unsigned>((count + per_block - 1) / per_block); }

// Grids of the three shapes of launch.
template <class A>
struct Grids {
  dim3 threads{kLanes, kStep}, chunks, tiles, tables;

  Grids(const Node<A>& n, int vector) {
    const unsigned lanes = blocks(n.channels, kLanes * vector);
    chunks = dim3(n.chunks, lanes, n.branches * n.groups);
    tiles = dim3(blocks(n.rows, kTile), lanes, n.groups);
    tables = dim3(blocks(n.channels, 256), n.branches, n.groups);
  }
};

template <class T, class A, int V>
void forward(const Node<A>& node, const A* running_mean, const A* running_var, T* out, A* mean, A* var, A* partial,
             A* scale, cudaStream_t stream) {
  const Grids<A> grid(node, V);
  if (node.training) node_sum_moments_kernel<T, A, V><<<grid.chunks, grid.threads, 0, stream>>>(node, partial);
  node_sum_prepare_kernel<A>
      <<<grid.tables, 256, 0, stream>>>(node, partial, running_mean, running_var, mean, var, scale);
  node_sum_weighted_sum_kernel<T, A, V><<<grid.tiles, grid.threads, 0, stream>>>(node, mean, scale, out);
  check_launch("node_sum");
}

template <class T, class A, int V>
void backward(const Node<A>& node, const T* grad, const A* mean, const A* var, A* grad_weights, A* grad_gamma,
              A* grad_beta, A* partial, A* joined, bool any_branch, cudaStream_t stream) {
  const Grids<A> grid(node, V);
  node_sum_sums_kernel<T, A, V><<<grid.chunks, grid.threads, 0, stream>>>(node, grad, mean, var, partial);
  node_sum_join_kernel<A><<<grid.tables, 256, 0, stream>>>(node, partial, joined);
  node_sum_table_grads_kernel<A>
      <<<node.branches, kLanes * kStep, 0, stream>>>(node, joined, grad_weights, grad_gamma, grad_beta);
  if (any_branch)
    node_sum_branch_grads_kernel<T, A, V><<<grid.tiles, grid.threads, 0, stream>>>(node, grad, mean, var, joined);
  check_launch("node_sum");
}

bool aligned(const TensorView& t) { return reinterpret_cast<std::uintptr_t>(t.data) % 16 == 0; }

void check_map(const TensorView& t, const TensorView& like, const char* what) {
  check_shape(t, like.sizes, what);
  check_dtype(t, like.dtype, what);
  check(t.channels_last(), std::string(what) + ": must be channels-last");
}

struct Tables {
  DType dtype;
  bool four = true;  // channels may be read four at a time

  void add(const TensorView& t, const std::vector<int64_t>& shape, const char* what) {
    check_shape(t, shape, what);
    check_dtype(t, dtype, what);
    check(t.contiguous(), std::string(what) + ": must be contiguous");
    four = four && aligned(t);
  }
};

template <class A>
Node<A> describe(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
                 const TensorView& beta, const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps,
                 double slope) {
  Node<A> node{};
  const TensorView& y = branches[0];
  node.branches = static_cast<int>(branches.size());
  node.groups = static_cast<int>(groups);
  node.channels = static_cast<int>(y.size(1));
  node.rows = y.size(0) / groups * y.size(2) * y.size(3);
  node.chunks = static_cast<int>((node.rows + kNodeSumChunk - 1) / kNodeSumChunk);
  node.training = training;
  node.eps = A(eps);
  node.slope = A(slope);
  node.weights = weights.ptr<A>();
  node.gamma = gamma.ptr<A>();
  node.beta = beta.ptr<A>();
  for (int b = 0; b < node.branches; ++b) {
    node.y[b] = branches[b].data;
    node.kind[b] = static_cast<int8_t>(kinds[b]);
  }
  return node;
}

// Checks the shared arguments; the result goes on checking the tables.
Tables check_inputs(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
                    const TensorView& beta, const std::vector<int64_t>& kinds, int64_t groups) {
  check(!branches.empty() && branches.size() == kinds.size(), "node_sum: one kind per branch, at least one branch");
  check(branches.size() <= kMaxBranches, "node_sum: the cuda backend takes at most 64 branches");
  const TensorView& y = branches[0];
  check(y.dtype == DType::F32 || y.dtype == DType::F64 || y.dtype == DType::BF16,
        "node_sum: float32, float64 or bfloat16");
  check(groups > 0 && y.size(0) % groups == 0, "node_sum: groups must divide N");
  Tables tables{y.dtype == DType::F64 ? DType::F64 : DType::F32, y.size(1) % 4 == 0};
  for (const TensorView& branch : branches) {
    check_map(branch, y, "node_sum: branch");
    tables.four = tables.four && aligned(branch);
  }
  const int64_t B = static_cast<int64_t>(branches.size()), C = y.size(1);
  tables.add(gamma, {B, C}, "node_sum: gamma");
  tables.add(beta, {B, C}, "node_sum: beta");
  check_shape(weights, {B}, "node_sum: weights");
  check_dtype(weights, tables.dtype, "node_sum: weights");
  check(weights.contiguous(), "node_sum: weights: must be contiguous");
  return tables;
}

// call(T, A, V) with the types of this dtype and 4 or 1 channels per thread.
template <class F>
void dispatch(DType dtype, bool four, const F& call) {
  const auto width = [&](auto t, auto a) {
    if (four)
      call(t, a, std::integral_constant<int, 4>{});
    else
      call(t, a, std::integral_constant<int, 1>{});
  };
  if (dtype == DType::F32) width(float{}, float{});
  if (dtype == DType::F64) width(double{}, double{});
  if (dtype == DType::BF16) width(__nv_bfloat16{}, float{});
}

}  // namespace

void node_sum(const std::vector<TensorView>& branches, const TensorView& weights, const TensorView& gamma,
              const TensorView& beta, const TensorView& running_mean, const TensorView& running_var,
              const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
              const TensorView& out, const TensorView& mean, const TensorView& var, const TensorView& partial,
              const TensorView& scale, std::uintptr_t stream) {
  Tables tables = check_inputs(branches, weights, gamma, beta, kinds, groups);
  const int64_t B = static_cast<int64_t>(branches.size()), C = gamma.size(1);
  const int64_t chunks = describe<float>(branches, weights, gamma, beta, kinds, groups, training, eps, slope).chunks;
  tables.add(running_mean, {B, C}, "node_sum: running mean");
  tables.add(running_var, {B, C}, "node_sum: running var");
  tables.add(mean, {B, groups, C}, "node_sum: mean");
  tables.add(var, {B, groups, C}, "node_sum: var");
  tables.add(partial, {2, B, groups, chunks, C}, "node_sum: partial sums");
  tables.add(scale, {B, groups, C}, "node_sum: scale");
  check_map(out, branches[0], "node_sum: out");
  dispatch(branches[0].dtype, tables.four && aligned(out), [&](auto t, auto a, auto v) {
    using T = decltype(t);
    using A = decltype(a);
    const Node<A> node = describe<A>(branches, weights, gamma, beta, kinds, groups, training, eps, slope);
    forward<T, A, decltype(v)::value>(node, running_mean.ptr<A>(), running_var.ptr<A>(), out.ptr<T>(), mean.ptr<A>(),
                                      var.ptr<A>(), partial.ptr<A>(), scale.ptr<A>(),
                                      reinterpret_cast<cudaStream_t>(stream));
  });
}

void node_sum_backward(const TensorView& grad_out, const std::vector<TensorView>& branches, const TensorView& weights,
                       const TensorView& gamma, const TensorView& beta, const TensorView& mean, const TensorView& var,
                       const std::vector<int64_t>& kinds, int64_t groups, bool training, double eps, double slope,
                       const std::vector<TensorView>& grad_branches, const TensorView& grad_weights,
                       const TensorView& grad_gamma, const TensorView& grad_beta, const TensorView& partial,
                       const TensorView& joined, std::uintptr_t stream) {
  Tables tables = check_inputs(branches, weights, gamma, beta, kinds, groups);
  const int64_t B = static_cast<int64_t>(branches.size()), C = gamma.size(1);
  const int64_t chunks = describe<float>(branches, weights, gamma, beta, kinds, groups, training, eps, slope).chunks;
  tables.add(mean, {B, groups, C}, "node_sum: mean");
  tables.add(var, {B, groups, C}, "node_sum: var");
  tables.add(grad_gamma, {B, C}, "node_sum: gradient of gamma");
  tables.add(grad_beta, {B, C}, "node_sum: gradient of beta");
  tables.add(partial, {2, B, groups, chunks, C}, "node_sum: partial sums");
  tables.add(joined, {2, B, groups, C}, "node_sum: joined sums");
  check_map(grad_out, branches[0], "node_sum: gradient of out");
  check_shape(grad_weights, {B}, "node_sum: gradient of weights");
  check_dtype(grad_weights, tables.dtype, "node_sum: gradient of weights");
  check(grad_branches.size() == branches.size(), "node_sum: one gradient per branch");
  bool four = tables.four && aligned(grad_out), any = false;
  for (const TensorView& grad : grad_branches) {
    if (!grad.numel()) continue;
    check_map(grad, branches[0], "node_sum: gradient of a branch");
    four = four && aligned(grad);
    any = true;
  }
  dispatch(branches[0].dtype, four, [&](auto t, auto a, auto v) {
    using T = decltype(t);
    using A = decltype(a);
    Node<A> node = describe<A>(branches, weights, gamma, beta, kinds, groups, training, eps, slope);
    for (size_t b = 0; b < grad_branches.size(); ++b)
      node.dy[b] = grad_branches[b].numel() ? grad_branches[b].data : nullptr;
    backward<T, A, decltype(v)::value>(node, grad_out.ptr<T>(), mean.ptr<A>(), var.ptr<A>(), grad_weights.ptr<A>(),
                                       grad_gamma.ptr<A>(), grad_beta.ptr<A>(), partial.ptr<A>(), joined.ptr<A>(), any,
                                       reinterpret_cast<cudaStream_t>(stream));
  });
}

}  // namespace chase_fast::cuda
