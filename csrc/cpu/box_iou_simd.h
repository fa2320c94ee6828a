// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_BOX_IOU_SIMD_H_
#define SSDOPS_CPU_BOX_IOU_SIMD_H_

#include "isa_variants.h"
#include "ssdops/box_iou.h"
#include "ssdops/storage.h"

namespace ssdops {

// Columns of grad_iou that BoxIouGradColumns takes as one item.
constexpr int64_t kBoxIouColumns = 16;

SSDOPS_DECLARE_VARIANTS(
    // Rows [begin, end) of the output, each one box a against all boxes b.
    template <typename S>
    void BoxIouRows(const S* boxes_a, const S* boxes_b,
                    const BoxIouShape& shape, IouKind kind, int64_t begin,
                    int64_t end, S* iou);

    // Pairs [begin, end).
    template <typename S>
    void BoxIouPairs(const S* boxes_a, const S* boxes_b, IouKind kind,
                     int64_t begin, int64_t end, S* iou);

    // Rows [begin, end) of grad_boxes_a.
    template <typename S>
    void BoxIouGradRows(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                        const BoxIouShape& shape, IouKind kind, int64_t begin,
                        int64_t end, S* grad_boxes_a);

    // Groups [begin, end) of rows of grad_boxes_b: kBoxIouColumns rows of one
    // image, fewer in the last group of an image.
    template <typename S>
    void BoxIouGradColumns(const S* grad_iou, const S* boxes_a,
                           const S* boxes_b, const BoxIouShape& shape,
                           IouKind kind, int64_t begin, int64_t end,
                           S* grad_boxes_b);

    // Pairs [begin, end) of both gradients.
    template <typename S>
    void BoxIouGradPairs(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                         IouKind kind, int64_t begin, int64_t end,
                         S* grad_boxes_a, S* grad_boxes_b);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_BOX_IOU_SIMD_H_
