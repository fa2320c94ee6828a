// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/detect_cuda.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferDetect(InferenceContext* c) {
  ShapeHandle logits, offsets, anchors, unused;
  TF_RETURN_IF_ERROR(MergeShape(
      c, 0, {c->UnknownDim(), c->UnknownDim(), c->UnknownDim()}, &logits));
  TF_RETURN_IF_ERROR(
      MergeShape(c, 1, {c->Dim(logits, 0), c->Dim(logits, 1), 4}, &offsets));
  TF_RETURN_IF_ERROR(MergeShape(c, 2, {c->Dim(offsets, 1), 4}, &anchors));
  TF_RETURN_IF_ERROR(MergeShape(c, 3, {4}, &unused));
  TF_RETURN_IF_ERROR(c->WithRankAtMost(c->input(4), 1, &unused));
  for (int scalar = 5; scalar < 7; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  int64_t max_detections = 0;
  bool class_probabilities = false;
  TF_RETURN_IF_ERROR(c->GetAttr("max_detections", &max_detections));
  TF_RETURN_IF_ERROR(
      c->GetAttr("return_class_probabilities", &class_probabilities));
  const DimensionHandle batch = c->Dim(offsets, 0);
  const DimensionHandle rows = c->MakeDim(max_detections);
  const DimensionHandle classes =
      class_probabilities ? c->Dim(logits, 2) : c->MakeDim(0);
  c->set_output(0, c->MakeShape({batch, rows, 4}));
  c->set_output(1, c->MakeShape({batch, rows}));
  c->set_output(2, c->MakeShape({batch, rows}));
  c->set_output(3, c->MakeShape({batch}));
  c->set_output(4, c->MakeShape({batch, rows}));
  c->set_output(5, c->MakeShape({batch, rows, classes}));
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>Detect")
    .Input("logits: T")
    .Input("offsets: T")
    .Input("anchors: T")
    .Input("variances: double")
    .Input("score_threshold: double")
    .Input("iou_threshold: double")
    .Input("eta: double")
    .Output("detected_boxes: T")
    .Output("detected_scores: T")
    .Output("detected_classes: int32")
    .Output("num_detections: int32")
    .Output("anchor_indices: int32")
    .Output("class_probabilities: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .Attr("score_activation: {'none', 'softmax', 'sigmoid'}")
    .Attr("criterion: {'iou', 'diou'}")
    .Attr("clip: bool")
    .Attr("class_agnostic: bool")
    .Attr("pre_nms_top_k: int >= -1")
    .Attr("max_detections: int >= 1")
    .Attr("background_class: int >= -1")
    .Attr("class_subset: list(int)")
    .Attr("return_class_probabilities: bool")
    .SetShapeFn(InferDetect)
    .Doc(
        "Detections from raw network outputs; see "
        "csrc/include/ssdops/detect.h.");

template <typename Device>
class DetectOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit DetectOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, EnumAttr(ctx, "score_activation", kScoreActivationNames,
                                 &options_.activation));
    OP_REQUIRES_OK(ctx, EnumAttr(ctx, "criterion", kNmsCriterionNames,
                                 &options_.criterion));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("clip", &options_.clip));
    OP_REQUIRES_OK(ctx,
                   ctx->GetAttr("class_agnostic", &options_.class_agnostic));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("pre_nms_top_k", &options_.pre_nms_top_k));
    OP_REQUIRES_OK(ctx,
                   ctx->GetAttr("max_detections", &options_.max_detections));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("background_class", &background_class_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("class_subset", &class_subset_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("return_class_probabilities",
                                     &options_.class_probabilities));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& logits = ctx->input(0);
    const Tensor& offsets = ctx->input(1);
    const Tensor& anchors = ctx->input(2);
    OP_REQUIRES(ctx, HasShape(logits, {kAny, kAny, kAny}),
                WrongShape("logits", "[B, A, C]", logits));
    const DetectShape shape = {logits.dim_size(0), logits.dim_size(1),
                               logits.dim_size(2)};
    OP_REQUIRES(ctx, HasShape(offsets, {shape.batch, shape.num_anchors, 4}),
                WrongShape("offsets", "[B, A, 4] of logits", offsets));
    OP_REQUIRES(ctx, HasShape(anchors, {shape.num_anchors, 4}),
                WrongShape("anchors", "[A, 4] of logits", anchors));
    OP_REQUIRES_OK(ctx, CheckCandidates(shape.num_anchors, shape.num_classes));
    DetectOptions options = options_;
    OP_REQUIRES_OK(ctx, ReadVariances(ctx, 3, options.variances));
    ScoreLimits limits;
    OP_REQUIRES_OK(ctx, ReadScoreLimits(ctx, shape.num_classes, &limits));
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 5, "iou_threshold", 0, 1,
                                      &options.iou_threshold));
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 6, "eta", 0, 1, &options.eta));

    const int64_t rows = options.max_detections;
    const int64_t classes = options.class_probabilities ? shape.num_classes : 0;
    Tensor* outputs[6] = {};
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, {shape.batch, rows, 4}, &outputs[0]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(1, {shape.batch, rows}, &outputs[1]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(2, {shape.batch, rows}, &outputs[2]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, {shape.batch}, &outputs[3]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(4, {shape.batch, rows}, &outputs[4]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(5, {shape.batch, rows, classes},
                                             &outputs[5]));
    if (shape.batch == 0) return;

    using S = Storage<T>;
    const DetectOutput<S> output = {Data<T>(outputs[0]),
                                    Data<T>(outputs[1]),
                                    outputs[2]->flat<int32_t>().data(),
                                    outputs[3]->flat<int32_t>().data(),
                                    outputs[4]->flat<int32_t>().data(),
                                    Data<T>(outputs[5])};
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, LaunchDetectWorkspaceBytes<S>(shape, options),
                           [&](void* workspace, cudaStream_t stream) {
                             return LaunchDetect(
                                 Data<T>(logits), Data<T>(offsets),
                                 Data<T>(anchors), limits.data(), shape,
                                 options, output, workspace, stream);
                           })));
    } else {
      const TfParallelFor parallel_for(ctx);
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(ctx, AllocateWorkspace(
                              ctx,
                              DetectWorkspaceBytes<S>(
                                  shape, options, parallel_for.num_workers()),
                              &buffer, &workspace));
      Detect(Data<T>(logits), Data<T>(offsets), Data<T>(anchors), limits.data(),
             shape, options, output, workspace, parallel_for);
    }
  }

 private:
  using ScoreLimits = absl::InlinedVector<double, 128>;

  // One limit per class: of all classes or each its own; infinity for those
  // that are not to be detected.
  absl::Status ReadScoreLimits(OpKernelContext* ctx, int64_t num_classes,
                               ScoreLimits* limits) const {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const Tensor& threshold = ctx->input(4);
    const bool per_class = threshold.dims() == 1;
    if (!HasShape(threshold, {}) && !HasShape(threshold, {num_classes})) {
      return WrongShape("score_threshold", "[] or [C] of logits", threshold);
    }
    const auto values = threshold.flat<double>();
    limits->assign(num_classes, kInfinity);
    const auto set = [&](int64_t c) {
      const double value = values(per_class ? c : 0);
      if (!std::isnan(value)) (*limits)[c] = value;
      return !std::isnan(value);
    };
    bool is_number = true;
    if (class_subset_.empty()) {
      for (int64_t c = 0; c < num_classes; ++c) is_number &= set(c);
    }
    for (const int64_t c : class_subset_) {
      if (c < 0 || c >= num_classes) {
        return absl::InvalidArgumentError(
            absl::StrCat("class_subset must have classes in [0, ", num_classes,
                         "), got ", c));
      }
      is_number &= set(c);
    }
    if (!is_number) {
      return absl::InvalidArgumentError(
          "score_threshold must be a number, got nan");
    }
    if (background_class_ >= 0 && background_class_ < num_classes) {
      (*limits)[background_class_] = kInfinity;
    }
    return absl::OkStatus();
  }

  DetectOptions options_ = {};
  int64_t background_class_ = -1;
  std::vector<int64_t> class_subset_;
};

#define SSDOPS_REGISTER(T)                                   \
  SSDOPS_REGISTER_KERNELS("Ssdops>Detect", DetectOp, T,      \
                          .HostMemory("variances")           \
                              .HostMemory("score_threshold") \
                              .HostMemory("iou_threshold")   \
                              .HostMemory("eta"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
