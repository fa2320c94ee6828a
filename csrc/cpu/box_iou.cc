// SPDX-License-Identifier: Apache-2.0
#include "ssdops/box_iou.h"

#include "box_iou_simd.h"

namespace ssdops {

template <typename S>
void BoxIou(const S* boxes_a, const S* boxes_b, const BoxIouShape& shape,
            S* iou, const ParallelFor& parallel_for) {
  if (shape.num_b == 0) return;
  // One item is one row of the output, so that one large image is spread too.
  parallel_for(shape.batch * shape.num_a, 1 + shape.num_b / 2,
               [&](int64_t begin, int64_t end, int) {
                 SSDOPS_CALL_VARIANT(
                     BoxIouRows<S>(boxes_a, boxes_b, shape, begin, end, iou));
               });
}

#define SSDOPS_INSTANTIATE(S)                                         \
  template void BoxIou<S>(const S*, const S*, const BoxIouShape&, S*, \
                          const ParallelFor&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
