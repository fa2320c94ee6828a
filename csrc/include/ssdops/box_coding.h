// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BOX_CODING_H_
#define SSDOPS_BOX_CODING_H_

// Centre-size coding of one box against one anchor, and its derivatives, shared
// by every kernel on every device.

#include <limits>

#include "ssdops/box_math.h"
#include "ssdops/exp_log.h"
#include "ssdops/storage.h"

namespace ssdops {

// Position and size along one axis.
template <typename T>
struct Extent {
  T centre, size;
};

template <typename T>
SSDOPS_HOST_DEVICE inline Extent<T> MakeExtent(T low, T high) {
  return {(low + high) * T(0.5), high - low};
}

// Limit to the finite range; NaN goes through.
template <typename T>
SSDOPS_HOST_DEVICE inline T Saturate(T x) {
  constexpr T kMax = std::numeric_limits<T>::max();
  return x > kMax ? kMax : x < -kMax ? -kMax : x;
}

// Whether a size can be encoded: positive and finite.
template <typename T>
SSDOPS_HOST_DEVICE inline bool IsPositiveFinite(T size) {
  return size > 0 && size <= std::numeric_limits<T>::max();
}

// Encode along one axis. Returns false, with nothing written, if there is no
// encoding that is finite in S.
template <typename S>
SSDOPS_HOST_DEVICE inline bool EncodeExtent(
    const Extent<ComputeType<S>>& box, const Extent<ComputeType<S>>& anchor,
    ComputeType<S> centre_variance, ComputeType<S> size_variance,
    ComputeType<S>* shift, ComputeType<S>* stretch) {
  using T = ComputeType<S>;
  constexpr T kLimit = NarrowLimit<S>();
  if (!IsPositiveFinite(box.size) || !IsPositiveFinite(anchor.size)) {
    return false;
  }
  const T ratio = box.size / anchor.size;
  if (!IsPositiveFinite(ratio)) return false;
  const T t = (box.centre - anchor.centre) / anchor.size / centre_variance;
  const T s = Log(ratio) / size_variance;
  if (!(t <= kLimit && t >= -kLimit && s <= kLimit && s >= -kLimit)) {
    return false;
  }
  *shift = t;
  *stretch = s;
  return true;
}

// Encode along both axes: (ty, tx, th, tw), or four zeros without an encoding.
template <typename S>
SSDOPS_HOST_DEVICE inline void EncodeBox(const Box<ComputeType<S>>& box,
                                         const Box<ComputeType<S>>& anchor,
                                         const ComputeType<S>* variances,
                                         S* offsets) {
  using T = ComputeType<S>;
  T encoded[4];
  const bool encodable =
      EncodeExtent<S>(MakeExtent(box.ymin, box.ymax),
                      MakeExtent(anchor.ymin, anchor.ymax), variances[0],
                      variances[2], &encoded[0], &encoded[2]) &&
      EncodeExtent<S>(MakeExtent(box.xmin, box.xmax),
                      MakeExtent(anchor.xmin, anchor.xmax), variances[1],
                      variances[3], &encoded[1], &encoded[3]);
  for (int k = 0; k < 4; ++k) {
    offsets[k] = Narrow<S>(encodable ? encoded[k] : T(0));
  }
}

// Decode along one axis. What overflows is limited to the finite range.
template <typename T>
SSDOPS_HOST_DEVICE inline Extent<T> DecodeExtent(T shift, T stretch,
                                                 const Extent<T>& anchor,
                                                 T centre_variance,
                                                 T size_variance) {
  constexpr T kMax = std::numeric_limits<T>::max();
  const T centre =
      Saturate(Saturate(shift * centre_variance) * anchor.size + anchor.centre);
  const T exponent = stretch * size_variance;
  const T growth = exponent > kMaxExpArgument<T> ? kMax : Exp(exponent);
  return {centre, Saturate(growth * anchor.size)};
}

// Limit to [-largest, largest]; NaN goes through.
template <typename T>
SSDOPS_HOST_DEVICE inline T Limit(T x, T largest) {
  return x > largest ? largest : x < -largest ? -largest : x;
}

// Decode along both axes, corners limited to the finite range of S.
template <typename S>
SSDOPS_HOST_DEVICE inline Box<ComputeType<S>> DecodeBox(
    const S* offsets, const Box<ComputeType<S>>& anchor,
    const ComputeType<S>* variances) {
  using T = ComputeType<S>;
  constexpr T kLargest = LargestOf<S>();
  const Extent<T> y = DecodeExtent(Widen(offsets[0]), Widen(offsets[2]),
                                   MakeExtent(anchor.ymin, anchor.ymax),
                                   variances[0], variances[2]);
  const Extent<T> x = DecodeExtent(Widen(offsets[1]), Widen(offsets[3]),
                                   MakeExtent(anchor.xmin, anchor.xmax),
                                   variances[1], variances[3]);
  const T half_y = y.size * T(0.5), half_x = x.size * T(0.5);
  return {
      Limit(y.centre - half_y, kLargest), Limit(x.centre - half_x, kLargest),
      Limit(y.centre + half_y, kLargest), Limit(x.centre + half_x, kLargest)};
}

// Gradient of EncodeBox with respect to the box; 0 without an encoding.
template <typename S>
SSDOPS_HOST_DEVICE inline void EncodeBoxGrad(const S* grad_offsets,
                                             const Box<ComputeType<S>>& box,
                                             const Box<ComputeType<S>>& anchor,
                                             const ComputeType<S>* variances,
                                             S* grad_box) {
  using T = ComputeType<S>;
  T unused[2];
  const bool encodable =
      EncodeExtent<S>(MakeExtent(box.ymin, box.ymax),
                      MakeExtent(anchor.ymin, anchor.ymax), variances[0],
                      variances[2], &unused[0], &unused[1]) &&
      EncodeExtent<S>(MakeExtent(box.xmin, box.xmax),
                      MakeExtent(anchor.xmin, anchor.xmax), variances[1],
                      variances[3], &unused[0], &unused[1]);
  // shift depends on the mean of the corners, stretch on their distance.
  const T dy = Widen(grad_offsets[0]) / variances[0] /
               (anchor.ymax - anchor.ymin) * T(0.5);
  const T dx = Widen(grad_offsets[1]) / variances[1] /
               (anchor.xmax - anchor.xmin) * T(0.5);
  const T dh = Widen(grad_offsets[2]) / variances[2] / (box.ymax - box.ymin);
  const T dw = Widen(grad_offsets[3]) / variances[3] / (box.xmax - box.xmin);
  grad_box[0] = Narrow<S>(encodable ? dy - dh : T(0));
  grad_box[1] = Narrow<S>(encodable ? dx - dw : T(0));
  grad_box[2] = Narrow<S>(encodable ? dy + dh : T(0));
  grad_box[3] = Narrow<S>(encodable ? dx + dw : T(0));
}

// Gradient of DecodeBox along one axis, from the two corners to the two
// offsets. A value that was limited does not change with the offsets.
template <typename S>
SSDOPS_HOST_DEVICE inline void DecodeExtentGrad(
    ComputeType<S> grad_low, ComputeType<S> grad_high, ComputeType<S> shift,
    ComputeType<S> stretch, const Extent<ComputeType<S>>& anchor,
    ComputeType<S> centre_variance, ComputeType<S> size_variance, S* grad_shift,
    S* grad_stretch) {
  using T = ComputeType<S>;
  constexpr T kMax = std::numeric_limits<T>::max();
  constexpr T kLargest = LargestOf<S>();
  const Extent<T> box =
      DecodeExtent(shift, stretch, anchor, centre_variance, size_variance);
  const T half = box.size * T(0.5);
  const auto is_within = [](T x, T largest) {
    return x <= largest && x >= -largest;
  };
  if (!is_within(box.centre - half, kLargest)) grad_low = T(0);
  if (!is_within(box.centre + half, kLargest)) grad_high = T(0);
  const T product = shift * centre_variance;
  const bool moves = is_within(product, kMax) &&
                     is_within(product * anchor.size + anchor.centre, kMax);
  const bool grows = (stretch * size_variance <= kMaxExpArgument<T>) &&
                     (box.size < kMax) && (box.size > -kMax);
  *grad_shift = Narrow<S>(
      moves ? (grad_low + grad_high) * anchor.size * centre_variance : T(0));
  *grad_stretch = Narrow<S>(grows ? (grad_high - grad_low) * T(0.5) * box.size *
                                        size_variance
                                  : T(0));
}

}  // namespace ssdops

#endif  // SSDOPS_BOX_CODING_H_
