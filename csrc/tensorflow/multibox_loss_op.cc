// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/multibox_loss_cuda.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Inputs of both ops, in this order; the gradient op has three more behind
// them.
enum Input {
  kLogits,
  kOffsets,
  kTargetClasses,
  kTargetOffsets,
  kAnchors,
  kVariances,
  kNegativeRatio,
  kLocalizationWeight,
  kNormalizer,
  kFocalAlpha,
  kFocalGamma,
  kGradLosses,
  kNumPositives,
  kMined,
};

absl::Status CheckInputs(InferenceContext* c, ShapeHandle* logits,
                         ShapeHandle* offsets) {
  ShapeHandle unused;
  TF_RETURN_IF_ERROR(MergeShape(
      c, kLogits, {c->UnknownDim(), c->UnknownDim(), c->UnknownDim()}, logits));
  const auto batch = c->Dim(*logits, 0), anchors = c->Dim(*logits, 1);
  TF_RETURN_IF_ERROR(MergeShape(c, kOffsets, {batch, anchors, 4}, offsets));
  TF_RETURN_IF_ERROR(MergeShape(c, kTargetClasses, {batch, anchors}, &unused));
  TF_RETURN_IF_ERROR(
      MergeShape(c, kTargetOffsets, {batch, anchors, 4}, &unused));
  TF_RETURN_IF_ERROR(MergeShape(c, kAnchors, {c->UnknownDim(), 4}, &unused));
  TF_RETURN_IF_ERROR(MergeShape(c, kVariances, {4}, &unused));
  for (int scalar = kNegativeRatio; scalar <= kFocalGamma; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  return absl::OkStatus();
}

absl::Status InferLoss(InferenceContext* c) {
  ShapeHandle logits, offsets;
  TF_RETURN_IF_ERROR(CheckInputs(c, &logits, &offsets));
  for (int scalar = 0; scalar < 4; ++scalar) {
    c->set_output(scalar, c->Scalar());
  }
  c->set_output(4, c->MakeShape({c->Dim(logits, 0), c->Dim(logits, 1)}));
  return absl::OkStatus();
}

absl::Status InferGrad(InferenceContext* c) {
  ShapeHandle logits, offsets;
  TF_RETURN_IF_ERROR(CheckInputs(c, &logits, &offsets));
  c->set_output(0, logits);
  c->set_output(1, offsets);
  return absl::OkStatus();
}

#define SSDOPS_LOSS_INPUTS                  \
  Input("logits: T")                        \
      .Input("offsets: T")                  \
      .Input("target_classes: int32")       \
      .Input("target_offsets: T")           \
      .Input("anchors: T")                  \
      .Input("variances: double")           \
      .Input("negative_ratio: double")      \
      .Input("localization_weight: double") \
      .Input("normalizer: double")          \
      .Input("focal_alpha: double")         \
      .Input("focal_gamma: double")

#define SSDOPS_LOSS_ATTRS                                                     \
  Attr(SSDOPS_FLOAT_TYPES)                                                    \
      .Attr("Tcompute: {float, double}")                                      \
      .Attr("confidence_loss: {'softmax', 'sigmoid', 'sigmoid_focal'}")       \
      .Attr("localization_loss: {'smooth_l1', 'l2', 'giou', 'diou', 'ciou'}") \
      .Attr("has_normalizer: bool")

REGISTER_OP("Ssdops>MultiboxLoss")
    .SSDOPS_LOSS_INPUTS.Output("total: Tcompute")
    .Output("localization: Tcompute")
    .Output("confidence: Tcompute")
    .Output("num_positives: Tcompute")
    .Output("mined: bool")
    .SSDOPS_LOSS_ATTRS.SetShapeFn(InferLoss)
    .Doc("Loss of a batch; see csrc/include/ssdops/multibox_loss.h.");

REGISTER_OP("Ssdops>MultiboxLossGrad")
    .SSDOPS_LOSS_INPUTS.Input("grad_losses: Tcompute")
    .Input("num_positives: Tcompute")
    .Input("mined: bool")
    .Output("grad_logits: T")
    .Output("grad_offsets: T")
    .SSDOPS_LOSS_ATTRS.SetShapeFn(InferGrad)
    .Doc(
        "Gradient of Ssdops>MultiboxLoss with respect to logits and offsets, "
        "given those of its first three outputs.");

// What both ops read from their attributes and first inputs.
template <typename T>
class LossOp : public OpKernel {
 public:
  explicit LossOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, EnumAttr(ctx, "confidence_loss", kConfidenceLossNames,
                                 &options_.confidence));
    OP_REQUIRES_OK(ctx,
                   EnumAttr(ctx, "localization_loss", kLocalizationLossNames,
                            &options_.localization));
    OP_REQUIRES_OK(ctx,
                   ctx->GetAttr("has_normalizer", &options_.has_normalizer));
  }

 protected:
  absl::Status Read(OpKernelContext* ctx, MultiboxLossShape* shape,
                    MultiboxLossOptions* options,
                    MultiboxLossInput<Storage<T>>* input) const {
    const Tensor& logits = ctx->input(kLogits);
    const Tensor& anchors = ctx->input(kAnchors);
    if (!HasShape(logits, {kAny, kAny, kAny}) || logits.dim_size(2) < 1) {
      return WrongShape("logits", "[B, A, C] with at least one class", logits);
    }
    *shape = {logits.dim_size(0), logits.dim_size(1), logits.dim_size(2)};
    TF_RETURN_IF_ERROR(CheckIndexable("logits", shape->num_anchors));
    const std::initializer_list<int64_t> offsets = {shape->batch,
                                                    shape->num_anchors, 4};
    if (!HasShape(ctx->input(kOffsets), offsets)) {
      return WrongShape("offsets", "[B, A, 4] of logits", ctx->input(kOffsets));
    }
    if (!HasShape(ctx->input(kTargetOffsets), offsets)) {
      return WrongShape("target_offsets", "[B, A, 4] of logits",
                        ctx->input(kTargetOffsets));
    }
    if (!HasShape(ctx->input(kTargetClasses),
                  {shape->batch, shape->num_anchors})) {
      return WrongShape("target_classes", "[B, A] of logits",
                        ctx->input(kTargetClasses));
    }
    const bool on_boxes =
        options_.localization != LocalizationLoss::kSmoothL1 &&
        options_.localization != LocalizationLoss::kL2;
    if (on_boxes && !HasShape(anchors, {shape->num_anchors, 4})) {
      return WrongShape("anchors", "[A, 4] of logits", anchors);
    }
    *options = options_;
    constexpr double kMax = std::numeric_limits<double>::max();
    TF_RETURN_IF_ERROR(ReadVariances(ctx, kVariances, options->variances));
    TF_RETURN_IF_ERROR(ScalarInRange(ctx, kNegativeRatio, "negative_ratio", 0,
                                     kMax, &options->negative_ratio));
    TF_RETURN_IF_ERROR(ScalarInRange(ctx, kLocalizationWeight,
                                     "localization_weight", -kMax, kMax,
                                     &options->localization_weight));
    TF_RETURN_IF_ERROR(ScalarInRange(ctx, kFocalAlpha, "focal_alpha", 0, 1,
                                     &options->focal_alpha));
    TF_RETURN_IF_ERROR(ScalarInRange(ctx, kFocalGamma, "focal_gamma", 0, kMax,
                                     &options->focal_gamma));
    if (options->has_normalizer) {
      TF_RETURN_IF_ERROR(ScalarInRange(ctx, kNormalizer, "normalizer", 0, kMax,
                                       &options->normalizer));
    }
    *input = {Data<T>(logits), Data<T>(ctx->input(kOffsets)),
              ctx->input(kTargetClasses).flat<int32_t>().data(),
              Data<T>(ctx->input(kTargetOffsets)),
              on_boxes ? Data<T>(anchors) : nullptr};
    return absl::OkStatus();
  }

 private:
  MultiboxLossOptions options_ = {};
};

template <typename Device>
class MultiboxLossOp : public LossOp<typename Device::Type> {
  using T = typename Device::Type;

 public:
  using LossOp<T>::LossOp;

  void Compute(OpKernelContext* ctx) override {
    using Compute = ComputeType<Storage<T>>;
    MultiboxLossShape shape;
    MultiboxLossOptions options;
    MultiboxLossInput<Storage<T>> input;
    OP_REQUIRES_OK(ctx, this->Read(ctx, &shape, &options, &input));
    Tensor* scalars[4] = {};
    for (int k = 0; k < 4; ++k) {
      OP_REQUIRES_OK(ctx, ctx->allocate_output(k, {}, &scalars[k]));
    }
    Tensor* mined = nullptr;
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(4, {shape.batch, shape.num_anchors}, &mined));
    const MultiboxLossOutput<Compute> output = {
        scalars[0]->flat<Compute>().data(), scalars[1]->flat<Compute>().data(),
        scalars[2]->flat<Compute>().data(), scalars[3]->flat<Compute>().data(),
        mined->flat<bool>().data()};
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx,
          LaunchOnGpu(ctx, LaunchMultiboxLossWorkspaceBytes<Storage<T>>(shape),
                      [&](void* workspace, cudaStream_t stream) {
                        return LaunchMultiboxLoss(input, shape, options, output,
                                                  workspace, stream);
                      })));
    } else {
      const TfParallelFor parallel_for(ctx);
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(ctx,
                     AllocateWorkspace(ctx,
                                       MultiboxLossWorkspaceBytes<Storage<T>>(
                                           shape, parallel_for.num_workers()),
                                       &buffer, &workspace));
      OP_REQUIRES(
          ctx,
          MultiboxLoss(input, shape, options, output, workspace, parallel_for),
          absl::InvalidArgumentError(absl::StrCat(
              "target_classes must be below the ", shape.num_classes,
              " classes of the logits, and one is not")));
    }
  }
};

template <typename Device>
class MultiboxLossGradOp : public LossOp<typename Device::Type> {
  using T = typename Device::Type;

 public:
  using LossOp<T>::LossOp;

  void Compute(OpKernelContext* ctx) override {
    using Compute = ComputeType<Storage<T>>;
    MultiboxLossShape shape;
    MultiboxLossOptions options;
    MultiboxLossInput<Storage<T>> input;
    OP_REQUIRES_OK(ctx, this->Read(ctx, &shape, &options, &input));
    const Tensor& grad_losses = ctx->input(kGradLosses);
    const Tensor& num_positives = ctx->input(kNumPositives);
    const Tensor& mined = ctx->input(kMined);
    OP_REQUIRES(ctx, HasShape(grad_losses, {3}),
                WrongShape("grad_losses", "[3]", grad_losses));
    OP_REQUIRES(ctx, HasShape(num_positives, {}),
                WrongShape("num_positives", "[]", num_positives));
    OP_REQUIRES(ctx, HasShape(mined, {shape.batch, shape.num_anchors}),
                WrongShape("mined", "[B, A] of logits", mined));
    Tensor* grad_logits = nullptr;
    Tensor* grad_offsets = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, ctx->input(kLogits).shape(),
                                             &grad_logits));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, ctx->input(kOffsets).shape(),
                                             &grad_offsets));
    const Compute* grads = grad_losses.flat<Compute>().data();
    const Compute* positives = num_positives.flat<Compute>().data();
    const bool* chosen = mined.flat<bool>().data();
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return LaunchMultiboxLossGrad(
                input, shape, options, grads, positives, chosen,
                Data<T>(grad_logits), Data<T>(grad_offsets), stream);
          })));
    } else {
      MultiboxLossGrad(input, shape, options, grads, *positives, chosen,
                       Data<T>(grad_logits), Data<T>(grad_offsets),
                       TfParallelFor(ctx));
    }
  }
};

// What the op kernels read themselves.
#define SSDOPS_LOSS_CONSTRAINTS(T)                     \
  .TypeConstraint<ComputeType<Storage<T>>>("Tcompute") \
      .HostMemory("variances")                         \
      .HostMemory("negative_ratio")                    \
      .HostMemory("localization_weight")               \
      .HostMemory("normalizer")                        \
      .HostMemory("focal_alpha")                       \
      .HostMemory("focal_gamma")

#define SSDOPS_REGISTER(T)                                                  \
  SSDOPS_REGISTER_KERNELS("Ssdops>MultiboxLoss", MultiboxLossOp, T,         \
                          SSDOPS_LOSS_CONSTRAINTS(T))                       \
  SSDOPS_REGISTER_KERNELS("Ssdops>MultiboxLossGrad", MultiboxLossGradOp, T, \
                          SSDOPS_LOSS_CONSTRAINTS(T))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER
#undef SSDOPS_LOSS_CONSTRAINTS

}  // namespace
}  // namespace ssdops
