// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_BOX_CODING_H_
#define SSDOPS_CPU_SIMD_BOX_CODING_H_

// Encoding of kLanes boxes. Only for files that are compiled per instruction
// set (isa_variants.h).

#include "simd_boxes.h"
#include "simd_math.h"
#include "ssdops/box_coding.h"

namespace ssdops {
namespace SSDOPS_ISA {

// EncodeExtent of box_coding.h, element by element. Its four conditions on the
// sizes are three here: a positive size over one that is not positive is not
// positive or infinite, and with an infinite size the ratio is 0, infinite or
// NaN.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Mask<T> EncodeAxis(Vec<T> low, Vec<T> high, Vec<T> anchor_low,
                                 Vec<T> anchor_high, T centre_variance,
                                 T size_variance, Vec<T>* shift,
                                 Vec<T>* stretch) {
  constexpr T kMax = std::numeric_limits<T>::max();
  constexpr T kLimit = NarrowLimit<S>();
  const Vec<T> zero = {};
  const Vec<T> size = high - low;
  const Vec<T> anchor_size = anchor_high - anchor_low;
  const Vec<T> ratio = size / anchor_size;
  const Vec<T> distance =
      (low + high) * T(0.5) - (anchor_low + anchor_high) * T(0.5);
  *shift = distance / anchor_size / centre_variance;
  *stretch = Log(ratio) / size_variance;
  return (size > zero) & (ratio > zero) & (ratio <= kMax) & (*shift <= kLimit) &
         (*shift >= -kLimit) & (*stretch <= kLimit) & (*stretch >= -kLimit);
}

// Both axes: whether a pair has an encoding, and what it is if so.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Mask<T> Encode(const VecBox<T>& box, const VecBox<T>& anchor,
                             const T* variances, VecBox<T>* offsets) {
  return EncodeAxis<S>(box.ymin, box.ymax, anchor.ymin, anchor.ymax,
                       variances[0], variances[2], &offsets->ymin,
                       &offsets->ymax) &
         EncodeAxis<S>(box.xmin, box.xmax, anchor.xmin, anchor.xmax,
                       variances[1], variances[3], &offsets->xmin,
                       &offsets->xmax);
}

template <typename T>
SSDOPS_INLINE VecBox<T> ZeroUnless(Mask<T> mask, const VecBox<T>& rows) {
  const Vec<T> zero = {};
  return {mask ? rows.ymin : zero, mask ? rows.xmin : zero,
          mask ? rows.ymax : zero, mask ? rows.xmax : zero};
}

// Rows [0, count) of boxes against the same of anchors, count up to kLanes.
template <typename S>
SSDOPS_INLINE void EncodeBlock(const S* boxes, const S* anchors,
                               const ComputeType<S>* variances, int64_t count,
                               S* offsets) {
  using T = ComputeType<S>;
  VecBox<T> encoded;
  const Mask<T> encodable = Encode<S>(
      LoadRows(boxes, count), LoadRows(anchors, count), variances, &encoded);
  StoreRows(offsets, ZeroUnless<T>(encodable, encoded), count);
}

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_BOX_CODING_H_
