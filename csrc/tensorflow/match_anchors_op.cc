// SPDX-License-Identifier: Apache-2.0
#include "matching_op.h"
#include "ssdops/match_anchors.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferMatchAnchors(InferenceContext* c) {
  ShapeHandle per_anchor;
  TF_RETURN_IF_ERROR(InferMatching(c, &per_anchor));
  c->set_output(0, per_anchor);
  c->set_output(1, per_anchor);
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

template <typename Device>
class MatchAnchorsOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit MatchAnchorsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ReadMatchingAttributes(ctx, &options_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& anchors = ctx->input(0);
    const Tensor& gt_boxes = ctx->input(1);
    const Tensor& gt_labels = ctx->input(2);
    MatchAnchorsShape shape;
    MatchAnchorsOptions options = options_;
    OP_REQUIRES_OK(ctx, ReadMatchingInputs(ctx, &shape, &options));

    const TensorShape output_shape({shape.batch, shape.num_anchors});
    Tensor* matched_gt = nullptr;
    Tensor* matched_iou = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, output_shape, &matched_gt));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, output_shape, &matched_iou));
    if (matched_gt->NumElements() == 0) return;

    using S = Storage<T>;
    const S* boxes = Data<T>(gt_boxes);
    const int32_t* labels = gt_labels.flat<int32_t>().data();
    int32_t* rows = matched_gt->flat<int32_t>().data();
    S* ious = Data<T>(matched_iou);
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, LaunchMatchAnchorsWorkspaceBytes<S>(shape),
                           [&](void* workspace, cudaStream_t stream) {
                             return LaunchMatchAnchors(
                                 Data<T>(anchors), boxes, labels, shape,
                                 options, rows, ious, workspace, stream);
                           })));
    } else {
      const TfParallelFor parallel_for(ctx);
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(ctx,
                     AllocateWorkspace(ctx,
                                       MatchAnchorsWorkspaceBytes<S>(
                                           shape, parallel_for.num_workers()),
                                       &buffer, &workspace));
      MatchAnchors(Data<T>(anchors), boxes, labels, shape, options, rows, ious,
                   workspace, parallel_for);
    }
  }

 private:
  MatchAnchorsOptions options_ = {};
};

#define SSDOPS_REGISTER(T)                                          \
  SSDOPS_REGISTER_KERNELS("Ssdops>MatchAnchors", MatchAnchorsOp, T, \
                          .HostMemory("iou_threshold")              \
                              .HostMemory("negative_threshold")     \
                              .HostMemory("ignore_threshold"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
