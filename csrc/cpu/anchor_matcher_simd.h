// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_ANCHOR_MATCHER_SIMD_H_
#define SSDOPS_CPU_ANCHOR_MATCHER_SIMD_H_

#include "anchor_matcher.h"
#include "isa_variants.h"

namespace ssdops {

SSDOPS_DECLARE_VARIANTS(
    // Fills the tiles from the anchors [num_anchors, 4].
    template <typename S>
    void FillTiles(const S* anchors, const MatchAnchorsOptions& options,
                   const AnchorTiles<ComputeType<S>>& tiles);
    // Matches one image: gt_boxes [num_gt, 4], gt_labels [num_gt].
    template <typename S>
    void MatchImage(const AnchorTiles<ComputeType<S>>& tiles, const S* gt_boxes,
                    const int32_t* gt_labels, int64_t num_gt,
                    const MatchAnchorsOptions& options,
                    const MatchScratch<ComputeType<S>>& scratch,
                    int32_t* matched_gt, S* matched_iou);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_ANCHOR_MATCHER_SIMD_H_
