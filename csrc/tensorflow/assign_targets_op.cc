// SPDX-License-Identifier: Apache-2.0
#include "box_coding_op.h"
#include "matching_op.h"
#include "ssdops/assign_targets_cuda.h"

namespace ssdops {
namespace {

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

template <typename Device>
class AssignTargetsOp : public OpKernel {
  using T = typename Device::Type;

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

    using S = Storage<T>;
    const S* anchors = Data<T>(ctx->input(0));
    const S* boxes = Data<T>(ctx->input(1));
    const int32_t* labels = ctx->input(2).flat<int32_t>().data();
    const TargetOutputs<S> targets = {
        classes->flat<int32_t>().data(), Data<T>(offsets),
        matched_gt->flat<int32_t>().data(), Data<T>(matched_iou)};
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, LaunchAssignTargetsWorkspaceBytes<S>(shape),
                           [&](void* workspace, cudaStream_t stream) {
                             return LaunchAssignTargets(
                                 anchors, boxes, labels, variances, shape,
                                 options, targets, workspace, stream);
                           })));
    } else {
      const TfParallelFor parallel_for(ctx);
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(ctx,
                     AllocateWorkspace(ctx,
                                       AssignTargetsWorkspaceBytes<S>(
                                           shape, parallel_for.num_workers()),
                                       &buffer, &workspace));
      AssignTargets(anchors, boxes, labels, variances, shape, options, targets,
                    workspace, parallel_for);
    }
  }

 private:
  MatchAnchorsOptions options_ = {};
};

#define SSDOPS_REGISTER(T)                                            \
  SSDOPS_REGISTER_KERNELS("Ssdops>AssignTargets", AssignTargetsOp, T, \
                          .HostMemory("iou_threshold")                \
                              .HostMemory("negative_threshold")       \
                              .HostMemory("ignore_threshold")         \
                              .HostMemory("variances"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
