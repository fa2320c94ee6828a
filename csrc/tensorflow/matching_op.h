// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TENSORFLOW_MATCHING_OP_H_
#define SSDOPS_TENSORFLOW_MATCHING_OP_H_

// match_anchors and assign_targets share their first six inputs and their
// attributes: anchors, gt_boxes, gt_labels and three thresholds.

#include "op_support.h"
#include "ssdops/match_anchors_cuda.h"

namespace ssdops {

// Checks the inputs; per_anchor is [batch, num_anchors].
inline absl::Status InferMatching(
    tensorflow::shape_inference::InferenceContext* c,
    tensorflow::shape_inference::ShapeHandle* per_anchor) {
  using tensorflow::shape_inference::ShapeHandle;
  ShapeHandle anchors, gt_boxes, gt_labels, unused;
  TF_RETURN_IF_ERROR(MergeShape(c, 0, {c->UnknownDim(), 4}, &anchors));
  TF_RETURN_IF_ERROR(
      MergeShape(c, 1, {c->UnknownDim(), c->UnknownDim(), 4}, &gt_boxes));
  TF_RETURN_IF_ERROR(
      MergeShape(c, 2, {c->Dim(gt_boxes, 0), c->Dim(gt_boxes, 1)}, &gt_labels));
  for (int scalar = 3; scalar < 6; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  *per_anchor = c->MakeShape({c->Dim(gt_labels, 0), c->Dim(anchors, 0)});
  return absl::OkStatus();
}

// The options that are attributes.
inline absl::Status ReadMatchingAttributes(
    tensorflow::OpKernelConstruction* ctx, MatchAnchorsOptions* options) {
  TF_RETURN_IF_ERROR(ctx->GetAttr("bipartite_only", &options->bipartite_only));
  return ctx->GetAttr("ignore_cross_boundary", &options->ignore_cross_boundary);
}

// Validates the six inputs.
inline absl::Status ReadMatchingInputs(tensorflow::OpKernelContext* ctx,
                                       MatchAnchorsShape* shape,
                                       MatchAnchorsOptions* options) {
  const tensorflow::Tensor& anchors = ctx->input(0);
  const tensorflow::Tensor& gt_boxes = ctx->input(1);
  const tensorflow::Tensor& gt_labels = ctx->input(2);
  if (!HasShape(anchors, {kAny, 4})) {
    return WrongShape("anchors", "[A, 4]", anchors);
  }
  if (!HasShape(gt_boxes, {kAny, kAny, 4})) {
    return WrongShape("gt_boxes", "[B, G, 4]", gt_boxes);
  }
  if (!HasShape(gt_labels, {gt_boxes.dim_size(0), gt_boxes.dim_size(1)})) {
    return WrongShape("gt_labels", "[B, G] of gt_boxes", gt_labels);
  }
  *shape = {gt_boxes.dim_size(0), anchors.dim_size(0), gt_boxes.dim_size(1)};
  TF_RETURN_IF_ERROR(CheckIndexable("anchors", shape->num_anchors));
  TF_RETURN_IF_ERROR(CheckIndexable("gt_boxes", shape->num_gt));
  TF_RETURN_IF_ERROR(
      ScalarInRange(ctx, 3, "iou_threshold", 0, 1, &options->iou_threshold));
  TF_RETURN_IF_ERROR(ScalarInRange(ctx, 4, "negative_threshold", 0,
                                   options->iou_threshold,
                                   &options->negative_threshold));
  return ScalarInRange(ctx, 5, "ignore_threshold", 0, 1,
                       &options->ignore_threshold);
}

}  // namespace ssdops

#endif  // SSDOPS_TENSORFLOW_MATCHING_OP_H_
