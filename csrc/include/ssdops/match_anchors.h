// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_MATCH_ANCHORS_H_
#define SSDOPS_MATCH_ANCHORS_H_

#include <cstdint>

#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"

namespace ssdops {

constexpr int32_t kNegative =
    -1;  // matched_gt of an anchor without ground truth
constexpr int32_t kIgnored = -2;  // matched_gt of one that is not used

struct MatchAnchorsShape {
  int64_t batch;        // images
  int64_t num_anchors;  // below 2^31
  int64_t num_gt;  // ground-truth rows of an image, padding included, < 2^31
};

// Thresholds are rounded to the compute type before they are compared.
struct MatchAnchorsOptions {
  double iou_threshold;        // in [0, 1], inclusive
  double negative_threshold;   // in [0, iou_threshold]; equal to it: no band
  double ignore_threshold;     // in [0, 1], inclusive
  bool bipartite_only;         // no per-anchor step
  bool ignore_cross_boundary;  // anchors outside [0, 1] are ignored
};

// Ground truth of every anchor.
//
//   anchors      [num_anchors, 4]     corners (ymin, xmin, ymax, xmax)
//   gt_boxes     [batch, num_gt, 4]   same
//   gt_labels    [batch, num_gt]      > 0 real, 0 padding, < 0 ignore region
//   matched_gt   [batch, num_anchors] row of gt_boxes, kNegative or kIgnored
//   matched_iou  [batch, num_anchors] IoU with the matched row, else the best
//                                     IoU with a real row; 0 below 1e-6
//   workspace    MatchAnchorsWorkspaceBytes<S>(shape, workers) bytes, aligned
//                to kWorkspaceAlignment
//
// 1. Bipartite: among pairs of free anchors and free real rows with IoU > 1e-6
//    the largest IoU is matched, again and again; ties go to the lowest anchor,
//    then to the lowest row.
// 2. Per anchor, unless bipartite_only: a free anchor takes the row of its
//    largest IoU (ties: lowest row) if that is >= iou_threshold.
// 3. An unmatched anchor is ignored if its largest IoU is >= negative_threshold
//    < iou_threshold, or if intersection / area of the anchor with one ignore
//    region is >= ignore_threshold.
//
// Empty boxes (box_math.h) overlap nothing. The result of an image depends
// neither on the other images nor on padding nor on the number of threads.
// S is one of the four storage types (storage.h); IoUs and thresholds are
// compared in its compute type, matched_iou is rounded when it is written.
template <typename S>
void MatchAnchors(const S* anchors, const S* gt_boxes, const int32_t* gt_labels,
                  const MatchAnchorsShape& shape,
                  const MatchAnchorsOptions& options, int32_t* matched_gt,
                  S* matched_iou, void* workspace,
                  const ParallelFor& parallel_for);

template <typename S>
int64_t MatchAnchorsWorkspaceBytes(const MatchAnchorsShape& shape,
                                   int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_MATCH_ANCHORS_H_
