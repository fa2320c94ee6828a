// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_ANCHOR_MATCHER_H_
#define SSDOPS_CPU_ANCHOR_MATCHER_H_

// The matcher behind match_anchors and assign_targets. Anchors are prepared
// once per call, as tiles with bounds on position and area; then every image
// runs on its own, without ever storing the matrix of overlaps.

#include <cstdint>

#include "ssdops/match_anchors.h"
#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"
#include "ssdops/workspace.h"

namespace ssdops {

// Anchors of a tile: the same on every instruction set, so that the layout is.
constexpr int kTileAnchors = 16;

// An integer as wide as T, for vectors that hold both.
template <typename T>
struct LaneIntegerOf {
  using Type = int32_t;
};
template <>
struct LaneIntegerOf<double> {
  using Type = int64_t;
};
template <typename T>
using LaneInteger = typename LaneIntegerOf<T>::Type;

// Boxes by column. An empty box is stored as (inf, inf, -inf, -inf), so that no
// comparison or difference ever makes it meet another.
template <typename T>
struct BoxColumns {
  T *ymin, *xmin, *ymax, *xmax;

  static BoxColumns Take(WorkspaceCursor* cursor, int64_t count) {
    return {cursor->Take<T>(count), cursor->Take<T>(count),
            cursor->Take<T>(count), cursor->Take<T>(count)};
  }
};

// What all images share. Tile counts are padded to whole vectors of tiles.
template <typename T>
struct AnchorTiles {
  AnchorTiles(int64_t num_anchors, WorkspaceCursor* cursor);

  int64_t num_anchors;
  int64_t num_tiles;
  int64_t num_padded_tiles;
  // [num_tiles][5][kTileAnchors]: ymin, xmin, ymax, xmax, area; empty boxes for
  // unusable anchors and after the last.
  T* anchors;
  uint32_t* unusable;    // [num_tiles] one bit per anchor
  BoxColumns<T> bounds;  // [num_padded_tiles] of the anchors that are not empty
  // [num_padded_tiles] Areas of the same. The lower one is NaN where it is so
  // small that products of areas could underflow: it bounds nothing then.
  T *min_area, *max_area;
};

// A ground truth and the best anchor that it could have when last looked for.
template <typename T>
struct Candidate {
  T iou;
  int32_t anchor;
  int32_t gt;
};

// One worker's slice of the workspace.
template <typename T>
struct MatchScratch {
  MatchScratch(const MatchAnchorsShape& shape, WorkspaceCursor* cursor);

  // Real, not empty rows of the image, in order; whole vectors of them.
  BoxColumns<T> gt;
  T* gt_area;
  int32_t* gt_row;
  // Ignore regions, likewise.
  BoxColumns<T> regions;
  // [num_gt][kTileAnchors]: by place in the tile, the largest IoU and its tile.
  T* best_iou;
  LaneInteger<T>* best_tile;
  int32_t* meeting;  // ground truth that meets the tile at hand
  Candidate<T>* heap;
  uint32_t* taken;  // [num_tiles] one bit per anchor matched in the first step
};

// The parts of the workspace of a call.
template <typename T>
struct MatchWorkspace {
  MatchWorkspace(const MatchAnchorsShape& shape, void* base)
      : cursor(base), tiles(shape.num_anchors, &cursor), shape(shape) {
    base_ = static_cast<std::byte*>(base);
    WorkspaceCursor slice(nullptr);
    const MatchScratch<T> sized(shape, &slice);
    slice_bytes_ = slice.used();
  }

  int64_t Bytes(int num_workers) const {
    return cursor.used() + num_workers * slice_bytes_;
  }

  MatchScratch<T> Scratch(int worker) const {
    WorkspaceCursor slice(base_ + cursor.used() + worker * slice_bytes_);
    return MatchScratch<T>(shape, &slice);
  }

  WorkspaceCursor cursor;
  AnchorTiles<T> tiles;
  MatchAnchorsShape shape;

 private:
  std::byte* base_;
  int64_t slice_bytes_;
};

// Rough nanoseconds per image.
int64_t MatchCost(const MatchAnchorsShape& shape, const int32_t* gt_labels);

}  // namespace ssdops

#endif  // SSDOPS_CPU_ANCHOR_MATCHER_H_
