// SPDX-License-Identifier: Apache-2.0
#include <cub/device/device_radix_sort.cuh>

#include "launch.h"
#include "ssdops/candidate_key.h"
#include "ssdops/nms_cuda.h"
#include "ssdops/storage.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

// Candidates of a slice, one per thread of the block that judges them.
constexpr int kSliceThreads = 1024;
constexpr int kWarps = kSliceThreads / kWarpThreads;

template <typename T>
struct Parts {
  using Key = CandidateKey<T>;

  Parts(int64_t num_boxes, void* workspace) {
    WorkspaceCursor cursor(workspace);
    keys = cursor.Take<Key>(num_boxes);
    sorted = cursor.Take<Key>(num_boxes);
    boxes = cursor.Take<Box<T>>(num_boxes);
    suppressed = cursor.Take<bool>(num_boxes);
    new_boxes = cursor.Take<Box<T>>(kSliceThreads);
    num_new = cursor.Take<int32_t>(1);
    sort_bytes = 0;
    cub::DeviceRadixSort::SortKeysDescending(nullptr, sort_bytes, keys, sorted,
                                             num_boxes);
    sort_storage = cursor.Take<std::byte>(static_cast<int64_t>(sort_bytes));
    bytes = cursor.used();
  }

  Key* keys;          // [num_boxes] 0: no candidate
  Key* sorted;        // [num_boxes]
  Box<T>* boxes;      // [num_boxes] in the order of sorted
  bool* suppressed;   // [num_boxes] likewise
  Box<T>* new_boxes;  // [kSliceThreads] kept ones of the slice
  int32_t* num_new;   // how many
  size_t sort_bytes;
  std::byte* sort_storage;
  int64_t bytes;
};

// Keys, and an empty result.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    KeysKernel(const S* scores, int64_t num_boxes,
               ComputeType<S> score_threshold, Parts<ComputeType<S>> parts,
               int64_t rows, int32_t* indices, int32_t* num_valid) {
  using T = ComputeType<S>;
  for (int64_t i = GlobalThread(); i < num_boxes || i < rows;
       i += GlobalThreads()) {
    if (i < num_boxes) {
      const T score = Widen(scores[i]);
      parts.keys[i] = score > score_threshold
                          ? MakeKey(score, static_cast<uint32_t>(i))
                          : CandidateKey<T>{0};
    }
    if (i < rows) indices[i] = -1;
  }
  if (GlobalThread() == 0) *num_valid = 0;
}

// The boxes in order, their corners too if they may be any.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    BoxesKernel(const S* boxes, int64_t num_boxes, bool any_diagonal,
                Parts<ComputeType<S>> parts) {
  using T = ComputeType<S>;
  for (int64_t i = GlobalThread(); i < num_boxes; i += GlobalThreads()) {
    const CandidateKey<T> key = parts.sorted[i];
    parts.suppressed[i] = key == 0;
    if (key == 0) continue;
    Box<T> box = LoadWideBox(boxes + 4 * int64_t{KeySlot<T>(key)});
    if (any_diagonal) {
      // With a NaN, the two are equal or NaN afterwards: an empty box.
      box = {box.ymax < box.ymin ? box.ymax : box.ymin,
             box.xmax < box.xmin ? box.xmax : box.xmin,
             box.ymin < box.ymax ? box.ymax : box.ymin,
             box.xmin < box.xmax ? box.xmax : box.xmin};
    }
    parts.boxes[i] = box;
  }
}

template <typename T>
struct SliceStorage {
  Box<T> boxes[kSliceThreads];
  // A bit for each candidate that nothing suppresses so far.
  uint32_t live[kWarps];
};

// Judges the slice that begins at `first`; one block. What is kept is compared
// with all after it at once.
template <typename T>
__global__ void __launch_bounds__(kSliceThreads)
    SliceKernel(int64_t first, int64_t num_boxes, T iou_threshold, int64_t rows,
                Parts<T> parts, int32_t* indices, int32_t* num_valid) {
  __shared__ SliceStorage<T> storage;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = thread / kWarpThreads, lane = thread % kWarpThreads;
  const int64_t i = first + thread;
  bool live = i < num_boxes && !parts.suppressed[i];
  Box<T> box = {T(0), T(0), T(0), T(0)};
  if (live) box = parts.boxes[i];
  const T area = Area(box);
  storage.boxes[thread] = box;
  int64_t num_kept = *num_valid;
  int32_t num_new = 0;
  int next = 0;  // candidates before have been judged
  for (;;) {
    const unsigned bits = __ballot_sync(kAllLanes, live ? 1 : 0);
    if (lane == 0) storage.live[warp] = bits;
    __syncthreads();
    // Every warp looks for the first live one: a lane per warp.
    const int word = lane;
    uint32_t left = word < kWarps ? storage.live[word] : 0;
    if (word * kWarpThreads < next) {
      left = next - word * kWarpThreads >= kWarpThreads
                 ? 0
                 : left >> (next % kWarpThreads) << (next % kWarpThreads);
    }
    const unsigned words = __ballot_sync(kAllLanes, left != 0 ? 1 : 0);
    if (words == 0 || num_kept == rows) break;
    const int first_word = __ffs(static_cast<int>(words)) - 1;
    const uint32_t first_bits = __shfl_sync(kAllLanes, left, first_word);
    const int keeper =
        first_word * kWarpThreads + __ffs(static_cast<int>(first_bits)) - 1;
    const Box<T> other = storage.boxes[keeper];
    if (thread == keeper) {
      indices[num_kept] = static_cast<int32_t>(KeySlot<T>(parts.sorted[i]));
      parts.new_boxes[num_new] = box;
    }
    if (live && thread > keeper) {
      live = !(Iou(other, Area(other), box, area) > iou_threshold);
    }
    ++num_kept;
    ++num_new;
    next = keeper + 1;
    // All have read the bits.
    __syncthreads();
  }
  if (thread == 0) {
    *num_valid = static_cast<int32_t>(num_kept);
    *parts.num_new = num_new;
  }
}

// Compares the kept ones of a slice with all candidates from `first` on, which
// come later.
template <typename T>
__global__ void __launch_bounds__(kBlockThreads)
    FilterKernel(int64_t first, int64_t num_boxes, T iou_threshold,
                 Parts<T> parts) {
  const int32_t num_new = *parts.num_new;
  for (int64_t i = first + GlobalThread(); i < num_boxes;
       i += GlobalThreads()) {
    if (parts.suppressed[i]) continue;
    const Box<T> box = parts.boxes[i];
    const T area = Area(box);
    for (int32_t k = 0; k < num_new; ++k) {
      const Box<T> other = parts.new_boxes[k];
      if (!(Iou(other, Area(other), box, area) > iou_threshold)) continue;
      parts.suppressed[i] = true;
      break;
    }
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchNms(const S* boxes, const S* scores, int64_t num_boxes,
                      const NmsOptions& options, int32_t* indices,
                      int32_t* num_valid, void* workspace,
                      cudaStream_t stream) {
  using T = ComputeType<S>;
  Parts<T> parts(num_boxes, workspace);
  const int64_t rows = options.max_output_size;
  const int64_t items = num_boxes > rows ? num_boxes : rows;
  const auto threshold = static_cast<T>(options.iou_threshold);
  cudaError_t status = LaunchKernel(
      KeysKernel<S>, BlocksFor(items > 0 ? items : 1, kBlockThreads),
      kBlockThreads, stream, scores, num_boxes,
      static_cast<T>(options.score_threshold), parts, rows, indices, num_valid);
  if (status != cudaSuccess || num_boxes == 0 || rows == 0) return status;
  status = cub::DeviceRadixSort::SortKeysDescending(
      parts.sort_storage, parts.sort_bytes, parts.keys, parts.sorted, num_boxes,
      0, static_cast<int>(8 * sizeof(CandidateKey<T>)), stream);
  if (status != cudaSuccess) return status;
  status = LaunchKernel(BoxesKernel<S>, BlocksFor(num_boxes, kBlockThreads),
                        kBlockThreads, stream, boxes, num_boxes,
                        options.any_diagonal, parts);
  for (int64_t first = 0; first < num_boxes && status == cudaSuccess;
       first += kSliceThreads) {
    status =
        LaunchKernel(SliceKernel<T>, 1, kSliceThreads, stream, first, num_boxes,
                     threshold, rows, parts, indices, num_valid);
    const int64_t later = first + kSliceThreads;
    if (status != cudaSuccess || later >= num_boxes) break;
    status = LaunchKernel(
        FilterKernel<T>, BlocksFor(num_boxes - later, kBlockThreads),
        kBlockThreads, stream, later, num_boxes, threshold, parts);
  }
  return status;
}

template <typename S>
int64_t LaunchNmsWorkspaceBytes(int64_t num_boxes) {
  return Parts<ComputeType<S>>(num_boxes, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(S)                                              \
  template cudaError_t LaunchNms<S>(const S*, const S*, int64_t,           \
                                    const NmsOptions&, int32_t*, int32_t*, \
                                    void*, cudaStream_t);                  \
  template int64_t LaunchNmsWorkspaceBytes<S>(int64_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
