// SPDX-License-Identifier: Apache-2.0
#include "assign_targets_simd.h"

#include "simd_box_coding.h"

namespace ssdops {
namespace SSDOPS_ISA {

static_assert(kNegative + 1 == kBackgroundClass &&
                  kIgnored + 1 == kIgnoredClass,
              "the class of an unmatched anchor is one more than its row");

// Pairs that wait until there are enough for a vector of them.
template <typename S>
struct PendingPairs {
  static constexpr int kCapacity = kLanes<ComputeType<S>>;

  SSDOPS_INLINE void Add(const S* box, const S* anchor, S* to) {
    memcpy(boxes + 4 * count, box, 4 * sizeof(S));
    memcpy(anchors + 4 * count, anchor, 4 * sizeof(S));
    offsets[count++] = to;
  }

  SSDOPS_INLINE void Flush(const VecVariances<ComputeType<S>>& variances) {
    S encoded[4 * kCapacity];
    EncodeBlock(boxes, anchors, variances, count, encoded);
    for (int i = 0; i < count; ++i) {
      memcpy(offsets[i], encoded + 4 * i, 4 * sizeof(S));
    }
    count = 0;
  }

  int count = 0;
  S boxes[4 * kCapacity];
  S anchors[4 * kCapacity];
  S* offsets[kCapacity];
};

template <typename S>
void WriteTargets(const S* anchors, const S* gt_boxes, const int32_t* gt_labels,
                  const ComputeType<S>* variances, int64_t num_anchors,
                  const int32_t* matched_gt, int32_t* classes, S* offsets) {
  constexpr int kStep = kLanes<float>;
  memset(offsets, 0, 4 * static_cast<size_t>(num_anchors) * sizeof(S));
  const VecVariances<ComputeType<S>> divisors(variances);
  PendingPairs<S> pending;
  const auto add = [&](int64_t anchor) __attribute__((always_inline)) {
    const int64_t row = matched_gt[anchor];
    if (row < 0) {
      classes[anchor] = static_cast<int32_t>(row + 1);
      return;
    }
    classes[anchor] = gt_labels[row];
    pending.Add(gt_boxes + 4 * row, anchors + 4 * anchor, offsets + 4 * anchor);
    if (pending.count == pending.kCapacity) pending.Flush(divisors);
  };
  int64_t first = 0;
  for (; first + kStep <= num_anchors; first += kStep) {
    const Mask<float> rows = LoadMask<float>(matched_gt + first);
    const Mask<float> unmatched = rows + 1;
    memcpy(classes + first, &unmatched, sizeof(unmatched));
    uint32_t bits = Bits(rows >= 0);
    for (; bits != 0; bits &= bits - 1) add(first + __builtin_ctz(bits));
  }
  for (; first < num_anchors; ++first) add(first);
  if (pending.count > 0) pending.Flush(divisors);
}

#define SSDOPS_INSTANTIATE(S)                                       \
  template void WriteTargets<S>(const S*, const S*, const int32_t*, \
                                const ComputeType<S>*, int64_t,     \
                                const int32_t*, int32_t*, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
