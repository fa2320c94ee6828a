// SPDX-License-Identifier: Apache-2.0
#include "ssdops/match_anchors.h"

#include <algorithm>

#include "ssdops/box_math.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

constexpr int32_t kNoAnchor = -1;

// A real ground truth of the image, and the best anchor still free for it.
template <typename T>
struct GroundTruth {
  Box<T> box;
  T area;
  int32_t row;     // in gt_boxes
  int32_t anchor;  // best free one (lowest of equal IoUs), or kNoAnchor
  T iou;           // with that anchor; 0 if there is none
};

// One worker's slice of the workspace.
template <typename T>
struct Scratch {
  explicit Scratch(const MatchAnchorsShape& shape, void* base) {
    WorkspaceCursor cursor(base);
    gt = cursor.Take<GroundTruth<T>>(shape.num_gt);
    regions = cursor.Take<Box<T>>(shape.num_gt);
    taken = cursor.Take<bool>(shape.num_anchors);
    bytes = cursor.used();
  }

  GroundTruth<T>* gt;
  Box<T>* regions;
  bool* taken;  // [num_anchors] matched in the bipartite step
  int64_t bytes;
};

// Anchors that take part at all.
template <typename T>
bool IsUsable(const Box<T>& anchor, const MatchAnchorsOptions& options) {
  return !options.ignore_cross_boundary ||
         (anchor.ymin >= 0 && anchor.xmin >= 0 && anchor.ymax >= 0 &&
          anchor.xmax >= 0 && anchor.ymin <= 1 && anchor.xmin <= 1 &&
          anchor.ymax <= 1 && anchor.xmax <= 1);
}

// IoU as the matcher sees it: 0 up to 1e-6.
template <typename T>
T Overlap(const Box<T>& anchor, T anchor_area, const GroundTruth<T>& gt) {
  const T iou = Iou(anchor, anchor_area, gt.box, gt.area);
  return iou > T(1e-6) ? iou : T(0);
}

template <typename T>
class ImageMatcher {
 public:
  ImageMatcher(const T* anchors, int64_t num_anchors,
               const MatchAnchorsOptions& options, const Scratch<T>& scratch,
               int32_t* matched_gt, T* matched_iou)
      : anchors_(anchors),
        num_anchors_(num_anchors),
        options_(options),
        scratch_(scratch),
        matched_gt_(matched_gt),
        matched_iou_(matched_iou) {}

  void Run(const T* gt_boxes, const int32_t* gt_labels, int64_t num_gt) {
    Collect(gt_boxes, gt_labels, num_gt);
    FindBestOfEach();
    if (options_.bipartite_only) {
      std::fill_n(matched_gt_, num_anchors_, kNegative);
    }
    MatchBipartite();
    Classify();
  }

 private:
  // Compact lists: padding costs nothing from here on.
  void Collect(const T* gt_boxes, const int32_t* gt_labels, int64_t num_gt) {
    num_gt_ = num_regions_ = 0;
    for (int64_t row = 0; row < num_gt; ++row) {
      if (gt_labels[row] == 0) continue;
      const Box<T> box = LoadBox(gt_boxes + 4 * row);
      if (gt_labels[row] < 0) {
        scratch_.regions[num_regions_++] = box;
      } else {
        scratch_.gt[num_gt_++] = {box, Area(box), static_cast<int32_t>(row),
                                  kNoAnchor, T(0)};
      }
    }
  }

  // The largest IoU of each anchor (into the outputs; lowest row of equals) and
  // of each ground truth (lowest anchor of equals), in one pass over the pairs.
  void FindBestOfEach() {
    for (int64_t a = 0; a < num_anchors_; ++a) {
      const Box<T> anchor = LoadBox(anchors_ + 4 * a);
      const T area = Area(anchor);
      T best = T(0);
      int32_t best_row = kNegative;
      if (IsUsable(anchor, options_)) {
        for (int64_t g = 0; g < num_gt_; ++g) {
          GroundTruth<T>& gt = scratch_.gt[g];
          const T iou = Overlap(anchor, area, gt);
          if (iou > best) {
            best = iou;
            best_row = gt.row;
          }
          if (iou > gt.iou) {
            gt.iou = iou;
            gt.anchor = static_cast<int32_t>(a);
          }
        }
      }
      matched_iou_[a] = best;
      matched_gt_[a] = best_row;
    }
  }

  // Because each ground truth knows its best free anchor, a round is a scan
  // over the ground truth; only those that lose their anchor look for another.
  void MatchBipartite() {
    bool* taken = scratch_.taken;
    std::fill_n(taken, num_anchors_, false);
    for (int64_t remaining = num_gt_; remaining > 0; --remaining) {
      GroundTruth<T>* best = nullptr;
      for (int64_t g = 0; g < num_gt_; ++g) {
        GroundTruth<T>& gt = scratch_.gt[g];
        if (gt.anchor == kNoAnchor) continue;
        if (best == nullptr || gt.iou > best->iou ||
            (gt.iou == best->iou && gt.anchor < best->anchor)) {
          best = &gt;
        }
      }
      if (best == nullptr) return;
      const int32_t anchor = best->anchor;
      taken[anchor] = true;
      matched_gt_[anchor] = best->row;
      matched_iou_[anchor] = best->iou;
      best->anchor = kNoAnchor;
      // The matched one must not look again: an IoU of 0 never competes.
      best->iou = T(0);
      for (int64_t g = 0; g < num_gt_; ++g) {
        if (scratch_.gt[g].anchor == anchor) FindFreeAnchor(&scratch_.gt[g]);
      }
    }
  }

  void FindFreeAnchor(GroundTruth<T>* gt) const {
    gt->anchor = kNoAnchor;
    gt->iou = T(0);
    for (int64_t a = 0; a < num_anchors_; ++a) {
      if (scratch_.taken[a]) continue;
      const Box<T> anchor = LoadBox(anchors_ + 4 * a);
      if (!IsUsable(anchor, options_)) continue;
      const T iou = Overlap(anchor, Area(anchor), *gt);
      if (iou > gt->iou) {
        gt->iou = iou;
        gt->anchor = static_cast<int32_t>(a);
      }
    }
  }

  // Turns "row of the largest IoU" into the result for all other anchors.
  void Classify() {
    const T iou_threshold = static_cast<T>(options_.iou_threshold);
    const T negative_threshold = static_cast<T>(options_.negative_threshold);
    const T ignore_threshold = static_cast<T>(options_.ignore_threshold);
    const bool band = options_.negative_threshold < options_.iou_threshold;
    for (int64_t a = 0; a < num_anchors_; ++a) {
      if (scratch_.taken[a]) continue;
      const Box<T> anchor = LoadBox(anchors_ + 4 * a);
      if (!IsUsable(anchor, options_)) {
        matched_gt_[a] = kIgnored;
        continue;
      }
      const T iou = matched_iou_[a];
      if (matched_gt_[a] >= 0 && iou >= iou_threshold) continue;
      const bool ignored = (band && iou > 0 && iou >= negative_threshold) ||
                           IsCovered(anchor, ignore_threshold);
      matched_gt_[a] = ignored ? kIgnored : kNegative;
    }
  }

  bool IsCovered(const Box<T>& anchor, T threshold) const {
    for (int64_t r = 0; r < num_regions_; ++r) {
      const T overlap = Intersection(anchor, scratch_.regions[r]);
      if (overlap > 0 && overlap / Area(anchor) >= threshold) return true;
    }
    return false;
  }

  const T* anchors_;
  const int64_t num_anchors_;
  const MatchAnchorsOptions& options_;
  const Scratch<T>& scratch_;
  int32_t* matched_gt_;
  T* matched_iou_;
  int64_t num_gt_ = 0;
  int64_t num_regions_ = 0;
};

}  // namespace

template <typename T>
void MatchAnchors(const T* anchors, const T* gt_boxes, const int32_t* gt_labels,
                  const MatchAnchorsShape& shape,
                  const MatchAnchorsOptions& options, int32_t* matched_gt,
                  T* matched_iou, void* workspace,
                  const ParallelFor& parallel_for) {
  const int64_t slice = Scratch<T>(shape, nullptr).bytes;
  const int64_t cost = shape.num_anchors * (5 + 2 * shape.num_gt);
  parallel_for(shape.batch, cost, [&](int64_t begin, int64_t end, int worker) {
    const Scratch<T> scratch(
        shape, static_cast<std::byte*>(workspace) + worker * slice);
    for (int64_t image = begin; image < end; ++image) {
      ImageMatcher<T>(anchors, shape.num_anchors, options, scratch,
                      matched_gt + image * shape.num_anchors,
                      matched_iou + image * shape.num_anchors)
          .Run(gt_boxes + 4 * image * shape.num_gt,
               gt_labels + image * shape.num_gt, shape.num_gt);
    }
  });
}

template <typename T>
int64_t MatchAnchorsWorkspaceBytes(const MatchAnchorsShape& shape,
                                   int num_workers) {
  return num_workers * Scratch<T>(shape, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(T)                                               \
  template void MatchAnchors<T>(                                            \
      const T*, const T*, const int32_t*, const MatchAnchorsShape&,         \
      const MatchAnchorsOptions&, int32_t*, T*, void*, const ParallelFor&); \
  template int64_t MatchAnchorsWorkspaceBytes<T>(const MatchAnchorsShape&, int);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(double)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
