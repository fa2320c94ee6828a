// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SINGLE_CLASS_NMS_H_
#define SSDOPS_CPU_SINGLE_CLASS_NMS_H_

// Greedy suppression of one set of boxes: what nms and the suppression of
// tf.image share.

#include <algorithm>

#include "nms_simd.h"
#include "radix_sort.h"
#include "ssdops/nms.h"
#include "ssdops/workspace.h"

namespace ssdops {

// Up to this many kept boxes, comparing with each is quicker than a grid.
constexpr int64_t kNmsMaxKeptWithoutGrid = 512;
// So it is for as many candidates.
constexpr int64_t kNmsMaxCandidatesWithoutGrid = 192;

// With few candidates, making the grid takes longer than comparing the first
// kept boxes with all of them, after which often little is left.
constexpr int64_t kNmsMaxCandidatesAhead = 2048;
constexpr int64_t kNmsKeptAhead = 64;

// If the output has far fewer rows than there are candidates, only the best of
// these are sorted and visited, at first this many for each row, then more and
// more until the output is full.
constexpr int64_t kNmsCandidatesPerRow = 4;
constexpr int64_t kNmsMinCandidates = 512;

// Buckets by which the best candidates are found.
constexpr int kNmsHistogramBits = 12;
constexpr int64_t kNmsHistogramSize = int64_t{1} << kNmsHistogramBits;

inline int64_t NmsRows(int64_t num_boxes, const NmsOptions& options) {
  return std::min(num_boxes, options.max_output_size);
}

inline bool NmsMayUseGrid(int64_t num_boxes, const NmsOptions& options) {
  return NmsRows(num_boxes, options) > kNmsMaxKeptWithoutGrid &&
         num_boxes > kNmsMaxCandidatesWithoutGrid;
}

// Whether `count` candidates are sorted in slices.
inline bool NmsInSlices(int64_t count, const NmsOptions& options) {
  return count > 2 * kNmsMinCandidates &&
         options.max_output_size < count / (2 * kNmsCandidatesPerRow);
}

// The parts of the workspace of one thread.
template <typename T>
struct NmsScratch {
  NmsScratch(int64_t num_boxes, const NmsOptions& options, void* base) {
    WorkspaceCursor cursor(base);
    items = cursor.Take<NmsItem<T>>(num_boxes);
    sorted = cursor.Take<NmsItem<T>>(num_boxes);
    histogram = cursor.Take<uint32_t>(std::max(
        kNmsHistogramSize, SortHistogramSize(8 * sizeof(NmsItem<T>::key))));
    slice = NmsInSlices(num_boxes, options) ? cursor.Take<NmsItem<T>>(num_boxes)
                                            : items;
    TakeBoxes(NmsRows(num_boxes, options), &cursor, &kept);
    if (NmsMayUseGrid(num_boxes, options)) {
      grid.groups = cursor.Take<NmsGroup<T>>(kNmsGroups);
      grid.starts = cursor.Take<int32_t>(2 * num_boxes + 2);
      grid.slots = cursor.Take<int32_t>(num_boxes);
      grid.buckets = cursor.Take<int32_t>(num_boxes);
      TakeBoxes(num_boxes, &cursor, &grid.boxes);
      grid.suppressed = cursor.Take<uint8_t>((num_boxes + kNmsPadding) / 8 + 4);
    }
    bytes = cursor.used();
  }

  static void TakeBoxes(int64_t count, WorkspaceCursor* cursor,
                        BoxArrays<T>* boxes) {
    for (T** array : {&boxes->ymin, &boxes->xmin, &boxes->ymax, &boxes->xmax}) {
      *array = cursor->template Take<T>(count + kNmsPadding);
    }
  }

  NmsItem<T>* items;   // [num_boxes] the candidates, by index
  NmsItem<T>* slice;   // [num_boxes] those at work; items if these are all
  NmsItem<T>* sorted;  // [num_boxes]
  uint32_t* histogram;
  BoxArrays<T> kept = {};
  NmsGrid<T> grid = {};
  int64_t bytes;
};

struct NmsKeyOf {
  template <typename Item>
  auto operator()(const Item& item) const {
    return item.key;
  }
};

// Sorts by key, stably. Uses both arrays, each of `count` items, and returns
// the one with the result.
template <typename Item>
Item* NmsSortByKey(Item* items, Item* other, int64_t count,
                   uint32_t* histogram) {
  if (SortByHighestBits(items, other, count, NmsKeyOf(), histogram)) {
    return items;
  }
  const KeyBits keys(items, count, NmsKeyOf());
  return SortByBits(items, other, count, 0, keys.width, NmsKeyOf(), histogram);
}

// Visits candidates from the best on, of one set of boxes.
template <typename S>
class SingleClassNms {
  using T = ComputeType<S>;

 public:
  SingleClassNms(const NmsBoxes<S>& boxes, int64_t num_boxes,
                 const NmsOptions& options, int32_t* indices,
                 const NmsScratch<T>& scratch, bool find_ties = false)
      : boxes_(boxes),
        num_boxes_(num_boxes),
        options_(options),
        threshold_(static_cast<T>(options.iou_threshold)),
        scratch_(scratch),
        find_ties_(find_ties),
        kept_{scratch.kept, 0, indices, 0, options.max_output_size} {}

  // Of `count` candidates in ascending order of their index; overwrites them.
  void VisitBest(NmsItem<T>* items, int64_t count) {
    if (NmsInSlices(count, options_)) {
      VisitInSlices(items, count);
    } else {
      Visit(items, count, /*is_last=*/true);
    }
  }

  // Of candidates in the order in which they are visited, some more.
  void VisitNext(const NmsItem<T>* items, int64_t count) {
    SSDOPS_CALL_VARIANT(
        NmsAgainstKept<S>(boxes_, items, count, threshold_, &kept_));
  }

  int64_t num_kept() const { return kept_.num_indices; }
  bool is_full() const { return kept_.num_indices == kept_.max_indices; }

  // Whether another order of equal scores could change what VisitBest gave, if
  // that was to be found.
  bool ties_matter() const { return ties_matter_; }

 private:
  void VisitInSlices(const NmsItem<T>* items, int64_t count) {
    const KeyBits keys(items, count, NmsKeyOf());
    uint32_t* histogram = scratch_.histogram;
    int64_t want = std::max(kNmsMinCandidates,
                            kNmsCandidatesPerRow * options_.max_output_size);
    for (int64_t first = 0, left = count; left > 0 && !is_full(); want *= 8) {
      // The sort of the last slice has used the histogram.
      std::fill(histogram, histogram + kNmsHistogramSize, 0u);
      for (int64_t i = 0; i < count; ++i) {
        ++histogram[keys.Prefix(items[i].key, kNmsHistogramBits)];
      }
      int64_t last = first, size = 0;
      while (last < kNmsHistogramSize && size < want) size += histogram[last++];
      int64_t taken = 0;
      for (int64_t i = 0; i < count && taken < size; ++i) {
        const auto prefix =
            static_cast<int64_t>(keys.Prefix(items[i].key, kNmsHistogramBits));
        scratch_.slice[taken] = items[i];
        taken += static_cast<int64_t>(prefix >= first && prefix < last);
      }
      Visit(scratch_.slice, taken, /*is_last=*/false);
      first = last;
      left -= taken;
    }
  }

  // If they are not the last ones, kept boxes are remembered.
  void Visit(NmsItem<T>* items, int64_t count, bool is_last) {
    const int64_t first_kept = kept_.num_indices;
    const bool use_grid = NmsMayUseGrid(num_boxes_, options_) &&
                          count > kNmsMaxCandidatesWithoutGrid;
    if (use_grid && is_last) kept_.boxes.ymin = nullptr;
    const bool look_ahead =
        use_grid && count <= kNmsMaxCandidatesAhead && first_kept == 0;
    NmsGrid<T> grid = scratch_.grid;
    if (use_grid && !look_ahead) FillGrid(items, count, &grid);
    NmsItem<T>* sorted =
        NmsSortByKey(items, scratch_.sorted, count, scratch_.histogram);
    if (!use_grid) {
      VisitNext(sorted, count);
    } else if (!look_ahead) {
      VisitByGrid(sorted, count, grid);
    } else {
      NmsItem<T>* left = sorted == items ? scratch_.sorted : items;
      int64_t num_left = VisitAhead(sorted, count, kNmsKeptAhead, left);
      if (num_left > kNmsMaxCandidatesWithoutGrid) {
        FillGrid(left, num_left, &grid);
        VisitByGrid(left, num_left, grid);
      } else {
        VisitAhead(left, num_left, num_left, left);
      }
    }
    if (find_ties_) FindTies(sorted, count, first_kept);
  }

  void FillGrid(const NmsItem<T>* items, int64_t count, NmsGrid<T>* grid) {
    SSDOPS_CALL_VARIANT(NmsFillGrid<S>(boxes_, items, count, threshold_, grid));
  }

  void VisitByGrid(const NmsItem<T>* items, int64_t count,
                   const NmsGrid<T>& grid) {
    SSDOPS_CALL_VARIANT(NmsOverGrid<T>(items, count, threshold_, grid, &kept_));
  }

  int64_t VisitAhead(const NmsItem<T>* items, int64_t count, int64_t most,
                     NmsItem<T>* left) {
    return SSDOPS_CALL_VARIANT(NmsAhead<S>(boxes_, items, count, threshold_,
                                           most, scratch_.grid, &kept_, left));
  }

  // Equal scores in another order give the same result where none of them is
  // kept, or one that suppresses none of the others.
  void FindTies(const NmsItem<T>* items, int64_t count, int64_t first_kept) {
    int64_t next_kept = first_kept;
    for (int64_t begin = 0, end = 0; begin < count; begin = end) {
      if (next_kept == kept_.num_indices) return;
      int64_t keeper = -1;
      int num_keepers = 0;
      for (end = begin; end < count && items[end].key == items[begin].key;
           ++end) {
        if (next_kept < kept_.num_indices &&
            kept_.indices[next_kept] ==
                static_cast<int32_t>(items[end].index)) {
          keeper = end;
          ++num_keepers;
          ++next_kept;
        }
      }
      if (num_keepers == 0 || end == begin + 1) continue;
      // Those behind the last kept one of a full output were not visited.
      const bool is_cut =
          is_full() && next_kept == kept_.num_indices && keeper + 1 < end;
      ties_matter_ |= num_keepers > 1 || is_cut;
      for (int64_t i = begin; i < end && !ties_matter_; ++i) {
        ties_matter_ = i != keeper && Overlap(items[i], items[keeper]);
      }
      if (ties_matter_) return;
    }
  }

  bool Overlap(const NmsItem<T>& a, const NmsItem<T>& b) const {
    const Box<T> box_a = OrderedBox(boxes_, a.index);
    const Box<T> box_b = OrderedBox(boxes_, b.index);
    return Iou(box_a, Area(box_a), box_b, Area(box_b)) > threshold_;
  }

  NmsBoxes<S> boxes_;
  int64_t num_boxes_;
  const NmsOptions& options_;
  T threshold_;
  const NmsScratch<T>& scratch_;
  bool find_ties_;
  NmsKept<T> kept_;
  bool ties_matter_ = false;
};

}  // namespace ssdops

#endif  // SSDOPS_CPU_SINGLE_CLASS_NMS_H_
