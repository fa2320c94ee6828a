// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_BOX_CODING_H_
#define SSDOPS_CPU_SIMD_BOX_CODING_H_

// Encoding of kLanes boxes. Only for files that are compiled per instruction
// set (isa_variants.h).

#include "simd_boxes.h"
#include "simd_division.h"
#include "simd_math.h"
#include "ssdops/box_coding.h"

namespace ssdops {
namespace SSDOPS_ISA {

// The four variances as divisors.
template <typename T>
struct VecVariances {
  SSDOPS_INLINE explicit VecVariances(const T* variances)
      : divisors{Divisor<T>(variances[0]), Divisor<T>(variances[1]),
                 Divisor<T>(variances[2]), Divisor<T>(variances[3])} {
    if constexpr (std::is_same_v<T, float>) {
      for (int k = 0; k < 4; ++k) {
        tame = tame && AreTame(Wildness(Splat(variances[k])));
      }
    }
  }
  Divisor<T> divisors[4];
  bool tame = true;
};

// kLanes boxes along one axis, in units of the anchors.
template <typename T>
struct VecQuotients {
  Vec<T> distance, ratio, size;
};

template <typename T>
SSDOPS_INLINE VecQuotients<T> DivideBySize(Vec<T> low, Vec<T> high,
                                           Vec<T> anchor_low,
                                           Vec<T> anchor_high) {
  const Vec<T> size = high - low;
  const Vec<T> anchor_size = anchor_high - anchor_low;
  const Vec<T> distance =
      (low + high) * T(0.5) - (anchor_low + anchor_high) * T(0.5);
  return {distance / anchor_size, size / anchor_size, size};
}

// EncodeExtent of box_coding.h, element by element. Its four conditions on the
// sizes are three here: a positive size over one that is not positive is not
// positive or infinite, and with an infinite size the ratio is 0, infinite or
// NaN.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Mask<T> EncodeAxis(const VecQuotients<T>& box,
                                 const Divisor<T>& centre_variance,
                                 const Divisor<T>& size_variance, Vec<T>* shift,
                                 Vec<T>* stretch) {
  constexpr T kMax = std::numeric_limits<T>::max();
  constexpr T kLimit = NarrowLimit<S>();
  const Vec<T> zero = {};
  *shift = centre_variance.Divide(box.distance);
  *stretch = size_variance.Divide(Log(box.ratio));
  return (box.size > zero) & (box.ratio > zero) & (box.ratio <= kMax) &
         (*shift <= kLimit) & (*shift >= -kLimit) & (*stretch <= kLimit) &
         (*stretch >= -kLimit);
}

template <typename T>
struct VecPairs {
  SSDOPS_INLINE VecPairs(const VecBox<T>& box, const VecBox<T>& anchor)
      : y(DivideBySize<T>(box.ymin, box.ymax, anchor.ymin, anchor.ymax)),
        x(DivideBySize<T>(box.xmin, box.xmax, anchor.xmin, anchor.xmax)) {}
  VecQuotients<T> y, x;
};

// Whether a pair has an encoding, and what it is if so.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Mask<T> Encode(const VecPairs<T>& pairs,
                             const VecVariances<T>& variances,
                             VecBox<T>* offsets) {
  const Divisor<T>* divisors = variances.divisors;
  return EncodeAxis<S>(pairs.y, divisors[0], divisors[2], &offsets->ymin,
                       &offsets->ymax) &
         EncodeAxis<S>(pairs.x, divisors[1], divisors[3], &offsets->xmin,
                       &offsets->xmax);
}

// The same for pairs of ordinary size, of which all have an encoding; false,
// with nothing written, if some may not be such.
SSDOPS_INLINE bool EncodeTame(const VecPairs<float>& pairs,
                              const VecVariances<float>& variances,
                              VecBox<float>* offsets) {
  const VecQuotients<float>&y = pairs.y, &x = pairs.x;
  // A negative size over a negative size is a positive ratio.
  const WideBits sign = (reinterpret_cast<WideBits>(y.size) |
                         reinterpret_cast<WideBits>(x.size)) &
                        0x80000000u;
  const WideBits wildness = Max(
      Max(Wildness(y.ratio), Wildness(x.ratio)),
      Max(WildnessOfMagnitude(y.distance), WildnessOfMagnitude(x.distance)));
  if (!variances.tame || !AreTame(wildness | sign)) return false;
  const Divisor<float>* divisors = variances.divisors;
  *offsets = {divisors[0].DivideTame(y.distance),
              divisors[1].DivideTame(x.distance),
              divisors[2].DivideTame(LogOfNormal(y.ratio)),
              divisors[3].DivideTame(LogOfNormal(x.ratio))};
  return true;
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
                               const VecVariances<ComputeType<S>>& variances,
                               int64_t count, S* offsets) {
  using T = ComputeType<S>;
  const VecPairs<T> pairs(LoadRows(boxes, count), LoadRows(anchors, count));
  VecBox<T> encoded;
  // What is tame is within the range of float, but not of Half.
  if constexpr (std::is_same_v<T, float> && NarrowLimit<S>() > 0x1p80) {
    if (EncodeTame(pairs, variances, &encoded)) {
      StoreRows(offsets, encoded, count);
      return;
    }
  }
  const Mask<T> encodable = Encode<S>(pairs, variances, &encoded);
  StoreRows(offsets, ZeroUnless<T>(encodable, encoded), count);
}

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_BOX_CODING_H_
