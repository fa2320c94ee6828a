// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_GROUPED_NMS_H_
#define SSDOPS_CUDA_GROUPED_NMS_H_

// Suppression within groups, shared by detect and batched_nms. A group is what
// competes in one suppression: a class of an image, or an image. In this order:
//   nms_collect.cu    the candidates of every group, in any order
//   nms_suppress.cu   what is kept of each group; or rescoring_nms.cu
//   nms_merge.cu      the best kept ones of an image

#include "launch.h"
#include "ssdops/candidate_box.h"
#include "ssdops/candidate_key.h"
#include "ssdops/detect.h"
#include "ssdops/workspace.h"

namespace ssdops {

// An argument of kernels.
template <typename S>
struct GroupedNms {
  using T = ComputeType<S>;
  using Key = CandidateKey<T>;

  // Of the arrays below, from the rest; returns the size of the workspace.
  int64_t TakeParts(void* workspace) {
    WorkspaceCursor cursor(workspace);
    limits = cursor.Take<T>(num_classes);
    logit_bounds = cursor.Take<T>(num_classes);
    counts = cursor.Take<uint32_t>(num_all_groups());
    kept_counts = cursor.Take<uint32_t>(num_all_groups());
    keys = cursor.Take<Key>(num_all_groups() * capacity());
    kept = cursor.Take<Key>(num_all_groups() * kept_limit);
    if (rescores) {
      kept_scores = cursor.Take<T>(num_all_groups() * kept_limit);
    }
    kept_boxes = cursor.Take<Box<T>>(num_all_groups() * kept_limit);
    return cursor.used();
  }

  SSDOPS_HOST_DEVICE int64_t num_groups() const {
    return class_agnostic ? 1 : num_classes;
  }
  SSDOPS_HOST_DEVICE int64_t num_all_groups() const {
    return batch * num_groups();
  }
  // Candidates that a group can have, and those that can take part.
  SSDOPS_HOST_DEVICE int64_t capacity() const {
    return class_agnostic ? num_anchors * num_classes : num_anchors;
  }
  SSDOPS_HOST_DEVICE int64_t limit() const {
    const int64_t most = capacity();
    return top_k < 0 || top_k > most ? most : top_k;
  }

  int64_t batch, num_anchors, num_classes;
  const S* boxes;    // [batch, num_anchors, 4] corners, or offsets
  const S* scores;   // [batch, num_anchors, num_classes], or logits
  const S* anchors;  // [num_anchors, 4]; null: boxes are corners
  T variances[4];
  bool clip;
  ScoreActivation activation;
  int64_t pivot;  // softmax: a class that is often the largest
  NmsCriterion criterion;
  T iou_threshold, eta;
  bool class_agnostic;
  int64_t top_k;  // or -1
  int64_t max_detections;
  int64_t kept_limit;  // of a group
  // Kept ones have scores, or boxes, of their own.
  bool rescores, moves_boxes;

  T* limits;              // [num_classes] candidates have a score above
  T* logit_bounds;        // [num_classes] logits up to here give none
  uint32_t* counts;       // [groups] candidates
  uint32_t* kept_counts;  // [groups]
  Key* keys;              // [groups, capacity]
  Key* kept;              // [groups, kept_limit] best first, unless rescored
  T* kept_scores;         // [groups, kept_limit]
  Box<T>* kept_boxes;     // [groups, kept_limit]
};

// Where the limits of the scores come from, in host memory: one per class, or
// the same for all classes but the background.
struct ScoreLimits {
  const double* of_classes;  // [num_classes] or null
  double of_all;
  int64_t background_class;  // or -1
};

template <typename S>
cudaError_t LaunchCollect(const GroupedNms<S>& nms, const ScoreLimits& limits,
                          cudaStream_t stream);

// Greedy suppression.
template <typename S>
cudaError_t LaunchSuppress(const GroupedNms<S>& nms, cudaStream_t stream);

// The rows of all images; with class_probabilities, or null.
template <typename S>
cudaError_t LaunchMerge(const GroupedNms<S>& nms,
                        const BatchedNmsOutput<S>& output,
                        S* class_probabilities, cudaStream_t stream);

// The box of an anchor of an image.
template <typename S>
__device__ Box<ComputeType<S>> CandidateBox(const GroupedNms<S>& nms,
                                            int64_t image, int64_t anchor) {
  const S* from = nms.boxes + 4 * (image * nms.num_anchors + anchor);
  if (nms.anchors == nullptr) return LoadWideBox(from);
  return DecodeCandidate(from, LoadWideBox(nms.anchors + 4 * anchor),
                         nms.variances, nms.clip);
}

}  // namespace ssdops

#endif  // SSDOPS_CUDA_GROUPED_NMS_H_
