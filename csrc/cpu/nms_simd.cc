// SPDX-License-Identifier: Apache-2.0
#include "nms_simd.h"

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {
namespace {

// Boxes of such heights and widths have areas and overlaps that neither
// overflow nor lose bits to underflow, on which the reach of a box relies.
constexpr float kMinGroupedSize = 8.8817842e-16f;  // 2^-50
constexpr float kMaxGroupedSize = 1.1529215e18f;   // 2^60

// Cells beyond these coordinates are one.
constexpr float kFarthestCell = 1073741824.0f;  // 2^30

// Below this IoU threshold a box may reach boxes of every size.
constexpr float kMinReachThreshold = 9.5367432e-7f;  // 2^-20

// Groups of fewer boxes are not divided into cells.
constexpr int64_t kMinCelledCount = 33;

// Candidates whose boxes are fetched before they are visited.
constexpr int64_t kAhead = 8;

// Kept boxes after which a share of all has to be marked, else there will be
// many kept ones.
constexpr int64_t kTrial = 16;
constexpr int64_t kTrialShare = 8;

// Size of a cell in units of the reach of a box.
constexpr float kCellHeight = 3.0f;
constexpr float kCellWidth = 1.0f;

template <typename T>
SSDOPS_INLINE Box<T> BoxAt(const BoxArrays<T>& boxes, int64_t i) {
  return {boxes.ymin[i], boxes.xmin[i], boxes.ymax[i], boxes.xmax[i]};
}

template <typename T>
SSDOPS_INLINE void SetBox(const BoxArrays<T>& boxes, int64_t i,
                          const Box<T>& box) {
  boxes.ymin[i] = box.ymin;
  boxes.xmin[i] = box.xmin;
  boxes.ymax[i] = box.ymax;
  boxes.xmax[i] = box.xmax;
}

// Tests one box against vectors of others: which have an IoU above a threshold?
template <typename T>
class OverlapTest {
 public:
  SSDOPS_INLINE OverlapTest(const Box<T>& box, T threshold)
      : box_(SplatBox(box)),
        area_(Splat(Area(box))),
        threshold_(Splat(threshold)) {
    const T above = threshold * T(1.000004);
    sure_threshold_ = Splat(above > T(kTiny) ? above : T(kTiny));
  }

  // One bit per box from `first` on; none of an empty box.
  SSDOPS_INLINE uint32_t operator()(const BoxArrays<T>& boxes,
                                    int64_t first) const {
    const Vec<T> zero = {};
    const VecBox<T> other = {Load(boxes.ymin + first), Load(boxes.xmin + first),
                             Load(boxes.ymax + first),
                             Load(boxes.xmax + first)};
    const Vec<T> height =
        Min(box_.ymax, other.ymax) - Max(box_.ymin, other.ymin);
    const Vec<T> width =
        Min(box_.xmax, other.xmax) - Max(box_.xmin, other.xmin);
    const Vec<T> overlap = height * width;
    // Empty boxes have a wrong area here, but no overlap.
    const Vec<T> area = (other.ymax - other.ymin) * (other.xmax - other.xmin);
    const Vec<T> area_union = (area_ + area) - overlap;
    // A rounded quotient above the threshold is a true quotient not below it,
    // and rounding does not change the order of the products.
    const Mask<T> maybe = (height > zero) & (width > zero) &
                          (overlap <= std::numeric_limits<T>::max()) &
                          (overlap >= threshold_ * area_union);
    const uint32_t bits = Bits(maybe);
    if (bits == 0) return 0;
    // Far enough above it, so is the rounded quotient. The second condition
    // holds where a product has underflowed.
    const Mask<T> sure = (overlap > sure_threshold_ * area_union) &
                         (overlap > Splat(T(kSmallOverlap)));
    const uint32_t sure_bits = bits & Bits(sure);
    if (sure_bits == bits) return bits;
    return bits & Bits(overlap / area_union > threshold_);
  }

 private:
  static constexpr float kTiny = 7.8886091e-31f;          // 2^-100
  static constexpr float kSmallOverlap = 8.6736174e-19f;  // 2^-60

  VecBox<T> box_;
  Vec<T> area_, threshold_, sure_threshold_;
};

template <typename T>
SSDOPS_INLINE void Emit(int32_t index, NmsKept<T>* kept) {
  kept->indices[kept->num_indices++] = index;
}

// Remembers a kept box that is not empty.
template <typename T>
SSDOPS_INLINE void Remember(const Box<T>& box, NmsKept<T>* kept) {
  if (kept->boxes.ymin == nullptr) return;
  const int64_t i = kept->num_boxes++;
  if (i % kNmsPadding == 0) {
    for (int64_t k = i; k < i + kNmsPadding; ++k) {
      SetBox(kept->boxes, k, Box<T>{});
    }
  }
  SetBox(kept->boxes, i, box);
}

template <typename T>
SSDOPS_INLINE bool IsGrouped(T height, T width) {
  return height >= T(kMinGroupedSize) && height <= T(kMaxGroupedSize) &&
         width >= T(kMinGroupedSize) && width <= T(kMaxGroupedSize);
}

// Level of a size: steps of a factor of 4, from the smallest size on. It never
// falls where the size grows.
SSDOPS_INLINE int LevelOf(float size, float smallest) {
  if (!(size > smallest)) return 0;
  const uint32_t steps =
      (BitCast<uint32_t>(size) - BitCast<uint32_t>(smallest)) >> 24u;
  return steps < kNmsLevels ? static_cast<int>(steps) : kNmsLevels - 1;
}

template <typename T>
SSDOPS_INLINE T Centre(T low, T high) {
  return T(0.5) * low + T(0.5) * high;
}

// Never falls where the centre grows.
template <typename T>
SSDOPS_INLINE int32_t CellOf(T centre, T cells_per_unit) {
  T cell = centre * cells_per_unit;
  cell = cell < T(kFarthestCell) ? cell : T(kFarthestCell);
  cell = cell > T(-kFarthestCell) ? cell : T(-kFarthestCell);
  const auto whole = static_cast<int32_t>(cell);
  return whole - static_cast<int32_t>(static_cast<T>(whole) > cell);
}

template <typename T>
SSDOPS_INLINE uint32_t BucketOf(const NmsGroup<T>& group, int32_t row,
                                int32_t column) {
  return (static_cast<uint32_t>(row) * group.stride +
          static_cast<uint32_t>(column)) &
         group.mask;
}

// The IoU threshold as far as the reach of a box relies on it: a little lower,
// for the rounding errors of areas, overlaps and quotients.
template <typename T>
struct ReachLimit {
  SSDOPS_INLINE explicit ReachLimit(T iou_threshold)
      : t(iou_threshold < T(kMinReachThreshold)
              ? T(0)
              : iou_threshold * T(0.9990234375)),
        inverse(1 / t) {}

  T t;
  T inverse;
};

// How far the centres of a box of this size and of another, of at most
// `largest`, can be apart along an axis if their IoU is above t. The overlap
// along the axis is at most (size + other) / 2 - distance, and above
// t * max(size, other): else the overlap would be below t times the larger box.
template <typename T>
SSDOPS_INLINE T ReachOf(T size, T largest, const ReachLimit<T>& limit) {
  const T most = size * limit.inverse;
  largest = largest < most ? largest : most;
  largest = limit.t >= T(0.5) && largest > size ? size : largest;
  const T larger = largest > size ? largest : size;
  return T(0.5) * (size + largest) - limit.t * larger;
}

// With a margin for rounded centres.
template <typename T>
SSDOPS_INLINE T Margin(T centre, T reach) {
  const T magnitude = centre < 0 ? -centre : centre;
  return reach * T(0.0009765625) + magnitude * T(kMinReachThreshold);
}

// Lanes before the first and behind the last are other boxes: the test holds
// for them as well. Whole groups of marks are written, for a processor waits
// where it reads what it has just written in other parts.
template <typename T>
SSDOPS_INLINE void SuppressSlots(const NmsGrid<T>& grid,
                                 const OverlapTest<T>& test, int64_t begin,
                                 int64_t end) {
  using Marks = std::conditional_t<kLanes<T> == 16, uint16_t, uint8_t>;
  for (int64_t slot = begin & -int64_t{kLanes<T>}; slot < end;
       slot += kLanes<T>) {
    const uint32_t bits = test(grid.boxes, slot);
    Marks marks;
    memcpy(&marks, grid.suppressed + slot / 8, sizeof(marks));
    marks |= static_cast<Marks>(bits << static_cast<uint32_t>(slot % 8));
    memcpy(grid.suppressed + slot / 8, &marks, sizeof(marks));
  }
}

// The boxes behind the slots, and no mark yet.
template <typename T>
SSDOPS_INLINE void FinishSlots(const NmsGrid<T>& grid, int64_t num_slots) {
  for (int64_t k = 0; k < kNmsPadding; ++k) {
    SetBox(grid.boxes, num_slots + k, Box<T>{});
  }
  memset(grid.suppressed, 0,
         static_cast<size_t>((num_slots + kNmsPadding) / 8 + 4));
}

// Marks among the slots, and a few behind them.
template <typename T>
SSDOPS_INLINE int64_t NumMarks(const NmsGrid<T>& grid, int64_t num_slots) {
  int64_t count = 0;
  for (int64_t at = 0; at < num_slots / 8; at += 4) {
    uint32_t marks;
    memcpy(&marks, grid.suppressed + at, sizeof(marks));
    count += __builtin_popcount(marks);
  }
  return count;
}

// The first slot from `slot` on that is not marked; `end` at most.
template <typename T>
SSDOPS_INLINE int64_t NextSlot(const NmsGrid<T>& grid, int64_t slot,
                               int64_t end) {
  while (slot < end) {
    const uint32_t marks = grid.suppressed[slot / 8];
    const uint32_t open = ~marks & 0xffu & (0xffu << (slot % 8));
    const int64_t first = slot / 8 * 8;
    if (open != 0) return Min(first + __builtin_ctz(open), end);
    slot = first + 8;
  }
  return end;
}

template <typename T>
void SuppressInGroup(const NmsGrid<T>& grid, const NmsGroup<T>& group,
                     const OverlapTest<T>& test, const Box<T>& box,
                     const ReachLimit<T>& limit) {
  const T reach_y = ReachOf(box.ymax - box.ymin, group.max_height, limit);
  const T reach_x = ReachOf(box.xmax - box.xmin, group.max_width, limit);
  if (reach_y < 0 || reach_x < 0) return;
  const int64_t end_slot = group.first_slot + group.count;
  if (group.mask == 0) {
    SuppressSlots(grid, test, group.first_slot, end_slot);
    return;
  }
  const T y = Centre(box.ymin, box.ymax), x = Centre(box.xmin, box.xmax);
  const T far_y = reach_y + Margin(y, reach_y);
  const T far_x = reach_x + Margin(x, reach_x);
  const int32_t first_row = CellOf(y - far_y, group.cells_per_unit_y);
  const int32_t last_row = CellOf(y + far_y, group.cells_per_unit_y);
  const int32_t column = CellOf(x - far_x, group.cells_per_unit_x);
  const int64_t columns =
      int64_t{CellOf(x + far_x, group.cells_per_unit_x)} - column;
  const int64_t rows = int64_t{last_row} - first_row + 1;
  if (columns >= group.mask || rows * 2 * kLanes<T> >= group.count) {
    SuppressSlots(grid, test, group.first_slot, end_slot);
    return;
  }
  const int32_t* starts = grid.starts + group.first_bucket;
  const int64_t num_buckets = int64_t{group.mask} + 1;
  for (int32_t row = first_row; row <= last_row; ++row) {
    const int64_t first = BucketOf(group, row, column);
    const int64_t end = first + columns + 1;
    if (end <= num_buckets) {
      SuppressSlots(grid, test, starts[first], starts[end]);
    } else {
      SuppressSlots(grid, test, starts[first], end_slot);
      SuppressSlots(grid, test, group.first_slot, starts[end - num_buckets]);
    }
  }
}

// Marks every slot whose box has an IoU above the threshold with this one.
template <typename T>
SSDOPS_INLINE void SuppressAround(const NmsGrid<T>& grid, const Box<T>& box,
                                  T iou_threshold, const ReachLimit<T>& limit) {
  const OverlapTest<T> test(box, iou_threshold);
  const T height = box.ymax - box.ymin, width = box.xmax - box.xmin;
  if (!IsGrouped(height, width)) {
    SuppressSlots(grid, test, 0, grid.num_slots);
    return;
  }
  const int lowest_y =
      LevelOf(static_cast<float>(height * limit.t), grid.min_height);
  const int highest_y =
      LevelOf(static_cast<float>(height * limit.inverse), grid.min_height);
  const int lowest_x =
      LevelOf(static_cast<float>(width * limit.t), grid.min_width);
  const int highest_x =
      LevelOf(static_cast<float>(width * limit.inverse), grid.min_width);
  for (int level_y = lowest_y; level_y <= highest_y; ++level_y) {
    for (int level_x = lowest_x; level_x <= highest_x; ++level_x) {
      const NmsGroup<T>& group = grid.groups[level_y * kNmsLevels + level_x];
      if (group.count > 0) SuppressInGroup(grid, group, test, box, limit);
    }
  }
  SuppressSlots(grid, test, grid.num_grouped, grid.num_slots);
}

template <typename T>
SSDOPS_INLINE NmsItem<T> ItemOf(int64_t index, T score) {
  using Key = decltype(NmsItem<T>::key);
  constexpr Key kSign = Key{1} << (8 * sizeof(Key) - 1);
  // -0 and 0 are equal; of the others, bits of numbers above 0 grow with the
  // number, those of numbers below 0 fall.
  const Key bits = BitCast<Key>(score == 0 ? T(0) : score);
  return {static_cast<uint32_t>(index),
          (bits & kSign) != 0 ? bits : bits ^ (kSign - 1)};
}

}  // namespace

template <typename S>
int64_t NmsCandidates(const S* scores, int64_t num_boxes,
                      ComputeType<S> score_threshold,
                      NmsItem<ComputeType<S>>* items) {
  int64_t count = 0;
  for (int64_t i = 0; i < num_boxes; ++i) {
    const ComputeType<S> score = Widen(scores[i]);
    items[count] = ItemOf(i, score);
    count += static_cast<int64_t>(score > score_threshold);
  }
  return count;
}

void NmsCandidatesByClass(const float* scores, int64_t num_boxes,
                          int64_t num_classes, float score_threshold,
                          NmsItem<float>* items, int64_t* counts) {
  constexpr int64_t kStep = kLanes<float>;
  const Vec<float> threshold = Splat(score_threshold);
  const int64_t end = num_boxes * num_classes;
  memset(counts, 0, static_cast<size_t>(num_classes) * sizeof(*counts));
  for (int64_t i = 0; i < num_boxes; ++i) {
    const float* row = scores + i * num_classes;
    for (int64_t first = 0; first < num_classes; first += kStep) {
      const int64_t here = i * num_classes + first;
      const int64_t left = num_classes - first;
      const Vec<float> some =
          here + kStep <= end ? Load(row + first)
                              : LoadPartial(row + first, left, score_threshold);
      uint32_t bits = Bits(some > threshold);
      if (left < kStep) bits &= (1u << static_cast<uint32_t>(left)) - 1;
      for (; bits != 0; bits &= bits - 1) {
        const int64_t c = first + __builtin_ctz(bits);
        items[c * num_boxes + counts[c]++] = ItemOf(i, row[c]);
      }
    }
  }
}

template <typename S>
bool NmsAreasAreFinite(const S* boxes, int64_t num_boxes) {
  using T = ComputeType<S>;
  int64_t finite = 0;
  for (int64_t i = 0; i < num_boxes; ++i) {
    const Box<T> box = LoadWideBox(boxes + 4 * i);
    const T area = (box.ymax - box.ymin) * (box.xmax - box.xmin);
    finite += static_cast<int64_t>(area >= -std::numeric_limits<T>::max() &&
                                   area <= std::numeric_limits<T>::max());
  }
  return finite == num_boxes;
}

template <typename S>
void NmsAgainstKept(const NmsBoxes<S>& boxes,
                    const NmsItem<ComputeType<S>>* items, int64_t count,
                    ComputeType<S> iou_threshold,
                    NmsKept<ComputeType<S>>* kept) {
  using T = ComputeType<S>;
  for (int64_t i = 0; i < count; ++i) {
    if (kept->num_indices == kept->max_indices) return;
    const uint32_t index = items[i].index;
    const Box<T> box = OrderedBox(boxes, index);
    if (IsValid(box)) {
      // Boxes that overlap tend to have like scores: the newest first.
      const OverlapTest<T> test(box, iou_threshold);
      uint32_t bits = 0;
      int64_t first = (kept->num_boxes - 1) & -int64_t{kLanes<T>};
      for (; first >= 0 && bits == 0; first -= kLanes<T>) {
        bits = test(kept->boxes, first);
      }
      if (bits != 0) continue;
      Remember(box, kept);
    }
    Emit(static_cast<int32_t>(index), kept);
  }
}

template <typename S>
int64_t NmsAhead(const NmsBoxes<S>& boxes, const NmsItem<ComputeType<S>>* items,
                 int64_t count, ComputeType<S> iou_threshold, int64_t most,
                 const NmsGrid<ComputeType<S>>& grid,
                 NmsKept<ComputeType<S>>* kept, NmsItem<ComputeType<S>>* left) {
  using T = ComputeType<S>;
  for (int64_t i = 0; i < count; ++i) {
    SetBox(grid.boxes, i, OrderedBox(boxes, items[i].index));
  }
  FinishSlots(grid, count);
  int64_t i = NextSlot(grid, 0, count);
  for (int64_t k = 0; i < count && k < most; i = NextSlot(grid, i + 1, count)) {
    if (kept->num_indices == kept->max_indices) return 0;
    // Many more would be kept if each marks few: better by a grid, then.
    if (++k == kTrial && most < count &&
        NumMarks(grid, count) < count / kTrialShare) {
      break;
    }
    const Box<T> box = BoxAt(grid.boxes, i);
    if (IsValid(box)) {
      Remember(box, kept);
      SuppressSlots(grid, OverlapTest<T>(box, iou_threshold), i, count);
    }
    Emit(static_cast<int32_t>(items[i].index), kept);
  }
  int64_t num_left = 0;
  for (; i < count; i = NextSlot(grid, i + 1, count)) {
    left[num_left++] = items[i];
  }
  return num_left;
}

template <typename S>
void NmsFillGrid(const NmsBoxes<S>& boxes, const NmsItem<ComputeType<S>>* items,
                 int64_t count, ComputeType<S> iou_threshold,
                 NmsGrid<ComputeType<S>>* grid) {
  using T = ComputeType<S>;
  constexpr int32_t kEmpty = -1, kNoGroup = -2;

  // The range of sizes.
  T min_height = T(kMaxGroupedSize), max_height = 0;
  T min_width = T(kMaxGroupedSize), max_width = 0;
  int64_t num_grouped = 0;
  for (int64_t i = 0; i < count; ++i) {
    const Box<T> box = OrderedBox(boxes, items[i].index);
    const T height = box.ymax - box.ymin, width = box.xmax - box.xmin;
    const bool is_grouped = IsGrouped(height, width);
    num_grouped += static_cast<int64_t>(is_grouped);
    min_height = is_grouped && height < min_height ? height : min_height;
    max_height = is_grouped && height > max_height ? height : max_height;
    min_width = is_grouped && width < min_width ? width : min_width;
    max_width = is_grouped && width > max_width ? width : max_width;
  }
  grid->min_height = static_cast<float>(min_height);
  grid->min_width = static_cast<float>(min_width);

  // Groups, and their sizes: often just one.
  for (int g = 0; g < kNmsGroups; ++g) grid->groups[g] = {};
  int64_t num_others = 0;
  const bool is_one_group =
      num_grouped == count &&
      LevelOf(static_cast<float>(max_height), grid->min_height) == 0 &&
      LevelOf(static_cast<float>(max_width), grid->min_width) == 0;
  if (is_one_group) {
    NmsGroup<T>& group = grid->groups[0];
    group.count = count;
    group.max_height = max_height;
    group.max_width = max_width;
  }
  for (int64_t i = 0; i < count && !is_one_group; ++i) {
    const Box<T> box = OrderedBox(boxes, items[i].index);
    const T height = box.ymax - box.ymin, width = box.xmax - box.xmin;
    if (!IsGrouped(height, width)) {
      grid->buckets[i] = IsValid(box) ? kNoGroup : kEmpty;
      num_others += static_cast<int64_t>(IsValid(box));
      continue;
    }
    const int g =
        LevelOf(static_cast<float>(height), grid->min_height) * kNmsLevels +
        LevelOf(static_cast<float>(width), grid->min_width);
    NmsGroup<T>& group = grid->groups[g];
    ++group.count;
    group.max_height = height > group.max_height ? height : group.max_height;
    group.max_width = width > group.max_width ? width : group.max_width;
    grid->buckets[i] = g;
  }

  // The reach of a box among its like sets the size of cells: few rows, because
  // each is looked up, and narrow columns, because adjacent ones are one look.
  const ReachLimit<T> limit(iou_threshold);
  int64_t num_buckets = 0, num_slots = 0;
  for (int g = 0; g < kNmsGroups; ++g) {
    NmsGroup<T>& group = grid->groups[g];
    if (group.count == 0) continue;
    group.first_bucket = num_buckets;
    group.first_slot = num_slots;
    uint32_t buckets = 1;
    if (group.count >= kMinCelledCount) {
      while (buckets < group.count) buckets *= 2;
      const T reach_y = ReachOf(group.max_height, group.max_height, limit);
      const T reach_x = ReachOf(group.max_width, group.max_width, limit);
      group.cells_per_unit_y =
          1 / (T(kCellHeight) * (reach_y + group.max_height * T(0.0625)));
      group.cells_per_unit_x =
          1 / (T(kCellWidth) * (reach_x + group.max_width * T(0.0625)));
    }
    group.mask = buckets - 1;
    // Rows as far apart as the golden section leaves them: the gaps between any
    // number of them are of three lengths.
    group.stride =
        static_cast<uint32_t>((uint64_t{buckets} * 2654435769u) >> 32u) | 1u;
    num_buckets += buckets;
    num_slots += group.count;
  }
  grid->num_grouped = num_slots;
  grid->num_slots = num_slots + num_others;

  // Counts two buckets further, so that starts[b + 1] is where bucket b begins;
  // filling it moves that to its end, where bucket b + 1 begins.
  memset(grid->starts, 0,
         static_cast<size_t>(num_buckets + 2) * sizeof(*grid->starts));
  for (int64_t i = 0; i < count; ++i) {
    const int32_t g = is_one_group ? 0 : grid->buckets[i];
    if (g < 0) continue;
    const NmsGroup<T>& group = grid->groups[g];
    const Box<T> box = OrderedBox(boxes, items[i].index);
    const auto bucket = static_cast<int32_t>(
        group.first_bucket +
        BucketOf(group,
                 CellOf(Centre(box.ymin, box.ymax), group.cells_per_unit_y),
                 CellOf(Centre(box.xmin, box.xmax), group.cells_per_unit_x)));
    grid->buckets[i] = bucket;
    ++grid->starts[bucket + 2];
  }
  for (int64_t b = 2; b <= num_buckets; ++b) {
    grid->starts[b] += grid->starts[b - 1];
  }
  int32_t next_other = static_cast<int32_t>(grid->num_grouped);
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t index = items[i].index;
    const int32_t bucket = grid->buckets[i];
    if (bucket == kEmpty) {
      grid->slots[index] = -1;
      continue;
    }
    const int32_t slot =
        bucket == kNoGroup ? next_other++ : grid->starts[bucket + 1]++;
    grid->slots[index] = slot;
    SetBox(grid->boxes, slot, OrderedBox(boxes, index));
  }
  FinishSlots(*grid, grid->num_slots);
}

template <typename T>
void NmsOverGrid(const NmsItem<T>* items, int64_t count, T iou_threshold,
                 const NmsGrid<T>& grid, NmsKept<T>* kept) {
  const ReachLimit<T> limit(iou_threshold);
  for (int64_t k = 0; k < kept->num_boxes; ++k) {
    SuppressAround(grid, BoxAt(kept->boxes, k), iou_threshold, limit);
  }
  for (int64_t i = 0; i < count; ++i) {
    if (kept->num_indices == kept->max_indices) return;
    if (i + kAhead < count) {
      const int32_t next = grid.slots[items[i + kAhead].index];
      if (next >= 0) {
        __builtin_prefetch(grid.boxes.ymin + next);
        __builtin_prefetch(grid.boxes.xmin + next);
        __builtin_prefetch(grid.boxes.ymax + next);
        __builtin_prefetch(grid.boxes.xmax + next);
      }
    }
    const uint32_t index = items[i].index;
    const int32_t slot = grid.slots[index];
    if (slot >= 0) {
      if (((grid.suppressed[slot / 8] >> static_cast<uint32_t>(slot % 8)) &
           1u) != 0) {
        continue;
      }
      const Box<T> box = BoxAt(grid.boxes, slot);
      Remember(box, kept);
      SuppressAround(grid, box, iou_threshold, limit);
    }
    Emit(static_cast<int32_t>(index), kept);
  }
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template int64_t NmsCandidates<S>(const S*, int64_t, ComputeType<S>,       \
                                    NmsItem<ComputeType<S>>*);               \
  template bool NmsAreasAreFinite<S>(const S*, int64_t);                     \
  template void NmsAgainstKept<S>(const NmsBoxes<S>&,                        \
                                  const NmsItem<ComputeType<S>>*, int64_t,   \
                                  ComputeType<S>, NmsKept<ComputeType<S>>*); \
  template int64_t NmsAhead<S>(                                              \
      const NmsBoxes<S>&, const NmsItem<ComputeType<S>>*, int64_t,           \
      ComputeType<S>, int64_t, const NmsGrid<ComputeType<S>>&,               \
      NmsKept<ComputeType<S>>*, NmsItem<ComputeType<S>>*);                   \
  template void NmsFillGrid<S>(const NmsBoxes<S>&,                           \
                               const NmsItem<ComputeType<S>>*, int64_t,      \
                               ComputeType<S>, NmsGrid<ComputeType<S>>*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE
#define SSDOPS_INSTANTIATE(T)                                 \
  template void NmsOverGrid<T>(const NmsItem<T>*, int64_t, T, \
                               const NmsGrid<T>&, NmsKept<T>*);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(double)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
