// SPDX-License-Identifier: Apache-2.0
#include "box_coding_op.h"
#include "ssdops/encode_boxes_cuda.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

REGISTER_OP("Ssdops>EncodeBoxes")
    .Input("boxes: T")
    .Input("anchors: T")
    .Input("variances: double")
    .Output("offsets: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferBoxCoding)
    .Doc(
        "Offsets of boxes from anchors; see "
        "csrc/include/ssdops/encode_boxes.h.");

REGISTER_OP("Ssdops>EncodeBoxesGrad")
    .Input("grad_offsets: T")
    .Input("boxes: T")
    .Input("anchors: T")
    .Input("variances: double")
    .Output("grad_boxes: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferBoxCoding)
    .Doc("Gradient of Ssdops>EncodeBoxes with respect to the boxes.");

template <typename Device>
class EncodeBoxesOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit EncodeBoxesOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    BoxCodingInputs<T> inputs;
    OP_REQUIRES_OK(ctx, ReadBoxCodingInputs(ctx, {"boxes"}, &inputs));
    const Tensor& boxes = ctx->input(0);
    Tensor* offsets = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {0}, 0, boxes.shape(), &offsets));
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return LaunchEncodeBoxes(
                Data<T>(boxes), inputs.anchors, inputs.variances, inputs.batch,
                inputs.num_anchors, Data<T>(offsets), stream);
          })));
    } else {
      EncodeBoxes(Data<T>(boxes), inputs.anchors, inputs.variances,
                  inputs.batch, inputs.num_anchors, Data<T>(offsets),
                  TfParallelFor(ctx));
    }
  }
};

template <typename Device>
class EncodeBoxesGradOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit EncodeBoxesGradOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    BoxCodingInputs<T> inputs;
    OP_REQUIRES_OK(
        ctx, ReadBoxCodingInputs(ctx, {"grad_offsets", "boxes"}, &inputs));
    const Tensor& grad_offsets = ctx->input(0);
    const Tensor& boxes = ctx->input(1);
    Tensor* grad_boxes = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {0}, 0, boxes.shape(), &grad_boxes));
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return LaunchEncodeBoxesGrad(Data<T>(grad_offsets), Data<T>(boxes),
                                         inputs.anchors, inputs.variances,
                                         inputs.batch, inputs.num_anchors,
                                         Data<T>(grad_boxes), stream);
          })));
    } else {
      EncodeBoxesGrad(Data<T>(grad_offsets), Data<T>(boxes), inputs.anchors,
                      inputs.variances, inputs.batch, inputs.num_anchors,
                      Data<T>(grad_boxes), TfParallelFor(ctx));
    }
  }
};

#define SSDOPS_REGISTER(T)                                                \
  SSDOPS_REGISTER_KERNELS("Ssdops>EncodeBoxes", EncodeBoxesOp, T,         \
                          .HostMemory("variances"))                       \
  SSDOPS_REGISTER_KERNELS("Ssdops>EncodeBoxesGrad", EncodeBoxesGradOp, T, \
                          .HostMemory("variances"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
