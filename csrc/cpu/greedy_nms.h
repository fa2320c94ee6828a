// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_GREEDY_NMS_H_
#define SSDOPS_CPU_GREEDY_NMS_H_

// Greedy suppression of one image, shared by batched_nms and detect.
//
// Candidates are visited in the order of detections over all classes, so that
// visiting can end with the last wanted detection. They are brought into that
// order in slices: where there are many, a first cut of the scores is chosen
// from a sample, such that a few times as many as wanted detections lie above;
// only if those do not suffice, the scores are read again for the next slice.

#include "greedy_nms_simd.h"
#include "ssdops/workspace.h"

namespace ssdops {

// What all images of a call have in common.
template <typename S>
struct GreedyNmsProblem {
  using T = ComputeType<S>;
  int64_t num_anchors;
  int64_t num_classes;
  ScoreActivation activation;
  const S* anchors;  // boxes are offsets from them; null: boxes are corners
  T variances[4];
  bool clip;
  NmsCriterion criterion;
  T iou_threshold;
  T eta;
  bool class_agnostic;
  int64_t pre_nms_top_k;  // or -1
  int64_t max_detections;
  int64_t pivot;               // a class that is often the largest
  const double* score_limits;  // [num_classes], or null: of all classes ...
  double score_threshold;      // ... this one,
  int64_t background_class;    // but of this one none; or -1
};

template <typename S>
class GreedyNms {
 public:
  using T = ComputeType<S>;

  // Workspace of one worker; with a null base only its size is known.
  GreedyNms(const GreedyNmsProblem<S>& problem, void* workspace);

  int64_t workspace_bytes() const { return bytes_; }

  // boxes: [num_anchors, 4]; scores: [num_anchors, num_classes]; the rows of
  // one image, and the probabilities of its detections or null.
  void Run(const S* boxes, const S* scores, const BatchedNmsOutput<S>& rows,
           S* class_probabilities);

 private:
  void SetLimits();
  void SetCut(T cut);
  void FindDetections(const S* boxes, const S* scores);
  bool Collect(CandidateScan<S>* scan);
  bool ChooseCut(const CandidateScan<S>& scan, double wanted, T* cut);
  int64_t Scan(CandidateScan<S>* scan, int64_t begin, int64_t end);
  void Write(const S* scores, const BatchedNmsOutput<S>& rows,
             S* class_probabilities);
  T ScoreLimit(int64_t class_id) const;

  const GreedyNmsProblem<S>& problem_;
  Suppression<S> state_;
  int64_t key_capacity_;
  int64_t bytes_;
  T* class_limits_;  // [num_classes]
  T* limits_;        // [PatternSize]
  T* logit_limits_;  // [PatternSize]
  T* row_;           // [PatternSize]
  CandidateKey<T>* keys_;
  CandidateKey<T>* sample_;
  int64_t open_classes_ = 0;  // that can have candidates
  bool every_row_ = false;
  T spread_limit_ = T(0);  // of the scan; see there
};

}  // namespace ssdops

#endif  // SSDOPS_CPU_GREEDY_NMS_H_
