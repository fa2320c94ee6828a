// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BOX_IOU_H_
#define SSDOPS_BOX_IOU_H_

#include <cstdint>

#include "ssdops/iou_kinds.h"
#include "ssdops/parallel_for.h"

namespace ssdops {

struct BoxIouShape {
  int64_t batch;   // images; 1 if neither side is batched
  int64_t num_a;   // boxes_a of an image
  int64_t num_b;   // boxes_b of an image
  bool a_batched;  // whether boxes_a has a batch axis, else it serves every
                   // image
  bool b_batched;
};

// Pairwise intersection over union, or another kind of it.
//
//   iou[i, j] = area(A_i ∩ B_j) / area(A_i ∪ B_j)    (kIou)
//
//   boxes_a  [batch or 1, num_a, 4]  corners (ymin, xmin, ymax, xmax)
//   boxes_b  [batch or 1, num_b, 4]  same
//   iou      [batch, num_a, num_b]   every element is written; must not alias
//                                    an input
//
// A box with ymax <= ymin or xmax <= xmin, or with a NaN, is empty and has IoU
// 0 with everything; so has a pair whose intersection underflows to 0 or is not
// finite. The other kinds, and what they give for such boxes, are defined in
// iou_kinds.h. The operations and their order are those of box_math.h and
// iou_kinds.h, without fused multiply-add, so the results of all
// implementations are equal in every bit, for any number of threads; those of
// kCiou as far as the arctangents are. Sizes are 64-bit; the output may have
// more than 2^31 elements. S is one of the four storage types (storage.h).
template <typename S>
void BoxIou(const S* boxes_a, const S* boxes_b, const BoxIouShape& shape,
            IouKind kind, S* iou, const ParallelFor& parallel_for);

// The same of `count` pairs.
//
//   boxes_a  [count, 4]
//   boxes_b  [count, 4]
//   iou      [count]
template <typename S>
void BoxIouAligned(const S* boxes_a, const S* boxes_b, int64_t count,
                   IouKind kind, S* iou, const ParallelFor& parallel_for);

// Gradients of BoxIou.
//
//   grad_iou      [batch, num_a, num_b]
//   grad_boxes_a  [batch or 1, num_a, 4]  sum over the boxes b, and over the
//                                         images if boxes_a is not batched
//   grad_boxes_b  [batch or 1, num_b, 4]  accordingly
//
// Every element of both is written. The derivatives are those of iou_kinds.h;
// the sums are taken in the compute type in an order that depends on the shape
// alone, so the results are equal in every bit for any number of threads.
template <typename S>
void BoxIouGrad(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                const BoxIouShape& shape, IouKind kind, S* grad_boxes_a,
                S* grad_boxes_b, const ParallelFor& parallel_for);

// Gradients of BoxIouAligned: grad_iou [count], the others [count, 4].
template <typename S>
void BoxIouAlignedGrad(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                       int64_t count, IouKind kind, S* grad_boxes_a,
                       S* grad_boxes_b, const ParallelFor& parallel_for);

}  // namespace ssdops

#endif  // SSDOPS_BOX_IOU_H_
