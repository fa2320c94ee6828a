// SPDX-License-Identifier: Apache-2.0
#include "box_coding_op.h"
#include "ssdops/decode_boxes_cuda.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

REGISTER_OP("Ssdops>DecodeBoxes")
    .Input("offsets: T")
    .Input("anchors: T")
    .Input("variances: double")
    .Output("boxes: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferBoxCoding)
    .Doc("Boxes from offsets; see csrc/include/ssdops/decode_boxes.h.");

REGISTER_OP("Ssdops>DecodeBoxesGrad")
    .Input("grad_boxes: T")
    .Input("offsets: T")
    .Input("anchors: T")
    .Input("variances: double")
    .Output("grad_offsets: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .SetShapeFn(InferBoxCoding)
    .Doc("Gradient of Ssdops>DecodeBoxes with respect to the offsets.");

template <typename Device>
class DecodeBoxesOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit DecodeBoxesOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    BoxCodingInputs<T> inputs;
    OP_REQUIRES_OK(ctx, ReadBoxCodingInputs(ctx, {"offsets"}, &inputs));
    const Tensor& offsets = ctx->input(0);
    Tensor* boxes = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {0}, 0, offsets.shape(), &boxes));
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return LaunchDecodeBoxes(
                Data<T>(offsets), inputs.anchors, inputs.variances,
                inputs.batch, inputs.num_anchors, Data<T>(boxes), stream);
          })));
    } else {
      DecodeBoxes(Data<T>(offsets), inputs.anchors, inputs.variances,
                  inputs.batch, inputs.num_anchors, Data<T>(boxes),
                  TfParallelFor(ctx));
    }
  }
};

template <typename Device>
class DecodeBoxesGradOp : public OpKernel {
  using T = typename Device::Type;

 public:
  explicit DecodeBoxesGradOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    BoxCodingInputs<T> inputs;
    OP_REQUIRES_OK(
        ctx, ReadBoxCodingInputs(ctx, {"grad_boxes", "offsets"}, &inputs));
    const Tensor& grad_boxes = ctx->input(0);
    const Tensor& offsets = ctx->input(1);
    Tensor* grad_offsets = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {0}, 0, offsets.shape(), &grad_offsets));
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return LaunchDecodeBoxesGrad(Data<T>(grad_boxes), Data<T>(offsets),
                                         inputs.anchors, inputs.variances,
                                         inputs.batch, inputs.num_anchors,
                                         Data<T>(grad_offsets), stream);
          })));
    } else {
      DecodeBoxesGrad(Data<T>(grad_boxes), Data<T>(offsets), inputs.anchors,
                      inputs.variances, inputs.batch, inputs.num_anchors,
                      Data<T>(grad_offsets), TfParallelFor(ctx));
    }
  }
};

#define SSDOPS_REGISTER(T)                                                \
  SSDOPS_REGISTER_KERNELS("Ssdops>DecodeBoxes", DecodeBoxesOp, T,         \
                          .HostMemory("variances"))                       \
  SSDOPS_REGISTER_KERNELS("Ssdops>DecodeBoxesGrad", DecodeBoxesGradOp, T, \
                          .HostMemory("variances"))
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
