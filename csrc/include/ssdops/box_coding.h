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

}  // namespace ssdops

#endif  // SSDOPS_BOX_CODING_H_
