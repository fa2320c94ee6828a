// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_GREEDY_NMS_SIMD_H_
#define SSDOPS_CPU_GREEDY_NMS_SIMD_H_

// The two inner loops of greedy suppression: finding candidates among the
// scores, and testing them against the boxes kept so far.

#include <cstdint>

#include "isa_variants.h"
#include "ssdops/candidate_key.h"
#include "ssdops/detect.h"
#include "ssdops/storage.h"

namespace ssdops {

// Sixteen kept boxes of one class, the lanes behind `count` empty boxes.
constexpr int kKeptLanes = 16;
template <typename T>
struct KeptBlock {
  T ymin[kKeptLanes], xmin[kKeptLanes], ymax[kKeptLanes], xmax[kKeptLanes];
  T area[kKeptLanes];
  int32_t count;
  int32_t previous;  // block of the same class, or -1
};

// A pass over the scores of one image.
template <typename S>
struct CandidateScan {
  using T = ComputeType<S>;
  const S* scores;  // [num_anchors, num_classes], or logits
  int64_t num_anchors;
  int64_t num_classes;
  ScoreActivation activation;
  int64_t pivot;          // softmax: a class that is often the largest
  const T* limits;        // scores above are candidates; see PatternSize
  const T* logit_limits;  // bounds of the logits, or of logit - pivot logit
  bool every_row;         // softmax: logit_limits reject nothing
  T spread_limit;         // softmax: rows whose largest logit is not further
                          // above their mean have no candidates
  CandidateKey<T> done;   // candidates have keys below ...
  CandidateKey<T> least;  // ... and from here on
  T* row;                 // softmax: [PatternSize] probabilities of one row
  CandidateKey<T>* keys;  // [capacity] result
  int64_t capacity;
  int64_t count;  // number of results
};

// Elements of a pattern: one number per class, again and again, so that a step
// of vectors (64 elements at most) and a group of 16 can be loaded from every
// class on.
constexpr int64_t PatternSize(int64_t num_classes) { return num_classes + 80; }

// What decides about a sorted candidate, and what was decided.
template <typename S>
struct Suppression {
  using T = ComputeType<S>;
  int64_t num_anchors;
  int64_t num_classes;
  const S* boxes;  // [num_anchors, 4] corners, or offsets if there are anchors
  const S* anchors;  // [num_anchors, 4], or null
  T variances[4];
  bool clip;
  bool class_agnostic;
  NmsCriterion criterion;
  T eta;
  int64_t top_k;  // candidates per class
  int64_t max_detections;

  T* iou_limits;         // [num_classes] of each class, may shrink by eta
  uint32_t* ranks;       // [num_classes] candidates visited
  int32_t* last_blocks;  // [num_classes], or -1
  KeptBlock<T>* blocks;
  int32_t num_blocks;
  int64_t open_classes;   // with fewer than top_k candidates visited
  CandidateKey<T>* kept;  // [max_detections]
  Box<T>* kept_boxes;     // [max_detections]
  int64_t num_kept;
};

SSDOPS_DECLARE_VARIANTS(
    // Appends the candidates among elements [begin, end) of the scores, whole
    // rows for a softmax. Stops early when fewer than a row, or a step, of
    // results is left; returns the first element that was not looked at.
    template <typename S>
    int64_t ScanCandidates(CandidateScan<S>* scan, int64_t begin, int64_t end);
    // Visits candidates in descending order; true when nothing more is wanted.
    template <typename S>
    bool Suppress(Suppression<S>* state,
                  const CandidateKey<ComputeType<S>>* keys, int64_t count);
    // Class probabilities of one row of logits, [num_classes].
    template <typename S>
    void ActivateRow(const S* logits, int64_t num_classes,
                     ScoreActivation activation, ComputeType<S>* row);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_GREEDY_NMS_SIMD_H_
