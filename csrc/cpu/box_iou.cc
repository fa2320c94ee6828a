// SPDX-License-Identifier: Apache-2.0
#include "ssdops/box_iou.h"

#include "box_iou_simd.h"

namespace ssdops {

template <typename S>
void BoxIou(const S* boxes_a, const S* boxes_b, const BoxIouShape& shape,
            IouKind kind, S* iou, const ParallelFor& parallel_for) {
  if (shape.num_b == 0) return;
  // One item is one row of the output, so that one large image is spread too.
  parallel_for(shape.batch * shape.num_a, 1 + shape.num_b / 2,
               [&](int64_t begin, int64_t end, int) {
                 SSDOPS_CALL_VARIANT(BoxIouRows<S>(boxes_a, boxes_b, shape,
                                                   kind, begin, end, iou));
               });
}

template <typename S>
void BoxIouAligned(const S* boxes_a, const S* boxes_b, int64_t count,
                   IouKind kind, S* iou, const ParallelFor& parallel_for) {
  parallel_for(count, 2, [&](int64_t begin, int64_t end, int) {
    SSDOPS_CALL_VARIANT(
        BoxIouPairs<S>(boxes_a, boxes_b, kind, begin, end, iou));
  });
}

template <typename S>
void BoxIouGrad(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                const BoxIouShape& shape, IouKind kind, S* grad_boxes_a,
                S* grad_boxes_b, const ParallelFor& parallel_for) {
  // Every pair is differentiated twice, once for each side: the sums then need
  // neither memory nor an agreement between threads.
  const int64_t images_a = shape.a_batched ? shape.batch : 1;
  const int64_t pairs_a = shape.num_b * (shape.a_batched ? 1 : shape.batch);
  parallel_for(
      images_a * shape.num_a, 1 + 2 * pairs_a,
      [&](int64_t begin, int64_t end, int) {
        SSDOPS_CALL_VARIANT(BoxIouGradRows<S>(grad_iou, boxes_a, boxes_b, shape,
                                              kind, begin, end, grad_boxes_a));
      });
  const int64_t images_b = shape.b_batched ? shape.batch : 1;
  const int64_t groups = (shape.num_b + kBoxIouColumns - 1) / kBoxIouColumns;
  const int64_t pairs_b =
      kBoxIouColumns * shape.num_a * (shape.b_batched ? 1 : shape.batch);
  parallel_for(
      images_b * groups, 1 + 2 * pairs_b, [&](int64_t begin, int64_t end, int) {
        SSDOPS_CALL_VARIANT(BoxIouGradColumns<S>(
            grad_iou, boxes_a, boxes_b, shape, kind, begin, end, grad_boxes_b));
      });
}

template <typename S>
void BoxIouAlignedGrad(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                       int64_t count, IouKind kind, S* grad_boxes_a,
                       S* grad_boxes_b, const ParallelFor& parallel_for) {
  parallel_for(count, 8, [&](int64_t begin, int64_t end, int) {
    SSDOPS_CALL_VARIANT(BoxIouGradPairs<S>(grad_iou, boxes_a, boxes_b, kind,
                                           begin, end, grad_boxes_a,
                                           grad_boxes_b));
  });
}

#define SSDOPS_INSTANTIATE(S)                                                  \
  template void BoxIou<S>(const S*, const S*, const BoxIouShape&, IouKind, S*, \
                          const ParallelFor&);                                 \
  template void BoxIouAligned<S>(const S*, const S*, int64_t, IouKind, S*,     \
                                 const ParallelFor&);                          \
  template void BoxIouGrad<S>(const S*, const S*, const S*,                    \
                              const BoxIouShape&, IouKind, S*, S*,             \
                              const ParallelFor&);                             \
  template void BoxIouAlignedGrad<S>(const S*, const S*, const S*, int64_t,    \
                                     IouKind, S*, S*, const ParallelFor&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
