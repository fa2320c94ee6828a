// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/mine_hard_negatives_cuda.h"

namespace ssdops {
namespace {

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

template <typename Device>
class MineHardNegativesOp : public OpKernel {
  using T = typename Device::Type;

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

    const int32_t* classes = target_classes.flat<int32_t>().data();
    bool* out = mined->flat<bool>().data();
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return LaunchMineHardNegatives(Data<T>(losses), classes, shape,
                                           negative_ratio, out, stream);
          })));
    } else {
      const TfParallelFor parallel_for(ctx);
      Tensor buffer;
      void* workspace = nullptr;
      OP_REQUIRES_OK(
          ctx, AllocateWorkspace(ctx,
                                 MineHardNegativesWorkspaceBytes<Storage<T>>(
                                     shape, parallel_for.num_workers()),
                                 &buffer, &workspace));
      MineHardNegatives(Data<T>(losses), classes, shape, negative_ratio, out,
                        workspace, parallel_for);
    }
  }
};

#define SSDOPS_REGISTER(T)                                                    \
  SSDOPS_REGISTER_KERNELS("Ssdops>MineHardNegatives", MineHardNegativesOp, T, \
                          .HostMemory("negative_ratio"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
