// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BOX_CODING_H_
#define SSDOPS_BOX_CODING_H_

// Centre-size coding of one box against one anchor, and its derivatives, shared
// by every kernel on every device.

#include <limits>

#include "ssdops/box_math.h"
#include "ssdops/exp_log.h"

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

template <typename T>
SSDOPS_HOST_DEVICE inline bool IsFinite(T x) {
  constexpr T kMax = std::numeric_limits<T>::max();
  return x <= kMax && x >= -kMax;
}

// Whether a size can be encoded: positive and finite.
template <typename T>
SSDOPS_HOST_DEVICE inline bool IsPositiveFinite(T size) {
  return size > 0 && size <= std::numeric_limits<T>::max();
}

// Encode along one axis. Returns false, with nothing written, if there is no
// finite encoding.
template <typename T>
SSDOPS_HOST_DEVICE inline bool EncodeExtent(const Extent<T>& box,
                                            const Extent<T>& anchor,
                                            T centre_variance, T size_variance,
                                            T* shift, T* stretch) {
  if (!IsPositiveFinite(box.size) || !IsPositiveFinite(anchor.size)) {
    return false;
  }
  const T ratio = box.size / anchor.size;
  if (!IsPositiveFinite(ratio)) return false;
  const T t = (box.centre - anchor.centre) / anchor.size / centre_variance;
  const T s = Log(ratio) / size_variance;
  if (!IsFinite(t) || !IsFinite(s)) return false;
  *shift = t;
  *stretch = s;
  return true;
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
