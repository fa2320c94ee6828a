// SPDX-License-Identifier: Apache-2.0
#include "anchor_matcher.h"

namespace ssdops {
namespace {

// Lanes of the widest vector: columns are read in whole vectors.
constexpr int64_t kPad = 16;

constexpr int64_t Padded(int64_t count) {
  return (count + kPad - 1) / kPad * kPad;
}

}  // namespace

template <typename T>
AnchorTiles<T>::AnchorTiles(int64_t num_anchors, WorkspaceCursor* cursor)
    : num_anchors(num_anchors),
      num_tiles((num_anchors + kTileAnchors - 1) / kTileAnchors),
      num_padded_tiles(Padded(num_tiles)),
      anchors(cursor->Take<T>(num_tiles * 5 * kTileAnchors)),
      unusable(cursor->Take<uint32_t>(num_tiles)),
      bounds(BoxColumns<T>::Take(cursor, num_padded_tiles)),
      min_area(cursor->Take<T>(num_padded_tiles)),
      max_area(cursor->Take<T>(num_padded_tiles)) {}

template <typename T>
MatchScratch<T>::MatchScratch(const MatchAnchorsShape& shape,
                              WorkspaceCursor* cursor)
    : gt(BoxColumns<T>::Take(cursor, Padded(shape.num_gt))),
      gt_area(cursor->Take<T>(shape.num_gt)),
      gt_row(cursor->Take<int32_t>(shape.num_gt)),
      regions(BoxColumns<T>::Take(cursor, Padded(shape.num_gt))),
      best_iou(cursor->Take<T>(shape.num_gt * kTileAnchors)),
      best_tile(cursor->Take<LaneInteger<T>>(shape.num_gt * kTileAnchors)),
      meeting(cursor->Take<int32_t>(shape.num_gt)),
      heap(cursor->Take<Candidate<T>>(shape.num_gt)),
      taken(cursor->Take<uint32_t>((shape.num_anchors + kTileAnchors - 1) /
                                   kTileAnchors)) {}

int64_t MatchCost(const MatchAnchorsShape& shape, const int32_t* gt_labels) {
  // Padding costs nothing, and every tile meets about a quarter of the rest.
  int64_t real = 0;
  for (int64_t i = 0; i < shape.batch * shape.num_gt; ++i) {
    real += gt_labels[i] != 0 ? 1 : 0;
  }
  const int64_t tiles = shape.num_anchors / kTileAnchors + 1;
  return tiles * (10 + 2 * real / shape.batch);
}

template struct AnchorTiles<float>;
template struct AnchorTiles<double>;
template struct MatchScratch<float>;
template struct MatchScratch<double>;

}  // namespace ssdops
