// SPDX-License-Identifier: Apache-2.0
#include "anchor_matcher_simd.h"

#include "simd_boxes.h"

namespace ssdops {
namespace SSDOPS_ISA {

// Overlaps up to this count as none: as the start of a search for the largest,
// it makes "larger than the best so far" the only comparison.
template <typename T>
constexpr T kNoOverlap = T(1e-6);

// Areas below this have products that may underflow.
template <typename T>
constexpr T kTinyArea = T(1e-30);

template <typename T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

template <typename T>
constexpr int kVectorsPerTile = kTileAnchors / kLanes<T>;

template <typename T>
SSDOPS_INLINE VecBox<T> LoadColumns(const BoxColumns<T>& boxes, int64_t i) {
  return {Load(boxes.ymin + i), Load(boxes.xmin + i), Load(boxes.ymax + i),
          Load(boxes.xmax + i)};
}

template <typename T>
SSDOPS_INLINE void SetColumns(const BoxColumns<T>& boxes, int64_t i,
                              const Box<T>& box) {
  boxes.ymin[i] = box.ymin;
  boxes.xmin[i] = box.xmin;
  boxes.ymax[i] = box.ymax;
  boxes.xmax[i] = box.xmax;
}

template <typename T>
SSDOPS_INLINE Box<T> GetColumns(const BoxColumns<T>& boxes, int64_t i) {
  return {boxes.ymin[i], boxes.xmin[i], boxes.ymax[i], boxes.xmax[i]};
}

template <typename T>
SSDOPS_INLINE Box<T> EmptyBox() {
  return {kInfinity<T>, kInfinity<T>, -kInfinity<T>, -kInfinity<T>};
}

// Empty boxes up to the end of the last vector.
template <typename T>
SSDOPS_INLINE void PadColumns(const BoxColumns<T>& boxes, int64_t count) {
  for (; count % kLanes<T> != 0; ++count) {
    SetColumns(boxes, count, EmptyBox<T>());
  }
}

// Where boxes that are not empty meet: exactly where their difference of
// corners in Overlap can be positive on both axes.
template <typename T>
SSDOPS_INLINE Mask<T> Meets(const VecBox<T>& a, const VecBox<T>& b) {
  return (a.ymin < b.ymax) & (b.ymin < a.ymax) & (a.xmin < b.xmax) &
         (b.xmin < a.xmax);
}

// Area of the intersection; not positive, or NaN, if there is none. Limiting
// one side is enough: two negative ones would give a positive product.
template <typename T>
SSDOPS_INLINE Vec<T> Overlap(const VecBox<T>& a, const VecBox<T>& b) {
  const Vec<T> height = Min(a.ymax, b.ymax) - Max(a.ymin, b.ymin);
  const Vec<T> width = Min(a.xmax, b.xmax) - Max(a.xmin, b.xmin);
  return Max(height, Vec<T>{}) * width;
}

// Iou of box_math.h wherever that is above 0, with the same operations in the
// same order. Elsewhere nothing that is larger than kNoOverlap: a product that
// is infinite makes both areas and so the quotient infinite over NaN.
template <typename T>
SSDOPS_INLINE Vec<T> Quotient(const VecBox<T>& a, Vec<T> area_a,
                              const VecBox<T>& b, Vec<T> area_b) {
  const Vec<T> overlap = Overlap<T>(a, b);
  return overlap / ((area_a + area_b) - overlap);
}

// Largest or smallest of the values of a tile.
template <bool largest, typename T>
SSDOPS_INLINE T Reduce(const T* values) {
  typedef T Quad __attribute__((vector_size(4 * sizeof(T))));
  Quad best;
  memcpy(&best, values, sizeof(best));
  for (int i = 4; i < kTileAnchors; i += 4) {
    Quad other;
    memcpy(&other, values + i, sizeof(other));
    best = largest ? Max(other, best) : Min(other, best);
  }
  const Quad half = __builtin_shufflevector(best, best, 2, 3, 0, 1);
  best = largest ? Max(half, best) : Min(half, best);
  const Quad last = __builtin_shufflevector(best, best, 1, 0, 3, 2);
  best = largest ? Max(last, best) : Min(last, best);
  return best[0];
}

template <typename S>
void FillTiles(const S* anchors, const MatchAnchorsOptions& options,
               const AnchorTiles<ComputeType<S>>& tiles) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const Vec<T> inf = Splat(kInfinity<T>), zero = {}, one = Splat(T(1));
  for (int64_t tile = 0; tile < tiles.num_tiles; ++tile) {
    T* out = tiles.anchors + tile * 5 * kTileAnchors;
    T small_area[kTileAnchors];
    uint32_t unusable = 0;
    for (int v = 0; v < kVectorsPerTile<T>; ++v) {
      const int64_t first = tile * kTileAnchors + v * kStep;
      const int64_t left = tiles.num_anchors - first;
      const int64_t count = left < 0 ? 0 : left;
      VecBox<T> box = LoadRows(anchors + 4 * first, count);
      box = {InOrder<T>(box.ymin), InOrder<T>(box.xmin), InOrder<T>(box.ymax),
             InOrder<T>(box.xmax)};
      Mask<T> keep = (box.ymax > box.ymin) & (box.xmax > box.xmin);
      if (options.ignore_cross_boundary) {
        const Mask<T> usable = (box.ymin >= zero) & (box.xmin >= zero) &
                               (box.ymax >= zero) & (box.xmax >= zero) &
                               (box.ymin <= one) & (box.xmin <= one) &
                               (box.ymax <= one) & (box.xmax <= one);
        unusable |= Bits(~usable) << static_cast<uint32_t>(v * kStep);
        keep &= usable;
      }
      const Vec<T> area =
          keep ? (box.ymax - box.ymin) * (box.xmax - box.xmin) : zero;
      T* lanes = out + v * kStep;
      Store<T>(lanes, keep ? box.ymin : inf);
      Store<T>(lanes + kTileAnchors, keep ? box.xmin : inf);
      Store<T>(lanes + 2 * kTileAnchors, keep ? box.ymax : -inf);
      Store<T>(lanes + 3 * kTileAnchors, keep ? box.xmax : -inf);
      Store<T>(lanes + 4 * kTileAnchors, area);
      Store<T>(small_area + v * kStep, keep ? area : inf);
    }
    tiles.unusable[tile] = unusable;
    SetColumns(tiles.bounds, tile,
               {Reduce<false>(out), Reduce<false>(out + kTileAnchors),
                Reduce<true>(out + 2 * kTileAnchors),
                Reduce<true>(out + 3 * kTileAnchors)});
    const T min_area = Reduce<false>(small_area);
    tiles.min_area[tile] = min_area < kTinyArea<T>
                               ? std::numeric_limits<T>::quiet_NaN()
                               : min_area;
    tiles.max_area[tile] = Reduce<true>(out + 4 * kTileAnchors);
  }
  for (int64_t tile = tiles.num_tiles; tile < tiles.num_padded_tiles; ++tile) {
    SetColumns(tiles.bounds, tile, EmptyBox<T>());
    tiles.min_area[tile] = tiles.max_area[tile] = T(0);
  }
}

SSDOPS_INLINE void StoreIndices(int32_t* to, Mask<float> indices) {
  memcpy(to, &indices, sizeof(indices));
}
SSDOPS_INLINE void StoreIndices(int32_t* to, Mask<double> indices) {
  typedef int32_t Narrow __attribute__((vector_size(kVectorBytes / 2)));
  const Narrow narrow = __builtin_convertvector(indices, Narrow);
  memcpy(to, &narrow, sizeof(narrow));
}

template <typename S>
class ImageMatcher {
 public:
  using T = ComputeType<S>;
  using Index = LaneInteger<T>;
  static constexpr int kStep = kLanes<T>;

  SSDOPS_INLINE ImageMatcher(const AnchorTiles<T>& tiles,
                             const MatchAnchorsOptions& options,
                             const MatchScratch<T>& scratch,
                             int32_t* matched_gt, S* matched_iou)
      : tiles_(tiles),
        scratch_(scratch),
        matched_gt_(matched_gt),
        matched_iou_(matched_iou),
        iou_threshold_(static_cast<T>(options.iou_threshold)),
        negative_threshold_(static_cast<T>(options.negative_threshold)),
        ignore_threshold_(static_cast<T>(options.ignore_threshold)),
        per_anchor_(!options.bipartite_only),
        band_(options.negative_threshold < options.iou_threshold) {}

  SSDOPS_INLINE void Run(const S* gt_boxes, const int32_t* gt_labels,
                         int64_t num_gt) {
    Collect(gt_boxes, gt_labels, num_gt);
    for (int64_t tile = 0; tile < tiles_.num_tiles; ++tile) MatchTile(tile);
    MatchBipartite();
  }

 private:
  // Compact lists: padding and empty boxes, which overlap nothing, cost nothing
  // from here on.
  SSDOPS_INLINE void Collect(const S* gt_boxes, const int32_t* gt_labels,
                             int64_t num_gt) {
    for (int64_t row = 0; row < num_gt; ++row) {
      if (gt_labels[row] == 0) continue;
      const Box<T> box = LoadWideBox(gt_boxes + 4 * row);
      if (!IsValid(box)) continue;
      if (gt_labels[row] < 0) {
        SetColumns(scratch_.regions, num_regions_++, box);
        continue;
      }
      SetColumns(scratch_.gt, num_gt_, box);
      scratch_.gt_area[num_gt_] = Area(box);
      scratch_.gt_row[num_gt_] = static_cast<int32_t>(row);
      ++num_gt_;
    }
    PadColumns(scratch_.gt, num_gt_);
    PadColumns(scratch_.regions, num_regions_);
    for (int64_t i = 0; i < num_gt_ * kTileAnchors; ++i) {
      scratch_.best_iou[i] = kNoOverlap<T>;
      scratch_.best_tile[i] = -1;
    }
  }

  // The result of the second and third step for the anchors of a tile, as if
  // none was matched in the first, and the best anchors of the ground truth.
  SSDOPS_INLINE void MatchTile(int64_t tile) {
    const T* lanes = tiles_.anchors + tile * 5 * kTileAnchors;
    const VecBox<T> bounds = SplatBox(GetColumns(tiles_.bounds, tile));
    int64_t num_meeting = 0;
    for (int64_t g = 0; g < num_gt_; g += kStep) {
      uint32_t bits = Bits(Meets<T>(LoadColumns(scratch_.gt, g), bounds));
      for (; bits != 0; bits &= bits - 1) {
        scratch_.meeting[num_meeting++] =
            static_cast<int32_t>(g) + __builtin_ctz(bits);
      }
    }
    int32_t rows[kTileAnchors];
    S ious[kTileAnchors];
    const uint32_t unusable = tiles_.unusable[tile];
    for (int v = 0; v < kVectorsPerTile<T>; ++v) {
      const VecBox<T> anchors = LoadTile(lanes + v * kStep);
      const Vec<T> areas = Load(lanes + 4 * kTileAnchors + v * kStep);
      Vec<T> best = Splat(kNoOverlap<T>);
      Mask<T> best_row = Mask<T>{} - 1;
      for (int64_t i = 0; i < num_meeting; ++i) {
        const int64_t g = scratch_.meeting[i];
        const Vec<T> iou =
            Quotient<T>(anchors, areas, SplatBox(GetColumns(scratch_.gt, g)),
                        Splat(scratch_.gt_area[g]));
        const Mask<T> better = iou > best;
        best = better ? iou : best;
        best_row = better ? Mask<T>{} + Index{scratch_.gt_row[g]} : best_row;
        T* gt_best = scratch_.best_iou + g * kTileAnchors + v * kStep;
        Index* gt_tile = scratch_.best_tile + g * kTileAnchors + v * kStep;
        const Vec<T> old = Load(gt_best);
        const Mask<T> improved = iou > old;
        Store<T>(gt_best, improved ? iou : old);
        const Mask<T> tiles = improved ? Mask<T>{} + static_cast<Index>(tile)
                                       : LoadMask<T>(gt_tile);
        memcpy(gt_tile, &tiles, sizeof(tiles));
      }
      const Mask<T> any = best_row >= 0;
      StoreNarrow(ious + v * kStep, any ? best : Vec<T>{});
      Mask<T> ignored = {};
      if (band_) ignored |= any & (best >= negative_threshold_);
      if (num_regions_ > 0) ignored |= Covered(anchors, areas, bounds);
      Mask<T> matched = any & (best >= iou_threshold_);
      if (!per_anchor_) matched = Mask<T>{};
      const Mask<T> other =
          ignored ? Mask<T>{} + kIgnored : Mask<T>{} + kNegative;
      StoreIndices(rows + v * kStep, matched ? best_row : other);
    }
    for (uint32_t bits = unusable; bits != 0; bits &= bits - 1) {
      rows[__builtin_ctz(bits)] = kIgnored;
    }
    const int64_t first = tile * kTileAnchors;
    const int64_t left = tiles_.num_anchors - first;
    if (left >= kTileAnchors) {
      memcpy(matched_gt_ + first, rows, sizeof(rows));
      memcpy(matched_iou_ + first, ious, sizeof(ious));
    } else {
      const auto count = static_cast<size_t>(left);
      memcpy(matched_gt_ + first, rows, count * sizeof(int32_t));
      memcpy(matched_iou_ + first, ious, count * sizeof(S));
    }
  }

  SSDOPS_INLINE VecBox<T> LoadTile(const T* lanes) const {
    return {Load(lanes), Load(lanes + kTileAnchors),
            Load(lanes + 2 * kTileAnchors), Load(lanes + 3 * kTileAnchors)};
  }

  // Anchors that lie in one ignore region far enough.
  SSDOPS_INLINE Mask<T> Covered(const VecBox<T>& anchors, Vec<T> areas,
                                const VecBox<T>& bounds) const {
    Mask<T> covered = {};
    for (int64_t r = 0; r < num_regions_; r += kStep) {
      uint32_t bits = Bits(Meets<T>(LoadColumns(scratch_.regions, r), bounds));
      for (; bits != 0; bits &= bits - 1) {
        const int64_t region = r + __builtin_ctz(bits);
        const Vec<T> overlap =
            Overlap<T>(anchors, SplatBox(GetColumns(scratch_.regions, region)));
        covered |= (overlap > Vec<T>{}) &
                   (overlap <= std::numeric_limits<T>::max()) &
                   (overlap / areas >= ignore_threshold_);
      }
    }
    return covered;
  }

  // The greedy step. A heap holds what each ground truth could have when last
  // looked for, which is never worse than what it can have now: if the anchor
  // of the first is still free, no other pair comes before it.
  SSDOPS_INLINE void MatchBipartite() {
    int64_t size = 0;
    for (int64_t g = 0; g < num_gt_; ++g) {
      Candidate<T> candidate = {kNoOverlap<T>, -1, static_cast<int32_t>(g)};
      BestOfLanes(false, &candidate);
      if (candidate.anchor >= 0) scratch_.heap[size++] = candidate;
    }
    if (size == 0) return;
    memset(scratch_.taken, 0,
           static_cast<size_t>(tiles_.num_tiles) * sizeof(uint32_t));
    for (int64_t i = size / 2; i-- > 0;) SiftDown(i, size);
    while (size > 0) {
      Candidate<T>* top = scratch_.heap;
      if (IsTaken(top->anchor)) {
        top->iou = kNoOverlap<T>;
        top->anchor = -1;
        FindFreeAnchor(top);
        if (top->anchor < 0) *top = scratch_.heap[--size];
      } else {
        scratch_.taken[top->anchor / kTileAnchors] |=
            uint32_t{1} << static_cast<uint32_t>(top->anchor % kTileAnchors);
        matched_gt_[top->anchor] = scratch_.gt_row[top->gt];
        matched_iou_[top->anchor] = Narrow<S>(top->iou);
        *top = scratch_.heap[--size];
      }
      SiftDown(0, size);
    }
  }

  // Larger IoU, then lower anchor, then lower ground truth.
  SSDOPS_INLINE static bool Before(const Candidate<T>& a,
                                   const Candidate<T>& b) {
    if (a.iou != b.iou) return a.iou > b.iou;
    if (a.anchor != b.anchor) return a.anchor < b.anchor;
    return a.gt < b.gt;
  }

  SSDOPS_INLINE void SiftDown(int64_t i, int64_t size) {
    Candidate<T>* heap = scratch_.heap;
    if (i >= size) return;
    const Candidate<T> moving = heap[i];
    for (;;) {
      int64_t child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && Before(heap[child + 1], heap[child])) ++child;
      if (!Before(heap[child], moving)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = moving;
  }

  SSDOPS_INLINE bool IsTaken(int32_t anchor) const {
    const uint32_t bits = scratch_.taken[anchor / kTileAnchors];
    return ((bits >> static_cast<uint32_t>(anchor % kTileAnchors)) & 1u) != 0;
  }

  SSDOPS_INLINE static void Improve(T iou, int32_t anchor,
                                    Candidate<T>* candidate) {
    if (iou > candidate->iou ||
        (iou == candidate->iou && anchor < candidate->anchor)) {
      candidate->iou = iou;
      candidate->anchor = anchor;
    }
  }

  // The best among the best per place in the tile: all that there is as long as
  // no anchor is taken, a good one afterwards.
  SSDOPS_INLINE void BestOfLanes(bool only_free,
                                 Candidate<T>* candidate) const {
    const T* iou = scratch_.best_iou + candidate->gt * kTileAnchors;
    const Index* tile = scratch_.best_tile + candidate->gt * kTileAnchors;
    for (int k = 0; k < kTileAnchors; ++k) {
      if (tile[k] < 0) continue;
      const auto anchor = static_cast<int32_t>(tile[k] * kTileAnchors + k);
      if (!only_free || !IsTaken(anchor)) Improve(iou[k], anchor, candidate);
    }
  }

  // The best free anchor: tiles whose bounds allow no IoU as large as the best
  // so far are passed over.
  SSDOPS_INLINE void FindFreeAnchor(Candidate<T>* candidate) const {
    BestOfLanes(true, candidate);
    const VecBox<T> gt = SplatBox(GetColumns(scratch_.gt, candidate->gt));
    const Vec<T> area = Splat(scratch_.gt_area[candidate->gt]);
    for (int64_t t = 0; t < tiles_.num_tiles; t += kStep) {
      const VecBox<T> bounds = LoadColumns(tiles_.bounds, t);
      // No anchor of the tile has a larger intersection or a smaller union. The
      // factor is far beyond all roundings; a NaN passes nothing over.
      const Vec<T> largest =
          Min(Min(Overlap<T>(bounds, gt), area), Load(tiles_.max_area + t));
      const Vec<T> sum = Load(tiles_.min_area + t) + area;
      const Mask<T> hopeless =
          largest * T(1.001) < (sum - largest) * candidate->iou;
      uint32_t bits = Bits(Meets<T>(bounds, gt) & ~hopeless);
      for (; bits != 0; bits &= bits - 1) {
        SearchTile(t + __builtin_ctz(bits), gt, area, candidate);
      }
    }
  }

  SSDOPS_INLINE void SearchTile(int64_t tile, const VecBox<T>& gt, Vec<T> area,
                                Candidate<T>* candidate) const {
    const T* lanes = tiles_.anchors + tile * 5 * kTileAnchors;
    const uint32_t taken = scratch_.taken[tile];
    for (int v = 0; v < kVectorsPerTile<T>; ++v) {
      const T* from = lanes + v * kStep;
      const Vec<T> iou =
          Quotient<T>(LoadTile(from), Load(from + 4 * kTileAnchors), gt, area);
      uint32_t bits = Bits(iou >= candidate->iou) &
                      ~(taken >> static_cast<uint32_t>(v * kStep));
      for (; bits != 0; bits &= bits - 1) {
        const int k = __builtin_ctz(bits);
        T values[kStep];
        Store<T>(values, iou);
        Improve(values[k],
                static_cast<int32_t>(tile * kTileAnchors + v * kStep + k),
                candidate);
      }
    }
  }

  const AnchorTiles<T>& tiles_;
  const MatchScratch<T>& scratch_;
  int32_t* matched_gt_;
  S* matched_iou_;
  const T iou_threshold_, negative_threshold_, ignore_threshold_;
  const bool per_anchor_, band_;
  int64_t num_gt_ = 0, num_regions_ = 0;
};

template <typename S>
void MatchImage(const AnchorTiles<ComputeType<S>>& tiles, const S* gt_boxes,
                const int32_t* gt_labels, int64_t num_gt,
                const MatchAnchorsOptions& options,
                const MatchScratch<ComputeType<S>>& scratch,
                int32_t* matched_gt, S* matched_iou) {
  ImageMatcher<S>(tiles, options, scratch, matched_gt, matched_iou)
      .Run(gt_boxes, gt_labels, num_gt);
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template void FillTiles<S>(const S*, const MatchAnchorsOptions&,           \
                             const AnchorTiles<ComputeType<S>>&);            \
  template void MatchImage<S>(                                               \
      const AnchorTiles<ComputeType<S>>&, const S*, const int32_t*, int64_t, \
      const MatchAnchorsOptions&, const MatchScratch<ComputeType<S>>&,       \
      int32_t*, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
