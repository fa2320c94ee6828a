// SPDX-License-Identifier: Apache-2.0
#include <cub/block/block_scan.cuh>

#include "launch.h"
#include "ssdops/match_anchors_cuda.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

// Anchors of a tile, one per thread, and rows of ground truth that are in
// shared memory at a time.
constexpr int kTile = kBlockThreads;
constexpr int kWarps = kTile / kWarpThreads;

// Overlaps up to this count as none.
template <typename T>
constexpr T kNoOverlap = T(1e-6);

// An anchor that a row could have, or -1.
template <typename T>
struct Candidate {
  T iou;
  int32_t anchor;
};

// The options as the kernels compare them.
template <typename T>
struct Limits {
  explicit Limits(const MatchAnchorsOptions& options)
      : iou(static_cast<T>(options.iou_threshold)),
        negative(static_cast<T>(options.negative_threshold)),
        ignore(static_cast<T>(options.ignore_threshold)),
        per_anchor(!options.bipartite_only),
        band(options.negative_threshold < options.iou_threshold),
        inside_only(options.ignore_cross_boundary) {}
  T iou, negative, ignore;
  bool per_anchor, band, inside_only;
};

template <typename T>
struct Parts {
  Parts(const MatchAnchorsShape& shape, void* workspace)
      : num_tiles(CeilDivide(shape.num_anchors, kTile)) {
    WorkspaceCursor cursor(workspace);
    of_tiles =
        cursor.Take<Candidate<T>>(shape.batch * num_tiles * shape.num_gt);
    candidates = cursor.Take<Candidate<T>>(shape.batch * shape.num_gt);
    num_words = CeilDivide(shape.num_anchors, 32);
    taken = cursor.Take<uint32_t>(shape.batch * num_words);
    bytes = cursor.used();
  }

  int64_t num_tiles, num_words, bytes;
  Candidate<T>* of_tiles;    // [batch, num_tiles, num_gt] best of every tile
  Candidate<T>* candidates;  // [batch, num_gt]
  uint32_t* taken;           // [batch, num_words] a bit per anchor
};

// Larger IoU, then lower anchor; -1 is no anchor.
template <typename T>
__device__ bool IsBetter(const Candidate<T>& a, const Candidate<T>& b) {
  if (a.anchor < 0 || b.anchor < 0) return a.anchor >= 0;
  return a.iou > b.iou || (a.iou == b.iou && a.anchor < b.anchor);
}

// The best of the candidates of the lanes, in every lane.
template <typename T>
__device__ Candidate<T> BestOfWarp(Candidate<T> best) {
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    const Candidate<T> other = {
        __shfl_xor_sync(kAllLanes, best.iou, distance),
        __shfl_xor_sync(kAllLanes, best.anchor, distance)};
    if (IsBetter(other, best)) best = other;
  }
  return best;
}

template <typename T>
__device__ bool IsInside(const Box<T>& box) {
  return box.ymin >= T(0) && box.xmin >= T(0) && box.ymax >= T(0) &&
         box.xmax >= T(0) && box.ymin <= T(1) && box.xmin <= T(1) &&
         box.ymax <= T(1) && box.xmax <= T(1);
}

// Rows of ground truth in shared memory, in their order, without padding and
// empty boxes, which overlap nothing.
template <typename T>
struct GtTile {
  Box<T> boxes[kTile];
  T areas[kTile];
  int32_t rows[kTile];
  bool is_region[kTile];
};

// Fills the tile from row `first` on; returns the number of rows in it. Called
// by all threads; ends with a barrier.
template <typename S, typename T = ComputeType<S>>
__device__ int LoadGt(const S* gt_boxes, const int32_t* gt_labels,
                      int64_t num_gt, int64_t first, GtTile<T>* tile) {
  using Scan = cub::BlockScan<int, kTile>;
  __shared__ typename Scan::TempStorage storage;
  const int64_t row = first + threadIdx.x;
  const int32_t label = row < num_gt ? gt_labels[row] : 0;
  Box<T> box = {};
  if (label != 0) box = LoadWideBox(gt_boxes + 4 * row);
  const bool counts = label != 0 && IsValid(box);
  int place = 0, count = 0;
  Scan(storage).ExclusiveSum(counts ? 1 : 0, place, count);
  if (counts) {
    tile->boxes[place] = box;
    tile->areas[place] = Area(box);
    tile->rows[place] = static_cast<int32_t>(row);
    tile->is_region[place] = label < 0;
  }
  __syncthreads();
  return count;
}

// What an anchor becomes if none is matched in the first step, and the best
// anchor of the tile for every row. A block per tile of an image.
template <typename S>
__global__ void __launch_bounds__(kTile)
    MatchTilesKernel(const S* anchors, const S* gt_boxes,
                     const int32_t* gt_labels, MatchAnchorsShape shape,
                     Limits<ComputeType<S>> limits, Parts<ComputeType<S>> parts,
                     int32_t* matched_gt, S* matched_iou) {
  using T = ComputeType<S>;
  __shared__ GtTile<T> gt;
  // Of the rows in shared memory, the best anchor of each warp.
  __shared__ Candidate<T> of_warps[kWarps][kTile];
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int64_t count = shape.batch * parts.num_tiles;
  for (int64_t block = blockIdx.x; block < count; block += gridDim.x) {
    const int64_t image = block / parts.num_tiles;
    const int64_t anchor = block % parts.num_tiles * kTile + threadIdx.x;
    const bool exists = anchor < shape.num_anchors;
    Box<T> box = {};
    if (exists) box = LoadWideBox(anchors + 4 * anchor);
    const bool usable = !limits.inside_only || IsInside(box);
    if (!usable) box = {};
    const T area = Area(box);
    const S* boxes = gt_boxes + 4 * image * shape.num_gt;
    const int32_t* labels = gt_labels + image * shape.num_gt;
    Candidate<T>* best_of_tile = parts.of_tiles + block * shape.num_gt;
    T best = kNoOverlap<T>;
    int32_t best_row = -1;
    bool covered = false;
    for (int64_t first = 0; first < shape.num_gt; first += kTile) {
      const int rows = LoadGt(boxes, labels, shape.num_gt, first, &gt);
      for (int g = 0; g < rows; ++g) {
        const T overlap = Intersection(box, gt.boxes[g]);
        if (gt.is_region[g]) {
          covered |= overlap > T(0) && overlap / area >= limits.ignore;
          continue;
        }
        const T iou =
            overlap > T(0) ? overlap / ((area + gt.areas[g]) - overlap) : T(0);
        if (iou > best) {
          best = iou;
          best_row = gt.rows[g];
        }
        const bool overlaps = iou > kNoOverlap<T>;
        Candidate<T> candidate = {iou, static_cast<int32_t>(anchor)};
        if (!overlaps) candidate.anchor = -1;
        // Most rows are far from most anchors.
        if (__any_sync(kAllLanes, overlaps)) candidate = BestOfWarp(candidate);
        if (lane == 0) of_warps[warp][g] = candidate;
      }
      __syncthreads();
      for (int g = static_cast<int>(threadIdx.x); g < rows; g += kTile) {
        if (gt.is_region[g]) continue;
        Candidate<T> winner = of_warps[0][g];
        for (int w = 1; w < kWarps; ++w) {
          if (IsBetter(of_warps[w][g], winner)) winner = of_warps[w][g];
        }
        best_of_tile[gt.rows[g]] = winner;
      }
      // The next rows come to the same place.
      __syncthreads();
    }
    if (!exists) continue;
    const bool any = best_row >= 0;
    const bool matched = any && limits.per_anchor && best >= limits.iou;
    const bool ignored =
        covered || (limits.band && any && best >= limits.negative);
    const int64_t place = image * shape.num_anchors + anchor;
    matched_gt[place] = !usable   ? kIgnored
                        : matched ? best_row
                        : ignored ? kIgnored
                                  : kNegative;
    matched_iou[place] = Narrow<S>(any ? best : T(0));
  }
}

// The anchor that the row of the image could have at most, of those free.
template <typename T>
struct BipartiteStep {
  int32_t row;  // for which a free anchor is to be found; -1: no more
  Candidate<T> of_warps[kWarps];
};

// Among the rows of an image the one whose pair comes first: the best
// candidate, then the lowest row. By one warp, the result in every lane; -1 if
// there is none.
template <typename T>
__device__ int32_t FirstRow(const Candidate<T>* candidates, int64_t num_gt) {
  Candidate<T> best = {T(0), -1};
  int32_t best_row = -1;
  for (int64_t row = threadIdx.x % kWarpThreads; row < num_gt;
       row += kWarpThreads) {
    // Of equal candidates the first is kept.
    if (IsBetter(candidates[row], best)) {
      best = candidates[row];
      best_row = static_cast<int32_t>(row);
    }
  }
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    const Candidate<T> other = {
        __shfl_xor_sync(kAllLanes, best.iou, distance),
        __shfl_xor_sync(kAllLanes, best.anchor, distance)};
    const int32_t other_row = __shfl_xor_sync(kAllLanes, best_row, distance);
    const bool same = other.anchor == best.anchor && other.anchor >= 0 &&
                      other.iou == best.iou;
    if (same ? other_row < best_row : IsBetter(other, best)) {
      best = other;
      best_row = other_row;
    }
  }
  return best_row;
}

// The greedy step, a block per image. A candidate is what a row could have when
// last looked for, which is never worse than what it can have now: if the
// anchor of the first is still free, no other pair comes before it.
template <typename S>
__global__ void __launch_bounds__(kTile)
    MatchBipartiteKernel(const S* anchors, const S* gt_boxes,
                         const int32_t* gt_labels, MatchAnchorsShape shape,
                         Limits<ComputeType<S>> limits,
                         Parts<ComputeType<S>> parts, int32_t* matched_gt,
                         S* matched_iou) {
  using T = ComputeType<S>;
  __shared__ BipartiteStep<T> step;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpThreads;
  for (int64_t image = blockIdx.x; image < shape.batch; image += gridDim.x) {
    const S* boxes = gt_boxes + 4 * image * shape.num_gt;
    const int32_t* labels = gt_labels + image * shape.num_gt;
    Candidate<T>* candidates = parts.candidates + image * shape.num_gt;
    uint32_t* taken = parts.taken + image * parts.num_words;
    const Candidate<T>* of_tiles =
        parts.of_tiles + image * parts.num_tiles * shape.num_gt;
    for (int64_t word = thread; word < parts.num_words; word += kTile) {
      taken[word] = 0;
    }
    for (int64_t row = thread; row < shape.num_gt; row += kTile) {
      Candidate<T> best = {T(0), -1};
      if (labels[row] > 0 && IsValid(LoadWideBox(boxes + 4 * row))) {
        for (int64_t tile = 0; tile < parts.num_tiles; ++tile) {
          const Candidate<T> other = of_tiles[tile * shape.num_gt + row];
          if (IsBetter(other, best)) best = other;
        }
      }
      candidates[row] = best;
    }
    __syncthreads();
    for (;;) {
      if (warp == 0) {
        int32_t row;
        for (;;) {
          row = FirstRow(candidates, shape.num_gt);
          if (row < 0) break;
          const Candidate<T> best = candidates[row];
          const uint32_t bit = 1u << (best.anchor % 32);
          const bool is_free = (taken[best.anchor / 32] & bit) == 0;
          __syncwarp();
          if (!is_free) break;
          if (thread == 0) {
            taken[best.anchor / 32] |= bit;
            const int64_t place = image * shape.num_anchors + best.anchor;
            matched_gt[place] = row;
            matched_iou[place] = Narrow<S>(best.iou);
            candidates[row].anchor = -1;
          }
          __syncwarp();
        }
        if (thread == 0) step.row = row;
      }
      __syncthreads();
      const int32_t row = step.row;
      if (row < 0) break;
      const Box<T> gt = LoadWideBox(boxes + 4 * int64_t{row});
      const T gt_area = Area(gt);
      Candidate<T> best = {kNoOverlap<T>, -1};
      for (int64_t anchor = thread; anchor < shape.num_anchors;
           anchor += kTile) {
        if ((taken[anchor / 32] >> (anchor % 32) & 1u) != 0) continue;
        const Box<T> box = LoadWideBox(anchors + 4 * anchor);
        if (limits.inside_only && !IsInside(box)) continue;
        const T iou = Iou(box, Area(box), gt, gt_area);
        if (iou > best.iou) best = {iou, static_cast<int32_t>(anchor)};
      }
      best = BestOfWarp(best);
      if (thread % kWarpThreads == 0) step.of_warps[warp] = best;
      __syncthreads();
      if (thread == 0) {
        for (int w = 1; w < kWarps; ++w) {
          if (IsBetter(step.of_warps[w], best)) best = step.of_warps[w];
        }
        candidates[row] = best;
      }
      __syncthreads();
    }
    // The next image begins when all have read the last row.
    __syncthreads();
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchMatchAnchors(const S* anchors, const S* gt_boxes,
                               const int32_t* gt_labels,
                               const MatchAnchorsShape& shape,
                               const MatchAnchorsOptions& options,
                               int32_t* matched_gt, S* matched_iou,
                               void* workspace, cudaStream_t stream) {
  using T = ComputeType<S>;
  if (shape.num_anchors == 0) return cudaSuccess;
  const Parts<T> parts(shape, workspace);
  const Limits<T> limits(options);
  const cudaError_t status = LaunchKernel(
      MatchTilesKernel<S>, BlocksFor(shape.batch * parts.num_tiles, 1), kTile,
      stream, anchors, gt_boxes, gt_labels, shape, limits, parts, matched_gt,
      matched_iou);
  if (status != cudaSuccess || shape.num_gt == 0) return status;
  return LaunchKernel(MatchBipartiteKernel<S>, BlocksFor(shape.batch, 1), kTile,
                      stream, anchors, gt_boxes, gt_labels, shape, limits,
                      parts, matched_gt, matched_iou);
}

template <typename S>
int64_t LaunchMatchAnchorsWorkspaceBytes(const MatchAnchorsShape& shape) {
  return Parts<ComputeType<S>>(shape, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(S)                                         \
  template cudaError_t LaunchMatchAnchors<S>(                         \
      const S*, const S*, const int32_t*, const MatchAnchorsShape&,   \
      const MatchAnchorsOptions&, int32_t*, S*, void*, cudaStream_t); \
  template int64_t LaunchMatchAnchorsWorkspaceBytes<S>(               \
      const MatchAnchorsShape&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
