// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_ASSIGN_TARGETS_H_
#define SSDOPS_ASSIGN_TARGETS_H_

#include <cstdint>

#include "ssdops/match_anchors.h"
#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"

namespace ssdops {

constexpr int32_t kBackgroundClass = 0;  // class of a negative anchor
constexpr int32_t kIgnoredClass = -1;    // class of an ignored one

// Where the targets are written; every element is.
template <typename S>
struct TargetOutputs {
  int32_t* classes;     // [batch, num_anchors] label of the matched row,
                        // kBackgroundClass or kIgnoredClass
  S* offsets;           // [batch, num_anchors, 4] the matched row encoded as in
                        // encode_boxes.h; 0 where there is none
  int32_t* matched_gt;  // [batch, num_anchors] as in match_anchors.h
  S* matched_iou;       // [batch, num_anchors] likewise
};

// What every anchor shall predict: MatchAnchors, and EncodeBoxes of what it
// matches, in one pass.
//
//   anchors    [num_anchors, 4]  corners (ymin, xmin, ymax, xmax)
//   gt_boxes   [batch, num_gt, 4]
//   gt_labels  [batch, num_gt]   > 0 class, 0 padding, < 0 ignore region
//   variances  [4]               of (ty, tx, th, tw), positive
//   workspace  AssignTargetsWorkspaceBytes<S>(shape, workers) bytes, aligned to
//              kWorkspaceAlignment
//
// The results are those of the two in every bit. S is one of the four storage
// types (storage.h).
template <typename S>
void AssignTargets(const S* anchors, const S* gt_boxes,
                   const int32_t* gt_labels, const ComputeType<S>* variances,
                   const MatchAnchorsShape& shape,
                   const MatchAnchorsOptions& options,
                   const TargetOutputs<S>& targets, void* workspace,
                   const ParallelFor& parallel_for);

template <typename S>
int64_t AssignTargetsWorkspaceBytes(const MatchAnchorsShape& shape,
                                    int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_ASSIGN_TARGETS_H_
