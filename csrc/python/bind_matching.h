// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PYTHON_BIND_MATCHING_H_
#define SSDOPS_PYTHON_BIND_MATCHING_H_

// The arguments that match_anchors and assign_targets share.

#include "array_support.h"
#include "ssdops/match_anchors.h"

namespace ssdops::python {

inline MatchAnchorsShape CheckMatching(const Array& anchors,
                                       const Array& gt_boxes,
                                       const Array& gt_labels) {
  if (!HasShape(anchors, {kAny, 4})) ThrowShape("anchors", "[A, 4]", anchors);
  if (!HasShape(gt_boxes, {kAny, kAny, 4})) {
    ThrowShape("gt_boxes", "[B, G, 4]", gt_boxes);
  }
  const MatchAnchorsShape shape = {gt_boxes.shape(0), anchors.shape(0),
                                   gt_boxes.shape(1)};
  if (!HasShape(gt_labels, {shape.batch, shape.num_gt})) {
    ThrowShape("gt_labels", "[B, G] of gt_boxes", gt_labels);
  }
  return shape;
}

inline MatchAnchorsOptions CheckMatchingOptions(double iou_threshold,
                                                double negative_threshold,
                                                double ignore_threshold,
                                                bool bipartite_only,
                                                bool ignore_cross_boundary) {
  return {InRange("iou_threshold", iou_threshold, 0, 1, "[0, 1]"),
          InRange("negative_threshold", negative_threshold, 0, iou_threshold,
                  "[0, iou_threshold]"),
          InRange("ignore_threshold", ignore_threshold, 0, 1, "[0, 1]"),
          bipartite_only, ignore_cross_boundary};
}

}  // namespace ssdops::python

#endif  // SSDOPS_PYTHON_BIND_MATCHING_H_
