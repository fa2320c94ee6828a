// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "op_support.h"
#include "ssdops/nms_cuda.h"

namespace ssdops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferNms(InferenceContext* c) {
  ShapeHandle boxes, scores, unused;
  TF_RETURN_IF_ERROR(MergeShape(c, 0, {c->UnknownDim(), 4}, &boxes));
  TF_RETURN_IF_ERROR(MergeShape(c, 1, {c->Dim(boxes, 0)}, &scores));
  for (int scalar = 2; scalar < 5; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  DimensionHandle rows = c->UnknownDim();
  const Tensor* limit = c->input_tensor(2);
  if (limit != nullptr) {
    const int32_t value = limit->scalar<int32_t>()();
    rows = value < 0 ? c->Dim(scores, 0) : c->MakeDim(value);
  }
  c->set_output(0, c->Vector(rows));
  c->set_output(1, c->Scalar());
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>Nms")
    .Input("boxes: T")
    .Input("scores: T")
    .Input("max_output_size: int32")
    .Input("iou_threshold: double")
    .Input("score_threshold: double")
    .Output("indices: int32")
    .Output("num_valid: int32")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferNms)
    .Doc(
        "Greedy suppression of one set of boxes; a max_output_size below 0 "
        "stands for all. See csrc/include/ssdops/nms.h.");

template <typename Device>
class NmsOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit NmsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    const Tensor& boxes = ctx->input(0);
    const Tensor& scores = ctx->input(1);
    const Tensor& limit = ctx->input(2);
    OP_REQUIRES(ctx, HasShape(boxes, {kAny, 4}),
                WrongShape("boxes", "[N, 4]", boxes));
    const int64_t num_boxes = boxes.dim_size(0);
    OP_REQUIRES(ctx, HasShape(scores, {num_boxes}),
                WrongShape("scores", "[N] of boxes", scores));
    OP_REQUIRES_OK(ctx, CheckIndexable("boxes", num_boxes));
    OP_REQUIRES(ctx, HasShape(limit, {}),
                WrongShape("max_output_size", "[]", limit));
    NmsOptions options = {};
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 3, "iou_threshold", 0, 1,
                                      &options.iou_threshold));
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 4, "score_threshold", -kInfinity,
                                      kInfinity, &options.score_threshold));
    options.max_output_size = limit.scalar<int32_t>()();
    if (options.max_output_size < 0) options.max_output_size = num_boxes;

    Tensor* indices = nullptr;
    Tensor* num_valid = nullptr;
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, {options.max_output_size}, &indices));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(1, {}, &num_valid));
    using S = Storage<T>;
    int32_t* rows = indices->flat<int32_t>().data();
    int32_t* count = num_valid->scalar<int32_t>().data();
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, LaunchNmsWorkspaceBytes<S>(num_boxes),
                           [&](void* workspace, cudaStream_t stream) {
                             return LaunchNms<S>(
                                 Data<T>(boxes), Data<T>(scores), num_boxes,
                                 options, rows, count, workspace, stream);
                           })));
    } else {
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(
          ctx, AllocateWorkspace(ctx, NmsWorkspaceBytes<S>(num_boxes, options),
                                 &buffer, &workspace));
      Nms<S>(Data<T>(boxes), Data<T>(scores), num_boxes, options, rows, count,
             workspace);
    }
  }
};

#define SSDOPS_REGISTER(T)                                 \
  SSDOPS_REGISTER_KERNELS("Ssdops>Nms", NmsOp, T,          \
                          .HostMemory("max_output_size")   \
                              .HostMemory("iou_threshold") \
                              .HostMemory("score_threshold"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

// The ops behind ssdops/image.py have the signatures, the shape inference and
// the messages of TensorFlow's own, whose tests they pass.

absl::Status InferImageNms(InferenceContext* c) {
  ShapeHandle boxes, scores, unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &boxes));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 1, &scores));
  for (int scalar = 2; scalar < c->num_inputs(); ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  DimensionHandle same;
  TF_RETURN_IF_ERROR(c->Merge(c->Dim(boxes, 0), c->Dim(scores, 0), &same));
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 1), 4, &same));
  const DimensionHandle rows = c->UnknownDim();
  for (int output = 0; output < c->num_outputs(); ++output) {
    c->set_output(output, c->Vector(rows));
  }
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>ImageNms")
    .Input("boxes: T")
    .Input("scores: T")
    .Input("max_output_size: int32")
    .Input("iou_threshold: T_threshold")
    .Input("score_threshold: T_threshold")
    .Output("selected_indices: int32")
    .Attr("T: {half, float} = DT_FLOAT")
    .Attr("T_threshold: {half, float} = DT_FLOAT")
    .SetShapeFn(InferImageNms)
    .Doc("As NonMaxSuppressionV3; see csrc/include/ssdops/nms.h.");

REGISTER_OP("Ssdops>ImageNmsWithScores")
    .Input("boxes: T")
    .Input("scores: T")
    .Input("max_output_size: int32")
    .Input("iou_threshold: T")
    .Input("score_threshold: T")
    .Input("soft_nms_sigma: T")
    .Output("selected_indices: int32")
    .Output("selected_scores: T")
    .Attr("T: {half, float} = DT_FLOAT")
    .SetShapeFn(InferImageNms)
    .Doc("As NonMaxSuppressionV5; see csrc/include/ssdops/nms.h.");

absl::Status CheckRank(const char* name, const Tensor& tensor, int rank) {
  if (tensor.dims() == rank) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      name, " must be ", rank, "-D, got shape ", tensor.shape().DebugString(),
      " (Shape must be rank ", rank, " but is rank ", tensor.dims(), ")"));
}

float ToFloat(const Tensor& scalar) {
  return scalar.dtype() == tensorflow::DT_HALF
             ? static_cast<float>(scalar.scalar<Eigen::half>()())
             : scalar.scalar<float>()();
}

absl::Status CheckFraction(float iou_threshold) {
  if (iou_threshold >= 0 && iou_threshold <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError("iou_threshold must be in [0, 1]");
}

template <typename T>
class ImageNmsOp : public OpKernel {
 public:
  explicit ImageNmsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    const Tensor& boxes = ctx->input(0);
    const Tensor& scores = ctx->input(1);
    ImageNmsOptions options = {};
    OP_REQUIRES_OK(ctx, ReadOptions(ctx, &options));
    OP_REQUIRES_OK(ctx, CheckRank("boxes", boxes, 2));
    OP_REQUIRES(ctx, boxes.dim_size(1) == 4,
                absl::InvalidArgumentError(absl::StrCat(
                    "boxes must have 4 columns (Dimension must be 4 but is ",
                    boxes.dim_size(1), ")")));
    OP_REQUIRES_OK(ctx, CheckRank("scores", scores, 1));
    const int64_t num_boxes = boxes.dim_size(0);
    OP_REQUIRES(ctx, scores.dim_size(0) == num_boxes,
                absl::InvalidArgumentError(absl::StrCat(
                    "scores has incompatible shape (Dimensions must be equal, "
                    "but are ",
                    num_boxes, " and ", scores.dim_size(0), ")")));
    OP_REQUIRES(ctx, options.max_output_size >= 0,
                absl::InvalidArgumentError("output size must be non-negative"));
    OP_REQUIRES_OK(ctx, CheckIndexable("boxes", num_boxes));

    using S = Storage<T>;
    const int64_t limit = std::min(num_boxes, options.max_output_size);
    Tensor buffer, indices, selected_scores;
    void* workspace = nullptr;
    OP_REQUIRES_OK(ctx, AllocateWorkspace(
                            ctx, ImageNmsWorkspaceBytes<S>(num_boxes, options),
                            &buffer, &workspace));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_temp(tensorflow::DT_INT32, {limit}, &indices));
    OP_REQUIRES_OK(
        ctx, ctx->allocate_temp(boxes.dtype(), {limit}, &selected_scores));
    const int64_t found = ImageNms<S>(
        Data<T>(boxes), Data<T>(scores), num_boxes, options,
        indices.flat<int32_t>().data(), Data<T>(&selected_scores), workspace);
    OP_REQUIRES_OK(ctx, WriteFirst<int32_t>(ctx, 0, indices, found));
    if (ctx->num_outputs() > 1) {
      OP_REQUIRES_OK(ctx, WriteFirst<T>(ctx, 1, selected_scores, found));
    }
  }

 private:
  static absl::Status ReadOptions(OpKernelContext* ctx,
                                  ImageNmsOptions* options) {
    const char* names[] = {"max_output_size", "iou_threshold",
                           "score_threshold", "soft_nms_sigma"};
    for (int i = 2; i < ctx->num_inputs(); ++i) {
      TF_RETURN_IF_ERROR(CheckRank(names[i - 2], ctx->input(i), 0));
    }
    options->max_output_size = ctx->input(2).scalar<int32_t>()();
    // Thresholds of another type are rounded to that of the scores.
    options->iou_threshold =
        static_cast<float>(static_cast<T>(ToFloat(ctx->input(3))));
    options->score_threshold =
        static_cast<float>(static_cast<T>(ToFloat(ctx->input(4))));
    TF_RETURN_IF_ERROR(CheckFraction(options->iou_threshold));
    if (ctx->num_inputs() > 5) {
      options->soft_nms_sigma = ToFloat(ctx->input(5));
      if (!(options->soft_nms_sigma >= 0)) {
        return absl::InvalidArgumentError("soft_nms_sigma_val must be >= 0");
      }
    }
    return absl::OkStatus();
  }

  template <typename U>
  static absl::Status WriteFirst(OpKernelContext* ctx, int index,
                                 const Tensor& from, int64_t count) {
    Tensor* output = nullptr;
    TF_RETURN_IF_ERROR(ctx->allocate_output(index, {count}, &output));
    std::copy_n(from.flat<U>().data(), count, output->flat<U>().data());
    return absl::OkStatus();
  }
};

#define SSDOPS_REGISTER(T)                                               \
  REGISTER_KERNEL_BUILDER(                                               \
      Name("Ssdops>ImageNms").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
      ImageNmsOp<T>);                                                    \
  REGISTER_KERNEL_BUILDER(Name("Ssdops>ImageNmsWithScores")              \
                              .Device(DEVICE_CPU)                        \
                              .TypeConstraint<T>("T"),                   \
                          ImageNmsOp<T>);
SSDOPS_REGISTER(Eigen::half)
SSDOPS_REGISTER(float)
#undef SSDOPS_REGISTER

absl::Status InferCombinedNms(InferenceContext* c) {
  ShapeHandle boxes, scores, unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &boxes));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 3, &scores));
  for (int scalar = 2; scalar < 6; ++scalar) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(scalar), 0, &unused));
  }
  DimensionHandle same;
  for (int axis = 0; axis < 2; ++axis) {
    TF_RETURN_IF_ERROR(
        c->Merge(c->Dim(boxes, axis), c->Dim(scores, axis), &same));
  }
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 3), 4, &same));
  const DimensionHandle per_row = c->Dim(boxes, 2);
  const DimensionHandle classes = c->Dim(scores, 2);
  if (c->ValueKnown(per_row) && c->ValueKnown(classes) &&
      c->Value(per_row) != 1 && c->Value(per_row) != c->Value(classes)) {
    return absl::InvalidArgumentError(
        "third dimension of boxes must be either 1 or equal to the third "
        "dimension of scores");
  }
  DimensionHandle per_class, total;
  TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(2, &per_class));
  TF_RETURN_IF_ERROR(c->MakeDimForScalarInput(3, &total));
  if (c->ValueKnown(total) && c->Value(total) <= 0) {
    return absl::InvalidArgumentError("max_total_size should be > 0 ");
  }
  bool pad_per_class = false;
  TF_RETURN_IF_ERROR(c->GetAttr("pad_per_class", &pad_per_class));
  DimensionHandle rows = total;
  if (pad_per_class) {
    if (c->ValueKnown(per_class) && c->Value(per_class) <= 0) {
      return absl::InvalidArgumentError(
          "max_output_size_per_class must be > 0 if pad_per_class is set to "
          "true ");
    }
    rows = c->ValueKnown(per_class) && c->ValueKnown(classes) &&
                   c->ValueKnown(total)
               ? c->MakeDim(std::min(c->Value(total),
                                     c->Value(per_class) * c->Value(classes)))
               : c->UnknownDim();
  }
  const DimensionHandle batch = c->Dim(boxes, 0);
  c->set_output(0, c->MakeShape({batch, rows, 4}));
  c->set_output(1, c->MakeShape({batch, rows}));
  c->set_output(2, c->MakeShape({batch, rows}));
  c->set_output(3, c->Vector(batch));
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>CombinedNms")
    .Input("boxes: float")
    .Input("scores: float")
    .Input("max_output_size_per_class: int32")
    .Input("max_total_size: int32")
    .Input("iou_threshold: float")
    .Input("score_threshold: float")
    .Output("nmsed_boxes: float")
    .Output("nmsed_scores: float")
    .Output("nmsed_classes: float")
    .Output("valid_detections: int32")
    .Attr("pad_per_class: bool = false")
    .Attr("clip_boxes: bool = true")
    .SetShapeFn(InferCombinedNms)
    .Doc("As CombinedNonMaxSuppression; see csrc/include/ssdops/nms.h.");

class CombinedNmsOp : public OpKernel {
 public:
  explicit CombinedNmsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("pad_per_class", &pad_per_class_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("clip_boxes", &clip_boxes_));
  }

  void Compute(OpKernelContext* ctx) override {
    const Tensor& boxes = ctx->input(0);
    const Tensor& scores = ctx->input(1);
    CombinedNmsShape shape = {};
    CombinedNmsOptions options = {};
    OP_REQUIRES_OK(ctx, ReadShape(boxes, scores, &shape));
    OP_REQUIRES_OK(ctx, ReadOptions(ctx, shape, &options));

    const int64_t rows = options.rows;
    Tensor* outputs[4] = {};
    OP_REQUIRES_OK(
        ctx, ctx->allocate_output(0, {shape.batch, rows, 4}, &outputs[0]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(1, {shape.batch, rows}, &outputs[1]));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(2, {shape.batch, rows}, &outputs[2]));
    OP_REQUIRES_OK(ctx, ctx->allocate_output(3, {shape.batch}, &outputs[3]));
    const TfParallelFor parallel_for(ctx);
    Tensor buffer;
    void* workspace = nullptr;
    OP_REQUIRES_OK(
        ctx, AllocateWorkspace(ctx,
                               CombinedNmsWorkspaceBytes(
                                   shape, options, parallel_for.num_workers()),
                               &buffer, &workspace));
    CombinedNms(
        boxes.flat<float>().data(), scores.flat<float>().data(), shape, options,
        {outputs[0]->flat<float>().data(), outputs[1]->flat<float>().data(),
         outputs[2]->flat<float>().data(), outputs[3]->flat<int32_t>().data()},
        workspace, parallel_for);
  }

 private:
  static absl::Status ReadShape(const Tensor& boxes, const Tensor& scores,
                                CombinedNmsShape* shape) {
    TF_RETURN_IF_ERROR(CheckRank("boxes", boxes, 4));
    TF_RETURN_IF_ERROR(CheckRank("scores", scores, 3));
    *shape = {boxes.dim_size(0), boxes.dim_size(1), boxes.dim_size(2),
              scores.dim_size(2)};
    if (shape->boxes_per_row != 1 &&
        shape->boxes_per_row != shape->num_classes) {
      return absl::InvalidArgumentError(
          "third dimension of boxes must be either 1 or num classes");
    }
    if (boxes.dim_size(3) != 4) {
      return absl::InvalidArgumentError("boxes must have 4 columns");
    }
    if (scores.dim_size(1) != shape->num_boxes) {
      return absl::InvalidArgumentError("scores has incompatible shape");
    }
    if (scores.dim_size(0) != shape->batch) {
      return absl::InvalidArgumentError(
          "boxes and scores must have same batch size");
    }
    return CheckIndexable("boxes", shape->num_boxes);
  }

  absl::Status ReadOptions(OpKernelContext* ctx, const CombinedNmsShape& shape,
                           CombinedNmsOptions* options) const {
    const char* names[] = {"max_size_per_class", "max_total_size",
                           "iou_threshold", "score_threshold"};
    for (int i = 2; i < 6; ++i) {
      TF_RETURN_IF_ERROR(CheckRank(names[i - 2], ctx->input(i), 0));
    }
    options->max_per_class = ctx->input(2).scalar<int32_t>()();
    options->rows = ctx->input(3).scalar<int32_t>()();
    options->iou_threshold = ctx->input(4).scalar<float>()();
    options->score_threshold = ctx->input(5).scalar<float>()();
    options->clip_boxes = clip_boxes_;
    if (options->max_per_class <= 0) {
      return absl::InvalidArgumentError("max_size_per_class must be positive");
    }
    if (options->rows <= 0) {
      return absl::InvalidArgumentError("max_total_size must be > 0");
    }
    TF_RETURN_IF_ERROR(CheckFraction(options->iou_threshold));
    const int64_t slots = std::min(options->max_per_class, shape.num_boxes);
    if (slots > 0 &&
        shape.num_classes > std::numeric_limits<int32_t>::max() / slots) {
      return absl::InvalidArgumentError(
          "size_per_class * num_classes causes overflow");
    }
    if (pad_per_class_) {
      options->rows =
          std::min(options->rows, options->max_per_class * shape.num_classes);
    }
    return absl::OkStatus();
  }

  bool pad_per_class_ = false;
  bool clip_boxes_ = true;
};

REGISTER_KERNEL_BUILDER(Name("Ssdops>CombinedNms").Device(DEVICE_CPU),
                        CombinedNmsOp);

}  // namespace
}  // namespace ssdops
