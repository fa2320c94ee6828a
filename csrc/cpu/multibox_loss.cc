// SPDX-License-Identifier: Apache-2.0
#include "ssdops/multibox_loss.h"

#include <algorithm>
#include <type_traits>

#include "hard_negatives.h"
#include "multibox_loss_simd.h"
#include "ssdops/localization_loss.h"

namespace ssdops {
namespace {

// Gradients of at least this size will not be found in a cache.
constexpr int64_t kBytesToStream = int64_t{8} << 20;

template <typename S>
ConfidenceRows<S> RowsOfImage(const MultiboxLossInput<S>& input,
                              const MultiboxLossShape& shape,
                              const MultiboxLossOptions& options,
                              const bool* mined, int64_t image) {
  using T = ComputeType<S>;
  const int64_t first = image * shape.num_anchors;
  const bool is_focal = options.confidence == ConfidenceLoss::kSigmoidFocal;
  return {input.logits + first * shape.num_classes,
          input.target_classes + first,
          is_focal ? nullptr : mined + first,
          shape.num_anchors,
          shape.num_classes,
          (shape.batch * shape.num_anchors - first) * shape.num_classes,
          options.confidence,
          static_cast<T>(options.focal_alpha),
          static_cast<T>(options.focal_gamma)};
}

// Null where there are no anchors, which only the losses on boxes need.
template <typename S>
const S* AnchorAt(const MultiboxLossInput<S>& input, int64_t anchor) {
  return input.anchors == nullptr ? nullptr : input.anchors + 4 * anchor;
}

// Mining among the confidence losses of one image after another.
template <typename S>
class ConfidenceMiner {
  using T = ComputeType<S>;

 public:
  ConfidenceMiner(int64_t num_anchors, WorkspaceCursor* cursor)
      : negatives_(num_anchors, cursor),
        hardness_(cursor->Take<T>(num_anchors)) {}

  void Run(const ConfidenceRows<S>& rows, int64_t wanted, bool* mined) {
    const T limit = Limit(rows, wanted);
    SSDOPS_CALL_VARIANT(RankingLosses<S>(rows, limit, hardness_));
    negatives_.Rank(hardness_, rows.classes);
    // 0 is the key of 0: below it are those that were left out.
    negatives_.Write(negatives_.Cut(wanted, 0), mined);
  }

 private:
  // Fills hardness_ such that what is mined is at least the limit there.
  T Limit(const ConfidenceRows<S>& rows, int64_t wanted) {
    if constexpr (std::is_same_v<T, float>) {
      if (rows.loss == ConfidenceLoss::kSoftmax) {
        SSDOPS_CALL_VARIANT(EstimateOdds<S>(rows, hardness_));
        negatives_.Rank(hardness_, rows.classes);
        // `wanted` estimates are above the cut, so that many odds are above
        // cut / (1 + error), and an estimate of such odds is above (1 - error)
        // times that.
        const auto cut = BitCast<float>(negatives_.Cut(wanted).key);
        constexpr float kMargin = (1 - kEstimateError) / (1 + kEstimateError);
        return cut > kSmallestEstimate ? cut * kMargin : 0.0f;
      }
    }
    std::fill(hardness_, hardness_ + rows.num_anchors, T(0));
    return 0;
  }

  HardNegatives<T> negatives_;
  T* hardness_;
};

// Calls body(anchor) for the positives of an image, in their order. Their rows
// of the two arrays are fetched some anchors ahead.
template <typename S, typename Body>
void ForEachPositive(const int32_t* classes, int64_t count, const S* offsets,
                     const S* targets, const Body& body) {
  constexpr int64_t kBlock = 32;
  int32_t found[2 * kBlock];
  int pending = 0;
  const auto finish = [&] {
    for (int k = 0; k < pending; ++k) body(int64_t{found[k]});
    pending = 0;
  };
  for (int64_t i = 0; i < count; i += kBlock) {
    const int64_t end = count - i < kBlock ? count : i + kBlock;
    // Most blocks have none; this loop is vectorised.
    int32_t any = 0;
    for (int64_t k = i; k < end; ++k) any |= classes[k] > 0 ? 1 : 0;
    if (any == 0) continue;
    for (int64_t k = i; k < end; ++k) {
      if (classes[k] <= 0) continue;
      found[pending++] = static_cast<int32_t>(k);
      __builtin_prefetch(offsets + 4 * k);
      __builtin_prefetch(targets + 4 * k);
    }
    if (pending >= kBlock) finish();
  }
  finish();
}

// What one image adds to the losses.
struct ImageLoss {
  double localization, confidence;
  int64_t positives;
  bool valid;
};

}  // namespace

template <typename S>
bool MultiboxLoss(const MultiboxLossInput<S>& input,
                  const MultiboxLossShape& shape,
                  const MultiboxLossOptions& options,
                  const MultiboxLossOutput<ComputeType<S>>& output,
                  void* workspace, const ParallelFor& parallel_for) {
  using T = ComputeType<S>;
  const int64_t num_anchors = shape.num_anchors;
  WorkspaceCursor shared(workspace);
  auto* losses = shared.Take<ImageLoss>(shape.batch);
  WorkspaceCursor sizes(nullptr);
  ConfidenceMiner<S>(num_anchors, &sizes);
  const Localization<S> localization(options);
  const bool is_focal = options.confidence == ConfidenceLoss::kSigmoidFocal;
  const int64_t cost =
      1000 + num_anchors * (2 + shape.num_classes / (is_focal ? 1 : 6));

  parallel_for(shape.batch, cost, [&](int64_t begin, int64_t end, int worker) {
    WorkspaceCursor cursor(static_cast<std::byte*>(workspace) + shared.used() +
                           worker * sizes.used());
    ConfidenceMiner<S> miner(num_anchors, &cursor);
    for (int64_t image = begin; image < end; ++image) {
      const int64_t first = image * num_anchors;
      const ConfidenceRows<S> rows =
          RowsOfImage(input, shape, options, output.mined, image);
      bool* mined = output.mined + first;
      const ClassCounts counts =
          SSDOPS_CALL_VARIANT(CountClasses(rows.classes, num_anchors));
      const int64_t wanted =
          is_focal ? 0 : NegativesWanted(counts, options.negative_ratio);
      if (wanted == 0) {
        std::fill(mined, mined + num_anchors, false);
      } else if (wanted == counts.candidates) {
        std::transform(rows.classes, rows.classes + num_anchors, mined,
                       [](int32_t c) { return c == 0; });
      } else {
        miner.Run(rows, wanted, mined);
      }
      ImageLoss loss = {0, 0, counts.positives, true};
      loss.confidence =
          SSDOPS_CALL_VARIANT(ConfidenceSum<S>(rows, &loss.valid));
      const S* offsets = input.offsets + 4 * first;
      const S* targets = input.target_offsets + 4 * first;
      ForEachPositive(
          rows.classes, num_anchors, offsets, targets, [&](int64_t i) {
            loss.localization += localization.Loss(
                offsets + 4 * i, targets + 4 * i, AnchorAt(input, i));
          });
      losses[image] = loss;
    }
  });

  ImageLoss sum = {0, 0, 0, true};
  for (int64_t image = 0; image < shape.batch; ++image) {
    sum.localization += losses[image].localization;
    sum.confidence += losses[image].confidence;
    sum.positives += losses[image].positives;
    sum.valid = sum.valid && losses[image].valid;
  }
  const auto num_positives = static_cast<double>(sum.positives);
  const double n = Normalizer(options, num_positives);
  const bool counts = HasLoss(options, num_positives);
  const double localized = counts ? sum.localization / n : 0;
  const double confidence = counts ? sum.confidence / n : 0;
  *output.total =
      static_cast<T>(options.localization_weight * localized + confidence);
  *output.localization = static_cast<T>(localized);
  *output.confidence = static_cast<T>(confidence);
  *output.num_positives = static_cast<T>(num_positives);
  return sum.valid;
}

template <typename S>
int64_t MultiboxLossWorkspaceBytes(const MultiboxLossShape& shape,
                                   int num_workers) {
  WorkspaceCursor shared(nullptr), sizes(nullptr);
  shared.Take<ImageLoss>(shape.batch);
  ConfidenceMiner<S>(shape.num_anchors, &sizes);
  return shared.used() + num_workers * sizes.used();
}

template <typename S>
void MultiboxLossGrad(const MultiboxLossInput<S>& input,
                      const MultiboxLossShape& shape,
                      const MultiboxLossOptions& options,
                      const ComputeType<S>* grad_losses,
                      ComputeType<S> num_positives, const bool* mined,
                      S* grad_logits, S* grad_offsets,
                      const ParallelFor& parallel_for) {
  using T = ComputeType<S>;
  const int64_t num_anchors = shape.num_anchors;
  const int64_t logits = num_anchors * shape.num_classes;
  const double n = Normalizer(options, num_positives);
  const bool counts = HasLoss(options, num_positives);
  const double total = grad_losses[0];
  const auto localization_scale = static_cast<T>(
      (options.localization_weight * total + grad_losses[1]) / n);
  const auto confidence_scale = static_cast<T>((total + grad_losses[2]) / n);
  constexpr auto kSize = static_cast<int64_t>(sizeof(S));
  const bool stream = shape.batch * logits * kSize >= kBytesToStream;
  const Localization<S> localization(options);
  const bool is_focal = options.confidence == ConfidenceLoss::kSigmoidFocal;
  const int64_t cost =
      1000 + num_anchors * (2 + shape.num_classes / (is_focal ? 1 : 8));

  parallel_for(shape.batch, cost, [&](int64_t begin, int64_t end, int) {
    for (int64_t image = begin; image < end; ++image) {
      const int64_t first = image * num_anchors;
      S* by_logits = grad_logits + image * logits;
      S* by_offsets = grad_offsets + 4 * first;
      SSDOPS_CALL_VARIANT(
          FillZeros(by_offsets, 4 * num_anchors * kSize, false));
      if (!counts) {
        SSDOPS_CALL_VARIANT(FillZeros(by_logits, logits * kSize, stream));
        continue;
      }
      const ConfidenceRows<S> rows =
          RowsOfImage(input, shape, options, mined, image);
      SSDOPS_CALL_VARIANT(
          ConfidenceGrad<S>(rows, confidence_scale, stream, by_logits));
      const S* offsets = input.offsets + 4 * first;
      const S* targets = input.target_offsets + 4 * first;
      ForEachPositive(
          rows.classes, num_anchors, offsets, targets, [&](int64_t i) {
            localization.Grad(offsets + 4 * i, targets + 4 * i,
                              AnchorAt(input, i), localization_scale,
                              by_offsets + 4 * i);
          });
    }
    if (stream) SSDOPS_CALL_VARIANT(FinishStream());
  });
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template bool MultiboxLoss<S>(                                             \
      const MultiboxLossInput<S>&, const MultiboxLossShape&,                 \
      const MultiboxLossOptions&, const MultiboxLossOutput<ComputeType<S>>&, \
      void*, const ParallelFor&);                                            \
  template int64_t MultiboxLossWorkspaceBytes<S>(const MultiboxLossShape&,   \
                                                 int);                       \
  template void MultiboxLossGrad<S>(                                         \
      const MultiboxLossInput<S>&, const MultiboxLossShape&,                 \
      const MultiboxLossOptions&, const ComputeType<S>*, ComputeType<S>,     \
      const bool*, S*, S*, const ParallelFor&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
