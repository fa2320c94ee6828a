// SPDX-License-Identifier: Apache-2.0
#include "ssdops/batched_nms.h"

#include <algorithm>

#include "ssdops/box_math.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

template <typename T>
struct Candidate {
  T score;
  int32_t anchor;
};

template <typename T>
bool operator<(const Candidate<T>& a, const Candidate<T>& b) {
  return a.score > b.score || (a.score == b.score && a.anchor < b.anchor);
}

// A candidate that survived the suppression of its class.
template <typename T>
struct Kept {
  T score;
  int32_t class_id;
  int32_t anchor;
};

template <typename T>
bool operator<(const Kept<T>& a, const Kept<T>& b) {
  if (a.score != b.score) return a.score > b.score;
  if (a.class_id != b.class_id) return a.class_id < b.class_id;
  return a.anchor < b.anchor;
}

int64_t CandidateLimit(const BatchedNmsShape& shape,
                       const BatchedNmsOptions& options) {
  return options.pre_nms_top_k < 0
             ? shape.num_anchors
             : std::min(options.pre_nms_top_k, shape.num_anchors);
}

// One worker's slice of the workspace.
template <typename T>
struct Scratch {
  Scratch(const BatchedNmsShape& shape, const BatchedNmsOptions& options,
          void* base) {
    WorkspaceCursor cursor(base);
    const int64_t limit = CandidateLimit(shape, options);
    starts = cursor.Take<int64_t>(shape.num_classes + 1);
    candidates =
        cursor.Take<Candidate<T>>(shape.num_anchors * shape.num_classes);
    boxes = cursor.Take<Box<T>>(limit);
    areas = cursor.Take<T>(limit);
    kept = cursor.Take<Kept<T>>(limit * shape.num_classes);
    bytes = cursor.used();
  }

  int64_t* starts;           // [num_classes + 1] first candidate of each class
  Candidate<T>* candidates;  // grouped by class
  Box<T>* boxes;             // [limit] kept boxes of the class at work
  T* areas;                  // [limit] and their areas
  Kept<T>* kept;             // of all classes
  int64_t bytes;
};

// Partial order: the `count` best first, in order; the rest is left anywhere.
template <typename Iterator>
Iterator SortBest(Iterator begin, Iterator end, int64_t count) {
  if (count < end - begin) {
    std::nth_element(begin, begin + count, end);
    end = begin + count;
  }
  std::sort(begin, end);
  return end;
}

template <typename T>
class ImageNms {
 public:
  ImageNms(const T* boxes, const T* scores, const BatchedNmsShape& shape,
           const BatchedNmsOptions& options, const Scratch<T>& scratch)
      : boxes_(boxes),
        scores_(scores),
        shape_(shape),
        options_(options),
        scratch_(scratch) {}

  void Run() {
    Collect();
    const int64_t limit = CandidateLimit(shape_, options_);
    for (int64_t c = 0; c < shape_.num_classes; ++c) {
      Candidate<T>* begin = scratch_.candidates + scratch_.starts[c];
      Candidate<T>* end = scratch_.candidates + scratch_.starts[c + 1];
      Suppress(static_cast<int32_t>(c), begin, SortBest(begin, end, limit));
    }
  }

  // Writes the best kept ones of all classes and fills the rest of the rows.
  void Write(T* boxes, T* scores, int32_t* classes, int32_t* num_detections,
             int32_t* anchor_indices) {
    const int64_t rows = options_.max_detections;
    const int64_t found =
        SortBest(scratch_.kept, scratch_.kept + num_kept_, rows) -
        scratch_.kept;
    for (int64_t i = 0; i < found; ++i) {
      const Kept<T>& kept = scratch_.kept[i];
      std::copy_n(boxes_ + 4 * static_cast<int64_t>(kept.anchor), 4,
                  boxes + 4 * i);
      scores[i] = kept.score;
      classes[i] = kept.class_id;
      anchor_indices[i] = kept.anchor;
    }
    std::fill(boxes + 4 * found, boxes + 4 * rows, T(0));
    std::fill(scores + found, scores + rows, T(0));
    std::fill(classes + found, classes + rows, 0);
    std::fill(anchor_indices + found, anchor_indices + rows, -1);
    *num_detections = static_cast<int32_t>(found);
  }

 private:
  bool IsCandidate(T score, int64_t class_id) const {
    return score > static_cast<T>(options_.score_threshold) &&
           class_id != options_.background_class;
  }

  // Groups the candidates by class: count, then fill.
  void Collect() {
    const int64_t num_classes = shape_.num_classes;
    int64_t* starts = scratch_.starts;
    std::fill(starts, starts + num_classes + 1, 0);
    for (int64_t a = 0; a < shape_.num_anchors; ++a) {
      const T* row = scores_ + a * num_classes;
      for (int64_t c = 0; c < num_classes; ++c) {
        if (IsCandidate(row[c], c)) ++starts[c + 1];
      }
    }
    for (int64_t c = 0; c < num_classes; ++c) starts[c + 1] += starts[c];
    // While filling, starts[c] moves to the end of its class ...
    for (int64_t a = 0; a < shape_.num_anchors; ++a) {
      const T* row = scores_ + a * num_classes;
      for (int64_t c = 0; c < num_classes; ++c) {
        if (IsCandidate(row[c], c)) {
          scratch_.candidates[starts[c]++] = {row[c], static_cast<int32_t>(a)};
        }
      }
    }
    // ... which is the start of the next one.
    for (int64_t c = num_classes; c > 0; --c) starts[c] = starts[c - 1];
    starts[0] = 0;
  }

  void Suppress(int32_t class_id, const Candidate<T>* begin,
                const Candidate<T>* end) {
    const T threshold = static_cast<T>(options_.iou_threshold);
    int64_t kept_here = 0;
    for (const Candidate<T>* candidate = begin; candidate != end; ++candidate) {
      const Box<T> box =
          LoadBox(boxes_ + 4 * static_cast<int64_t>(candidate->anchor));
      const T area = Area(box);
      bool keep = true;
      for (int64_t k = 0; keep && k < kept_here; ++k) {
        keep =
            !(Iou(scratch_.boxes[k], scratch_.areas[k], box, area) > threshold);
      }
      if (!keep) continue;
      scratch_.boxes[kept_here] = box;
      scratch_.areas[kept_here] = area;
      ++kept_here;
      scratch_.kept[num_kept_++] = {candidate->score, class_id,
                                    candidate->anchor};
    }
  }

  const T* boxes_;
  const T* scores_;
  const BatchedNmsShape& shape_;
  const BatchedNmsOptions& options_;
  const Scratch<T>& scratch_;
  int64_t num_kept_ = 0;
};

}  // namespace

template <typename T>
void BatchedNms(const T* boxes, const T* scores, const BatchedNmsShape& shape,
                const BatchedNmsOptions& options,
                const BatchedNmsOutput<T>& output, void* workspace,
                const ParallelFor& parallel_for) {
  const int64_t slice = Scratch<T>(shape, options, nullptr).bytes;
  const int64_t cost = 5 * shape.num_anchors * (shape.num_classes + 1);
  const int64_t rows = options.max_detections;
  parallel_for(shape.batch, cost, [&](int64_t begin, int64_t end, int worker) {
    const Scratch<T> scratch(
        shape, options, static_cast<std::byte*>(workspace) + worker * slice);
    for (int64_t image = begin; image < end; ++image) {
      ImageNms<T> nms(boxes + 4 * image * shape.num_anchors,
                      scores + image * shape.num_anchors * shape.num_classes,
                      shape, options, scratch);
      nms.Run();
      nms.Write(output.boxes + 4 * image * rows, output.scores + image * rows,
                output.classes + image * rows, output.num_detections + image,
                output.anchor_indices + image * rows);
    }
  });
}

template <typename T>
int64_t BatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                 const BatchedNmsOptions& options,
                                 int num_workers) {
  return num_workers * Scratch<T>(shape, options, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(T)                                               \
  template void BatchedNms<T>(                                              \
      const T*, const T*, const BatchedNmsShape&, const BatchedNmsOptions&, \
      const BatchedNmsOutput<T>&, void*, const ParallelFor&);               \
  template int64_t BatchedNmsWorkspaceBytes<T>(const BatchedNmsShape&,      \
                                               const BatchedNmsOptions&, int);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(double)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
