// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BATCHED_NMS_H_
#define SSDOPS_BATCHED_NMS_H_

#include <cstdint>

#include "ssdops/parallel_for.h"

namespace ssdops {

// The overlap that suppresses.
enum class NmsCriterion { kIou, kDiou };

struct BatchedNmsShape {
  int64_t batch;        // images
  int64_t num_anchors;  // num_anchors * num_classes is below 2^32
  int64_t num_classes;  // background included
};

// Thresholds are rounded to the dtype of the scores before they are compared.
struct BatchedNmsOptions {
  double score_threshold;    // candidates have a score strictly above
  double iou_threshold;      // in [0, 1]; strictly larger IoUs are suppressed
  int64_t pre_nms_top_k;     // candidates per class, or -1 for all
  int64_t max_detections;    // rows of the output, at least 1
  int64_t background_class;  // never detected; -1 if every class counts
};

// Caller-owned results of BatchedNms, all padded to max_detections rows.
template <typename S>
struct BatchedNmsOutput {
  S* boxes;                 // [batch, max_detections, 4]  0 in padding
  S* scores;                // [batch, max_detections]     0 in padding
  int32_t* classes;         // [batch, max_detections]     0 in padding
  int32_t* num_detections;  // [batch]
  int32_t* anchor_indices;  // [batch, max_detections]    -1 in padding
};

// Greedy non-maximum suppression within each class of each image.
//
//   boxes      [batch, num_anchors, 4]            decoded corners
//   scores     [batch, num_anchors, num_classes]  higher is better
//   workspace  BatchedNmsWorkspaceBytes<S>(shape, options, workers) bytes,
//              aligned to kWorkspaceAlignment
//
// The pre_nms_top_k best candidates of a class are visited best first; one is
// kept if its IoU with every kept one is <= iou_threshold. The max_detections
// best kept ones over all classes are written. Every order is: higher score,
// then lower class, then lower anchor, so the result depends neither on the
// batch nor on the number of threads. A NaN score is no candidate; empty boxes
// (box_math.h) have IoU 0. Every output element is written; outputs must not
// alias inputs. S is one of the four storage types (storage.h).
template <typename S>
void BatchedNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                const BatchedNmsOptions& options,
                const BatchedNmsOutput<S>& output, void* workspace,
                const ParallelFor& parallel_for);

template <typename S>
int64_t BatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                 const BatchedNmsOptions& options,
                                 int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_BATCHED_NMS_H_
