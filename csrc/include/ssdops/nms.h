// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_NMS_H_
#define SSDOPS_NMS_H_

#include <cstdint>

#include "ssdops/parallel_for.h"

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

// The suppression of tf.image in TensorFlow 2.21, equal to it in every index
// and score; for ssdops/image.py. S is float or Half, and so are the numbers
// here.
struct ImageNmsOptions {
  float score_threshold;
  float iou_threshold;
  float soft_nms_sigma;     // 0 for suppression, above for lower scores instead
  int64_t max_output_size;  // at least 0
};

// As Nms with any_diagonal, but an IoU is rounded to S before it is compared.
// With a sigma, kept boxes multiply the scores of those after them by
// exp(-IoU^2 / (2 sigma)); a box is kept when it is the best and its score does
// not change any more. Where the IoU is no number, because an area is not
// finite, the score becomes 0, or NaN with a sigma.
//
//   indices, selected_scores  [min(num_boxes, max_output_size)]; behind the
//   kept
//                             ones unspecified
//   workspace                 ImageNmsWorkspaceBytes<S>(num_boxes, options)
//   bytes
//
// Returns the number of kept boxes.
template <typename S>
int64_t ImageNms(const S* boxes, const S* scores, int64_t num_boxes,
                 const ImageNmsOptions& options, int32_t* indices,
                 S* selected_scores, void* workspace);

template <typename S>
int64_t ImageNmsWorkspaceBytes(int64_t num_boxes,
                               const ImageNmsOptions& options);

struct CombinedNmsShape {
  int64_t batch;          // images
  int64_t num_boxes;      // below 2^31
  int64_t boxes_per_row;  // 1, or num_classes: a box for each class
  int64_t num_classes;
};

struct CombinedNmsOptions {
  float score_threshold;
  float iou_threshold;
  int64_t max_per_class;  // kept boxes, at least 1
  int64_t rows;           // of the output
  bool clip_boxes;        // coordinates to [0, 1]
};

// Of each image, the best kept boxes of all classes, padded with 0.
struct CombinedNmsOutput {
  float* boxes;               // [batch, rows, 4]
  float* scores;              // [batch, rows]
  float* classes;             // [batch, rows]
  int32_t* valid_detections;  // [batch]
};

// Suppression within each class of each image, with limits for the kept boxes
// of a class and of an image.
//
//   boxes      [batch, num_boxes, boxes_per_row, 4]
//   scores     [batch, num_boxes, num_classes]
//   workspace  CombinedNmsWorkspaceBytes(shape, options, workers) bytes
//
// The order of equal scores is that of TensorFlow's heap and sort, which are
// those of the C++ library and not stable. As there, places of a class that are
// not taken are rows with the score and class -1 before any score below -1.
void CombinedNms(const float* boxes, const float* scores,
                 const CombinedNmsShape& shape,
                 const CombinedNmsOptions& options,
                 const CombinedNmsOutput& output, void* workspace,
                 const ParallelFor& parallel_for);

int64_t CombinedNmsWorkspaceBytes(const CombinedNmsShape& shape,
                                  const CombinedNmsOptions& options,
                                  int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_NMS_H_
