// SPDX-License-Identifier: Apache-2.0
#include "greedy_nms.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "nms_candidates.h"
#include "radix_sort.h"

namespace ssdops {
namespace {

// Candidates of a slice: several times the detections wanted, because most are
// suppressed.
constexpr int64_t kSlice = 4;
constexpr int64_t kMinCapacity = 4096;
constexpr int64_t kMaxCapacity = 65536;
constexpr int64_t kSampleSize = 4096;
// A probability is at most exp(logit - pivot logit); the error of exp and of
// the quotient is far below this share.
constexpr double kLogitSlack = 1e-4;
// The same where a mean of logits is compared; they are below 1000 there.
constexpr double kSpreadSlack = 1e-2;
// Probabilities below underflow on the way: no bound of the logits is used.
constexpr double kSmallestBound = 1e-30;

// The room behind the keys is scratch, if there is as much.
template <typename Key>
void SortDescending(Key* keys, int64_t count, int64_t capacity) {
  const auto complement = [](Key key) { return static_cast<Key>(~key); };
  uint32_t histogram[2 << kMaxDigitBits];
  if (2 * count > capacity ||
      !SortByHighestBits(keys, keys + count, count, complement, histogram)) {
    std::sort(keys, keys + count, std::greater<Key>());
  }
}

int64_t Groups(int64_t num_classes, bool class_agnostic) {
  return class_agnostic ? std::min<int64_t>(num_classes, 1) : num_classes;
}

}  // namespace

template <typename S>
GreedyNms<S>::GreedyNms(const GreedyNmsProblem<S>& problem, void* workspace)
    : problem_(problem), state_() {
  WorkspaceCursor cursor(workspace);
  const int64_t classes = problem.num_classes;
  const int64_t rows = problem.max_detections;
  const int64_t elements = problem.num_anchors * classes;
  const int64_t kept_limit = std::min(rows, elements);
  const int64_t groups = Groups(classes, problem.class_agnostic);
  // A scan wants room for a row, or for one step of its loop.
  const int64_t room = std::max<int64_t>(classes, 64);
  key_capacity_ =
      room + std::min(elements, std::clamp(2 * kSlice * rows, kMinCapacity,
                                           kMaxCapacity));
  class_limits_ = cursor.Take<T>(classes);
  limits_ = cursor.Take<T>(PatternSize(classes));
  logit_limits_ = cursor.Take<T>(PatternSize(classes));
  row_ = cursor.Take<T>(PatternSize(classes));
  keys_ = cursor.Take<CandidateKey<T>>(key_capacity_);
  sample_ = cursor.Take<CandidateKey<T>>(kSampleSize + room);
  state_.iou_limits = cursor.Take<T>(groups);
  state_.ranks = cursor.Take<uint32_t>(groups);
  state_.last_blocks = cursor.Take<int32_t>(groups);
  state_.blocks = cursor.Take<KeptBlock<T>>(kept_limit / kKeptLanes +
                                            std::min(groups, kept_limit) + 1);
  state_.kept = cursor.Take<CandidateKey<T>>(kept_limit + 1);
  state_.kept_boxes = cursor.Take<Box<T>>(kept_limit + 1);
  bytes_ = cursor.used();
  state_.num_anchors = problem.num_anchors;
  state_.num_classes = classes;
  state_.anchors = problem.anchors;
  std::copy_n(problem.variances, 4, state_.variances);
  state_.clip = problem.clip;
  state_.class_agnostic = problem.class_agnostic;
  state_.criterion = problem.criterion;
  state_.eta = problem.eta;
  state_.top_k = problem.pre_nms_top_k < 0
                     ? elements + 1
                     : std::min(problem.pre_nms_top_k, elements + 1);
  state_.max_detections = rows;
  if (workspace != nullptr) SetLimits();
}

template <typename S>
typename GreedyNms<S>::T GreedyNms<S>::ScoreLimit(int64_t class_id) const {
  if (class_id == problem_.background_class) {
    return std::numeric_limits<T>::infinity();
  }
  return static_cast<T>(problem_.score_limits == nullptr
                            ? problem_.score_threshold
                            : problem_.score_limits[class_id]);
}

template <typename S>
void GreedyNms<S>::SetLimits() {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  open_classes_ = 0;
  every_row_ = false;
  for (int64_t c = 0; c < problem_.num_classes; ++c) {
    class_limits_[c] = ScoreLimit(c);
    if (class_limits_[c] == kInfinity) continue;
    ++open_classes_;
    every_row_ = every_row_ || class_limits_[c] < T(kSmallestBound);
  }
  if (problem_.class_agnostic) {
    open_classes_ = std::min<int64_t>(open_classes_, 1);
  }
}

// Candidates of the next scan have at least the score `cut`.
template <typename S>
void GreedyNms<S>::SetCut(T cut) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const int64_t classes = problem_.num_classes;
  const int64_t size = PatternSize(classes);
  // Subnormal numbers may be flushed to zero: none of them is a limit. What is
  // admitted in excess is below the least key.
  constexpr T kTiny = std::numeric_limits<T>::min();
  const T below =
      std::abs(cut) <= kTiny ? -kTiny : std::nextafter(cut, -kInfinity);
  for (int64_t c = 0; c < classes; ++c) {
    limits_[c] = std::max(class_limits_[c], below);
    if (problem_.activation == ScoreActivation::kNone) continue;
    const double limit = static_cast<double>(limits_[c]);
    // No bound: a number that a logit is neither below nor above.
    double bound = std::numeric_limits<double>::quiet_NaN();
    if (limits_[c] == kInfinity) {
      bound = std::numeric_limits<double>::infinity();
    } else if (limit >= kSmallestBound) {
      // Of the logit above the pivot, or of the logit itself: there not beyond
      // 0.99, because close to 1 the rounding of the sigmoid is no small share.
      const double share = std::min(limit, 0.99);
      bound = problem_.activation == ScoreActivation::kSoftmax
                  ? std::log(limit)
                  : std::log(share) - std::log1p(-share);
      bound -= kLogitSlack * std::max(1.0, std::abs(bound));
    }
    logit_limits_[c] = static_cast<T>(bound);
  }
  // Behind a row of a softmax nothing is a candidate; elsewhere the pattern
  // begins anew.
  // A probability is at most exp(largest logit - mean) / classes.
  const T lowest = *std::min_element(limits_, limits_ + classes);
  spread_limit_ = T(0);
  if (static_cast<double>(lowest) * static_cast<double>(classes) > 1) {
    spread_limit_ = static_cast<T>(
        std::log(static_cast<double>(lowest) * static_cast<double>(classes)) -
        kSpreadSlack);
  }
  const bool repeat = problem_.activation != ScoreActivation::kSoftmax;
  for (int64_t c = classes; c < size; ++c) {
    limits_[c] = repeat ? limits_[c - classes] : kInfinity;
    logit_limits_[c] = repeat ? logit_limits_[c - classes] : kInfinity;
  }
}

template <typename S>
int64_t GreedyNms<S>::Scan(CandidateScan<S>* scan, int64_t begin, int64_t end) {
  scan->spread_limit = spread_limit_;
  return SSDOPS_CALL_VARIANT(ScanCandidates<S>(scan, begin, end));
}

// All candidates of the slice into keys_, or, where they do not fit, the best
// of them: then false, and none above scan->least is missing.
template <typename S>
bool GreedyNms<S>::Collect(CandidateScan<S>* scan) {
  const int64_t end = problem_.num_anchors * problem_.num_classes;
  bool complete = true;
  scan->count = 0;
  for (int64_t begin = 0;;) {
    begin = Scan(scan, begin, end);
    if (begin == end) return complete;
    const int64_t half = scan->count / 2;
    std::nth_element(keys_, keys_ + half, keys_ + scan->count,
                     std::greater<CandidateKey<T>>());
    scan->count = half + 1;
    scan->least = keys_[half];
    complete = false;
    SetCut(KeyScore<T>(scan->least));
  }
}

// A score above which about `wanted` candidates lie, from a sample of the rows;
// false if there are too few to tell.
template <typename S>
bool GreedyNms<S>::ChooseCut(const CandidateScan<S>& scan, double wanted,
                             T* cut) {
  const int64_t classes = problem_.num_classes;
  const int64_t anchors = problem_.num_anchors;
  const int64_t rows = std::clamp<int64_t>(kSampleSize / classes, 1, anchors);
  CandidateScan<S> sample = scan;
  sample.keys = sample_;
  sample.capacity = kSampleSize + std::max<int64_t>(classes, 64);
  sample.count = 0;
  sample.least = 0;
  SetCut(-std::numeric_limits<T>::infinity());
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t first = r * anchors / rows * classes;
    if (Scan(&sample, first, first + classes) != first + classes) break;
  }
  const double share = static_cast<double>(rows) / static_cast<double>(anchors);
  const auto rank = static_cast<int64_t>(std::max(4.0, wanted * share));
  if (rank >= sample.count) return false;
  std::nth_element(sample_, sample_ + rank, sample_ + sample.count,
                   std::greater<CandidateKey<T>>());
  *cut = KeyScore<T>(sample_[rank]);
  return true;
}

template <typename S>
void GreedyNms<S>::FindDetections(const S* boxes, const S* scores) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const int64_t groups = Groups(problem_.num_classes, problem_.class_agnostic);
  std::fill_n(state_.iou_limits, groups, problem_.iou_threshold);
  std::fill_n(state_.ranks, groups, 0u);
  std::fill_n(state_.last_blocks, groups, -1);
  state_.boxes = boxes;
  state_.num_blocks = 0;
  state_.num_kept = 0;
  state_.open_classes = open_classes_;
  if (problem_.num_anchors == 0 || open_classes_ == 0) return;

  CandidateScan<S> scan = {};
  scan.scores = scores;
  scan.num_anchors = problem_.num_anchors;
  scan.num_classes = problem_.num_classes;
  scan.activation = problem_.activation;
  scan.pivot = problem_.pivot;
  scan.limits = limits_;
  scan.logit_limits = logit_limits_;
  scan.every_row = every_row_;
  scan.done = ~CandidateKey<T>{0};
  scan.least = 0;
  scan.row = row_;
  scan.keys = keys_;
  scan.capacity = key_capacity_;

  // Few candidates are the common case: one scan finds all. Otherwise its first
  // overflow costs a part of a scan, and a cut is chosen.
  const int64_t end = problem_.num_anchors * problem_.num_classes;
  const double capacity = 0.7 * static_cast<double>(key_capacity_);
  double wanted = static_cast<double>(
      std::max<int64_t>(kSlice * problem_.max_detections, 256));
  SetCut(-kInfinity);
  bool everything = Scan(&scan, 0, end) == end;
  while (true) {
    if (!everything) {
      T cut = -kInfinity;
      const bool chosen = ChooseCut(scan, std::min(wanted, capacity), &cut);
      SetCut(cut);
      scan.least =
          chosen ? CandidateKey<T>{OrderedBits(cut)} << 32u : CandidateKey<T>{};
      everything = Collect(&scan) && !chosen;
    }
    SortDescending(keys_, scan.count, key_capacity_);
    const bool finished =
        SSDOPS_CALL_VARIANT(Suppress<S>(&state_, keys_, scan.count));
    if (finished || everything) return;
    scan.done = scan.least;
    wanted *= kSlice;
  }
}

template <typename S>
void GreedyNms<S>::Write(const S* scores, const BatchedNmsOutput<S>& rows,
                         S* class_probabilities) {
  const int64_t found = state_.num_kept;
  const int64_t num_rows = problem_.max_detections;
  const int64_t classes = problem_.num_classes;
  for (int64_t i = 0; i < found; ++i) {
    const uint32_t slot = KeySlot<T>(state_.kept[i]);
    const int64_t class_id = slot / problem_.num_anchors;
    const int64_t anchor = slot % problem_.num_anchors;
    const S* row = scores + anchor * classes;
    if (problem_.anchors == nullptr) {
      std::copy_n(state_.boxes + 4 * anchor, 4, rows.boxes + 4 * i);
    } else {
      const Box<T>& box = state_.kept_boxes[i];
      rows.boxes[4 * i] = Narrow<S>(box.ymin);
      rows.boxes[4 * i + 1] = Narrow<S>(box.xmin);
      rows.boxes[4 * i + 2] = Narrow<S>(box.ymax);
      rows.boxes[4 * i + 3] = Narrow<S>(box.xmax);
    }
    rows.scores[i] = problem_.activation == ScoreActivation::kNone
                         ? row[class_id]
                         : Narrow<S>(KeyScore<T>(state_.kept[i]));
    rows.classes[i] = static_cast<int32_t>(class_id);
    rows.anchor_indices[i] = static_cast<int32_t>(anchor);
    if (class_probabilities != nullptr) {
      SSDOPS_CALL_VARIANT(
          ActivateRow<S>(row, classes, problem_.activation, row_));
      S* out = class_probabilities + i * classes;
      for (int64_t c = 0; c < classes; ++c) out[c] = Narrow<S>(row_[c]);
    }
  }
  FinishOutput(rows, found, num_rows);
  if (class_probabilities != nullptr) {
    std::fill(class_probabilities + found * classes,
              class_probabilities + num_rows * classes, S{});
  }
}

template <typename S>
void GreedyNms<S>::Run(const S* boxes, const S* scores,
                       const BatchedNmsOutput<S>& rows,
                       S* class_probabilities) {
  FindDetections(boxes, scores);
  Write(scores, rows, class_probabilities);
}

#define SSDOPS_INSTANTIATE(S) template class GreedyNms<S>;
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
