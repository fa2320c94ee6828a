// SPDX-License-Identifier: Apache-2.0
#include "decode_boxes_simd.h"

#include "simd_boxes.h"
#include "simd_math.h"
#include "ssdops/box_coding.h"

namespace ssdops {
namespace SSDOPS_ISA {

// Limit to [-largest, largest]; NaN goes through.
template <typename T>
SSDOPS_INLINE Vec<T> Limit(Vec<T> x, T largest) {
  return Max(Splat(-largest), Min(Splat(largest), x));
}

template <typename T>
SSDOPS_INLINE Mask<T> IsWithin(Vec<T> x, T largest) {
  return (x <= largest) & (x >= -largest);
}

// Position and size of kLanes boxes along one axis.
template <typename T>
struct VecExtent {
  Vec<T> centre, size;
};

template <typename T>
SSDOPS_INLINE VecExtent<T> MakeVecExtent(Vec<T> low, Vec<T> high) {
  return {(low + high) * T(0.5), high - low};
}

// DecodeExtent of box_coding.h, element by element.
template <typename T>
SSDOPS_INLINE VecExtent<T> DecodeAxis(Vec<T> shift, Vec<T> stretch,
                                      const VecExtent<T>& anchor,
                                      T centre_variance, T size_variance) {
  constexpr T kMax = std::numeric_limits<T>::max();
  const Vec<T> limited_shift = Limit<T>(shift * centre_variance, kMax);
  const Vec<T> exponent = stretch * size_variance;
  const Vec<T> growth = exponent > kMaxExpArgument<T>
                            ? Splat(kMax)
                            : Exp(Min(Splat(kMaxExpArgument<T>), exponent));
  return {Limit<T>(limited_shift * anchor.size + anchor.centre, kMax),
          Limit<T>(growth * anchor.size, kMax)};
}

template <typename S>
void DecodeRows(const S* offsets, const S* anchors,
                const ComputeType<S>* variances, int64_t num_anchors,
                int64_t begin, int64_t end, S* boxes) {
  using T = ComputeType<S>;
  constexpr T kLargest = LargestOf<S>();
  ForEachBlock<T>(
      begin, end, num_anchors,
      [&](int64_t row, int64_t anchor_row, int64_t count)
          __attribute__((always_inline)) {
            const VecBox<T> t = LoadRows(offsets + 4 * row, count);
            const VecBox<T> anchor = LoadRows(anchors + 4 * anchor_row, count);
            const VecExtent<T> y = DecodeAxis<T>(
                t.ymin, t.ymax, MakeVecExtent<T>(anchor.ymin, anchor.ymax),
                variances[0], variances[2]);
            const VecExtent<T> x = DecodeAxis<T>(
                t.xmin, t.xmax, MakeVecExtent<T>(anchor.xmin, anchor.xmax),
                variances[1], variances[3]);
            const Vec<T> half_y = y.size * T(0.5), half_x = x.size * T(0.5);
            StoreRows(boxes + 4 * row,
                      {Limit<T>(y.centre - half_y, kLargest),
                       Limit<T>(x.centre - half_x, kLargest),
                       Limit<T>(y.centre + half_y, kLargest),
                       Limit<T>(x.centre + half_x, kLargest)},
                      count);
          });
}

// Gradient along one axis: of the two corners to the two offsets.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE void DecodeAxisGrad(Vec<T> grad_low, Vec<T> grad_high,
                                  Vec<T> shift, Vec<T> stretch,
                                  const VecExtent<T>& anchor, T centre_variance,
                                  T size_variance, Vec<T>* grad_shift,
                                  Vec<T>* grad_stretch) {
  constexpr T kMax = std::numeric_limits<T>::max();
  constexpr T kLargest = LargestOf<S>();
  const Vec<T> zero = {};
  const VecExtent<T> box =
      DecodeAxis<T>(shift, stretch, anchor, centre_variance, size_variance);
  const Vec<T> half = box.size * T(0.5);
  // A value that was limited does not change with the offsets.
  grad_low = IsWithin<T>(box.centre - half, kLargest) ? grad_low : zero;
  grad_high = IsWithin<T>(box.centre + half, kLargest) ? grad_high : zero;
  const Vec<T> product = shift * centre_variance;
  const Mask<T> centre_free =
      IsWithin<T>(product, kMax) &
      IsWithin<T>(product * anchor.size + anchor.centre, kMax);
  const Mask<T> size_free =
      (stretch * size_variance <= kMaxExpArgument<T>)&(box.size < kMax) &
      (box.size > -kMax);
  *grad_shift = centre_free
                    ? (grad_low + grad_high) * anchor.size * centre_variance
                    : zero;
  *grad_stretch =
      size_free ? (grad_high - grad_low) * T(0.5) * box.size * size_variance
                : zero;
}

template <typename S>
void DecodeRowsGrad(const S* grad_boxes, const S* offsets, const S* anchors,
                    const ComputeType<S>* variances, int64_t num_anchors,
                    int64_t begin, int64_t end, S* grad_offsets) {
  using T = ComputeType<S>;
  ForEachBlock<T>(
      begin, end, num_anchors,
      [&](int64_t row, int64_t anchor_row, int64_t count)
          __attribute__((always_inline)) {
            const VecBox<T> grad = LoadRows(grad_boxes + 4 * row, count);
            const VecBox<T> t = LoadRows(offsets + 4 * row, count);
            const VecBox<T> anchor = LoadRows(anchors + 4 * anchor_row, count);
            VecBox<T> result;
            DecodeAxisGrad<S>(grad.ymin, grad.ymax, t.ymin, t.ymax,
                              MakeVecExtent<T>(anchor.ymin, anchor.ymax),
                              variances[0], variances[2], &result.ymin,
                              &result.ymax);
            DecodeAxisGrad<S>(grad.xmin, grad.xmax, t.xmin, t.xmax,
                              MakeVecExtent<T>(anchor.xmin, anchor.xmax),
                              variances[1], variances[3], &result.xmin,
                              &result.xmax);
            StoreRows(grad_offsets + 4 * row, result, count);
          });
}

#define SSDOPS_INSTANTIATE(S)                                              \
  template void DecodeRows<S>(const S*, const S*, const ComputeType<S>*,   \
                              int64_t, int64_t, int64_t, S*);              \
  template void DecodeRowsGrad<S>(const S*, const S*, const S*,            \
                                  const ComputeType<S>*, int64_t, int64_t, \
                                  int64_t, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
