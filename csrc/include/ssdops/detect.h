// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_DETECT_H_
#define SSDOPS_DETECT_H_

#include <cstdint>

#include "ssdops/batched_nms.h"
#include "ssdops/parallel_for.h"

namespace ssdops {

// What makes scores of the network's class outputs.
enum class ScoreActivation { kNone, kSoftmax, kSigmoid };

// As users write them, in the order of the enumerators.
inline constexpr const char* kScoreActivationNames[] = {"none", "softmax",
                                                        "sigmoid"};

struct DetectShape {
  int64_t batch;        // images
  int64_t num_anchors;  // num_anchors * num_classes is below 2^32
  int64_t num_classes;  // background included
};

// Thresholds are rounded to the compute type before they are compared.
struct DetectOptions {
  ScoreActivation activation;
  double variances[4];  // of (ty, tx, th, tw), positive
  bool clip;            // limit the boxes to [0, 1] before suppression
  NmsCriterion criterion;
  double iou_threshold;      // in [0, 1]; strictly larger ones are suppressed
  double eta;                // in [0, 1]: 1 keeps the threshold as it is
  bool class_agnostic;       // one suppression over all classes
  int64_t pre_nms_top_k;     // candidates per class, or -1 for all
  int64_t max_detections;    // rows of the output, at least 1
  bool class_probabilities;  // whether they are written
};

// Caller-owned results, padded to max_detections rows.
template <typename S>
struct DetectOutput {
  S* boxes;                 // [batch, max_detections, 4]  0 in padding
  S* scores;                // [batch, max_detections]     0 in padding
  int32_t* classes;         // [batch, max_detections]     0 in padding
  int32_t* num_detections;  // [batch]
  int32_t* anchor_indices;  // [batch, max_detections]    -1 in padding
  S* class_probabilities;   // [batch, max_detections, num_classes] or null; 0
                            // in padding
};

// Detections from the raw outputs of the network.
//
//   logits           [batch, num_anchors, num_classes]
//   offsets          [batch, num_anchors, 4]  (ty, tx, th, tw)
//   anchors          [num_anchors, 4]         corners
//   score_limits     [num_classes]  a score strictly above is a candidate;
//                                   infinity: the class is never detected
//   workspace        DetectWorkspaceBytes<S>(shape, options, workers) bytes,
//                    aligned to kWorkspaceAlignment
//
// scores = activation(logits); boxes = decode(offsets) as decode_boxes.h, kept
// in the compute type; then batched_nms.h with the same orders and ties. With
// eta below 1 the threshold of a class is multiplied by eta after every box
// kept in it while it is above 0.5.
//
// The softmax is exp(x - max) / sum with Exp of exp_log.h; the sum adds the
// classes k, k + 16, k + 32, ... for each k below 16 in order and then halves:
// 0..7 + 8..15, 0..3 + 4..7, 0..1 + 2..3, 0 + 1. A row with a NaN or an
// infinite maximum has no candidates. The sigmoid is 1 / (1 + exp(-x)) for x >=
// 0 and exp(x) / (1 + exp(x)) below.
//
// No more is computed than decides: a probability is at most exp(x - max), so
// most anchors are rejected by comparisons, only candidates that are visited
// are decoded, and visiting ends with max_detections.
//
// The result depends neither on the batch nor on the number of threads. S is
// one of the four storage types (storage.h).
template <typename S>
void Detect(const S* logits, const S* offsets, const S* anchors,
            const double* score_limits, const DetectShape& shape,
            const DetectOptions& options, const DetectOutput<S>& output,
            void* workspace, const ParallelFor& parallel_for);

template <typename S>
int64_t DetectWorkspaceBytes(const DetectShape& shape,
                             const DetectOptions& options, int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_DETECT_H_
