// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_ASSIGN_TARGETS_SIMD_H_
#define SSDOPS_CPU_ASSIGN_TARGETS_SIMD_H_

#include "isa_variants.h"
#include "ssdops/assign_targets.h"

namespace ssdops {

SSDOPS_DECLARE_VARIANTS(
    // Classes [num_anchors] and offsets [num_anchors, 4] of one image from its
    // matched_gt [num_anchors].
    template <typename S>
    void WriteTargets(const S* anchors, const S* gt_boxes,
                      const int32_t* gt_labels, const ComputeType<S>* variances,
                      int64_t num_anchors, const int32_t* matched_gt,
                      int32_t* classes, S* offsets);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_ASSIGN_TARGETS_SIMD_H_
