// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_MINE_HARD_NEGATIVES_H_
#define SSDOPS_MINE_HARD_NEGATIVES_H_

#include <cstdint>

#include "ssdops/parallel_for.h"

namespace ssdops {

struct MineHardNegativesShape {
  int64_t batch;
  int64_t num_anchors;  // below 2^31
};

// The negatives of an image with the largest losses.
//
//   losses          [batch, num_anchors]
//   target_classes  [batch, num_anchors]  > 0 positive, 0 candidate, < 0
//   ignored negative_ratio  finite, at least 0 mined           [batch,
//   num_anchors]  every element is written
//
// Of the n candidates of an image with p positives, min(trunc(p *
// negative_ratio), n) are mined; the product is one of double. They are ordered
// by loss, the largest first, equal ones by anchor, the lowest first. A NaN is
// larger than infinity, so that it is never left out while a number is taken;
// the two zeros are equal. The losses of other anchors have no influence. The
// result of an image depends neither on the batch nor on threads.
//
// Source: MineHardExamples, MAX_NEGATIVE, of the official Caffe code, whose
// order of equal losses is not defined.
template <typename S>
void MineHardNegatives(const S* losses, const int32_t* target_classes,
                       const MineHardNegativesShape& shape,
                       double negative_ratio, bool* mined, void* workspace,
                       const ParallelFor& parallel_for);

template <typename S>
int64_t MineHardNegativesWorkspaceBytes(const MineHardNegativesShape& shape,
                                        int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_MINE_HARD_NEGATIVES_H_
