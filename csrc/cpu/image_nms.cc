// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "single_class_nms.h"
#include "ssdops/nms.h"
#include "ssdops/storage.h"

namespace ssdops {
namespace {

// To the precision of S.
template <typename S>
float Round(float x) {
  return Widen(Narrow<S>(x));
}

// The largest number that is not above `threshold`, itself an S in [0, 1], when
// it is rounded to S.
float LargestNotAbove(float threshold, float /*of type S*/) {
  return threshold;
}
float LargestNotAbove(float threshold, Half /*of type S*/) {
  const uint16_t bits = threshold > 0 ? NarrowToHalf(threshold).bits : 0;
  const auto next = static_cast<uint16_t>(bits + 1);
  // Exact; rounded to the one of the two with an even last bit.
  const float middle = 0.5f * (Widen(Half{bits}) + Widen(Half{next}));
  return bits % 2 == 0 ? middle
                       : BitCast<float>(BitCast<uint32_t>(middle) - 1u);
}

NmsOptions GreedyOptions(float score_threshold, float iou_threshold,
                         int64_t max_output_size) {
  return {score_threshold, iou_threshold, max_output_size,
          /*any_diagonal=*/true};
}

template <typename S>
NmsOptions GreedyOptions(const ImageNmsOptions& options) {
  return GreedyOptions(options.score_threshold,
                       LargestNotAbove(options.iou_threshold, S{}),
                       options.max_output_size);
}

// IoU as TensorFlow computes it: equal to that of box_math.h where all areas
// are finite, else perhaps NaN.
struct ImageBox {
  template <typename S>
  explicit ImageBox(const S* corners) {
    const Box<float> box = LoadWideBox(corners);
    ymin = std::min(box.ymin, box.ymax);
    xmin = std::min(box.xmin, box.xmax);
    ymax = std::max(box.ymin, box.ymax);
    xmax = std::max(box.xmin, box.xmax);
    area = (ymax - ymin) * (xmax - xmin);
  }

  float ymin, xmin, ymax, xmax, area;
};

float ImageIou(const ImageBox& a, const ImageBox& b) {
  if (a.area <= 0 || b.area <= 0) return 0;
  const float height = std::min(a.ymax, b.ymax) - std::max(a.ymin, b.ymin);
  const float width = std::min(a.xmax, b.xmax) - std::max(a.xmin, b.xmin);
  const float overlap = std::max(height, 0.0f) * std::max(width, 0.0f);
  return overlap / (a.area + b.area - overlap);
}

struct LazyCandidate {
  int32_t index;
  float score;
  int32_t num_compared;  // kept boxes that have lowered the score already
};

bool IsWorse(const LazyCandidate& a, const LazyCandidate& b) {
  return a.score < b.score || (a.score == b.score && a.index > b.index);
}

struct LazyScratch {
  LazyScratch(int64_t num_boxes, void* base) {
    WorkspaceCursor cursor(base);
    heap = cursor.Take<LazyCandidate>(num_boxes);
    kept = cursor.Take<ImageBox>(num_boxes);
    bytes = cursor.used();
  }

  LazyCandidate* heap;  // [num_boxes]
  ImageBox* kept;       // [num_boxes]
  int64_t bytes;
};

// Takes the best candidate, lowers its score by the kept boxes that it has not
// met, and keeps it if that changes nothing; else it is a candidate again.
template <typename S>
int64_t LazyNms(const S* boxes, const S* scores, int64_t num_boxes,
                const ImageNmsOptions& options, const LazyScratch& scratch,
                int32_t* indices, S* selected_scores) {
  const bool is_soft = options.soft_nms_sigma > 0;
  const float scale = is_soft ? Round<S>(-0.5f / options.soft_nms_sigma) : 0.0f;
  LazyCandidate* heap = scratch.heap;
  int64_t size = 0;
  for (int64_t i = 0; i < num_boxes; ++i) {
    const float score = Widen(scores[i]);
    if (score > options.score_threshold) {
      heap[size++] = {static_cast<int32_t>(i), score, 0};
    }
  }
  std::make_heap(heap, heap + size, IsWorse);
  int64_t num_kept = 0;
  while (num_kept < options.max_output_size && size > 0) {
    std::pop_heap(heap, heap + size, IsWorse);
    LazyCandidate candidate = heap[--size];
    const float score = candidate.score;
    const ImageBox box(boxes + 4 * int64_t{candidate.index});
    bool is_suppressed = false;
    for (int64_t k = num_kept - 1; k >= candidate.num_compared; --k) {
      const float iou = Round<S>(ImageIou(box, scratch.kept[k]));
      if (iou == 0) {
        // The weight is 1.
      } else if (is_soft) {
        const float exponent = Round<S>(Round<S>(scale * iou) * iou);
        const float weight = Round<S>(std::exp(exponent));
        candidate.score = Round<S>(candidate.score * weight);
      } else if (iou > options.iou_threshold) {
        is_suppressed = true;
        break;
      } else if (!(iou <= options.iou_threshold)) {
        candidate.score = Round<S>(candidate.score * 0.0f);
      }
      if (candidate.score <= options.score_threshold) break;
    }
    if (is_suppressed) continue;
    if (candidate.score == score) {
      scratch.kept[num_kept] = box;
      indices[num_kept] = candidate.index;
      selected_scores[num_kept] = Narrow<S>(score);
      ++num_kept;
    } else if (candidate.score > options.score_threshold) {
      candidate.num_compared = static_cast<int32_t>(num_kept);
      heap[size++] = candidate;
      std::push_heap(heap, heap + size, IsWorse);
    }
  }
  return num_kept;
}

// What a worker of CombinedNms works on.
struct CombinedScratch {
  // A kept box of a class.
  struct Kept {
    float score;
    int32_t id;  // class * slots + position among those of the class
  };
  // A candidate in TensorFlow's heap.
  struct Tied {
    int32_t index;
    float score;
  };

  CombinedScratch(const CombinedNmsShape& shape,
                  const CombinedNmsOptions& options, void* base) {
    slots = std::min(options.max_per_class, shape.num_boxes);
    WorkspaceCursor cursor(base);
    items = cursor.Take<NmsItem<float>>(shape.num_boxes * shape.num_classes);
    counts = cursor.Take<int64_t>(shape.num_classes);
    indices = cursor.Take<int32_t>(slots * shape.num_classes);
    kept = cursor.Take<Kept>(slots * shape.num_classes);
    tied = cursor.Take<Tied>(shape.num_boxes);
    const NmsOptions greedy =
        GreedyOptions(options.score_threshold, options.iou_threshold, slots);
    const int64_t bytes_of_class =
        NmsScratch<float>(shape.num_boxes, greedy, nullptr).bytes;
    of_class = cursor.Take<std::byte>(bytes_of_class);
    bytes = cursor.used();
  }

  int64_t slots;
  NmsItem<float>* items;  // [num_classes, num_boxes]
  int64_t* counts;        // [num_classes] candidates
  int32_t* indices;       // [num_classes, slots] kept boxes
  Kept* kept;             // [num_classes * slots]
  Tied* tied;             // [num_boxes]
  std::byte* of_class;    // of NmsScratch
  int64_t bytes;
};

class CombinedImage {
  using Kept = CombinedScratch::Kept;
  using Tied = CombinedScratch::Tied;

 public:
  CombinedImage(const float* boxes, const float* scores,
                const CombinedNmsShape& shape,
                const CombinedNmsOptions& options,
                const CombinedScratch& scratch)
      : boxes_(boxes),
        scores_(scores),
        shape_(shape),
        options_(options),
        scratch_(scratch),
        greedy_(GreedyOptions(options.score_threshold, options.iou_threshold,
                              scratch.slots)),
        of_class_(shape.num_boxes, greedy_, scratch.of_class) {}

  void Run() {
    SSDOPS_CALL_VARIANT(NmsCandidatesByClass(
        scores_, shape_.num_boxes, shape_.num_classes, options_.score_threshold,
        scratch_.items, scratch_.counts));
    for (int64_t c = 0; c < shape_.num_classes; ++c) {
      if (scratch_.counts[c] == 0) continue;
      int32_t* indices = scratch_.indices + c * scratch_.slots;
      const int64_t found = SuppressInClass(c, indices);
      for (int64_t k = 0; k < found; ++k) {
        scratch_.kept[num_kept_++] = {
            ScoreOf(indices[k], c),
            static_cast<int32_t>(c * scratch_.slots + k)};
      }
    }
  }

  // Writes the best kept boxes of all classes, and fills the rest of the rows.
  void Write(float* boxes, float* scores, float* classes,
             int32_t* valid_detections) {
    const int64_t found = std::min(num_kept_, options_.rows);
    SortBest(found);
    constexpr float kNoBox[4] = {};
    for (int64_t i = 0; i < found; ++i) {
      const Kept& kept = scratch_.kept[i];
      const bool is_empty = kept.id == kEmptySlot.id;
      const int64_t c = is_empty ? -1 : kept.id / scratch_.slots;
      const float* box =
          is_empty ? kNoBox : BoxesOf(c) + Stride() * scratch_.indices[kept.id];
      for (int k = 0; k < 4; ++k) {
        boxes[4 * i + k] = options_.clip_boxes
                               ? std::max(std::min(box[k], 1.0f), 0.0f)
                               : box[k];
      }
      scores[i] = kept.score;
      classes[i] = static_cast<float>(c);
    }
    std::fill(boxes + 4 * found, boxes + 4 * options_.rows, 0.0f);
    std::fill(scores + found, scores + options_.rows, 0.0f);
    std::fill(classes + found, classes + options_.rows, 0.0f);
    *valid_detections = static_cast<int32_t>(found);
  }

 private:
  const float* BoxesOf(int64_t class_id) const {
    return boxes_ + (shape_.boxes_per_row > 1 ? 4 * class_id : 0);
  }
  int64_t Stride() const { return 4 * shape_.boxes_per_row; }
  float ScoreOf(int64_t index, int64_t class_id) const {
    return scores_[index * shape_.num_classes + class_id];
  }

  int64_t SuppressInClass(int64_t c, int32_t* indices) {
    const NmsBoxes<float> boxes = {BoxesOf(c), Stride(), true};
    SingleClassNms<float> nms(boxes, shape_.num_boxes, greedy_, indices,
                              of_class_,
                              /*find_ties=*/true);
    nms.VisitBest(scratch_.items + c * shape_.num_boxes, scratch_.counts[c]);
    if (!nms.ties_matter()) return nms.num_kept();
    return SuppressInHeapOrder(c, indices);
  }

  // Equal scores leave the heap in an order that only the heap knows.
  int64_t SuppressInHeapOrder(int64_t c, int32_t* indices) {
    const auto is_worse = [](const Tied& a, const Tied& b) {
      return a.score < b.score;
    };
    Tied* heap = scratch_.tied;
    int64_t size = 0;
    for (int64_t i = 0; i < shape_.num_boxes; ++i) {
      const float score = ScoreOf(i, c);
      if (score > options_.score_threshold) {
        heap[size++] = {static_cast<int32_t>(i), score};
        std::push_heap(heap, heap + size, is_worse);
      }
    }
    const NmsBoxes<float> boxes = {BoxesOf(c), Stride(), true};
    SingleClassNms<float> nms(boxes, shape_.num_boxes, greedy_, indices,
                              of_class_);
    while (size > 0 && !nms.is_full()) {
      std::pop_heap(heap, heap + size, is_worse);
      const NmsItem<float> item = {static_cast<uint32_t>(heap[--size].index),
                                   0};
      nms.VisitNext(&item, 1);
    }
    return nms.num_kept();
  }

  // TensorFlow sorts all slots of all classes, also the empty ones, which are
  // before scores below theirs.
  static constexpr Kept kEmptySlot = {-1.0f, -1};

  // Puts the `count` best kept boxes first, in order.
  void SortBest(int64_t count) {
    Kept* kept = scratch_.kept;
    const auto is_better = [](const Kept& a, const Kept& b) {
      return b.score < a.score;
    };
    const auto is_before = [](const Kept& a, const Kept& b) {
      return b.score < a.score || (b.score == a.score && a.id < b.id);
    };
    const auto is_tie = [](const Kept& a, const Kept& b) {
      return a.score == b.score;
    };
    const auto is_below_empty = [](const Kept& a) {
      return a.score <= kEmptySlot.score;
    };
    // One more, which may have the same score as the last row.
    const int64_t sorted = std::min(count + 1, num_kept_);
    std::partial_sort(kept, kept + sorted, kept + num_kept_, is_before);
    const int64_t num_slots = scratch_.slots * shape_.num_classes;
    const bool has_ties =
        std::adjacent_find(kept, kept + sorted, is_tie) != kept + sorted;
    if (!has_ties && (num_kept_ == num_slots ||
                      std::none_of(kept, kept + sorted, is_below_empty))) {
      return;
    }
    // Only that sort knows the order then.
    std::sort(kept, kept + num_kept_,
              [](const Kept& a, const Kept& b) { return a.id < b.id; });
    int64_t next = num_kept_;
    for (int64_t id = num_slots; id-- > 0;) {
      const bool is_kept = next > 0 && kept[next - 1].id == id;
      kept[id] = is_kept ? kept[--next] : kEmptySlot;
    }
    std::sort(kept, kept + num_slots, is_better);
  }

  const float* boxes_;
  const float* scores_;
  const CombinedNmsShape& shape_;
  const CombinedNmsOptions& options_;
  const CombinedScratch& scratch_;
  NmsOptions greedy_;
  NmsScratch<float> of_class_;
  int64_t num_kept_ = 0;
};

}  // namespace

template <typename S>
int64_t ImageNms(const S* boxes, const S* scores, int64_t num_boxes,
                 const ImageNmsOptions& options, int32_t* indices,
                 S* selected_scores, void* workspace) {
  if (options.soft_nms_sigma > 0 ||
      !SSDOPS_CALL_VARIANT(NmsAreasAreFinite<S>(boxes, num_boxes))) {
    return LazyNms(boxes, scores, num_boxes, options,
                   LazyScratch(num_boxes, workspace), indices, selected_scores);
  }
  const NmsOptions greedy = GreedyOptions<S>(options);
  const NmsScratch<float> scratch(num_boxes, greedy, workspace);
  SingleClassNms<S> nms({boxes, 4, true}, num_boxes, greedy, indices, scratch);
  const int64_t count = SSDOPS_CALL_VARIANT(NmsCandidates<S>(
      scores, num_boxes, options.score_threshold, scratch.items));
  nms.VisitBest(scratch.items, count);
  for (int64_t i = 0; i < nms.num_kept(); ++i) {
    selected_scores[i] = scores[indices[i]];
  }
  return nms.num_kept();
}

template <typename S>
int64_t ImageNmsWorkspaceBytes(int64_t num_boxes,
                               const ImageNmsOptions& options) {
  return std::max(
      LazyScratch(num_boxes, nullptr).bytes,
      NmsScratch<float>(num_boxes, GreedyOptions<S>(options), nullptr).bytes);
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template int64_t ImageNms<S>(const S*, const S*, int64_t,                  \
                               const ImageNmsOptions&, int32_t*, S*, void*); \
  template int64_t ImageNmsWorkspaceBytes<S>(int64_t, const ImageNmsOptions&);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(Half)
#undef SSDOPS_INSTANTIATE

void CombinedNms(const float* boxes, const float* scores,
                 const CombinedNmsShape& shape,
                 const CombinedNmsOptions& options,
                 const CombinedNmsOutput& output, void* workspace,
                 const ParallelFor& parallel_for) {
  const int64_t slice = CombinedScratch(shape, options, nullptr).bytes;
  const int64_t num_scores = shape.num_boxes * shape.num_classes;
  const int64_t num_corners = 4 * shape.num_boxes * shape.boxes_per_row;
  const int64_t rows = options.rows;
  parallel_for(shape.batch, num_scores + 1000,
               [&](int64_t begin, int64_t end, int worker) {
                 const CombinedScratch scratch(
                     shape, options,
                     static_cast<std::byte*>(workspace) + worker * slice);
                 for (int64_t image = begin; image < end; ++image) {
                   CombinedImage nms(boxes + image * num_corners,
                                     scores + image * num_scores, shape,
                                     options, scratch);
                   nms.Run();
                   nms.Write(output.boxes + 4 * image * rows,
                             output.scores + image * rows,
                             output.classes + image * rows,
                             output.valid_detections + image);
                 }
               });
}

int64_t CombinedNmsWorkspaceBytes(const CombinedNmsShape& shape,
                                  const CombinedNmsOptions& options,
                                  int num_workers) {
  return num_workers * CombinedScratch(shape, options, nullptr).bytes;
}

}  // namespace ssdops
