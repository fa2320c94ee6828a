// SPDX-License-Identifier: Apache-2.0
#include "encode_boxes_simd.h"

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

template <typename S>
void EncodeRows(const S* boxes, const S* anchors,
                const ComputeType<S>* variances, int64_t num_anchors,
                int64_t begin, int64_t end, S* offsets) {
  using T = ComputeType<S>;
  ForEachBlock<T>(begin, end, num_anchors,
                  [&](int64_t row, int64_t anchor, int64_t count)
                      __attribute__((always_inline)) {
                        VecBox<T> encoded;
                        const Mask<T> encodable =
                            Encode<S>(LoadRows(boxes + 4 * row, count),
                                      LoadRows(anchors + 4 * anchor, count),
                                      variances, &encoded);
                        StoreRows(offsets + 4 * row,
                                  ZeroUnless<T>(encodable, encoded), count);
                      });
}

template <typename S>
void EncodeRowsGrad(const S* grad_offsets, const S* boxes, const S* anchors,
                    const ComputeType<S>* variances, int64_t num_anchors,
                    int64_t begin, int64_t end, S* grad_boxes) {
  using T = ComputeType<S>;
  ForEachBlock<T>(
      begin, end, num_anchors,
      [&](int64_t row, int64_t anchor_row,
          int64_t count) __attribute__((always_inline)) {
        const VecBox<T> grad = LoadRows(grad_offsets + 4 * row, count);
        const VecBox<T> box = LoadRows(boxes + 4 * row, count);
        const VecBox<T> anchor = LoadRows(anchors + 4 * anchor_row, count);
        VecBox<T> unused;
        const Mask<T> encodable = Encode<S>(box, anchor, variances, &unused);
        // shift depends on the mean of the corners, stretch on their
        // distance.
        const Vec<T> dy =
            grad.ymin / variances[0] / (anchor.ymax - anchor.ymin) * T(0.5);
        const Vec<T> dx =
            grad.xmin / variances[1] / (anchor.xmax - anchor.xmin) * T(0.5);
        const Vec<T> dh = grad.ymax / variances[2] / (box.ymax - box.ymin);
        const Vec<T> dw = grad.xmax / variances[3] / (box.xmax - box.xmin);
        StoreRows(
            grad_boxes + 4 * row,
            ZeroUnless<T>(encodable, {dy - dh, dx - dw, dy + dh, dx + dw}),
            count);
      });
}

#define SSDOPS_INSTANTIATE(S)                                              \
  template void EncodeRows<S>(const S*, const S*, const ComputeType<S>*,   \
                              int64_t, int64_t, int64_t, S*);              \
  template void EncodeRowsGrad<S>(const S*, const S*, const S*,            \
                                  const ComputeType<S>*, int64_t, int64_t, \
                                  int64_t, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
