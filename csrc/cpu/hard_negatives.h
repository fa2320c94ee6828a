// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_HARD_NEGATIVES_H_
#define SSDOPS_CPU_HARD_NEGATIVES_H_

#include "mine_hard_negatives_simd.h"
#include "ssdops/workspace.h"

namespace ssdops {

// How many negatives are mined.
inline int64_t NegativesWanted(ClassCounts counts, double negative_ratio) {
  const double wanted = static_cast<double>(counts.positives) * negative_ratio;
  return wanted < static_cast<double>(counts.candidates)
             ? static_cast<int64_t>(wanted)
             : counts.candidates;
}

// Mines in one image after another.
template <typename T>
class HardNegatives {
 public:
  HardNegatives(int64_t num_anchors, WorkspaceCursor* cursor)
      : num_anchors_(num_anchors),
        keys_(cursor->Take<LossKey<T>>(KeyRoom(num_anchors))),
        buffer_(cursor->Take<LossKey<T>>(KeyRoom(num_anchors))) {}

  // Ranks the candidates of an image.
  template <typename S>
  void Rank(const S* losses, const int32_t* classes) {
    SSDOPS_CALL_VARIANT(MakeKeys<S>(losses, classes, num_anchors_, keys_));
  }

  // The cut above which there are `wanted` of them, at least one. At least that
  // many have a key of `floor` or more.
  KeyCut<LossKey<T>> Cut(int64_t wanted,
                         LossKey<T> floor = kNoCandidate<LossKey<T>> + 1) {
    return SSDOPS_CALL_VARIANT(
        FindCut<LossKey<T>>(keys_, num_anchors_, wanted, floor, buffer_));
  }

  void Write(KeyCut<LossKey<T>> cut, bool* mined) const {
    SSDOPS_CALL_VARIANT(
        WriteChosen<LossKey<T>>(keys_, num_anchors_, cut, mined));
  }

 private:
  int64_t num_anchors_;
  LossKey<T>* keys_;
  LossKey<T>* buffer_;
};

}  // namespace ssdops

#endif  // SSDOPS_CPU_HARD_NEGATIVES_H_
