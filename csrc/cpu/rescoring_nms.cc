// SPDX-License-Identifier: Apache-2.0
#include "rescoring_nms.h"

#include <algorithm>
#include <cmath>

#include "nms_candidates.h"
#include "rescoring_nms_simd.h"
#include "ssdops/box_math.h"
#include "ssdops/exp_log.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

// Scores are scanned in pieces, whose candidates fit the first cache.
constexpr int64_t kScanPiece = 2048;

int64_t PieceRows(const BatchedNmsShape& shape) {
  return std::max<int64_t>(
      1, kScanPiece / std::max<int64_t>(1, shape.num_classes));
}

// Candidates of a group are collected in a buffer; when it is full, only the
// best ones stay and the others raise the threshold.
int64_t BufferSize(const BatchedNmsShape& shape,
                   const BatchedNmsOptions& options) {
  constexpr int64_t kSpare = 64;
  return std::min(2 * GroupLimit(shape, options) + kSpare,
                  GroupCapacity(shape, options));
}

// What was kept, and where its box is if that is no box of the input.
template <typename T>
struct Detection {
  Candidate<T> candidate;
  int64_t moved_box;  // -1 if it is
};

template <typename T>
bool operator<(const Detection<T>& a, const Detection<T>& b) {
  return a.candidate < b.candidate;
}

template <typename T>
bool ComesEarlier(const Candidate<T>& a, const Candidate<T>& b) {
  if (a.class_id != b.class_id) return a.class_id < b.class_id;
  return a.anchor < b.anchor;
}

// The votes for a kept box: sums over its voters.
template <typename T>
struct Votes {
  T score;     // own one included
  Box<T> sum;  // of score times distance
  bool any;
};

int64_t ColumnLength(int64_t count) {
  return (count + kColumnStep - 1) / kColumnStep * kColumnStep;
}

template <typename T>
struct Scratch {
  Scratch(const BatchedNmsShape& shape, const BatchedNmsOptions& options,
          void* base) {
    WorkspaceCursor cursor(base);
    const int64_t groups = NumGroups(shape, options);
    const int64_t limit = GroupLimit(shape, options);
    const int64_t length = ColumnLength(limit);
    const int64_t buffer = BufferSize(shape, options);
    const bool weighted = options.method == NmsMethod::kWeighted;
    indices = cursor.Take<int32_t>(PieceRows(shape) * shape.num_classes);
    thresholds = cursor.Take<T>(ColumnLength(shape.num_classes));
    counts = cursor.Take<int64_t>(groups);
    candidates = cursor.Take<Candidate<T>>(groups * buffer);
    columns = {cursor.Take<T>(length), cursor.Take<T>(length),
               cursor.Take<T>(length), cursor.Take<T>(length),
               cursor.Take<T>(length)};
    scores = cursor.Take<T>(ColumnLength(buffer));
    new_scores = cursor.Take<T>(length);
    taken = cursor.Take<int32_t>(limit);
    votes = cursor.Take<Votes<T>>(weighted ? limit : 0);
    moved_boxes = cursor.Take<Box<T>>(weighted ? groups * limit : 0);
    detections = cursor.Take<Detection<T>>(groups * limit);
    bytes = cursor.used();
  }

  int32_t* indices;          // of a piece
  T* thresholds;             // [ColumnLength(classes)] of each class
  int64_t* counts;           // [groups] candidates
  Candidate<T>* candidates;  // [groups, buffer size]
  BoxColumns<T> columns;     // [length] boxes of the group at work,
  T* scores;                 // [length] their scores or compensations,
  T* new_scores;             // [length] and scores or decays that result
  int32_t* taken;            // [limit] columns taken by Soft-NMS
  Votes<T>* votes;           // [limit] for the kept boxes of the group
  Box<T>* moved_boxes;       // of all groups
  Detection<T>* detections;  // of all groups
  int64_t bytes;
};

template <typename S>
class ImageRescoring {
 public:
  using T = ComputeType<S>;

  ImageRescoring(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                 const BatchedNmsOptions& options, void* workspace)
      : boxes_(boxes),
        scores_(scores),
        shape_(shape),
        options_(options),
        scratch_(shape, options, workspace) {
    rescoring_.gaussian = options.method == NmsMethod::kSoftGaussian ||
                          options.method == NmsMethod::kMatrixGaussian;
    rescoring_.diou = options.criterion == NmsCriterion::kDiou;
    rescoring_.score_threshold = static_cast<T>(options.score_threshold);
    rescoring_.iou_threshold = static_cast<T>(options.iou_threshold);
    rescoring_.sigma = static_cast<T>(options.sigma);
  }

  void Run() {
    Collect();
    const int64_t buffer = BufferSize(shape_, options_);
    for (int64_t g = 0; g < NumGroups(shape_, options_); ++g) {
      Candidate<T>* begin = scratch_.candidates + g * buffer;
      if (scratch_.counts[g] == 0) continue;
      Candidate<T>* end = begin + LeaveBest(begin, scratch_.counts[g]);
      switch (options_.method) {
        case NmsMethod::kSoftLinear:
        case NmsMethod::kSoftGaussian:
          Soft(begin, end);
          break;
        case NmsMethod::kMatrixLinear:
        case NmsMethod::kMatrixGaussian:
          Matrix(begin, end);
          break;
        default:
          Weighted(begin, end);
      }
    }
  }

  void Write(const BatchedNmsOutput<S>& output) {
    const int64_t rows = options_.max_detections;
    Detection<T>* begin = scratch_.detections;
    const int64_t found =
        SortBest(begin, begin + num_detections_, rows) - begin;
    for (int64_t i = 0; i < found; ++i) {
      const Candidate<T>& candidate = begin[i].candidate;
      S* corners = output.boxes + 4 * i;
      if (begin[i].moved_box < 0) {
        std::copy_n(boxes_ + 4 * static_cast<int64_t>(candidate.anchor), 4,
                    corners);
      } else {
        const Box<T>& box = scratch_.moved_boxes[begin[i].moved_box];
        corners[0] = Narrow<S>(box.ymin);
        corners[1] = Narrow<S>(box.xmin);
        corners[2] = Narrow<S>(box.ymax);
        corners[3] = Narrow<S>(box.xmax);
      }
      output.scores[i] = Narrow<S>(candidate.score);
      output.classes[i] = candidate.class_id;
      output.anchor_indices[i] = candidate.anchor;
    }
    FinishOutput(output, found, rows);
  }

 private:
  Box<T> BoxOf(const Candidate<T>& candidate) const {
    return LoadWideBox(boxes_ + 4 * static_cast<int64_t>(candidate.anchor));
  }

  // The candidates of each group, or at least the best ones of them.
  void Collect() {
    const int64_t num_classes = shape_.num_classes;
    const int64_t buffer = BufferSize(shape_, options_);
    const int64_t size = shape_.num_anchors * num_classes;
    int64_t* counts = scratch_.counts;
    std::fill(counts, counts + NumGroups(shape_, options_), 0);
    std::fill(scratch_.thresholds,
              scratch_.thresholds + ColumnLength(num_classes),
              std::numeric_limits<T>::infinity());
    RaiseThresholds(0, num_classes, rescoring_.score_threshold);
    // Indices rise, so that the anchor is found without a division.
    int64_t anchor = 0, row = 0;
    const int64_t piece_rows = PieceRows(shape_);
    for (int64_t a = 0; a < shape_.num_anchors; a += piece_rows) {
      const int64_t start = a * num_classes;
      const S* piece = scores_ + start;
      const int64_t found = SSDOPS_CALL_VARIANT(ScanAbove<S>(
          piece, std::min(piece_rows, shape_.num_anchors - a), num_classes,
          size - start, scratch_.thresholds, scratch_.indices));
      for (int64_t k = 0; k < found; ++k) {
        const int64_t index = start + scratch_.indices[k];
        while (index >= row + num_classes) {
          ++anchor;
          row += num_classes;
        }
        const int64_t class_id = index - row;
        const T score = Widen(scores_[index]);
        if (!(score > scratch_.thresholds[class_id])) continue;
        const int64_t group = options_.class_agnostic ? 0 : class_id;
        Candidate<T>* candidates = scratch_.candidates + group * buffer;
        if (counts[group] == buffer) counts[group] = Prune(group, candidates);
        candidates[counts[group]++] = {score, static_cast<int32_t>(class_id),
                                       static_cast<int32_t>(anchor)};
      }
    }
  }

  // Sets the thresholds of the classes [begin, end), but not the infinite one
  // of the background.
  void RaiseThresholds(int64_t begin, int64_t end, T threshold) {
    for (int64_t c = begin; c < end; ++c) {
      if (c != options_.background_class) scratch_.thresholds[c] = threshold;
    }
  }

  // Leaves the best candidates of a full buffer, and returns their number.
  int64_t Prune(int64_t group, Candidate<T>* candidates) {
    const int64_t limit = LeaveBest(candidates, BufferSize(shape_, options_));
    const Candidate<T>* last = std::max_element(candidates, candidates + limit);
    if (!options_.class_agnostic) {
      // Of equal scores the later anchor comes later.
      RaiseThresholds(group, group + 1, last->score);
    } else if (last->score > 2 * std::numeric_limits<T>::min()) {
      // A later anchor may have a lower class: equal scores stay candidates.
      // The number below is no subnormal one, which could count as 0.
      RaiseThresholds(0, shape_.num_classes, std::nextafter(last->score, T(0)));
    }
    return limit;
  }

  // Moves the candidates that take part to the front, those of one class by
  // anchor as before, and returns their number.
  int64_t LeaveBest(Candidate<T>* candidates, int64_t count) {
    const int64_t limit = GroupLimit(shape_, options_);
    if (count <= limit) return count;
    if (options_.class_agnostic) {
      std::nth_element(candidates, candidates + limit, candidates + count);
      return limit;
    }
    for (int64_t i = 0; i < count; ++i) {
      scratch_.scores[i] = candidates[i].score;
    }
    const T last =
        SSDOPS_CALL_VARIANT(NthLargest<T>(limit, count, scratch_.scores));
    int64_t equal = limit;
    for (int64_t i = 0; i < count; ++i) equal -= candidates[i].score > last;
    int64_t left = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Candidate<T> candidate = candidates[i];
      const bool ties = candidate.score == last && equal > 0;
      equal -= ties;
      candidates[left] = candidate;
      left += candidate.score > last || ties;
    }
    return limit;
  }

  void SetColumn(int64_t i, const Box<T>& box, T area) {
    scratch_.columns.ymin[i] = box.ymin;
    scratch_.columns.xmin[i] = box.xmin;
    scratch_.columns.ymax[i] = box.ymax;
    scratch_.columns.xmax[i] = box.xmax;
    scratch_.columns.area[i] = area;
  }

  void SetEmptyColumns(int64_t begin, int64_t end) {
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    for (int64_t i = begin; i < end; ++i) {
      SetColumn(i, {kInfinity, kInfinity, -kInfinity, -kInfinity}, 0);
    }
  }

  // The boxes of the candidates, padded.
  void FillColumns(const Candidate<T>* candidates, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const Box<T> box = BoxOf(candidates[i]);
      if (IsValid(box)) {
        SetColumn(i, box, Area(box));
      } else {
        SetEmptyColumns(i, i + 1);
      }
    }
    SetEmptyColumns(count, ColumnLength(count));
  }

  void Keep(const Candidate<T>& candidate, T score, int64_t moved_box) {
    scratch_.detections[num_detections_++] = {
        {score, candidate.class_id, candidate.anchor}, moved_box};
  }

  // Scores that are not negative do not rise, so that each one taken comes
  // after those taken before in the final order too: no more than
  // max_detections of a group can be among the best of all.
  bool TakesInOrder() const { return rescoring_.score_threshold >= 0; }

  void Soft(Candidate<T>* begin, Candidate<T>* end) {
    // By class, then anchor: that is how equal scores are taken.
    if (options_.class_agnostic) std::sort(begin, end, ComesEarlier<T>);
    const int64_t count = end - begin;
    FillColumns(begin, count);
    for (int64_t i = 0; i < count; ++i) scratch_.scores[i] = begin[i].score;
    std::fill(scratch_.scores + count, scratch_.scores + ColumnLength(count),
              -std::numeric_limits<T>::infinity());
    const int64_t most =
        TakesInOrder() ? std::min(count, options_.max_detections) : count;
    const int64_t num_taken = SSDOPS_CALL_VARIANT(
        TakeSoftly<T>(rescoring_, scratch_.columns, count, most,
                      scratch_.scores, scratch_.taken, scratch_.new_scores));
    for (int64_t k = 0; k < num_taken; ++k) {
      Keep(begin[scratch_.taken[k]], scratch_.new_scores[k], -1);
    }
  }

  void Matrix(Candidate<T>* begin, Candidate<T>* end) {
    std::sort(begin, end);
    const int64_t count = end - begin;
    FillColumns(begin, count);
    SSDOPS_CALL_VARIANT(MatrixDecays<T>(rescoring_, scratch_.columns, count,
                                        scratch_.scores, scratch_.new_scores));
    for (int64_t i = 0; i < count; ++i) {
      const T decay = scratch_.new_scores[i];
      const T weight =
          rescoring_.gaussian ? Exp(decay / rescoring_.sigma) : decay;
      const T score = begin[i].score * weight;
      if (score > rescoring_.score_threshold) Keep(begin[i], score, -1);
    }
  }

  void Weighted(Candidate<T>* begin, Candidate<T>* end) {
    std::sort(begin, end);
    const int64_t first = num_detections_;
    int64_t num_kept = 0;
    for (const Candidate<T>* candidate = begin; candidate != end; ++candidate) {
      const Box<T> box = BoxOf(*candidate);
      const bool valid = IsValid(box);
      const T area = Area(box);
      const int64_t k =
          valid ? SSDOPS_CALL_VARIANT(FirstOverlapping<T>(
                      rescoring_, scratch_.columns, num_kept, box, area))
                : -1;
      if (k >= 0) {
        const Candidate<T>& kept = scratch_.detections[first + k].candidate;
        if (kept.class_id == candidate->class_id) {
          Vote(candidate->score, box, BoxOf(kept), &scratch_.votes[k]);
        }
      } else if (num_kept < options_.max_detections) {
        // Later ones of the group cannot be among the best of all; but whom
        // they would suppress votes for none of the earlier ones.
        if (num_kept % kColumnStep == 0) {
          SetEmptyColumns(num_kept, num_kept + kColumnStep);
        }
        if (valid) SetColumn(num_kept, box, area);
        scratch_.votes[num_kept++] = {candidate->score, {}, false};
        Keep(*candidate, candidate->score, -1);
      }
    }
    for (int64_t k = 0; k < num_kept; ++k) {
      Detection<T>& kept = scratch_.detections[first + k];
      Box<T> box = BoxOf(kept.candidate);
      if (!Move(scratch_.votes[k], &box)) continue;
      scratch_.moved_boxes[first + k] = box;
      kept.moved_box = first + k;
    }
  }

  static void Vote(T score, const Box<T>& voter, const Box<T>& kept,
                   Votes<T>* votes) {
    if (!(score > 0)) return;
    votes->any = true;
    votes->score += score;
    votes->sum.ymin += score * (voter.ymin - kept.ymin);
    votes->sum.xmin += score * (voter.xmin - kept.xmin);
    votes->sum.ymax += score * (voter.ymax - kept.ymax);
    votes->sum.xmax += score * (voter.xmax - kept.xmax);
  }

  // Whether the votes move the box, which they then do.
  static bool Move(const Votes<T>& votes, Box<T>* box) {
    constexpr T kLargest = std::numeric_limits<T>::max();
    const auto is_finite = [](T x) { return x <= kLargest && x >= -kLargest; };
    const Box<T>& sum = votes.sum;
    if (!votes.any || !is_finite(votes.score) || !is_finite(sum.ymin) ||
        !is_finite(sum.xmin) || !is_finite(sum.ymax) || !is_finite(sum.xmax)) {
      return false;
    }
    box->ymin += sum.ymin / votes.score;
    box->xmin += sum.xmin / votes.score;
    box->ymax += sum.ymax / votes.score;
    box->xmax += sum.xmax / votes.score;
    return true;
  }

  const S* boxes_;
  const S* scores_;
  const BatchedNmsShape& shape_;
  const BatchedNmsOptions& options_;
  const Scratch<T> scratch_;
  RescoringOptions<T> rescoring_ = {};
  int64_t num_detections_ = 0;
};

}  // namespace

template <typename S>
void RescoringNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                  const BatchedNmsOptions& options,
                  const BatchedNmsOutput<S>& output, void* workspace) {
  ImageRescoring<S> nms(boxes, scores, shape, options, workspace);
  nms.Run();
  nms.Write(output);
}

template <typename S>
int64_t RescoringNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                   const BatchedNmsOptions& options) {
  return Scratch<ComputeType<S>>(shape, options, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void RescoringNms<S>(const S*, const S*, const BatchedNmsShape&, \
                                const BatchedNmsOptions&,                   \
                                const BatchedNmsOutput<S>&, void*);         \
  template int64_t RescoringNmsWorkspaceBytes<S>(const BatchedNmsShape&,    \
                                                 const BatchedNmsOptions&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
