// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_NMS_CANDIDATES_H_
#define SSDOPS_CPU_NMS_CANDIDATES_H_

// What the methods of BatchedNms share.

#include <algorithm>

#include "ssdops/batched_nms.h"

namespace ssdops {

// An anchor in a class.
template <typename T>
struct Candidate {
  T score;
  int32_t class_id;
  int32_t anchor;
};

// The order of the contract; scores are no NaN.
template <typename T>
bool operator<(const Candidate<T>& a, const Candidate<T>& b) {
  if (a.score != b.score) return a.score > b.score;
  if (a.class_id != b.class_id) return a.class_id < b.class_id;
  return a.anchor < b.anchor;
}

// Puts the `count` first in order and returns their end; the rest is left
// anywhere.
template <typename Iterator>
Iterator SortBest(Iterator begin, Iterator end, int64_t count) {
  if (count < end - begin) {
    std::nth_element(begin, begin + count, end);
    end = begin + count;
  }
  std::sort(begin, end);
  return end;
}

// A group of candidates is what competes in one suppression.
inline int64_t NumGroups(const BatchedNmsShape& shape,
                         const BatchedNmsOptions& options) {
  return options.class_agnostic ? 1 : shape.num_classes;
}

// Candidates that a group can have.
inline int64_t GroupCapacity(const BatchedNmsShape& shape,
                             const BatchedNmsOptions& options) {
  return options.class_agnostic ? shape.num_anchors * shape.num_classes
                                : shape.num_anchors;
}

// Candidates of a group that take part.
inline int64_t GroupLimit(const BatchedNmsShape& shape,
                          const BatchedNmsOptions& options) {
  const int64_t capacity = GroupCapacity(shape, options);
  return options.pre_nms_top_k < 0 ? capacity
                                   : std::min(options.pre_nms_top_k, capacity);
}

// The rows of one image.
template <typename S>
BatchedNmsOutput<S> ImageOutput(const BatchedNmsOutput<S>& output,
                                int64_t image, int64_t rows) {
  return {output.boxes + 4 * image * rows, output.scores + image * rows,
          output.classes + image * rows, output.num_detections + image,
          output.anchor_indices + image * rows};
}

// Writes the rows after the `found` ones of an image, and their number.
template <typename S>
void FinishOutput(const BatchedNmsOutput<S>& output, int64_t found,
                  int64_t rows) {
  std::fill(output.boxes + 4 * found, output.boxes + 4 * rows, S{});
  std::fill(output.scores + found, output.scores + rows, S{});
  std::fill(output.classes + found, output.classes + rows, 0);
  std::fill(output.anchor_indices + found, output.anchor_indices + rows, -1);
  *output.num_detections = static_cast<int32_t>(found);
}

}  // namespace ssdops

#endif  // SSDOPS_CPU_NMS_CANDIDATES_H_
