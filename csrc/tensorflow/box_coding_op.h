// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TENSORFLOW_BOX_CODING_OP_H_
#define SSDOPS_TENSORFLOW_BOX_CODING_OP_H_

// The four coding ops (encode, decode and their gradients) have the same
// inputs: one or two tensors [..., A, 4], then anchors [A, 4] and variances
// [4].

#include "op_support.h"

namespace ssdops {

// Output has the shape of the first input. The last two inputs are the anchors
// and the variances.
inline absl::Status InferBoxCoding(
    tensorflow::shape_inference::InferenceContext* c) {
  using tensorflow::shape_inference::DimensionHandle;
  using tensorflow::shape_inference::ShapeHandle;
  const int num_coded = c->num_inputs() - 2;
  ShapeHandle anchors, variances;
  TF_RETURN_IF_ERROR(MergeShape(c, num_coded, {c->UnknownDim(), 4}, &anchors));
  TF_RETURN_IF_ERROR(MergeShape(c, num_coded + 1, {4}, &variances));
  ShapeHandle output = c->UnknownShape();
  for (int k = 0; k < num_coded; ++k) {
    ShapeHandle coded;
    TF_RETURN_IF_ERROR(c->WithRankAtLeast(c->input(k), 2, &coded));
    if (c->RankKnown(coded)) {
      DimensionHandle unused;
      TF_RETURN_IF_ERROR(c->WithValue(c->Dim(coded, -1), 4, &unused));
      TF_RETURN_IF_ERROR(
          c->Merge(c->Dim(coded, -2), c->Dim(anchors, 0), &unused));
    }
    TF_RETURN_IF_ERROR(c->Merge(output, coded, &output));
  }
  c->set_output(0, output);
  return absl::OkStatus();
}

// Validates the variances and rounds them to the compute type.
template <typename T>
absl::Status ReadVariances(const tensorflow::Tensor& variances, T* values) {
  if (!HasShape(variances, {4})) {
    return WrongShape("variances", "[4]", variances);
  }
  for (int k = 0; k < 4; ++k) {
    const double variance = variances.flat<double>()(k);
    if (!(variance > 0 && std::isfinite(variance))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "variances must be 4 positive finite numbers, got ", variance));
    }
    values[k] = static_cast<T>(variance);
  }
  return absl::OkStatus();
}

// Checked sizes and data of a coding op.
template <typename T>
struct BoxCodingInputs {
  int64_t batch;
  int64_t num_anchors;
  const Storage<T>* anchors;
  ComputeType<Storage<T>> variances[4];
};

// Validates the inputs of a coding op whose tensors have these names.
template <typename T>
absl::Status ReadBoxCodingInputs(tensorflow::OpKernelContext* ctx,
                                 std::initializer_list<const char*> names,
                                 BoxCodingInputs<T>* inputs) {
  const int num_coded = static_cast<int>(names.size());
  const tensorflow::Tensor& anchors = ctx->input(num_coded);
  const tensorflow::Tensor& variances = ctx->input(num_coded + 1);
  if (!HasShape(anchors, {kAny, 4})) {
    return WrongShape("anchors", "[A, 4]", anchors);
  }
  int index = 0;
  for (const char* name : names) {
    const tensorflow::Tensor& coded = ctx->input(index++);
    const int dims = coded.dims();
    if (dims < 2 || coded.dim_size(dims - 1) != 4 ||
        coded.dim_size(dims - 2) != anchors.dim_size(0)) {
      const std::string expected =
          absl::StrCat("[..., ", anchors.dim_size(0), ", 4] for ",
                       anchors.dim_size(0), " anchors");
      return WrongShape(name, expected.c_str(), coded);
    }
    if (coded.shape() != ctx->input(0).shape()) {
      return WrongShape(name, ctx->input(0).shape().DebugString().c_str(),
                        coded);
    }
  }
  TF_RETURN_IF_ERROR(ReadVariances(variances, inputs->variances));
  inputs->num_anchors = anchors.dim_size(0);
  inputs->batch = inputs->num_anchors == 0
                      ? 0
                      : ctx->input(0).NumElements() / 4 / inputs->num_anchors;
  inputs->anchors = Data<T>(anchors);
  return absl::OkStatus();
}

}  // namespace ssdops

#endif  // SSDOPS_TENSORFLOW_BOX_CODING_OP_H_
