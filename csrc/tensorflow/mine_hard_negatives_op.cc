// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/mine_hard_negatives.h"

namespace ssdops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

absl::Status InferMineHardNegatives(InferenceContext* c) {
  ShapeHandle shape, unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &shape));
  TF_RETURN_IF_ERROR(c->Merge(shape, c->input(1), &shape));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 0, &unused));
  c->set_output(0, shape);
  return absl::OkStatus();
}

REGISTER_OP("Ssdops>MineHardNegatives")
    .Input("losses: T")
    .Input("target_classes: int32")
    .Input("negative_ratio: double")
    .Output("mined: bool")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferMineHardNegatives)
    .Doc(
        "The negatives with the largest losses; see "
        "csrc/include/ssdops/mine_hard_negatives.h.");

template <typename T>
class MineHardNegativesOp : public OpKernel {
 public:
  explicit MineHardNegativesOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    const Tensor& losses = ctx->input(0);
    const Tensor& target_classes = ctx->input(1);
    OP_REQUIRES(ctx, HasShape(losses, {kAny, kAny}),
                WrongShape("losses", "[B, A]", losses));
    const MineHardNegativesShape shape = {losses.dim_size(0),
                                          losses.dim_size(1)};
    OP_REQUIRES(
        ctx, HasShape(target_classes, {shape.batch, shape.num_anchors}),
        WrongShape("target_classes", "[B, A] of losses", target_classes));
    OP_REQUIRES_OK(ctx, CheckIndexable("losses", shape.num_anchors));
    double negative_ratio = 0;
    OP_REQUIRES_OK(ctx, ScalarInRange(ctx, 2, "negative_ratio", 0,
                                      std::numeric_limits<double>::max(),
                                      &negative_ratio));
    Tensor* mined = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, losses.shape(), &mined));
    if (mined->NumElements() == 0) return;

    const TfParallelFor parallel_for(ctx);
    Tensor buffer;
    void* workspace = nullptr;
    OP_REQUIRES_OK(
        ctx, AllocateWorkspace(ctx,
                               MineHardNegativesWorkspaceBytes<Storage<T>>(
                                   shape, parallel_for.num_workers()),
                               &buffer, &workspace));
    MineHardNegatives(Data<T>(losses), target_classes.flat<int32_t>().data(),
                      shape, negative_ratio, mined->flat<bool>().data(),
                      workspace, parallel_for);
  }
};

#define SSDOPS_REGISTER(T)                                 \
  REGISTER_KERNEL_BUILDER(Name("Ssdops>MineHardNegatives") \
                              .Device(DEVICE_CPU)          \
                              .TypeConstraint<T>("T"),     \
                          MineHardNegativesOp<T>);
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
