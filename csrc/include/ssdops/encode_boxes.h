// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_ENCODE_BOXES_H_
#define SSDOPS_ENCODE_BOXES_H_

#include <cstdint>

#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"

namespace ssdops {

// Offsets of boxes from anchors (centre-size coding). Along each axis, with
// centre c and size s:
//
//   shift = (c - c_anchor) / s_anchor / v        stretch = ln(s / s_anchor) / v
//
//   boxes      [batch, num_anchors, 4]  corners (ymin, xmin, ymax, xmax)
//   anchors    [num_anchors, 4]         same
//   variances  [4]                      of (ty, tx, th, tw), positive
//   offsets    [batch, num_anchors, 4]  (ty, tx, th, tw), always finite; may be
//                                       the same memory as boxes
//
// A pair without a finite encoding (a height or width of the box or the anchor
// is not positive and finite, or an offset overflows in S) gives four zeros.
// Division and order are those of box_coding.h; ln is Log of exp_log.h. S is
// one of the four storage types (storage.h).
template <typename S>
void EncodeBoxes(const S* boxes, const S* anchors,
                 const ComputeType<S>* variances, int64_t batch,
                 int64_t num_anchors, S* offsets,
                 const ParallelFor& parallel_for);

// Gradient with respect to the boxes; 0 for a pair without an encoding.
//
//   grad_offsets  [batch, num_anchors, 4]  gradient of the result
//   grad_boxes    [batch, num_anchors, 4]  may be the same memory as
//   grad_offsets
template <typename S>
void EncodeBoxesGrad(const S* grad_offsets, const S* boxes, const S* anchors,
                     const ComputeType<S>* variances, int64_t batch,
                     int64_t num_anchors, S* grad_boxes,
                     const ParallelFor& parallel_for);

}  // namespace ssdops

#endif  // SSDOPS_ENCODE_BOXES_H_
