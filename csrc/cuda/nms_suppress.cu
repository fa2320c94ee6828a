// SPDX-License-Identifier: Apache-2.0
#include "block_select.h"
#include "grouped_nms.h"
#include "ssdops/iou_kinds.h"

namespace ssdops {
namespace {

constexpr int kSuppressThreads = 256;

// The candidates at work.
template <typename T>
struct SuppressStorage {
  SliceStorage<CandidateKey<T>> slice;
  Box<T> boxes[kSlice];
  T areas[kSlice];
  // The largest measure between a candidate and a box kept before it.
  T overlaps[kSlice];
};

template <typename T>
__device__ T Measure(NmsCriterion criterion, const Box<T>& a, T area_a,
                     const Box<T>& b, T area_b) {
  return criterion == NmsCriterion::kDiou
             ? IouOfKind<IouKind::kDiou>(a, area_a, b, area_b)
             : Iou(a, area_a, b, area_b);
}

// The first candidate from `begin` on whose overlap is not above the threshold,
// or `end`. The same in all threads; every warp looks for itself.
template <typename T>
__device__ int FirstLive(const T* overlaps, int begin, int end, T threshold) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  for (int first = begin; first < end; first += kWarpThreads) {
    const int i = first + lane;
    const bool live = i < end && !(overlaps[i] > threshold);
    const unsigned bits = __ballot_sync(kAllLanes, live ? 1 : 0);
    if (bits != 0) return first + __ffs(static_cast<int>(bits)) - 1;
  }
  return end;
}

// A block per group. Candidates are visited in slices. Within one, a candidate
// that is kept is compared with all after it at once, so that there is a
// barrier for each kept one only. With a threshold that shrinks, a candidate is
// judged by the one at its turn, hence its largest overlap is remembered.
template <typename S>
__global__ void __launch_bounds__(kSuppressThreads)
    SuppressKernel(GroupedNms<S> nms) {
  using T = ComputeType<S>;
  using Key = CandidateKey<T>;
  __shared__ SuppressStorage<T> storage;
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t group = blockIdx.x; group < nms.num_all_groups();
       group += gridDim.x) {
    const int64_t image = group / nms.num_groups();
    const Key* keys = nms.keys + group * nms.capacity();
    Key* kept = nms.kept + group * nms.kept_limit;
    Box<T>* kept_boxes = nms.kept_boxes + group * nms.kept_limit;
    const int64_t count = nms.counts[group];
    const auto key_at = [&](int64_t i) { return keys[i]; };
    SliceWalk<Key, decltype(key_at)> walk(count, count, nms.limit(), key_at,
                                          &storage.slice);
    T threshold = nms.iou_threshold;
    int64_t num_kept = 0;
    while (num_kept < nms.kept_limit) {
      const int size = walk.Next();
      if (size == 0) break;
      for (int i = thread; i < size; i += kSuppressThreads) {
        const uint32_t slot = KeySlot<T>(storage.slice.keys[i]);
        const Box<T> box = CandidateBox(nms, image, slot % nms.num_anchors);
        const T area = Area(box);
        T overlap = T(0);
        for (int64_t k = 0; k < num_kept; ++k) {
          const Box<T> other = kept_boxes[k];
          const T u = Measure(nms.criterion, other, Area(other), box, area);
          overlap = u > overlap ? u : overlap;
          if (overlap > threshold) break;
        }
        storage.boxes[i] = box;
        storage.areas[i] = area;
        storage.overlaps[i] = overlap;
      }
      __syncthreads();
      int i = 0;
      while (num_kept < nms.kept_limit) {
        i = FirstLive(storage.overlaps, i, size, threshold);
        if (i == size) break;
        const Box<T> box = storage.boxes[i];
        const T area = storage.areas[i];
        if (thread == 0) {
          kept[num_kept] = storage.slice.keys[i];
          kept_boxes[num_kept] = box;
        }
        ++num_kept;
        if (nms.eta < T(1) && threshold > T(0.5)) threshold *= nms.eta;
        // All have found this one before its followers change.
        __syncthreads();
        for (int j = i + 1 + thread; j < size; j += kSuppressThreads) {
          if (storage.overlaps[j] > threshold) continue;
          const T u = Measure(nms.criterion, box, area, storage.boxes[j],
                              storage.areas[j]);
          if (u > storage.overlaps[j]) storage.overlaps[j] = u;
        }
        __syncthreads();
        ++i;
      }
    }
    if (thread == 0) {
      nms.kept_counts[group] = static_cast<uint32_t>(num_kept);
    }
    __syncthreads();
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchSuppress(const GroupedNms<S>& nms, cudaStream_t stream) {
  return LaunchKernel(SuppressKernel<S>, BlocksFor(nms.num_all_groups(), 1),
                      kSuppressThreads, stream, nms);
}

#define SSDOPS_INSTANTIATE(S) \
  template cudaError_t LaunchSuppress<S>(const GroupedNms<S>&, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
