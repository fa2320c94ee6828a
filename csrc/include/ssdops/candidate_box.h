// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CANDIDATE_BOX_H_
#define SSDOPS_CANDIDATE_BOX_H_

// The score and the box of one candidate of detect.h, shared by every kernel on
// every device.

#include "ssdops/box_coding.h"

namespace ssdops {

template <typename T>
SSDOPS_HOST_DEVICE inline T Sigmoid(T x) {
  // exp of numbers below 0 only: it cannot overflow.
  if (x >= 0) return T(1) / (T(1) + Exp(-x));
  const T e = Exp(x);
  return e / (T(1) + e);
}

// To [0, 1]; NaN goes through.
template <typename T>
SSDOPS_HOST_DEVICE inline T Clip(T x) {
  return x > T(1) ? T(1) : (x < T(0) ? T(0) : x);
}

// What is decoded stays in the compute type.
template <typename S>
SSDOPS_HOST_DEVICE inline Box<ComputeType<S>> DecodeCandidate(
    const S* offsets, const Box<ComputeType<S>>& anchor,
    const ComputeType<S>* variances, bool clip) {
  using T = ComputeType<S>;
  const Extent<T> y = DecodeExtent(Widen(offsets[0]), Widen(offsets[2]),
                                   MakeExtent(anchor.ymin, anchor.ymax),
                                   variances[0], variances[2]);
  const Extent<T> x = DecodeExtent(Widen(offsets[1]), Widen(offsets[3]),
                                   MakeExtent(anchor.xmin, anchor.xmax),
                                   variances[1], variances[3]);
  const Box<T> box = {Saturate(y.centre - y.size * T(0.5)),
                      Saturate(x.centre - x.size * T(0.5)),
                      Saturate(y.centre + y.size * T(0.5)),
                      Saturate(x.centre + x.size * T(0.5))};
  if (!clip) return box;
  return {Clip(box.ymin), Clip(box.xmin), Clip(box.ymax), Clip(box.xmax)};
}

}  // namespace ssdops

#endif  // SSDOPS_CANDIDATE_BOX_H_
