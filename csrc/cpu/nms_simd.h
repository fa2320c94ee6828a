// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_NMS_SIMD_H_
#define SSDOPS_CPU_NMS_SIMD_H_

#include <cstdint>

#include "isa_variants.h"
#include "ssdops/storage.h"

namespace ssdops {

// Slots behind the last box of BoxArrays that vectors may read; they hold empty
// boxes.
constexpr int64_t kNmsPadding = 16;

// Corners of boxes, one array each.
template <typename T>
struct BoxArrays {
  T *ymin, *xmin, *ymax, *xmax;
};

// A candidate: its box, and its score as a number that is lower for better
// ones.
struct NmsItem32 {
  uint32_t index;
  uint32_t key;
};
struct NmsItem64 {
  uint32_t index;
  uint64_t key;
};
template <typename T>
struct NmsItemOf {
  using Type = NmsItem32;
};
template <>
struct NmsItemOf<double> {
  using Type = NmsItem64;
};
template <typename T>
using NmsItem = typename NmsItemOf<T>::Type;

constexpr int kNmsLevels = 16;
constexpr int kNmsGroups = kNmsLevels * kNmsLevels;

// Boxes of like height and width, within a factor of 4 each, hashed by the cell
// of their centre. The cells of a row are adjacent buckets.
template <typename T>
struct NmsGroup {
  int64_t count;         // boxes
  int64_t first_slot;    // of `count` slots
  int64_t first_bucket;  // in NmsGrid::starts
  uint32_t mask;         // buckets, a power of 2, less 1
  uint32_t stride;       // buckets from a row of cells to the next
  T max_height;          // of its boxes
  T max_width;
  T cells_per_unit_y;  // 1 / height of a cell
  T cells_per_unit_x;  // 1 / width of a cell
};

// Candidates by place; parts of the workspace, filled by NmsFillGrid.
template <typename T>
struct NmsGrid {
  NmsGroup<T>* groups;  // [kNmsGroups] by level of height, then of width
  int32_t* starts;      // first slot of each bucket, and the end of the last
  int32_t* slots;       // [num_boxes] slot of a box, -1 if it is empty
  int32_t* buckets;     // [num_boxes] scratch, by candidate
  BoxArrays<T> boxes;   // by slot
  uint8_t* suppressed;  // a bit per slot
  int64_t num_grouped;  // slots of groups; behind them, boxes of no group
  int64_t num_slots;
  float min_height;  // where level 0 begins
  float min_width;
};

// The output, and the kept boxes that are not empty.
template <typename T>
struct NmsKept {
  BoxArrays<T> boxes;  // null if nothing will read them
  int64_t num_boxes;
  int32_t* indices;
  int64_t num_indices;
  int64_t max_indices;
};

// Boxes as an op has them: box i begins at corners + i * stride.
template <typename S>
struct NmsBoxes {
  const S* corners;
  int64_t stride;
  bool any_diagonal;  // the corners may be any two opposite ones
};

// Its corners in order, if they may be any.
template <typename S>
SSDOPS_HOST_DEVICE inline Box<ComputeType<S>> OrderedBox(
    const NmsBoxes<S>& boxes, uint32_t index) {
  Box<ComputeType<S>> box =
      LoadWideBox(boxes.corners + boxes.stride * int64_t{index});
  if (boxes.any_diagonal) {
    // With a NaN, the two are equal or NaN afterwards: an empty box.
    const auto ymin = box.ymax < box.ymin ? box.ymax : box.ymin;
    const auto xmin = box.xmax < box.xmin ? box.xmax : box.xmin;
    box.ymax = box.ymin < box.ymax ? box.ymax : box.ymin;
    box.xmax = box.xmin < box.xmax ? box.xmax : box.xmin;
    box.ymin = ymin;
    box.xmin = xmin;
  }
  return box;
}

SSDOPS_DECLARE_VARIANTS(
    // Writes the candidates among the boxes, in ascending order of their index.
    template <typename S>
    int64_t NmsCandidates(const S* scores, int64_t num_boxes,
                          ComputeType<S> score_threshold,
                          NmsItem<ComputeType<S>>* items);

    // The same for each class of scores [num_boxes, num_classes]: those of
    // class c are counts[c] items from items + c * num_boxes on.
    void NmsCandidatesByClass(const float* scores, int64_t num_boxes,
                              int64_t num_classes, float score_threshold,
                              NmsItem<float>* items, int64_t* counts);

    // Whether the area of every box is a finite number.
    template <typename S>
    bool NmsAreasAreFinite(const S* boxes, int64_t num_boxes);

    // Visits sorted candidates, each against all kept boxes.
    template <typename S>
    void NmsAgainstKept(const NmsBoxes<S>& boxes,
                        const NmsItem<ComputeType<S>>* items, int64_t count,
                        ComputeType<S> iou_threshold,
                        NmsKept<ComputeType<S>>* kept);

    // Visits sorted candidates until `most` are kept, each of which marks what
    // it suppresses among all that follow. Writes those that are then left and
    // returns their number. Uses the boxes and the marks of the grid.
    template <typename S>
    int64_t NmsAhead(const NmsBoxes<S>& boxes,
                     const NmsItem<ComputeType<S>>* items, int64_t count,
                     ComputeType<S> iou_threshold, int64_t most,
                     const NmsGrid<ComputeType<S>>& grid,
                     NmsKept<ComputeType<S>>* kept,
                     NmsItem<ComputeType<S>>* left);

    // Puts candidates into a grid.
    template <typename S>
    void NmsFillGrid(const NmsBoxes<S>& boxes,
                     const NmsItem<ComputeType<S>>* items, int64_t count,
                     ComputeType<S> iou_threshold,
                     NmsGrid<ComputeType<S>>* grid);

    // Visits sorted candidates; each kept one marks what it suppresses.
    template <typename T>
    void NmsOverGrid(const NmsItem<T>* items, int64_t count, T iou_threshold,
                     const NmsGrid<T>& grid, NmsKept<T>* kept);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_NMS_SIMD_H_
