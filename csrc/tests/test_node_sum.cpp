#include "cpu/node_sum.h"
#include "tests/check.h"

namespace chase_fast::tests {
namespace {

enum Kind { IDENTITY, NORM, NORM_LRELU };

struct Case {
  int64_t branches, groups, images, channels, height, width;
  std::vector<int64_t> kinds;
  bool training;
  double eps, slope;

  int64_t elements() const { return images * channels * height * width; }
  int64_t rows() const { return images / groups * height * width; }  // of one group
};

Case random_case(Random& random) {
  Case c;
  c.branches = random.integer(1, 5);
  c.groups = random.integer(1, 3);
  c.images = c.groups * random.integer(1, 2);
  c.channels = random.channels();
  c.height = random.integer(1, 14), c.width = random.integer(1, 14);
  if (c.rows() < 4) c.height += 3;  // a variance of nearly nothing amplifies rounding
  for (int64_t b = 0; b < c.branches; ++b) c.kinds.push_back(random.integer(IDENTITY, NORM_LRELU));
  c.training = random.chance(0.7);
  c.eps = 1e-5, c.slope = random.uniform(0, 0.3);
  return c;
}

// z of element (row, channel) of a branch, and everything that its gradient needs.
struct Reference {
  const Case& c;
  std::vector<double> mean, var;  // [B, G, C]

  double rstd(int64_t i) const { return 1 / std::sqrt(var[i] + c.eps); }
  int64_t at(int64_t b, int64_t row, int64_t channel) const {
    return (b * c.groups + row / c.rows()) * c.channels + channel;
  }
};

template <class T>
Reference statistics(const Case& c, const std::vector<Array<T>>& branches, const Array<T>& mean, const Array<T>& var) {
  Reference r{c, {}, {}};
  for (int64_t b = 0; b < c.branches; ++b)
    for (int64_t g = 0; g < c.groups; ++g)
      for (int64_t k = 0; k < c.channels; ++k) {
        double m = 0, v = 0;
        for (int64_t i = 0; i < c.rows(); ++i) m += branches[b][(g * c.rows() + i) * c.channels + k] / double(c.rows());
        for (int64_t i = 0; i < c.rows(); ++i) {
          const double d = branches[b][(g * c.rows() + i) * c.channels + k] - m;
          v += d * d / double(c.rows());
        }
        if (!c.training) m = mean[b * c.channels + k], v = var[b * c.channels + k];
        if (c.kinds[b] == IDENTITY) m = 0, v = 1;
        r.mean.push_back(m), r.var.push_back(v);
      }
  return r;
}

template <class T>
void round(const Case& c, Random& random) {
  const int64_t C = c.channels, B = c.branches, n = c.elements();
  std::vector<Array<T>> branches;
  for (int64_t b = 0; b < B; ++b) branches.push_back(std::move(Array<T>(n, random).normal(random)));
  Array<T> weights(B, random), gamma(B * C, random), beta(B * C, random), mean(B * C, random), var(B * C, random);
  weights.uniform(random, 0.1, 1), gamma.uniform(random, 0.5, 1.5), beta.normal(random), mean.normal(random);
  var.uniform(random, 0.5, 2);
  Array<T> grad(n, random);
  grad.normal(random);

  std::vector<TensorView> views;
  for (const Array<T>& branch : branches) views.push_back(branch.map(c.images, C, c.height, c.width));
  const TensorView w = weights.view({B}), ga = gamma.view({B, C}), be = beta.view({B, C});
  const std::vector<int64_t> table = {B, c.groups, C};
  const auto out = run_with_threads<T>({n, B * c.groups * C, B * c.groups * C}, random, [&](int threads, auto& o) {
    cpu::node_sum(views, w, ga, be, mean.view({B, C}), var.view({B, C}), c.kinds, c.groups, c.training, c.eps, c.slope,
                  o[0].map(c.images, C, c.height, c.width), o[1].view(table), o[2].view(table), threads);
  });

  const Reference r = statistics(c, branches, mean, var);
  expect_close(out[1], r.mean, "mean", std::sqrt(double(B * c.groups * C)));
  expect_close(out[2], r.var, "var");

  std::vector<double> node(n), to_weights(B), to_gamma(B * C), to_beta(B * C), to_branches(B * n);
  for (int64_t b = 0; b < B; ++b) {
    const bool identity = c.kinds[b] == IDENTITY;
    std::vector<double> s1(c.groups * C), s2(c.groups * C), v(n), yhat(n);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t k = i % C, row = i / C, at = r.at(b, row, k), p = b * C + k, group = row / c.rows() * C + k;
      yhat[i] = identity ? double(branches[b][i]) : (branches[b][i] - r.mean[at]) * r.rstd(at);
      const double z = identity ? yhat[i] : gamma[p] * yhat[i] + beta[p];
      const double tilt = c.kinds[b] == NORM_LRELU && !(z > 0) ? c.slope : 1;
      node[i] += weights[b] * tilt * z;
      to_weights[b] += grad[i] * tilt * z;
      v[i] = grad[i] * tilt;
      s1[group] += v[i], s2[group] += v[i] * yhat[i];
      if (!identity) to_gamma[p] += weights[b] * v[i] * yhat[i], to_beta[p] += weights[b] * v[i];
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t k = i % C, row = i / C, at = r.at(b, row, k), group = row / c.rows() * C + k;
      double d = v[i];
      if (c.training && !identity) d -= (s1[group] + yhat[i] * s2[group]) / double(c.rows());
      to_branches[b * n + i] = weights[b] * d * (identity ? 1 : gamma[b * C + k] * r.rstd(at));
    }
  }
  expect_close(out[0], node, "node");

  std::vector<int64_t> sizes = {B, B * C, B * C};
  for (int64_t b = 0; b < B; ++b) sizes.push_back(random.chance(0.2) ? 0 : n);
  const auto gradients = run_with_threads<T>(sizes, random, [&](int threads, auto& o) {
    std::vector<TensorView> wanted;
    for (int64_t b = 0; b < B; ++b)
      wanted.push_back(sizes[3 + b] ? o[3 + b].map(c.images, C, c.height, c.width) : o[3 + b].view({0}));
    cpu::node_sum_backward(grad.map(c.images, C, c.height, c.width), views, w, ga, be, out[1].view(table),
                           out[2].view(table), c.kinds, c.groups, c.training, c.eps, c.slope, wanted, o[0].view({B}),
                           o[1].view({B, C}), o[2].view({B, C}), threads);
  });
  const double size = std::sqrt(double(n));  // of the terms of a sum
  expect_close(gradients[0], to_weights, "gradient of weights", size);
  expect_close(gradients[1], to_gamma, "gradient of gamma", size);
  expect_close(gradients[2], to_beta, "gradient of beta", size);
  for (int64_t b = 0; b < B; ++b)
    if (sizes[3 + b])
      expect_close(gradients[3 + b], {to_branches.begin() + b * n, to_branches.begin() + (b + 1) * n},
                   "gradient of a branch", size);
}

}  // namespace

void test_node_sum(Random& random) {
  const Case c = random_case(random);
  round<float>(c, random);
  round<double>(c, random);
}

}  // namespace chase_fast::tests
