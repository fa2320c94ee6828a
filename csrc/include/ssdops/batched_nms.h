// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BATCHED_NMS_H_
#define SSDOPS_BATCHED_NMS_H_

#include <cstdint>

#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"

namespace ssdops {

enum class NmsMethod {
  kGreedy,
  kSoftLinear,
  kSoftGaussian,
  kMatrixLinear,
  kMatrixGaussian,
  kWeighted,
};

// The measure u of how much two boxes overlap.
enum class NmsCriterion {
  kIou,   // Iou of box_math.h
  kDiou,  // Diou of iou_kinds.h: IoU - d^2 / c^2; where u is a weight, a
          // negative one counts as 0
};

// As users write them, in the order of the enumerators.
inline constexpr const char* kNmsMethodNames[] = {
    "greedy",        "soft_linear",     "soft_gaussian",
    "matrix_linear", "matrix_gaussian", "weighted"};
inline constexpr const char* kNmsCriterionNames[] = {"iou", "diou"};

// The range of sigma: the square of an overlap divided by it stays in the range
// of every dtype.
inline constexpr double kMinNmsSigma = 1e-6;
inline constexpr double kMaxNmsSigma = 1e6;

struct BatchedNmsShape {
  int64_t batch;        // images
  int64_t num_anchors;  // num_anchors * num_classes is below 2^32
  int64_t num_classes;  // background included
};

// Thresholds and sigma are rounded to the compute type of the scores first.
struct BatchedNmsOptions {
  NmsMethod method;
  NmsCriterion criterion;
  double sigma;              // of the Gaussian methods, in [1e-6, 1e6]
  bool class_agnostic;       // one suppression for all classes together
  double score_threshold;    // candidates have a score strictly above
  double iou_threshold;      // in [0, 1]; strictly larger measures are too much
  int64_t pre_nms_top_k;     // candidates per suppression, or -1 for all
  int64_t max_detections;    // rows of the output, at least 1
  int64_t background_class;  // never detected; -1 if every class counts
};

// Caller-owned results of BatchedNms, all padded to max_detections rows.
template <typename S>
struct BatchedNmsOutput {
  S* boxes;                 // [batch, max_detections, 4]  0 in padding
  S* scores;                // [batch, max_detections]     0 in padding
  int32_t* classes;         // [batch, max_detections]     0 in padding
  int32_t* num_detections;  // [batch]
  int32_t* anchor_indices;  // [batch, max_detections]    -1 in padding
};

// Non-maximum suppression of each image, within each class or, if
// class_agnostic, among all classes together.
//
//   boxes      [batch, num_anchors, 4]            decoded corners
//   scores     [batch, num_anchors, num_classes]  higher is better
//   workspace  BatchedNmsWorkspaceBytes<S>(shape, options, workers) bytes,
//              aligned to kWorkspaceAlignment
//
// A candidate is an anchor in a class other than the background, with a score
// strictly above score_threshold; a NaN is no candidate. Every order is: higher
// score, then lower class, then lower anchor. The pre_nms_top_k first
// candidates c_0, c_1, ... of a suppression, with scores s_i, take part in it;
// u_ij is the measure between the boxes of c_i and c_j. By method:
//
//   greedy     c_i is kept if u_ij <= iou_threshold for every kept c_j, j < i.
//   weighted   The same are kept. Each c_i that is not votes, if s_i > 0 and
//              its class is that of c_k, for the first kept c_k with
//              u_ik > iou_threshold. A kept box without a vote stays as it is;
//              another one moves to the mean of its own corners and those of
//              its voters, weighted by score. In this order of operations, with
//              voters v = 1, 2, ... by rising i, for each corner x:
//                x_k + ((s_1 (x_1 - x_k) + s_2 (x_2 - x_k)) + ...) /
//                      (((s_k + s_1) + s_2) + ...)
//              It stays as it is too where one of these sums is not finite.
//   soft_*     Soft-NMS: the first candidate by the order above is taken, with
//              the score that it has then; the score of each of the others is
//              multiplied by its weight, and those not above score_threshold
//              (a NaN is not) are dropped; this is repeated until none is left.
//              The weight is, with u between it and the one taken,
//                linear    1 - u if u > iou_threshold, else 1
//                gaussian  Exp(-((u * u) / sigma))
//   matrix_*   Matrix NMS: with m_j the largest u_jl of all l < j, or 0, every
//              s_i is multiplied by one weight, the strongest over all j < i:
//                linear    min(1, (1 - u_ij) / (1 - m_j)), those with m_j = 1
//                          left out
//                gaussian  Exp(min(0, m_j * m_j - u_ij * u_ij) / sigma)
//              and is kept if it is then above score_threshold.
//
// For soft and matrix methods u is at least 0; iou_threshold matters to
// soft_linear alone. The max_detections first of the kept ones of all
// suppressions, ordered by their new scores, are written with the new scores;
// their order is that before half types are rounded. Results depend neither on
// the batch nor on the number of threads. Empty boxes (box_math.h) overlap
// nothing. Every output element is written; outputs must not alias inputs. S is
// one of the storage types.
template <typename S>
void BatchedNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                const BatchedNmsOptions& options,
                const BatchedNmsOutput<S>& output, void* workspace,
                const ParallelFor& parallel_for);

template <typename S>
int64_t BatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                 const BatchedNmsOptions& options,
                                 int num_workers);

}  // namespace ssdops

#endif  // SSDOPS_BATCHED_NMS_H_
