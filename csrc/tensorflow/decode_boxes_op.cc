// SPDX-License-Identifier: Apache-2.0
#include "box_coding_op.h"
#include "ssdops/decode_boxes.h"

namespace ssdops {
namespace {

using tensorflow::DEVICE_CPU;
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

template <typename T>
class DecodeBoxesOp : public OpKernel {
 public:
  explicit DecodeBoxesOp(OpKernelConstruction* ctx) : OpKernel(ctx) {}

  void Compute(OpKernelContext* ctx) override {
    BoxCodingInputs<T> inputs;
    OP_REQUIRES_OK(ctx, ReadBoxCodingInputs(ctx, {"offsets"}, &inputs));
    const Tensor& offsets = ctx->input(0);
    Tensor* boxes = nullptr;
    OP_REQUIRES_OK(ctx, ctx->forward_input_or_allocate_output(
                            {0}, 0, offsets.shape(), &boxes));
    DecodeBoxes(Data<T>(offsets), inputs.anchors, inputs.variances,
                inputs.batch, inputs.num_anchors, Data<T>(boxes),
                TfParallelFor(ctx));
  }
};

template <typename T>
class DecodeBoxesGradOp : public OpKernel {
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
    DecodeBoxesGrad(Data<T>(grad_boxes), Data<T>(offsets), inputs.anchors,
                    inputs.variances, inputs.batch, inputs.num_anchors,
                    Data<T>(grad_offsets), TfParallelFor(ctx));
  }
};

#define SSDOPS_REGISTER(T)                                                  \
  REGISTER_KERNEL_BUILDER(                                                  \
      Name("Ssdops>DecodeBoxes").Device(DEVICE_CPU).TypeConstraint<T>("T"), \
      DecodeBoxesOp<T>);                                                    \
  REGISTER_KERNEL_BUILDER(Name("Ssdops>DecodeBoxesGrad")                    \
                              .Device(DEVICE_CPU)                           \
                              .TypeConstraint<T>("T"),                      \
                          DecodeBoxesGradOp<T>);
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
