// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_MULTIBOX_LOSS_SIMD_H_
#define SSDOPS_CPU_MULTIBOX_LOSS_SIMD_H_

#include "isa_variants.h"
#include "ssdops/multibox_loss.h"
#include "ssdops/storage.h"

namespace ssdops {

// The confidence part of one image.
template <typename S>
struct ConfidenceRows {
  const S* logits;         // [num_anchors, num_classes]
  const int32_t* classes;  // [num_anchors]
  const bool* mined;       // [num_anchors], or null where all candidates count
  int64_t num_anchors;
  int64_t num_classes;
  int64_t available;  // logits from here to the end of their memory
  ConfidenceLoss loss;
  ComputeType<S> focal_alpha, focal_gamma;
};

// An estimate of the odds is wrong by less than this part of them, down to
// kSmallestEstimate.
constexpr float kEstimateError = 0.04f;
constexpr float kSmallestEstimate = 1e-30f;

SSDOPS_DECLARE_VARIANTS(
    // Roughly the odds against the background of every anchor; not for double.
    template <typename S>
    void EstimateOdds(const ConfidenceRows<S>& rows, float* odds);

    // By what the candidates are ranked, where what `hardness` holds is at
    // least `limit`; elsewhere -1, which is below all.
    template <typename S>
    void RankingLosses(const ConfidenceRows<S>& rows, ComputeType<S> limit,
                       ComputeType<S>* hardness);

    // Sum of the losses; *valid becomes false if a class is out of range.
    template <typename S>
    double ConfidenceSum(const ConfidenceRows<S>& rows, bool* valid);

    // Gradients times `scale`; `stream` writes zeros past the caches, which
    // FinishStream makes visible to other threads.
    template <typename S>
    void ConfidenceGrad(const ConfidenceRows<S>& rows, ComputeType<S> scale,
                        bool stream, S* grad);

    void FillZeros(void* to, int64_t bytes, bool stream);

    void FinishStream();)

}  // namespace ssdops

#endif  // SSDOPS_CPU_MULTIBOX_LOSS_SIMD_H_
