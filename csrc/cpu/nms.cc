// SPDX-License-Identifier: Apache-2.0
#include "ssdops/nms.h"

#include <algorithm>
#include <limits>

#include "nms_simd.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

// Up to this many kept boxes, comparing with each is quicker than a grid.
constexpr int64_t kMaxKeptWithoutGrid = 256;
// So it is for as many candidates.
constexpr int64_t kMaxCandidatesWithoutGrid = 192;

// If the output has far fewer rows than there are candidates, only the best of
// these are sorted and visited, at first this many for each row, then more and
// more until the output is full.
constexpr int64_t kCandidatesPerRow = 4;
constexpr int64_t kMinCandidates = 512;

// Buckets by which the best candidates are found.
constexpr int kHistogramBits = 12;
constexpr int64_t kHistogramSize = int64_t{1} << kHistogramBits;

constexpr int kMaxDigitBits = 11;
constexpr int kMaxDigits = 8;
constexpr int64_t kMaxInsertionSort = 24;

int64_t NumRows(int64_t num_boxes, const NmsOptions& options) {
  return std::min(num_boxes, options.max_output_size);
}

bool MayUseGrid(int64_t num_boxes, const NmsOptions& options) {
  return NumRows(num_boxes, options) > kMaxKeptWithoutGrid &&
         num_boxes > kMaxCandidatesWithoutGrid;
}

// Whether `count` candidates are sorted in slices.
bool InSlices(int64_t count, const NmsOptions& options) {
  return count > 2 * kMinCandidates &&
         options.max_output_size < count / (2 * kCandidatesPerRow);
}

template <typename T>
struct Scratch {
  Scratch(int64_t num_boxes, const NmsOptions& options, void* base) {
    WorkspaceCursor cursor(base);
    items = cursor.Take<NmsItem<T>>(num_boxes);
    sorted = cursor.Take<NmsItem<T>>(num_boxes);
    histogram = cursor.Take<uint32_t>(
        std::max(kHistogramSize, kMaxDigits * (int64_t{1} << kMaxDigitBits)));
    const bool in_slices = InSlices(num_boxes, options);
    const bool may_use_grid = MayUseGrid(num_boxes, options);
    slice = in_slices ? cursor.Take<NmsItem<T>>(num_boxes) : items;
    // A single pass over a grid reads no list of kept boxes.
    if (in_slices || !may_use_grid) {
      TakeBoxes(NumRows(num_boxes, options), &cursor, &kept);
    } else {
      TakeBoxes(std::min(num_boxes, kMaxCandidatesWithoutGrid), &cursor, &kept);
    }
    if (may_use_grid) {
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
    for (T** array : {&boxes->ymin, &boxes->xmin, &boxes->ymax, &boxes->xmax,
                      &boxes->area}) {
      *array = cursor->Take<T>(count + kNmsPadding);
    }
  }

  NmsItem<T>* items;   // [num_boxes] the candidates, by index
  NmsItem<T>* slice;   // [num_boxes] those at work; items if these are all
  NmsItem<T>* sorted;  // [num_boxes]
  uint32_t* histogram;
  BoxArrays<T> kept;
  NmsGrid<T> grid = {};
  int64_t bytes;
};

template <typename Key>
int BitWidth(Key bits) {
  int width = 0;
  for (; bits != 0; bits >>= 1u) ++width;
  return width;
}

// The bits in which keys differ, and the rest of the first one.
template <typename Item>
struct Keys {
  using Key = decltype(Item::key);

  Keys(const Item* items, int64_t count) {
    for (int64_t i = 0; i < count; ++i) varying |= items[i].key ^ items[0].key;
    width = BitWidth(varying);
  }

  // The `bits` highest ones that differ, as a number.
  Key Prefix(Key key, int bits) const {
    const Key low = width < 8 * static_cast<int>(sizeof(Key))
                        ? key & ((Key{1} << width) - 1)
                        : key;
    return width > bits ? low >> (width - bits) : low;
  }

  Key varying = 0;
  int width = 0;
};

// Sorts by key, stably, by digits from the lowest. Uses both arrays, each of
// `count` items, and returns the one with the result.
template <typename Item>
Item* SortByKey(Item* items, Item* other, int64_t count, uint32_t* histogram) {
  if (count <= kMaxInsertionSort) {
    for (int64_t i = 1; i < count; ++i) {
      const Item item = items[i];
      int64_t k = i;
      for (; k > 0 && items[k - 1].key > item.key; --k) items[k] = items[k - 1];
      items[k] = item;
    }
    return items;
  }
  const Keys<Item> keys(items, count);
  if (keys.width == 0) return items;
  const int max_bits = count >= 4096 ? kMaxDigitBits : count >= 512 ? 9 : 8;
  const int digits = (keys.width + max_bits - 1) / max_bits;
  const int bits = (keys.width + digits - 1) / digits;
  const int64_t size = int64_t{1} << bits;
  const auto mask = static_cast<uint32_t>(size - 1);
  std::fill(histogram, histogram + digits * size, 0u);
  for (int64_t i = 0; i < count; ++i) {
    for (int d = 0; d < digits; ++d) {
      ++histogram[d * size +
                  (static_cast<uint32_t>(items[i].key >> (d * bits)) & mask)];
    }
  }
  for (int d = 0; d < digits; ++d) {
    uint32_t* starts = histogram + d * size;
    uint32_t total = 0;
    for (int64_t k = 0; k < size; ++k) {
      const uint32_t here = starts[k];
      starts[k] = total;
      total += here;
    }
    for (int64_t i = 0; i < count; ++i) {
      const Item item = items[i];
      other[starts[static_cast<uint32_t>(item.key >> (d * bits)) & mask]++] =
          item;
    }
    std::swap(items, other);
  }
  return items;
}

template <typename S>
class GreedyNms {
  using T = ComputeType<S>;

 public:
  GreedyNms(const S* boxes, int64_t num_boxes, const NmsOptions& options,
            int32_t* indices, const Scratch<T>& scratch)
      : boxes_(boxes),
        num_boxes_(num_boxes),
        options_(options),
        threshold_(static_cast<T>(options.iou_threshold)),
        scratch_(scratch),
        kept_{scratch.kept, 0, indices, 0, options.max_output_size} {}

  int64_t Run(const S* scores) {
    const int64_t count = SSDOPS_CALL_VARIANT(NmsCandidates<S>(
        scores, num_boxes_, static_cast<T>(options_.score_threshold),
        scratch_.items));
    if (InSlices(count, options_)) {
      VisitInSlices(count);
    } else {
      VisitAll(count);
    }
    return kept_.num_indices;
  }

 private:
  void VisitInSlices(int64_t count) {
    const NmsItem<T>* items = scratch_.items;
    const Keys<NmsItem<T>> keys(items, count);
    uint32_t* histogram = scratch_.histogram;
    // The slices share the histogram's memory with their sort: each one counts
    // anew what is behind the last one.
    int64_t want =
        std::max(kMinCandidates, kCandidatesPerRow * options_.max_output_size);
    int64_t first = 0, left = count;
    while (left > 0 && kept_.num_indices < options_.max_output_size) {
      std::fill(histogram, histogram + kHistogramSize, 0u);
      for (int64_t i = 0; i < count; ++i) {
        ++histogram[keys.Prefix(items[i].key, kHistogramBits)];
      }
      int64_t last = first, size = 0;
      while (last < kHistogramSize && size < want) size += histogram[last++];
      int64_t taken = 0;
      for (int64_t i = 0; i < count; ++i) {
        const auto prefix =
            static_cast<int64_t>(keys.Prefix(items[i].key, kHistogramBits));
        scratch_.slice[taken] = items[i];
        taken += static_cast<int64_t>(prefix >= first && prefix < last);
      }
      Visit(scratch_.slice, taken, /*is_last=*/false);
      first = last;
      left -= taken;
      want *= 8;
    }
  }

  void VisitAll(int64_t count) { Visit(scratch_.items, count, true); }

  // Visits candidates that are in the order of their indices. Only if they are
  // not the last ones, kept boxes are remembered.
  void Visit(NmsItem<T>* items, int64_t count, bool is_last) {
    if (!MayUseGrid(num_boxes_, options_) ||
        count <= kMaxCandidatesWithoutGrid) {
      items = SortByKey(items, scratch_.sorted, count, scratch_.histogram);
      SSDOPS_CALL_VARIANT(NmsAgainstKept<S>(boxes_, options_.any_diagonal,
                                            items, count, threshold_, &kept_));
      return;
    }
    if (is_last) kept_.boxes.ymin = nullptr;
    NmsGrid<T> grid = scratch_.grid;
    SSDOPS_CALL_VARIANT(NmsFillGrid<S>(boxes_, options_.any_diagonal, items,
                                       count, threshold_, &grid));
    items = SortByKey(items, scratch_.sorted, count, scratch_.histogram);
    SSDOPS_CALL_VARIANT(NmsOverGrid<T>(items, count, threshold_, grid, &kept_));
  }

  const S* boxes_;
  int64_t num_boxes_;
  const NmsOptions& options_;
  T threshold_;
  const Scratch<T>& scratch_;
  NmsKept<T> kept_;
};

}  // namespace

template <typename S>
void Nms(const S* boxes, const S* scores, int64_t num_boxes,
         const NmsOptions& options, int32_t* indices, int32_t* num_valid,
         void* workspace) {
  const Scratch<ComputeType<S>> scratch(num_boxes, options, workspace);
  GreedyNms<S> nms(boxes, num_boxes, options, indices, scratch);
  const int64_t found = nms.Run(scores);
  std::fill(indices + found, indices + options.max_output_size, -1);
  *num_valid = static_cast<int32_t>(found);
}

template <typename S>
int64_t NmsWorkspaceBytes(int64_t num_boxes, const NmsOptions& options) {
  return Scratch<ComputeType<S>>(num_boxes, options, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(S)                                          \
  template void Nms<S>(const S*, const S*, int64_t, const NmsOptions&, \
                       int32_t*, int32_t*, void*);                     \
  template int64_t NmsWorkspaceBytes<S>(int64_t, const NmsOptions&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
