// SPDX-License-Identifier: Apache-2.0
#include "box_coding_op.h"
#include "matching_op.h"
#include "ssdops/assign_targets.h"

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

absl::Status InferAssignTargets(InferenceContext* c) {
  ShapeHandle per_anchor, offsets, unused;
  TF_RETURN_IF_ERROR(InferMatching(c, &per_anchor));
  TF_RETURN_IF_ERROR(MergeShape(c, 6, {4}, &unused));
  TF_RETURN_IF_ERROR(c->Concatenate(per_anchor, c->Vector(4), &offsets));
  c->set_output(0, per_anchor);
  c->set_output(1, offsets);
  c->set_output(2, per_anchor);
  c->set_output(3, per_anchor);
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>AssignTargets")
    .Input("anchors: T")
    .Input("gt_boxes: T")
    .Input("gt_labels: int32")
    .Input("iou_threshold: double")
    .Input("negative_threshold: double")
    .Input("ignore_threshold: double")
    .Input("variances: double")
    .Output("classes: int32")
    .Output("offsets: T")
    .Output("matched_gt: int32")
    .Output("matched_iou: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .Attr("bipartite_only: bool")
    .Attr("ignore_cross_boundary: bool")
    .SetShapeFn(InferAssignTargets)
    .Doc(
        "What every anchor shall predict; see "
        "csrc/include/ssdops/assign_targets.h.");

template <typename T>
class AssignTargetsOp : public OpKernel {
 public:
  explicit AssignTargetsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadMatchingAttributes(ctx, &options_));
  }

  void Compute(OpKernelContext* ctx) override {
    MatchAnchorsShape shape;
    MatchAnchorsOptions options = options_;
    OP_REQUIRES_OK(ctx, ReadMatchingInputs(ctx, &shape, &options));
    ComputeType<Storage<T>> variances[4];
    OP_REQUIRES_OK(ctx, ReadVariances(ctx->input(6), variances));

    const TensorShape per_anchor({shape.batch, shape.num_anchors});
    Tensor *classes = nullptr, *offsets = nullptr;
    Tensor *matched_gt = nullptr, *matched_iou = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, per_anchor, &classes));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(
                            1, TensorShape({shape.batch, shape.num_anchors, 4}),
                            &offsets));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(2, per_anchor, &matched_gt));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, per_anchor, &matched_iou));
    if (classes->NumElements() == 0) return;

    const TfParallelFor parallel_for(ctx);
    Tensor buffer;
    void* workspace = nullptr;
    OP_REQUIRES_OK(ctx,
                   AllocateWorkspace(ctx,
                                     AssignTargetsWorkspaceBytes<Storage<T>>(
                                         shape, parallel_for.num_workers()),
                                     &buffer, &workspace));
    AssignTargets(Data<T>(ctx->input(0)), Data<T>(ctx->input(1)),
                  ctx->input(2).flat<int32_t>().data(), variances, shape,
                  options,
                  TargetOutputs<Storage<T>>{
                      classes->flat<int32_t>().data(), Data<T>(offsets),
                      matched_gt->flat<int32_t>().data(), Data<T>(matched_iou)},
                  workspace, parallel_for);
  }

 private:
  MatchAnchorsOptions options_ = {};
};

#define SSDOPS_REGISTER(T)                                                    \
  REGISTER_KERNEL_BUILDER(                                                    \
      Name("Ssdops>AssignTargets").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
      AssignTargetsOp<T>);
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
