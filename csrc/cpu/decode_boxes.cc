// SPDX-License-Identifier: Apache-2.0
#include "ssdops/decode_boxes.h"

#include "decode_boxes_simd.h"

namespace ssdops {
namespace {

constexpr int64_t kNanosecondsPerBox = 3;

}  // namespace

template <typename S>
void DecodeBoxes(const S* offsets, const S* anchors,
                 const ComputeType<S>* variances, int64_t batch,
                 int64_t num_anchors, S* boxes,
                 const ParallelFor& parallel_for) {
  parallel_for(
      batch * num_anchors, kNanosecondsPerBox,
      [&](int64_t begin, int64_t end, int) {
        SSDOPS_CALL_VARIANT(DecodeRows<S>(offsets, anchors, variances,
                                          num_anchors, begin, end, boxes));
      });
}

template <typename S>
void DecodeBoxesGrad(const S* grad_boxes, const S* offsets, const S* anchors,
                     const ComputeType<S>* variances, int64_t batch,
                     int64_t num_anchors, S* grad_offsets,
                     const ParallelFor& parallel_for) {
  parallel_for(batch * num_anchors, kNanosecondsPerBox,
               [&](int64_t begin, int64_t end, int) {
                 SSDOPS_CALL_VARIANT(
                     DecodeRowsGrad<S>(grad_boxes, offsets, anchors, variances,
                                       num_anchors, begin, end, grad_offsets));
               });
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void DecodeBoxes<S>(const S*, const S*, const ComputeType<S>*,   \
                               int64_t, int64_t, S*, const ParallelFor&);   \
  template void DecodeBoxesGrad<S>(const S*, const S*, const S*,            \
                                   const ComputeType<S>*, int64_t, int64_t, \
                                   S*, const ParallelFor&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
