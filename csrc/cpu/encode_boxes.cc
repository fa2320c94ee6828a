// SPDX-License-Identifier: Apache-2.0
#include "ssdops/encode_boxes.h"

#include "encode_boxes_simd.h"

namespace ssdops {
namespace {

constexpr int64_t kNanosecondsPerBox = 3;

}  // namespace

template <typename S>
void EncodeBoxes(const S* boxes, const S* anchors,
                 const ComputeType<S>* variances, int64_t batch,
                 int64_t num_anchors, S* offsets,
                 const ParallelFor& parallel_for) {
  parallel_for(
      batch * num_anchors, kNanosecondsPerBox,
      [&](int64_t begin, int64_t end, int) {
        SSDOPS_CALL_VARIANT(EncodeRows<S>(boxes, anchors, variances,
                                          num_anchors, begin, end, offsets));
      });
}

template <typename S>
void EncodeBoxesGrad(const S* grad_offsets, const S* boxes, const S* anchors,
                     const ComputeType<S>* variances, int64_t batch,
                     int64_t num_anchors, S* grad_boxes,
                     const ParallelFor& parallel_for) {
  parallel_for(batch * num_anchors, kNanosecondsPerBox,
               [&](int64_t begin, int64_t end, int) {
                 SSDOPS_CALL_VARIANT(
                     EncodeRowsGrad<S>(grad_offsets, boxes, anchors, variances,
                                       num_anchors, begin, end, grad_boxes));
               });
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void EncodeBoxes<S>(const S*, const S*, const ComputeType<S>*,   \
                               int64_t, int64_t, S*, const ParallelFor&);   \
  template void EncodeBoxesGrad<S>(const S*, const S*, const S*,            \
                                   const ComputeType<S>*, int64_t, int64_t, \
                                   S*, const ParallelFor&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
