// SPDX-License-Identifier: Apache-2.0
#include "ssdops/batched_nms.h"

#include <cstddef>

#include "nms_candidates.h"
#include "rescoring_nms.h"
#include "ssdops/box_math.h"
#include "ssdops/iou_kinds.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

// One worker's slice of the workspace.
template <typename T>
struct Scratch {
  Scratch(const BatchedNmsShape& shape, const BatchedNmsOptions& options,
          void* base) {
    WorkspaceCursor cursor(base);
    const int64_t groups = NumGroups(shape, options);
    const int64_t limit = GroupLimit(shape, options);
    starts = cursor.Take<int64_t>(groups + 1);
    candidates =
        cursor.Take<Candidate<T>>(shape.num_anchors * shape.num_classes);
    boxes = cursor.Take<Box<T>>(limit);
    areas = cursor.Take<T>(limit);
    kept = cursor.Take<Candidate<T>>(limit * groups);
    bytes = cursor.used();
  }

  int64_t* starts;           // [groups + 1] first candidate of each group
  Candidate<T>* candidates;  // by group
  Box<T>* boxes;             // [limit] kept boxes of the group at work
  T* areas;                  // [limit] and their areas
  Candidate<T>* kept;        // of all groups
  int64_t bytes;
};

// Greedy suppression of one image.
template <typename S>
class ImageNms {
 public:
  using T = ComputeType<S>;

  ImageNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
           const BatchedNmsOptions& options, const Scratch<T>& scratch)
      : boxes_(boxes),
        scores_(scores),
        shape_(shape),
        options_(options),
        scratch_(scratch) {}

  void Run() {
    Collect();
    const int64_t limit = GroupLimit(shape_, options_);
    for (int64_t g = 0; g < NumGroups(shape_, options_); ++g) {
      Candidate<T>* begin = scratch_.candidates + scratch_.starts[g];
      Candidate<T>* end = scratch_.candidates + scratch_.starts[g + 1];
      Suppress(begin, SortBest(begin, end, limit));
    }
  }

  // Writes the best kept ones of all groups and fills the rest of the rows.
  void Write(const BatchedNmsOutput<S>& output) {
    const int64_t rows = options_.max_detections;
    const int64_t found =
        SortBest(scratch_.kept, scratch_.kept + num_kept_, rows) -
        scratch_.kept;
    for (int64_t i = 0; i < found; ++i) {
      const Candidate<T>& kept = scratch_.kept[i];
      std::copy_n(boxes_ + 4 * static_cast<int64_t>(kept.anchor), 4,
                  output.boxes + 4 * i);
      output.scores[i] = Narrow<S>(kept.score);
      output.classes[i] = kept.class_id;
      output.anchor_indices[i] = kept.anchor;
    }
    FinishOutput(output, found, rows);
  }

 private:
  bool IsCandidate(T score, int64_t class_id) const {
    return score > static_cast<T>(options_.score_threshold) &&
           class_id != options_.background_class;
  }

  int64_t GroupOf(int64_t class_id) const {
    return options_.class_agnostic ? 0 : class_id;
  }

  // Groups the candidates: count, then fill.
  void Collect() {
    const int64_t num_classes = shape_.num_classes;
    const int64_t num_groups = NumGroups(shape_, options_);
    int64_t* starts = scratch_.starts;
    std::fill(starts, starts + num_groups + 1, 0);
    for (int64_t a = 0; a < shape_.num_anchors; ++a) {
      const S* row = scores_ + a * num_classes;
      for (int64_t c = 0; c < num_classes; ++c) {
        if (IsCandidate(Widen(row[c]), c)) ++starts[GroupOf(c) + 1];
      }
    }
    for (int64_t g = 0; g < num_groups; ++g) starts[g + 1] += starts[g];
    // While filling, starts[g] moves to the end of its group ...
    for (int64_t a = 0; a < shape_.num_anchors; ++a) {
      const S* row = scores_ + a * num_classes;
      for (int64_t c = 0; c < num_classes; ++c) {
        const T score = Widen(row[c]);
        if (IsCandidate(score, c)) {
          scratch_.candidates[starts[GroupOf(c)]++] = {
              score, static_cast<int32_t>(c), static_cast<int32_t>(a)};
        }
      }
    }
    // ... which is the start of the next one.
    for (int64_t g = num_groups; g > 0; --g) starts[g] = starts[g - 1];
    starts[0] = 0;
  }

  T Measure(const Box<T>& a, T area_a, const Box<T>& b, T area_b) const {
    const T iou = Iou(a, area_a, b, area_b);
    return options_.criterion == NmsCriterion::kDiou
               ? iou - PairDiouPenalty<T, T>(a, b)
               : iou;
  }

  void Suppress(const Candidate<T>* begin, const Candidate<T>* end) {
    const T threshold = static_cast<T>(options_.iou_threshold);
    int64_t kept_here = 0;
    for (const Candidate<T>* candidate = begin; candidate != end; ++candidate) {
      const Box<T> box =
          LoadWideBox(boxes_ + 4 * static_cast<int64_t>(candidate->anchor));
      const T area = Area(box);
      bool keep = true;
      for (int64_t k = 0; keep && k < kept_here; ++k) {
        keep = !(Measure(scratch_.boxes[k], scratch_.areas[k], box, area) >
                 threshold);
      }
      if (!keep) continue;
      scratch_.boxes[kept_here] = box;
      scratch_.areas[kept_here] = area;
      ++kept_here;
      scratch_.kept[num_kept_++] = *candidate;
    }
  }

  const S* boxes_;
  const S* scores_;
  const BatchedNmsShape& shape_;
  const BatchedNmsOptions& options_;
  const Scratch<T>& scratch_;
  int64_t num_kept_ = 0;
};

template <typename S>
int64_t SliceBytes(const BatchedNmsShape& shape,
                   const BatchedNmsOptions& options) {
  return options.method == NmsMethod::kGreedy
             ? Scratch<ComputeType<S>>(shape, options, nullptr).bytes
             : RescoringNmsWorkspaceBytes<S>(shape, options);
}

}  // namespace

template <typename S>
void BatchedNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                const BatchedNmsOptions& options,
                const BatchedNmsOutput<S>& output, void* workspace,
                const ParallelFor& parallel_for) {
  const int64_t slice = SliceBytes<S>(shape, options);
  // Of an image with candidates here and there.
  const int64_t per_score = options.method == NmsMethod::kGreedy ? 5 : 1;
  const int64_t cost = per_score * shape.num_anchors * (shape.num_classes + 1);
  parallel_for(shape.batch, cost, [&](int64_t begin, int64_t end, int worker) {
    void* own = static_cast<std::byte*>(workspace) + worker * slice;
    for (int64_t image = begin; image < end; ++image) {
      const S* image_boxes = boxes + 4 * image * shape.num_anchors;
      const S* image_scores =
          scores + image * shape.num_anchors * shape.num_classes;
      const BatchedNmsOutput<S> image_output =
          ImageOutput(output, image, options.max_detections);
      if (options.method == NmsMethod::kGreedy) {
        const Scratch<ComputeType<S>> scratch(shape, options, own);
        ImageNms<S> nms(image_boxes, image_scores, shape, options, scratch);
        nms.Run();
        nms.Write(image_output);
      } else {
        RescoringNms(image_boxes, image_scores, shape, options, image_output,
                     own);
      }
    }
  });
}

template <typename S>
int64_t BatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                 const BatchedNmsOptions& options,
                                 int num_workers) {
  return num_workers * SliceBytes<S>(shape, options);
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void BatchedNms<S>(                                              \
      const S*, const S*, const BatchedNmsShape&, const BatchedNmsOptions&, \
      const BatchedNmsOutput<S>&, void*, const ParallelFor&);               \
  template int64_t BatchedNmsWorkspaceBytes<S>(const BatchedNmsShape&,      \
                                               const BatchedNmsOptions&, int);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
