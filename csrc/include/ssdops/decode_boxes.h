// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_DECODE_BOXES_H_
#define SSDOPS_DECODE_BOXES_H_

#include <cstdint>

#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"

namespace ssdops {

// Boxes from offsets (centre-size coding). Along each axis, with centre c and
// size s:
//
//   c = shift * v * s_anchor + c_anchor
//   s = exp(stretch * v) * s_anchor
//
//   offsets    [batch, num_anchors, 4]  (ty, tx, th, tw)
//   anchors    [num_anchors, 4]         corners (ymin, xmin, ymax, xmax)
//   variances  [4]                      of (ty, tx, th, tw), positive
//   boxes      [batch, num_anchors, 4]  corners, not clipped; may be the same
//                                       memory as offsets
//
// Every product and sum is limited to the finite range of the compute type and
// every corner to that of S, so finite input gives finite boxes; NaN goes
// through. exp is Exp of exp_log.h. S is one of the four storage types
// (storage.h).
template <typename S>
void DecodeBoxes(const S* offsets, const S* anchors,
                 const ComputeType<S>* variances, int64_t batch,
                 int64_t num_anchors, S* boxes,
                 const ParallelFor& parallel_for);

// Gradient with respect to the offsets; 0 where a value was limited.
//
//   grad_boxes    [batch, num_anchors, 4]  gradient of the result
//   grad_offsets  [batch, num_anchors, 4]  may be the same memory as grad_boxes
template <typename S>
void DecodeBoxesGrad(const S* grad_boxes, const S* offsets, const S* anchors,
                     const ComputeType<S>* variances, int64_t batch,
                     int64_t num_anchors, S* grad_offsets,
                     const ParallelFor& parallel_for);

}  // namespace ssdops

#endif  // SSDOPS_DECODE_BOXES_H_
