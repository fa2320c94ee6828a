// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_MULTIBOX_LOSS_H_
#define SSDOPS_MULTIBOX_LOSS_H_

#include <cstdint>

#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"

namespace ssdops {

enum class ConfidenceLoss { kSoftmax, kSigmoid, kSigmoidFocal };
enum class LocalizationLoss { kSmoothL1, kL2, kGiou, kDiou, kCiou };

// As users write them, in the order of the enumerators.
inline constexpr const char* kConfidenceLossNames[] = {"softmax", "sigmoid",
                                                       "sigmoid_focal"};
inline constexpr const char* kLocalizationLossNames[] = {
    "smooth_l1", "l2", "giou", "diou", "ciou"};

struct MultiboxLossShape {
  int64_t batch;
  int64_t num_anchors;  // below 2^31
  int64_t num_classes;  // background included, at least 1
};

struct MultiboxLossOptions {
  ConfidenceLoss confidence;
  LocalizationLoss localization;
  double negative_ratio;       // finite, at least 0
  double localization_weight;  // finite
  double focal_alpha;          // in [0, 1]
  double focal_gamma;          // finite, at least 0
  double variances[4];         // positive and finite
  bool has_normalizer;         // else the number of positives is used
  double normalizer;
};

template <typename S>
struct MultiboxLossInput {
  const S* logits;                // [batch, num_anchors, num_classes]
  const S* offsets;               // [batch, num_anchors, 4]
  const int32_t* target_classes;  // [batch, num_anchors]
  const S* target_offsets;        // [batch, num_anchors, 4]
  const S* anchors;  // [num_anchors, 4], used by kGiou, kDiou and kCiou
};

// Scalars, and which candidates were mined, [batch, num_anchors].
template <typename T>
struct MultiboxLossOutput {
  T* total;
  T* localization;
  T* confidence;
  T* num_positives;
  bool* mined;
};

// The loss of a batch. An anchor whose target class is above 0 is positive, one
// of class 0 is a candidate, one below is ignored.
//
//   localization  sum over the positives / N
//     kSmoothL1   over the four offsets, d = prediction - target: d^2 / 2 for
//                 |d| < 1, |d| - 1/2 beyond
//     kL2         d^2 / 2
//     others      1 - GIoU, DIoU or CIoU (iou_kinds.h) of the boxes that are
//                 decoded (box_coding.h) from the two offsets
//   confidence    sum over positives and mined negatives / N
//     kSoftmax    cross-entropy of the softmax
//     kSigmoid    cross-entropies of the sigmoids of all classes, that of the
//                 background included, against the one-hot target
//     kSigmoidFocal  -alpha_t (1 - p_t)^gamma ln p_t over the classes from 1;
//                 alpha_t is alpha for the target class, else 1 - alpha. Over
//                 all positives and all candidates: nothing is mined.
//   total         localization_weight * localization + confidence
//
// N is max(1, normalizer), or max(1, number of positives in the batch); in the
// second case all losses are 0 if there are none.
//
// Mining is that of mine_hard_negatives.h. Losses of the softmax are ranked by
// the odds against the background, sum exp(x_c - x_0), with which they rise;
// odds from 1 / FLT_MIN up are equal, as for the official code, in which a
// probability is at least FLT_MIN. With a NaN among the logits they are NaN.
//
// Finite logits give finite losses. Losses of one anchor are computed in the
// compute type, with 16 partial sums by the number of the class, and are summed
// in double: in the order of the anchors, then of the images. So they do not
// depend on the instruction set, the batch or threads.
//
// Returns whether the classes are all below num_classes; if not, what is
// written is of no use.
//
// Source: multibox_loss_layer.cpp of the official Caffe code (VALID
// normalization, MAX_NEGATIVE mining); Lin et al., Focal Loss, ICCV 2017.
template <typename S>
bool MultiboxLoss(const MultiboxLossInput<S>& input,
                  const MultiboxLossShape& shape,
                  const MultiboxLossOptions& options,
                  const MultiboxLossOutput<ComputeType<S>>& output,
                  void* workspace, const ParallelFor& parallel_for);

template <typename S>
int64_t MultiboxLossWorkspaceBytes(const MultiboxLossShape& shape,
                                   int num_workers);

// Gradients with respect to the logits and the offsets, given those of total,
// localization and confidence, and two outputs of the op. The choice of the
// negatives and N have none. Every element is written; 0 for anchors that do
// not count.
template <typename S>
void MultiboxLossGrad(const MultiboxLossInput<S>& input,
                      const MultiboxLossShape& shape,
                      const MultiboxLossOptions& options,
                      const ComputeType<S>* grad_losses,
                      ComputeType<S> num_positives, const bool* mined,
                      S* grad_logits, S* grad_offsets,
                      const ParallelFor& parallel_for);

}  // namespace ssdops

#endif  // SSDOPS_MULTIBOX_LOSS_H_
