// SPDX-License-Identifier: Apache-2.0
#include "greedy_nms_simd.h"

#include "simd.h"
#include "simd_math.h"
#include "ssdops/candidate_box.h"
#include "ssdops/iou_kinds.h"

namespace ssdops {
namespace SSDOPS_ISA {
namespace {

// Rows of classes are handled sixteen at a time on every instruction set, so
// that sums have one order.
constexpr int kGroup = 16;
template <typename T>
constexpr int kParts = kGroup / kLanes<T>;

constexpr int64_t RoundUp(int64_t count) {
  return (count + kGroup - 1) / kGroup * kGroup;
}

// The sum of sixteen numbers in the order of the contract.
template <typename T>
SSDOPS_INLINE T SumOfGroup(const T* lanes) {
  T sums[kGroup];
  for (int k = 0; k < kGroup; ++k) sums[k] = lanes[k];
  for (int half = kGroup / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) sums[k] = sums[k] + sums[k + half];
  }
  return sums[0];
}

template <typename T>
SSDOPS_INLINE T MaxOfGroup(const T* lanes) {
  T largest[kGroup];
  for (int k = 0; k < kGroup; ++k) largest[k] = lanes[k];
  for (int half = kGroup / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) {
      const T other = largest[k + half];
      largest[k] = other > largest[k] ? other : largest[k];
    }
  }
  return largest[0];
}

// `row` has RoundUp(num_classes) elements; those behind the last are 0 after.
template <typename S, typename T>
SSDOPS_INLINE void Softmax(const S* logits, int64_t num_classes, T* row) {
  constexpr int kStep = kLanes<T>;
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const int64_t padded = RoundUp(num_classes);
  // Filled before the copy, which overwrites what it has values for.
  for (int64_t j = padded - kGroup; j < padded; j += kStep) {
    Store(row + j, Splat(-kInfinity));
  }
  WidenArray(logits, num_classes, row);
  T lanes[kGroup];
  Vec<T> parts[kParts<T>];
  for (int p = 0; p < kParts<T>; ++p) parts[p] = Splat(-kInfinity);
  for (int64_t j = 0; j < padded; j += kGroup) {
    for (int p = 0; p < kParts<T>; ++p) {
      parts[p] = Max(Load(row + j + p * kStep), parts[p]);
    }
  }
  for (int p = 0; p < kParts<T>; ++p) Store(lanes + p * kStep, parts[p]);
  const Vec<T> largest = Splat(MaxOfGroup(lanes));
  for (int p = 0; p < kParts<T>; ++p) parts[p] = Vec<T>{};
  for (int64_t j = 0; j < padded; j += kGroup) {
    for (int p = 0; p < kParts<T>; ++p) {
      const Vec<T> e = Exp(Load(row + j + p * kStep) - largest);
      Store(row + j + p * kStep, e);
      parts[p] = parts[p] + e;
    }
  }
  for (int p = 0; p < kParts<T>; ++p) Store(lanes + p * kStep, parts[p]);
  const Vec<T> sum = Splat(SumOfGroup(lanes));
  for (int64_t j = 0; j < padded; j += kStep) {
    Store(row + j, Load(row + j) / sum);
  }
}

template <typename S, typename T>
SSDOPS_INLINE void Append(CandidateScan<S>* scan, T score, uint32_t anchor,
                          uint32_t class_id) {
  const CandidateKey<T> key = MakeKey(
      score, class_id * static_cast<uint32_t>(scan->num_anchors) + anchor);
  if (key < scan->done && key >= scan->least) scan->keys[scan->count++] = key;
}

// Whether a score is above its limit; a logit that is to be looked at is not
// below its bound, which is NaN where there is none.
template <bool kSigmoidScores, typename V>
SSDOPS_INLINE auto IsAbove(V value, V limit) {
  if constexpr (kSigmoidScores) {
    return ~(value <= limit);
  } else {
    return value > limit;
  }
}

// Scores, or logits of which each is a score by itself.
template <bool kSigmoidScores, typename S>
SSDOPS_INLINE int64_t ScanElements(CandidateScan<S>* scan, int64_t begin,
                                   int64_t end) {
  using T = ComputeType<S>;
  constexpr int kUnroll = 4;
  constexpr int kStep = kLanes<T> * kUnroll;
  const T* limits = kSigmoidScores ? scan->logit_limits : scan->limits;
  const auto num_classes = static_cast<uint32_t>(scan->num_classes);
  const auto look = [&](int64_t i) __attribute__((always_inline)) {
    const T value = Widen(scan->scores[i]);
    const uint32_t anchor = static_cast<uint32_t>(i) / num_classes;
    const uint32_t class_id = static_cast<uint32_t>(i) - anchor * num_classes;
    if (kSigmoidScores) {
      const T score = Sigmoid(value);
      if (score > scan->limits[class_id]) {
        Append(scan, score, anchor, class_id);
      }
    } else {
      Append(scan, value, anchor, class_id);
    }
  };
  const int64_t advance = kStep % scan->num_classes;
  int64_t phase = begin % scan->num_classes;
  int64_t i = begin;
  for (; i + kStep <= end; i += kStep) {
    if (scan->capacity - scan->count < kStep) return i;
    FetchAhead(scan->scores + i, kStep);
    Mask<T> over[kUnroll];
    for (int u = 0; u < kUnroll; ++u) {
      over[u] =
          IsAbove<kSigmoidScores>(LoadWide(scan->scores + i + u * kLanes<T>),
                                  Load(limits + phase + u * kLanes<T>));
    }
    phase += advance;
    if (phase >= scan->num_classes) phase -= scan->num_classes;
    if (Bits((over[0] | over[1]) | (over[2] | over[3])) == 0) continue;
    for (int u = 0; u < kUnroll; ++u) {
      for (uint32_t bits = Bits(over[u]); bits != 0; bits &= bits - 1) {
        look(i + u * kLanes<T> + __builtin_ctz(bits));
      }
    }
  }
  for (; i < end; ++i) {
    if (scan->count == scan->capacity) return i;
    const Vec<T> value = Splat(Widen(scan->scores[i]));
    if (IsAbove<kSigmoidScores>(value, Splat(limits[phase]))[0] != 0) look(i);
    if (++phase == scan->num_classes) phase = 0;
  }
  return end;
}

// The largest logit of a row less their mean, or infinity where rounding could
// matter. The vectors reach over the row.
template <typename S>
SSDOPS_INLINE ComputeType<S> Spread(const S* logits, int64_t num_classes) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  Vec<T> sums = {};
  Vec<T> largest = Splat(-kInfinity);
  for (int64_t j = 0; j < num_classes; j += kStep) {
    const Vec<T> value = LoadWide(logits + j);
    const Mask<T> inside = FirstLanes<T>(num_classes - j);
    sums = sums + (inside ? value : Vec<T>{});
    largest = Max(inside ? value : Splat(-kInfinity), largest);
  }
  T sum_lanes[kGroup] = {};
  T max_lanes[kGroup];
  for (int k = 0; k < kGroup; k += kStep) Store(max_lanes + k, largest);
  Store(sum_lanes, sums);
  const T top = MaxOfGroup(max_lanes);
  if (!(top < T(1000) && top > T(-1000))) return kInfinity;
  return top - SumOfGroup(sum_lanes) / static_cast<T>(num_classes);
}

template <typename S>
SSDOPS_INLINE int64_t ScanSoftmax(CandidateScan<S>* scan, int64_t begin,
                                  int64_t end) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const int64_t num_classes = scan->num_classes;
  const int64_t total = scan->num_anchors * num_classes;
  for (int64_t i = begin; i < end; i += num_classes) {
    if (scan->capacity - scan->count < num_classes) return i;
    const S* logits = scan->scores + i;
    FetchAhead(logits, num_classes);
    // The vectors reach over the row, where the limits are infinite.
    if (!scan->every_row && i + RoundUp(num_classes) <= total) {
      const Vec<T> pivot = Splat(Widen(logits[scan->pivot]));
      Mask<T> over = {};
      for (int64_t j = 0; j < num_classes; j += kStep) {
        over |= LoadWide(logits + j) - pivot > Load(scan->logit_limits + j);
      }
      if (Bits(over) == 0) continue;
      // The mean of the exponentials is at least that of the mean.
      if (scan->spread_limit > 0 &&
          Spread(logits, num_classes) < scan->spread_limit) {
        continue;
      }
    }
    Softmax(logits, num_classes, scan->row);
    const auto anchor = static_cast<uint32_t>(i / num_classes);
    for (int64_t j = 0; j < num_classes; j += kStep) {
      uint32_t bits = Bits(Load(scan->row + j) > Load(scan->limits + j));
      for (; bits != 0; bits &= bits - 1) {
        const auto class_id = static_cast<uint32_t>(j) +
                              static_cast<uint32_t>(__builtin_ctz(bits));
        Append(scan, scan->row[class_id], anchor, class_id);
      }
    }
  }
  return end;
}

template <typename S, typename T>
SSDOPS_INLINE Box<T> CandidateBox(const Suppression<S>& state, int64_t anchor) {
  const S* from = state.boxes + 4 * anchor;
  if (state.anchors == nullptr) return LoadWideBox(from);
  return DecodeCandidate(from, LoadWideBox(state.anchors + 4 * anchor),
                         state.variances, state.clip);
}

// Whether a kept box of the block overlaps too much.
template <typename T>
SSDOPS_INLINE bool IsSuppressedBy(const KeptBlock<T>& block, const Box<T>& box,
                                  T area, T limit) {
  const VecBox<T> candidate = SplatBox(box);
  Mask<T> over = {};
  for (int k = 0; k < kKeptLanes; k += kLanes<T>) {
    const VecBox<T> kept = {Load(block.ymin + k), Load(block.xmin + k),
                            Load(block.ymax + k), Load(block.xmax + k)};
    over |= Iou<T>(kept, Load(block.area + k), candidate, Splat(area)) > limit;
  }
  return Bits(over) != 0;
}

template <typename T>
SSDOPS_INLINE bool IsSuppressedByDiou(const KeptBlock<T>& block,
                                      const Box<T>& box, T area, T limit) {
  for (int k = 0; k < block.count; ++k) {
    const Box<T> kept = {block.ymin[k], block.xmin[k], block.ymax[k],
                         block.xmax[k]};
    if (IouOfKind<IouKind::kDiou>(kept, block.area[k], box, area) > limit) {
      return true;
    }
  }
  return false;
}

template <typename S, typename T>
SSDOPS_INLINE void Keep(Suppression<S>* state, int64_t group, const Box<T>& box,
                        T area) {
  int32_t last = state->last_blocks[group];
  if (last < 0 || state->blocks[last].count == kKeptLanes) {
    KeptBlock<T>& fresh = state->blocks[state->num_blocks];
    memset(&fresh, 0, sizeof(fresh));  // empty boxes: they suppress nothing
    fresh.previous = last;
    last = state->num_blocks++;
    state->last_blocks[group] = last;
  }
  KeptBlock<T>& block = state->blocks[last];
  const int32_t lane = block.count++;
  block.ymin[lane] = box.ymin;
  block.xmin[lane] = box.xmin;
  block.ymax[lane] = box.ymax;
  block.xmax[lane] = box.xmax;
  block.area[lane] = area;
}

}  // namespace

template <typename S>
int64_t ScanCandidates(CandidateScan<S>* scan, int64_t begin, int64_t end) {
  switch (scan->activation) {
    case ScoreActivation::kSoftmax:
      return ScanSoftmax(scan, begin, end);
    case ScoreActivation::kSigmoid:
      return ScanElements<true>(scan, begin, end);
    default:
      return ScanElements<false>(scan, begin, end);
  }
}

template <typename S>
bool Suppress(Suppression<S>* state, const CandidateKey<ComputeType<S>>* keys,
              int64_t count) {
  using T = ComputeType<S>;
  const auto num_anchors = static_cast<uint32_t>(state->num_anchors);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t slot = KeySlot<T>(keys[i]);
    const uint32_t class_id = slot / num_anchors;
    const uint32_t anchor = slot - class_id * num_anchors;
    const uint32_t group = state->class_agnostic ? 0 : class_id;
    if (state->ranks[group] >= state->top_k) continue;
    if (++state->ranks[group] == state->top_k) --state->open_classes;
    const Box<T> box = CandidateBox<S, T>(*state, anchor);
    const T area = Area(box);
    const T limit = state->iou_limits[group];
    bool suppressed = false;
    for (int32_t b = state->last_blocks[group]; b >= 0 && !suppressed;) {
      const KeptBlock<T>& block = state->blocks[b];
      suppressed = state->criterion == NmsCriterion::kDiou
                       ? IsSuppressedByDiou(block, box, area, limit)
                       : IsSuppressedBy(block, box, area, limit);
      b = block.previous;
    }
    if (!suppressed) {
      Keep(state, group, box, area);
      if (state->eta < T(1) && limit > T(0.5)) {
        state->iou_limits[group] = limit * state->eta;
      }
      state->kept[state->num_kept] = keys[i];
      state->kept_boxes[state->num_kept] = box;
      if (++state->num_kept == state->max_detections) return true;
    }
    if (state->open_classes == 0) return true;
  }
  return false;
}

template <typename S>
void ActivateRow(const S* logits, int64_t num_classes,
                 ScoreActivation activation, ComputeType<S>* row) {
  if (num_classes == 0) return;
  if (activation == ScoreActivation::kSoftmax) {
    Softmax(logits, num_classes, row);
    return;
  }
  WidenArray(logits, num_classes, row);
  if (activation == ScoreActivation::kSigmoid) {
    for (int64_t c = 0; c < num_classes; ++c) row[c] = Sigmoid(row[c]);
  }
}

#define SSDOPS_INSTANTIATE(S)                                              \
  template int64_t ScanCandidates<S>(CandidateScan<S>*, int64_t, int64_t); \
  template bool Suppress<S>(Suppression<S>*,                               \
                            const CandidateKey<ComputeType<S>>*, int64_t); \
  template void ActivateRow<S>(const S*, int64_t, ScoreActivation,         \
                               ComputeType<S>*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
