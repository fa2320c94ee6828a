// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_NMS_H_
#define SSDOPS_NMS_H_

#include <cstdint>

namespace ssdops {

// Thresholds are rounded to the compute type of the scores before they are
// compared.
struct NmsOptions {
  double score_threshold;   // candidates have a score strictly above
  double iou_threshold;     // in [0, 1]; strictly larger IoUs are suppressed
  int64_t max_output_size;  // rows of the output, at least 0
  bool any_diagonal;        // the corners of a box may be any two opposite ones
};

// Greedy non-maximum suppression of one set of boxes.
//
//   boxes      [num_boxes, 4]   num_boxes below 2^31
//   scores     [num_boxes]      higher is better
//   indices    [max_output_size]  kept boxes, best first; -1 in padding
//   num_valid  []               rows of indices that are not padding
//   workspace  NmsWorkspaceBytes<S>(num_boxes, options) bytes, aligned to
//              kWorkspaceAlignment
//
// Candidates are visited from the best score on, the lower index first among
// equal ones; one is kept if its IoU with every kept one is <= iou_threshold.
// It ends with max_output_size kept ones. A NaN score is no candidate; empty
// boxes (box_math.h) have IoU 0, so they are kept and suppress nothing. With
// any_diagonal, ymin and ymax, xmin and xmax are first put in order. Runs on
// the calling thread; outputs must not alias inputs.
//
// Spread-out boxes cost O(n log n): a kept box meets only those near it, found
// in a grid of cells. Where no grid helps, such as for boxes of vanishing or
// infinite size, every kept box is compared with all.
template <typename S>
void Nms(const S* boxes, const S* scores, int64_t num_boxes,
         const NmsOptions& options, int32_t* indices, int32_t* num_valid,
         void* workspace);

template <typename S>
int64_t NmsWorkspaceBytes(int64_t num_boxes, const NmsOptions& options);

}  // namespace ssdops

#endif  // SSDOPS_NMS_H_
