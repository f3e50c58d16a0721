// How the target filter is learned: first filter, labels, solver, and the samples it learns from. Meaning:
// chase_fast/nn/target_classifier.py and chase_fast/track/memory.py.
#pragma once

#include <vector>

#include "tracker/localize.h"
#include "tracker/model.h"

namespace chase_fast::tracker {

class Memory {
 public:
  // The samples of the first frame: features [boxes, C, h, w].
  Memory(const Model& model, std::vector<float> features, const std::vector<FloatBox>& boxes);

  // One more sample, features [C, h, w], with this learning rate.
  void insert(const float* features, const FloatBox& box, double rate);

  // The filter [C, k, k] after solver steps on the samples, from `start`.
  // weighted: by the weights of the memory, else equally.
  std::vector<float> solve(const std::vector<float>& start, int64_t iterations, bool weighted) const;

  // The first filter.
  std::vector<float> initial() const;

 private:
  int64_t slot(double rate);
  std::vector<std::vector<float>> labels() const;

  const Model* model_;
  int64_t first_, count_, newest_ = -1, sample_;
  std::vector<double> weights_;
  std::vector<float> features_;  // [memory, C, h, w]
  std::vector<FloatBox> boxes_;
};

// Scores [S, S] of a filter on features [C, h, w].
std::vector<float> scores(const Model& model, const float* features, const std::vector<float>& filter);

}  // namespace chase_fast::tracker
