// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/batched_nms_cuda.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferBatchedNms(InferenceContext* c) {
  ShapeHandle boxes, scores, unused;
  TF_RETURN_IF_ERROR(
      MergeShape(c, 0, {c->UnknownDim(), c->UnknownDim(), 4}, &boxes));
  TF_RETURN_IF_ERROR(MergeShape(
      c, 1, {c->Dim(boxes, 0), c->Dim(boxes, 1), c->UnknownDim()}, &scores));
  for (int scalar = 2; scalar < 5; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  int64_t max_detections = 0;
  TF_RETURN_IF_ERROR(c->GetAttr("max_detections", &max_detections));
  const DimensionHandle batch = c->Dim(scores, 0);
  const DimensionHandle rows = c->MakeDim(max_detections);
  c->set_output(0, c->MakeShape({batch, rows, 4}));
  c->set_output(1, c->MakeShape({batch, rows}));
  c->set_output(2, c->MakeShape({batch, rows}));
  c->set_output(3, c->MakeShape({batch}));
  c->set_output(4, c->MakeShape({batch, rows}));
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>BatchedNms")
    .Input("boxes: T")
    .Input("scores: T")
    .Input("score_threshold: double")
    .Input("iou_threshold: double")
    .Input("sigma: double")
    .Output("detected_boxes: T")
    .Output("detected_scores: T")
    .Output("detected_classes: int32")
    .Output("num_detections: int32")
    .Output("anchor_indices: int32")
    .Attr(SSDOPS_FLOAT_TYPES)
    .Attr(
        "method: {'greedy', 'soft_linear', 'soft_gaussian', 'matrix_linear', "
        "'matrix_gaussian', 'weighted'}")
    .Attr("criterion: {'iou', 'diou'}")
    .Attr("class_agnostic: bool")
    .Attr("pre_nms_top_k: int >= -1")
    .Attr("max_detections: int >= 1")
    .Attr("background_class: int >= -1")
    .SetShapeFn(InferBatchedNms)
    .Doc("Non-maximum suppression; see csrc/include/ssdops/batched_nms.h.");

template <typename Device>
class BatchedNmsOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit BatchedNmsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx,
                   EnumAttr(ctx, "method", kNmsMethodNames, &options_.method));
    OP_REQUIRES_OK(ctx, EnumAttr(ctx, "criterion", kNmsCriterionNames,
                                 &options_.criterion));
    OP_REQUIRES_OK(ctx,
                   ctx->GetAttr("class_agnostic", &options_.class_agnostic));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("pre_nms_top_k", &options_.pre_nms_top_k));
    OP_REQUIRES_OK(ctx,
                   ctx->GetAttr("max_detections", &options_.max_detections));
    OP_REQUIRES_OK(
        ctx, ctx->GetAttr("background_class", &options_.background_class));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& boxes = ctx->input(0);
    const Tensor& scores = ctx->input(1);
    OP_REQUIRES(ctx, HasShape(boxes, {kAny, kAny, 4}),
                WrongShape("boxes", "[B, A, 4]", boxes));
    OP_REQUIRES(ctx,
                HasShape(scores, {boxes.dim_size(0), boxes.dim_size(1), kAny}),
                WrongShape("scores", "[B, A, C] of boxes", scores));
    const BatchedNmsShape shape = {boxes.dim_size(0), boxes.dim_size(1),
                                   scores.dim_size(2)};
    OP_REQUIRES_OK(ctx, CheckCandidates(shape.num_anchors, shape.num_classes));
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    BatchedNmsOptions options = options_;
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 2, "score_threshold", -kInfinity,
                                      kInfinity, &options.score_threshold));
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 3, "iou_threshold", 0, 1,
                                      &options.iou_threshold));
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 4, "sigma", kMinNmsSigma,
                                      kMaxNmsSigma, &options.sigma));

    const int64_t rows = options.max_detections;
    Tensor* outputs[5] = {};
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, {shape.batch, rows, 4}, &outputs[0]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(1, {shape.batch, rows}, &outputs[1]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(2, {shape.batch, rows}, &outputs[2]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, {shape.batch}, &outputs[3]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(4, {shape.batch, rows}, &outputs[4]));
    if (shape.batch == 0) return;

    using S = Storage<T>;
    const BatchedNmsOutput<S> output = {
        Data<T>(outputs[0]), Data<T>(outputs[1]),
        outputs[2]->flat<int32_t>().data(), outputs[3]->flat<int32_t>().data(),
        outputs[4]->flat<int32_t>().data()};
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx,
          LaunchOnGpu(ctx, LaunchBatchedNmsWorkspaceBytes<S>(shape, options),
                      [&](void* workspace, cudaStream_t stream) {
                        return LaunchBatchedNms(Data<T>(boxes), Data<T>(scores),
                                                shape, options, output,
                                                workspace, stream);
                      })));
    } else {
      const TfParallelFor parallel_for(ctx);
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(ctx, AllocateWorkspace(
                              ctx,
                              BatchedNmsWorkspaceBytes<S>(
                                  shape, options, parallel_for.num_workers()),
                              &buffer, &workspace));
      BatchedNms(Data<T>(boxes), Data<T>(scores), shape, options, output,
                 workspace, parallel_for);
    }
  }

 private:
  BatchedNmsOptions options_ = {};
};

#define SSDOPS_REGISTER(T)                                      \
  SSDOPS_REGISTER_KERNELS("Ssdops>BatchedNms", BatchedNmsOp, T, \
                          .HostMemory("score_threshold")        \
                              .HostMemory("iou_threshold")      \
                              .HostMemory("sigma"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
