// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/match_anchors.h"

namespace ssdops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferMatchAnchors(InferenceContext* c) {
  ShapeHandle anchors, gt_boxes, gt_labels, unused;
  TF_RETURN_IF_ERROR(MergeShape(c, 0, {c->UnknownDim(), 4}, &anchors));
  TF_RETURN_IF_ERROR(
      MergeShape(c, 1, {c->UnknownDim(), c->UnknownDim(), 4}, &gt_boxes));
  TF_RETURN_IF_ERROR(
      MergeShape(c, 2, {c->Dim(gt_boxes, 0), c->Dim(gt_boxes, 1)}, &gt_labels));
  for (int scalar = 3; scalar < 6; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  const ShapeHandle output =
      c->MakeShape({c->Dim(gt_labels, 0), c->Dim(anchors, 0)});
  c->set_output(0, output);
  c->set_output(1, output);
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>MatchAnchors")
    .Input("anchors: T")
    .Input("gt_boxes: T")
    .Input("gt_labels: int32")
    .Input("iou_threshold: double")
    .Input("negative_threshold: double")
    .Input("ignore_threshold: double")
    .Output("matched_gt: int32")
    .Output("matched_iou: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .Attr("bipartite_only: bool")
    .Attr("ignore_cross_boundary: bool")
    .SetShapeFn(InferMatchAnchors)
    .Doc(
        "Ground truth of every anchor; see "
        "csrc/include/ssdops/match_anchors.h.");

template <typename T>
class MatchAnchorsOp : public OpKernel {
 public:
  explicit MatchAnchorsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx,
                   ctx->GetAttr("bipartite_only", &options_.bipartite_only));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("ignore_cross_boundary",
                                     &options_.ignore_cross_boundary));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& anchors = ctx->input(0);
    const Tensor& gt_boxes = ctx->input(1);
    const Tensor& gt_labels = ctx->input(2);
    OP_REQUIRES(ctx, HasShape(anchors, {kAny, 4}),
                WrongShape("anchors", "[A, 4]", anchors));
    OP_REQUIRES(ctx, HasShape(gt_boxes, {kAny, kAny, 4}),
                WrongShape("gt_boxes", "[B, G, 4]", gt_boxes));
    OP_REQUIRES(
        ctx, HasShape(gt_labels, {gt_boxes.dim_size(0), gt_boxes.dim_size(1)}),
        WrongShape("gt_labels", "[B, G] of gt_boxes", gt_labels));
    const MatchAnchorsShape shape = {gt_boxes.dim_size(0), anchors.dim_size(0),
                                     gt_boxes.dim_size(1)};
    OP_REQUIRES_OK(ctx, CheckIndexable("anchors", shape.num_anchors));
    OP_REQUIRES_OK(ctx, CheckIndexable("gt_boxes", shape.num_gt));
    MatchAnchorsOptions options = options_;
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 3, "iou_threshold", 0, 1,
                                      &options.iou_threshold));
    OP_REQUIRES_OK(
        ctx, ScalarInRange(ctx, 4, "negative_threshold", 0,
                           options.iou_threshold, &options.negative_threshold));
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 5, "ignore_threshold", 0, 1,
                                      &options.ignore_threshold));

    const TensorShape output_shape({shape.batch, shape.num_anchors});
    Tensor* matched_gt = nullptr;
    Tensor* matched_iou = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, output_shape, &matched_gt));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, output_shape, &matched_iou));
    if (matched_gt->NumElements() == 0) return;

    const TfParallelFor parallel_for(ctx);
    Tensor buffer;
    void* workspace = nullptr;
    OP_REQUIRES_OK(ctx,
                   AllocateWorkspace(ctx,
                                     MatchAnchorsWorkspaceBytes<Storage<T>>(
                                         shape, parallel_for.num_workers()),
                                     &buffer, &workspace));
    MatchAnchors(Data<T>(anchors), Data<T>(gt_boxes),
                 gt_labels.flat<int32_t>().data(), shape, options,
                 matched_gt->flat<int32_t>().data(), Data<T>(matched_iou),
                 workspace, parallel_for);
  }

 private:
  MatchAnchorsOptions options_ = {};
};

#define SSDOPS_REGISTER(T)                                                   \
  REGISTER_KERNEL_BUILDER(                                                   \
      Name("Ssdops>MatchAnchors").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
      MatchAnchorsOp<T>);
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
