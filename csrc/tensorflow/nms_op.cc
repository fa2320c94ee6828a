// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/nms.h"

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

template <typename T>
class NmsOp : public OpKernel {
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
    Tensor buffer;
    void* workspace = nullptr;
    using S = Storage<T>;
    OP_REQUIRES_OK(
        ctx, AllocateWorkspace(ctx, NmsWorkspaceBytes<S>(num_boxes, options),
                               &buffer, &workspace));
    Nms<S>(Data<T>(boxes), Data<T>(scores), num_boxes, options,
           indices->flat<int32_t>().data(), num_valid->scalar<int32_t>().data(),
           workspace);
  }
};

#define SSDOPS_REGISTER(T) \
  REGISTER_KERNEL_BUILDER( \
      Name("Ssdops>Nms").Device(DEVICE_CPU).TypeConstraint<T>("T"), NmsOp<T>);
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
