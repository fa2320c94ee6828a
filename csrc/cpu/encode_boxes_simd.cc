// SPDX-License-Identifier: Apache-2.0
#include "encode_boxes_simd.h"

#include "simd_box_coding.h"

namespace ssdops {
namespace SSDOPS_ISA {

template <typename S>
void EncodeRows(const S* boxes, const S* anchors,
                const ComputeType<S>* variances, int64_t num_anchors,
                int64_t begin, int64_t end, S* offsets) {
  const VecVariances<ComputeType<S>> divisors(variances);
  ForEachBlock<ComputeType<S>>(begin, end, num_anchors,
                               [&](int64_t row, int64_t anchor, int64_t count)
                                   __attribute__((always_inline)) {
                                     EncodeBlock(boxes + 4 * row,
                                                 anchors + 4 * anchor, divisors,
                                                 count, offsets + 4 * row);
                                   });
}

template <typename S>
void EncodeRowsGrad(const S* grad_offsets, const S* boxes, const S* anchors,
                    const ComputeType<S>* variances, int64_t num_anchors,
                    int64_t begin, int64_t end, S* grad_boxes) {
  using T = ComputeType<S>;
  const VecVariances<T> divisors(variances);
  ForEachBlock<T>(
      begin, end, num_anchors,
      [&](int64_t row, int64_t anchor_row,
          int64_t count) __attribute__((always_inline)) {
        const VecBox<T> grad = LoadRows(grad_offsets + 4 * row, count);
        const VecBox<T> box = LoadRows(boxes + 4 * row, count);
        const VecBox<T> anchor = LoadRows(anchors + 4 * anchor_row, count);
        VecBox<T> unused;
        const Mask<T> encodable = Encode<S>({box, anchor}, divisors, &unused);
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
