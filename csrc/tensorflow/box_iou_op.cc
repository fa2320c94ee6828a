// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/box_iou.h"

namespace ssdops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferBoxIou(InferenceContext* c) {
  ShapeHandle sides[2];
  for (int k = 0; k < 2; ++k) {
    TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(k), 2, &sides[k]));
    TF_RETURN_IF_ERROR(c->WithRankAtMost(sides[k], 3, &sides[k]));
    DimensionHandle unused;
    if (c->RankKnown(sides[k])) {
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(sides[k], -1), 4, &unused));
    }
  }
  if (!c->RankKnown(sides[0]) || !c->RankKnown(sides[1])) {
    c->set_output(0, c->UnknownShape());
    return absl::OkStatus();
  }
  std::vector<DimensionHandle> dims = {c->Dim(sides[0], -2),
                                       c->Dim(sides[1], -2)};
  const bool a_batched = c->Rank(sides[0]) == 3;
  const bool b_batched = c->Rank(sides[1]) == 3;
  if (a_batched || b_batched) {
    DimensionHandle batch = c->Dim(sides[a_batched ? 0 : 1], 0);
    if (a_batched && b_batched) {
      TF_RETURN_IF_ERROR(c->Merge(batch, c->Dim(sides[1], 0), &batch));
    }
    dims.insert(dims.begin(), batch);
  }
  c->set_output(0, c->MakeShape(dims));
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>BoxIou")
    .Input("boxes_a: T")
    .Input("boxes_b: T")
    .Output("iou: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferBoxIou)
    .Doc(
        "Pairwise intersection over union; see csrc/include/ssdops/box_iou.h.");

template <typename T>
class BoxIouOp : public OpKernel {
 public:
  explicit BoxIouOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    const Tensor& boxes_a = ctx->input(0);
    const Tensor& boxes_b = ctx->input(1);
    OP_REQUIRES(ctx, IsBoxes(boxes_a),
                WrongShape("boxes_a", "[N, 4] or [B, N, 4]", boxes_a));
    OP_REQUIRES(ctx, IsBoxes(boxes_b),
                WrongShape("boxes_b", "[M, 4] or [B, M, 4]", boxes_b));
    BoxIouShape shape;
    shape.a_batched = boxes_a.dims() == 3;
    shape.b_batched = boxes_b.dims() == 3;
    shape.num_a = boxes_a.dim_size(boxes_a.dims() - 2);
    shape.num_b = boxes_b.dim_size(boxes_b.dims() - 2);
    shape.batch = shape.a_batched   ? boxes_a.dim_size(0)
                  : shape.b_batched ? boxes_b.dim_size(0)
                                    : 1;
    OP_REQUIRES(
        ctx, !shape.b_batched || boxes_b.dim_size(0) == shape.batch,
        absl::InvalidArgumentError(absl::StrCat(
            "boxes_b must have ", shape.batch,
            " images along axis 0 as boxes_a, got ", boxes_b.dim_size(0))));

    TensorShape output_shape;
    if (shape.a_batched || shape.b_batched) output_shape.AddDim(shape.batch);
    OP_REQUIRES_OK(ctx, output_shape.AddDimWithStatus(shape.num_a));
    OP_REQUIRES_OK(ctx, output_shape.AddDimWithStatus(shape.num_b));
    Tensor* iou = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, output_shape, &iou));
    if (iou->NumElements() == 0) return;
    BoxIou(Data<T>(boxes_a), Data<T>(boxes_b), shape, Data<T>(iou),
           TfParallelFor(ctx));
  }

 private:
  static bool IsBoxes(const Tensor& tensor) {
    return HasShape(tensor, {kAny, 4}) || HasShape(tensor, {kAny, kAny, 4});
  }
};

#define SSDOPS_REGISTER(T)                                             \
  REGISTER_KERNEL_BUILDER(                                             \
      Name("Ssdops>BoxIou").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
      BoxIouOp<T>);
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
