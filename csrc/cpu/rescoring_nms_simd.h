// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_RESCORING_NMS_SIMD_H_
#define SSDOPS_CPU_RESCORING_NMS_SIMD_H_

#include "isa_variants.h"
#include "ssdops/box_math.h"
#include "ssdops/storage.h"

namespace ssdops {

// Columns are read in whole vectors: their length is a multiple of this.
constexpr int64_t kColumnStep = 16;

// Boxes side by side. An empty box, and so the padding, is (inf, inf, -inf,
// -inf) with area 0, and meets nothing.
template <typename T>
struct BoxColumns {
  T* ymin;
  T* xmin;
  T* ymax;
  T* xmax;
  T* area;
};

// The options of BatchedNms that matter to a group, in the compute type.
template <typename T>
struct RescoringOptions {
  bool gaussian;
  bool diou;
  T score_threshold;
  T iou_threshold;
  T sigma;
};

SSDOPS_DECLARE_VARIANTS(
    // Scans rows of scores of `num_classes` classes, each class with a
    // threshold of its own: writes the indices of those above it, in order, and
    // returns their number. `available` scores may be read; the thresholds are
    // padded with infinity to a multiple of kColumnStep.
    template <typename S>
    int64_t ScanAbove(const S* scores, int64_t num_rows, int64_t num_classes,
                      int64_t available, const ComputeType<S>* thresholds,
                      int32_t* indices);
    // The nth largest of `count` scores, n in [1, count]; 0 for -0. The column
    // is used up.
    template <typename T> T NthLargest(int64_t n, int64_t count, T* scores);
    // Soft-NMS of `count` candidates; equal scores are taken in the order of
    // the columns. `scores` is padded with -inf, and used up. Writes at most
    // `max_taken` indices with their final scores, and returns their number.
    template <typename T>
    int64_t TakeSoftly(const RescoringOptions<T>& options,
                       const BoxColumns<T>& boxes, int64_t count,
                       int64_t max_taken, T* scores, int32_t* taken,
                       T* taken_scores);
    // Matrix NMS of `count` candidates in order: writes their linear weights,
    // or the exponents of their Gaussian ones before the division by sigma.
    // `compensation` is a column without content.
    template <typename T>
    void MatrixDecays(const RescoringOptions<T>& options,
                      const BoxColumns<T>& boxes, int64_t count,
                      T* compensation, T* decays);
    // Index of the first of `count` boxes whose measure with `box` is above the
    // IoU threshold, or -1. The columns are padded with empty boxes.
    template <typename T>
    int64_t FirstOverlapping(const RescoringOptions<T>& options,
                             const BoxColumns<T>& boxes, int64_t count,
                             const Box<T>& box, T area);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_RESCORING_NMS_SIMD_H_
