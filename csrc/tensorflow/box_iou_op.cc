// SPDX-License-Identifier: Apache-2.0
#include "op_support.h"
#include "ssdops/box_iou_cuda.h"

namespace ssdops {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Boxes that pair up with the boxes of the other side at the same place.
absl::Status MergeAligned(InferenceContext* c, int a, int b,
                          ShapeHandle* boxes) {
  TF_RETURN_IF_ERROR(c->Merge(c->input(a), c->input(b), boxes));
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(*boxes, 2, boxes));
  DimensionHandle unused;
  if (c->RankKnown(*boxes)) {
    TF_RETURN_IF_ERROR(c->WithValue(c->Dim(*boxes, -1), 4, &unused));
  }
  return absl::OkStatus();
}

absl::Status InferBoxIou(InferenceContext* c) {
  bool aligned;
  TF_RETURN_IF_ERROR(c->GetAttr("aligned", &aligned));
  if (aligned) {
    ShapeHandle boxes, iou;
    TF_RETURN_IF_ERROR(MergeAligned(c, 0, 1, &boxes));
    TF_RETURN_IF_ERROR(c->Subshape(boxes, 0, -1, &iou));
    c->set_output(0, iou);
    return absl::OkStatus();
  }
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

absl::Status InferBoxIouGrad(InferenceContext* c) {
  c->set_output(0, c->input(1));
  c->set_output(1, c->input(2));
  return absl::OkStatus();
}

#define SSDOPS_KINDS "kind: {'iou', 'giou', 'diou', 'ciou', 'ioa'} = 'iou'"

REGISTER_OP("Ssdops>BoxIou")
    .Input("boxes_a: T")
    .Input("boxes_b: T")
    .Output("iou: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .Attr(SSDOPS_KINDS)
    .Attr("aligned: bool = false")
    .SetShapeFn(InferBoxIou)
    .Doc(
        "Intersection over union of every pair, or of aligned pairs; see"
        " csrc/include/ssdops/box_iou.h.");

REGISTER_OP("Ssdops>BoxIouGrad")
    .Input("grad_iou: T")
    .Input("boxes_a: T")
    .Input("boxes_b: T")
    .Output("grad_boxes_a: T")
    .Output("grad_boxes_b: T")
    .Attr(SSDOPS_FLOAT_TYPES)
    .Attr(SSDOPS_KINDS)
    .Attr("aligned: bool = false")
    .SetShapeFn(InferBoxIouGrad)
    .Doc("Gradients of Ssdops>BoxIou with respect to both inputs.");

#undef SSDOPS_KINDS

bool IsBoxes(const Tensor& tensor) {
  return HasShape(tensor, {kAny, 4}) || HasShape(tensor, {kAny, kAny, 4});
}

// Checks two tensors of which every box meets every box of the other; gives
// the shape of the result too.
absl::Status PairwiseShape(const Tensor& boxes_a, const Tensor& boxes_b,
                           BoxIouShape* shape, TensorShape* result) {
  if (!IsBoxes(boxes_a)) {
    return WrongShape("boxes_a", "[N, 4] or [B, N, 4]", boxes_a);
  }
  if (!IsBoxes(boxes_b)) {
    return WrongShape("boxes_b", "[M, 4] or [B, M, 4]", boxes_b);
  }
  shape->a_batched = boxes_a.dims() == 3;
  shape->b_batched = boxes_b.dims() == 3;
  shape->num_a = boxes_a.dim_size(boxes_a.dims() - 2);
  shape->num_b = boxes_b.dim_size(boxes_b.dims() - 2);
  shape->batch = shape->a_batched   ? boxes_a.dim_size(0)
                 : shape->b_batched ? boxes_b.dim_size(0)
                                    : 1;
  if (shape->b_batched && boxes_b.dim_size(0) != shape->batch) {
    return absl::InvalidArgumentError(absl::StrCat(
        "boxes_b must have ", shape->batch,
        " images along axis 0 as boxes_a, got ", boxes_b.dim_size(0)));
  }
  if (shape->a_batched || shape->b_batched) result->AddDim(shape->batch);
  TF_RETURN_IF_ERROR(result->AddDimWithStatus(shape->num_a));
  return result->AddDimWithStatus(shape->num_b);
}

// Checks two tensors of pairs; gives the shape of the result.
absl::Status AlignedShape(const Tensor& boxes_a, const Tensor& boxes_b,
                          TensorShape* result) {
  const int dims = boxes_a.dims();
  if (dims < 2 || boxes_a.dim_size(dims - 1) != 4) {
    return WrongShape("boxes_a", "[..., N, 4]", boxes_a);
  }
  if (boxes_b.shape() != boxes_a.shape()) {
    return WrongShape("boxes_b", boxes_a.shape().DebugString().c_str(),
                      boxes_b);
  }
  *result = boxes_a.shape();
  result->RemoveLastDims(1);
  return absl::OkStatus();
}

// The attributes that both ops have.
class BoxIouOpBase : public OpKernel {
 public:
  explicit BoxIouOpBase(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, EnumAttr(ctx, "kind", kIouKindNames, &kind_));
    OP_REQUIRES_OK(ctx, ctx->GetAttr("aligned", &aligned_));
  }

 protected:
  // `shape` is set only if the boxes are not aligned.
  absl::Status CheckShapes(const Tensor& boxes_a, const Tensor& boxes_b,
                           BoxIouShape* shape, TensorShape* result) const {
    return aligned_ ? AlignedShape(boxes_a, boxes_b, result)
                    : PairwiseShape(boxes_a, boxes_b, shape, result);
  }

  IouKind kind_ = IouKind::kIou;
  bool aligned_ = false;
};

template <typename Device>
class BoxIouOp : public BoxIouOpBase {
  using T = typename Device::Type;

 public:
  using BoxIouOpBase::BoxIouOpBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor& boxes_a = ctx->input(0);
    const Tensor& boxes_b = ctx->input(1);
    BoxIouShape shape = {};
    TensorShape output_shape;
    OP_REQUIRES_OK(ctx, CheckShapes(boxes_a, boxes_b, &shape, &output_shape));
    Tensor* iou = nullptr;
    OP_REQUIRES_OK(ctx, ctx->allocate_output(0, output_shape, &iou));
    const int64_t count = iou->NumElements();
    if (count == 0) return;
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return aligned_
                       ? LaunchBoxIouAligned(Data<T>(boxes_a), Data<T>(boxes_b),
                                             count, kind_, Data<T>(iou), stream)
                       : LaunchBoxIou(Data<T>(boxes_a), Data<T>(boxes_b), shape,
                                      kind_, Data<T>(iou), stream);
          })));
    } else {
      const TfParallelFor parallel_for(ctx);
      if (aligned_) {
        BoxIouAligned(Data<T>(boxes_a), Data<T>(boxes_b), count, kind_,
                      Data<T>(iou), parallel_for);
      } else {
        BoxIou(Data<T>(boxes_a), Data<T>(boxes_b), shape, kind_, Data<T>(iou),
               parallel_for);
      }
    }
  }
};

template <typename Device>
class BoxIouGradOp : public BoxIouOpBase {
  using T = typename Device::Type;

 public:
  using BoxIouOpBase::BoxIouOpBase;

  void Compute(OpKernelContext* ctx) override {
    const Tensor& grad_iou = ctx->input(0);
    const Tensor& boxes_a = ctx->input(1);
    const Tensor& boxes_b = ctx->input(2);
    BoxIouShape shape = {};
    TensorShape iou_shape;
    OP_REQUIRES_OK(ctx, CheckShapes(boxes_a, boxes_b, &shape, &iou_shape));
    OP_REQUIRES(
        ctx, grad_iou.shape() == iou_shape,
        WrongShape("grad_iou", iou_shape.DebugString().c_str(), grad_iou));
    Tensor* grad_boxes_a = nullptr;
    Tensor* grad_boxes_b = nullptr;
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(0, boxes_a.shape(), &grad_boxes_a));
    OP_REQUIRES_OK(ctx,
                   ctx->allocate_output(1, boxes_b.shape(), &grad_boxes_b));
    const int64_t count = grad_iou.NumElements();
    if constexpr (Device::kIsGpu) {
      SSDOPS_CUDA_ONLY(OP_REQUIRES_OK(
          ctx, LaunchOnGpu(ctx, 0, [&](void*, cudaStream_t stream) {
            return aligned_
                       ? LaunchBoxIouAlignedGrad(Data<T>(grad_iou),
                                                 Data<T>(boxes_a),
                                                 Data<T>(boxes_b), count, kind_,
                                                 Data<T>(grad_boxes_a),
                                                 Data<T>(grad_boxes_b), stream)
                       : LaunchBoxIouGrad(Data<T>(grad_iou), Data<T>(boxes_a),
                                          Data<T>(boxes_b), shape, kind_,
                                          Data<T>(grad_boxes_a),
                                          Data<T>(grad_boxes_b), stream);
          })));
    } else {
      const TfParallelFor parallel_for(ctx);
      if (aligned_) {
        BoxIouAlignedGrad(Data<T>(grad_iou), Data<T>(boxes_a), Data<T>(boxes_b),
                          count, kind_, Data<T>(grad_boxes_a),
                          Data<T>(grad_boxes_b), parallel_for);
      } else {
        BoxIouGrad(Data<T>(grad_iou), Data<T>(boxes_a), Data<T>(boxes_b), shape,
                   kind_, Data<T>(grad_boxes_a), Data<T>(grad_boxes_b),
                   parallel_for);
      }
    }
  }
};

#define SSDOPS_REGISTER(T)                              \
  SSDOPS_REGISTER_KERNELS("Ssdops>BoxIou", BoxIouOp, T) \
  SSDOPS_REGISTER_KERNELS("Ssdops>BoxIouGrad", BoxIouGradOp, T)
SSDOPS_FOR_EACH_FLOAT(SSDOPS_REGISTER)
#undef SSDOPS_REGISTER

}  // namespace
}  // namespace ssdops
