// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_BOX_IOU_SIMD_H_
#define SSDOPS_CPU_BOX_IOU_SIMD_H_

#include "isa_variants.h"
#include "ssdops/box_iou.h"
#include "ssdops/storage.h"

namespace ssdops {

SSDOPS_DECLARE_VARIANTS(
    // Rows [begin, end) of the output, each one box a against all boxes b.
    template <typename S> void BoxIouRows(const S* boxes_a, const S* boxes_b,
                                          const BoxIouShape& shape,
                                          int64_t begin, int64_t end, S* iou);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_BOX_IOU_SIMD_H_
