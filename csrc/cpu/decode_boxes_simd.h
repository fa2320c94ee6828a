// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_DECODE_BOXES_SIMD_H_
#define SSDOPS_CPU_DECODE_BOXES_SIMD_H_

#include "isa_variants.h"
#include "ssdops/decode_boxes.h"
#include "ssdops/storage.h"

namespace ssdops {

SSDOPS_DECLARE_VARIANTS(
    // Rows [begin, end) of the output [batch, num_anchors, 4].
    template <typename S>
    void DecodeRows(const S* offsets, const S* anchors,
                    const ComputeType<S>* variances, int64_t num_anchors,
                    int64_t begin, int64_t end, S* boxes);
    template <typename S>
    void DecodeRowsGrad(const S* grad_boxes, const S* offsets, const S* anchors,
                        const ComputeType<S>* variances, int64_t num_anchors,
                        int64_t begin, int64_t end, S* grad_offsets);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_DECODE_BOXES_SIMD_H_
