// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_ENCODE_BOXES_SIMD_H_
#define SSDOPS_CPU_ENCODE_BOXES_SIMD_H_

#include "isa_variants.h"
#include "ssdops/encode_boxes.h"
#include "ssdops/storage.h"

namespace ssdops {

SSDOPS_DECLARE_VARIANTS(
    // Rows [begin, end) of the output [batch, num_anchors, 4].
    template <typename S>
    void EncodeRows(const S* boxes, const S* anchors,
                    const ComputeType<S>* variances, int64_t num_anchors,
                    int64_t begin, int64_t end, S* offsets);
    template <typename S>
    void EncodeRowsGrad(const S* grad_offsets, const S* boxes, const S* anchors,
                        const ComputeType<S>* variances, int64_t num_anchors,
                        int64_t begin, int64_t end, S* grad_boxes);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_ENCODE_BOXES_SIMD_H_
