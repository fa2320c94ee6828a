// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "block_select.h"
#include "rescoring_nms.h"
#include "ssdops/iou_kinds.h"

namespace ssdops {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpThreads;

// The measure of how much two boxes overlap, at least 0.
template <typename T>
__device__ T Measure(NmsCriterion criterion, const Box<T>& a, T area_a,
                     const Box<T>& b, T area_b) {
  const T overlap = Intersection(a, b);
  if (!(overlap > T(0))) return T(0);
  const T iou = overlap / ((area_a + area_b) - overlap);
  if (criterion != NmsCriterion::kDiou) return iou;
  const T diou = iou - PairDiouPenalty<T, T>(a, b);
  return diou > T(0) ? diou : T(0);
}

// One group, to the block that works on it.
template <typename S>
struct Group {
  using T = ComputeType<S>;
  using Key = CandidateKey<T>;

  __device__ Group(const RescoringNms<S>& nms, int64_t group)
      : nms(nms), group(group), image(group / nms.groups.num_groups()) {
    const GroupedNms<S>& groups = nms.groups;
    const int64_t limit = groups.limit();
    const int64_t found = groups.counts[group];
    count = found < limit ? found : limit;
    sorted = nms.sorted + group * limit;
    scores = nms.scores + group * limit;
    owners = nms.owners + group * limit;
    kept = groups.kept + group * groups.kept_limit;
    kept_scores = groups.kept_scores + group * groups.kept_limit;
    kept_boxes = groups.kept_boxes + group * groups.kept_limit;
  }

  __device__ int64_t AnchorOf(int64_t i) const {
    return KeySlot<T>(sorted[i]) % nms.groups.num_anchors;
  }
  __device__ int64_t ClassOf(int64_t i) const {
    return KeySlot<T>(sorted[i]) / nms.groups.num_anchors;
  }
  __device__ Box<T> BoxOf(int64_t i) const {
    return CandidateBox(nms.groups, image, AnchorOf(i));
  }
  // As it was given, with the sign of a zero.
  __device__ T ScoreOf(int64_t i) const {
    const int64_t row = image * nms.groups.num_anchors + AnchorOf(i);
    return Widen(nms.groups.scores[row * nms.groups.num_classes + ClassOf(i)]);
  }
  __device__ T MeasureOf(const Box<T>& a, T area_a, const Box<T>& b) const {
    return Measure(nms.groups.criterion, a, area_a, b, Area(b));
  }
  __device__ void Keep(int64_t place, int64_t i, T score) const {
    kept[place] = MakeKey(score, KeySlot<T>(sorted[i]));
    kept_scores[place] = score;
  }

  const RescoringNms<S>& nms;
  int64_t group, image;
  int64_t count;  // candidates that take part
  Key* sorted;
  T* scores;
  int32_t* owners;
  Key* kept;
  T* kept_scores;
  Box<T>* kept_boxes;
};

// The candidates that take part, in order.
template <typename S>
__global__ void __launch_bounds__(kThreads) SortKernel(RescoringNms<S> nms) {
  using Key = CandidateKey<ComputeType<S>>;
  __shared__ SliceStorage<Key> storage;
  for (int64_t g = blockIdx.x; g < nms.groups.num_all_groups();
       g += gridDim.x) {
    const Group<S> group(nms, g);
    const Key* keys = nms.groups.keys + g * nms.groups.capacity();
    const int64_t count = nms.groups.counts[g];
    const auto key_at = [&](int64_t i) { return keys[i]; };
    SliceWalk<Key, decltype(key_at)> walk(count, count, nms.groups.limit(),
                                          key_at, &storage);
    int64_t written = 0;
    for (;;) {
      const int size = walk.Next();
      if (size == 0) break;
      for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) {
        group.sorted[written + i] = storage.keys[i];
      }
      written += size;
    }
    __syncthreads();
  }
}

// A candidate that is looked for: the highest score, then the lowest slot.
template <typename T>
struct Best {
  T score;
  uint32_t slot;
  int32_t index;  // or -1
};

template <typename T>
__device__ Best<T> Better(const Best<T>& a, const Best<T>& b) {
  if (a.index < 0) return b;
  if (b.index < 0) return a;
  if (a.score != b.score) return a.score > b.score ? a : b;
  return a.slot < b.slot ? a : b;
}

template <typename T>
__device__ Best<T> BestOfWarp(Best<T> best) {
  for (int distance = kWarpThreads / 2; distance > 0; distance /= 2) {
    best =
        Better(best, Best<T>{__shfl_xor_sync(kAllLanes, best.score, distance),
                             __shfl_xor_sync(kAllLanes, best.slot, distance),
                             __shfl_xor_sync(kAllLanes, best.index, distance)});
  }
  return best;
}

// Soft-NMS: the best one is taken, then the scores of the others sink.
template <typename S>
__global__ void __launch_bounds__(kThreads) SoftKernel(RescoringNms<S> nms) {
  using T = ComputeType<S>;
  __shared__ Best<T> of_warps[kWarps];
  constexpr T kDropped = -std::numeric_limits<T>::infinity();
  const int thread = static_cast<int>(threadIdx.x);
  const bool is_gaussian = nms.method == NmsMethod::kSoftGaussian;
  // Scores that are not negative do not rise: no more of a group can be among
  // the best of all.
  const int64_t most = nms.score_threshold >= T(0) ? nms.groups.max_detections
                                                   : nms.groups.limit();
  for (int64_t g = blockIdx.x; g < nms.groups.num_all_groups();
       g += gridDim.x) {
    const Group<S> group(nms, g);
    for (int64_t i = thread; i < group.count; i += kThreads) {
      group.scores[i] = group.ScoreOf(i);
    }
    int64_t num_kept = 0;
    Best<T> taken = {T(0), 0, -1};
    Box<T> box = {};
    T area = T(0);
    for (;;) {
      Best<T> best = {T(0), 0, -1};
      // A thread has the same candidates in every step.
      for (int64_t i = thread; i < group.count; i += kThreads) {
        T score = group.scores[i];
        if (!(score > kDropped)) continue;
        if (taken.index >= 0) {
          const T u = group.MeasureOf(box, area, group.BoxOf(i));
          if (i == taken.index) {
            score = kDropped;
          } else if (u > T(0)) {
            const T weight = is_gaussian ? Exp(-((u * u) / nms.sigma))
                             : u > nms.iou_threshold ? T(1) - u
                                                     : T(1);
            score = score * weight;
            if (!(score > nms.score_threshold)) score = kDropped;
          }
          group.scores[i] = score;
        }
        if (score > kDropped) {
          best = Better(best, Best<T>{score, KeySlot<T>(group.sorted[i]),
                                      static_cast<int32_t>(i)});
        }
      }
      best = BestOfWarp(best);
      if (thread % kWarpThreads == 0) of_warps[thread / kWarpThreads] = best;
      __syncthreads();
      taken = of_warps[0];
      for (int w = 1; w < kWarps; ++w) taken = Better(taken, of_warps[w]);
      __syncthreads();
      if (taken.index < 0) break;
      if (thread == 0) group.Keep(num_kept, taken.index, taken.score);
      if (++num_kept == most) break;
      box = group.BoxOf(taken.index);
      area = Area(box);
    }
    if (thread == 0) {
      nms.groups.kept_counts[g] = static_cast<uint32_t>(num_kept);
    }
    __syncthreads();
  }
}

// Matrix NMS: every pair of candidates at once. A score is first what the
// candidate has been covered by most; then it is multiplied.
template <typename S>
__global__ void __launch_bounds__(kThreads) MatrixKernel(RescoringNms<S> nms) {
  using T = ComputeType<S>;
  __shared__ uint32_t num_kept;
  const int thread = static_cast<int>(threadIdx.x);
  const bool is_gaussian = nms.method == NmsMethod::kMatrixGaussian;
  for (int64_t g = blockIdx.x; g < nms.groups.num_all_groups();
       g += gridDim.x) {
    const Group<S> group(nms, g);
    if (thread == 0) num_kept = 0;
    for (int64_t i = thread; i < group.count; i += kThreads) {
      const Box<T> box = group.BoxOf(i);
      const T area = Area(box);
      T largest = T(0);
      for (int64_t j = 0; j < i; ++j) {
        const T u = group.MeasureOf(box, area, group.BoxOf(j));
        largest = u > largest ? u : largest;
      }
      group.scores[i] = is_gaussian ? largest * largest : T(1) - largest;
    }
    __syncthreads();
    for (int64_t i = thread; i < group.count; i += kThreads) {
      const Box<T> box = group.BoxOf(i);
      const T area = Area(box);
      T strongest = is_gaussian ? T(0) : T(1);
      for (int64_t j = 0; j < i; ++j) {
        const T u = group.MeasureOf(box, area, group.BoxOf(j));
        if (!(u > T(0))) continue;
        const T decay = is_gaussian ? group.scores[j] - u * u
                                    : (T(1) - u) / group.scores[j];
        strongest = decay < strongest ? decay : strongest;
      }
      const T weight = is_gaussian ? Exp(strongest / nms.sigma) : strongest;
      const T score = group.ScoreOf(i) * weight;
      // Their order is that of their keys, whoever comes first.
      if (score > nms.score_threshold) {
        group.Keep(atomicAdd(&num_kept, 1u), i, score);
      }
    }
    __syncthreads();
    if (thread == 0) nms.groups.kept_counts[g] = num_kept;
    __syncthreads();
  }
}

// The sums of the votes for a kept box, and where they move it.
template <typename S>
__device__ Box<ComputeType<S>> Moved(const Group<S>& group, int64_t keeper,
                                     int32_t place) {
  using T = ComputeType<S>;
  constexpr T kLargest = std::numeric_limits<T>::max();
  Box<T> box = group.BoxOf(keeper);
  T score = group.ScoreOf(keeper);
  Box<T> sum = {T(0), T(0), T(0), T(0)};
  bool any = false;
  // Voters come after the one that they vote for, in order.
  for (int64_t i = keeper + 1; i < group.count; ++i) {
    if (group.owners[i] != place) continue;
    if (group.ClassOf(i) != group.ClassOf(keeper)) continue;
    const T vote = group.ScoreOf(i);
    if (!(vote > T(0))) continue;
    const Box<T> voter = group.BoxOf(i);
    any = true;
    score = score + vote;
    sum = {sum.ymin + vote * (voter.ymin - box.ymin),
           sum.xmin + vote * (voter.xmin - box.xmin),
           sum.ymax + vote * (voter.ymax - box.ymax),
           sum.xmax + vote * (voter.xmax - box.xmax)};
  }
  const auto is_finite = [](T x) { return x <= kLargest && x >= -kLargest; };
  if (any && is_finite(score) && is_finite(sum.ymin) && is_finite(sum.xmin) &&
      is_finite(sum.ymax) && is_finite(sum.xmax)) {
    box = {box.ymin + sum.ymin / score, box.xmin + sum.xmin / score,
           box.ymax + sum.ymax / score, box.xmax + sum.xmax / score};
  }
  return box;
}

constexpr int32_t kFree = -1;

// Box voting: greedy suppression in which everyone remembers the first kept one
// that is too near. owners is that one's place, or, of a kept one, -2 - place.
template <typename S>
__global__ void __launch_bounds__(kThreads)
    WeightedKernel(RescoringNms<S> nms) {
  using T = ComputeType<S>;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarpThreads;
  for (int64_t g = blockIdx.x; g < nms.groups.num_all_groups();
       g += gridDim.x) {
    const Group<S> group(nms, g);
    for (int64_t i = thread; i < group.count; i += kThreads) {
      group.owners[i] = kFree;
    }
    __syncthreads();
    int32_t num_kept = 0;
    int64_t next = 0;
    while (num_kept < nms.groups.kept_limit) {
      // Every warp looks for the first that is free.
      int64_t keeper = group.count;
      for (int64_t first = next; first < group.count; first += kWarpThreads) {
        const int64_t i = first + lane;
        const bool is_free = i < group.count && group.owners[i] == kFree;
        const unsigned bits = __ballot_sync(kAllLanes, is_free ? 1 : 0);
        if (bits == 0) continue;
        keeper = first + __ffs(static_cast<int>(bits)) - 1;
        break;
      }
      if (keeper == group.count) break;
      const Box<T> box = group.BoxOf(keeper);
      const T area = Area(box);
      // All have found it before it and others change.
      __syncthreads();
      if (thread == 0) {
        group.owners[keeper] = -2 - num_kept;
        group.kept[num_kept] = group.sorted[keeper];
      }
      for (int64_t i = keeper + 1 + thread; i < group.count; i += kThreads) {
        if (group.owners[i] != kFree) continue;
        if (group.MeasureOf(box, area, group.BoxOf(i)) > nms.iou_threshold) {
          group.owners[i] = num_kept;
        }
      }
      ++num_kept;
      next = keeper + 1;
      __syncthreads();
    }
    for (int64_t i = thread; i < group.count; i += kThreads) {
      const int32_t place = -2 - group.owners[i];
      if (place < 0) continue;
      group.kept_boxes[place] = Moved(group, i, place);
    }
    if (thread == 0) {
      nms.groups.kept_counts[g] = static_cast<uint32_t>(num_kept);
    }
    __syncthreads();
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchRescoring(const RescoringNms<S>& nms, cudaStream_t stream) {
  const int64_t blocks = BlocksFor(nms.groups.num_all_groups(), 1);
  const cudaError_t status =
      LaunchKernel(SortKernel<S>, blocks, kThreads, stream, nms);
  if (status != cudaSuccess) return status;
  switch (nms.method) {
    case NmsMethod::kSoftLinear:
    case NmsMethod::kSoftGaussian:
      return LaunchKernel(SoftKernel<S>, blocks, kThreads, stream, nms);
    case NmsMethod::kMatrixLinear:
    case NmsMethod::kMatrixGaussian:
      return LaunchKernel(MatrixKernel<S>, blocks, kThreads, stream, nms);
    default:
      return LaunchKernel(WeightedKernel<S>, blocks, kThreads, stream, nms);
  }
}

#define SSDOPS_INSTANTIATE(S) \
  template cudaError_t LaunchRescoring<S>(const RescoringNms<S>&, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
