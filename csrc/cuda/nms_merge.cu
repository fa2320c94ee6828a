// SPDX-License-Identifier: Apache-2.0
#include "block_select.h"
#include "class_rows.h"
#include "grouped_nms.h"

namespace ssdops {
namespace {

constexpr int kMergeThreads = 256;

// Writes a row of the output: what stands at `position` among the kept ones of
// all groups of the image.
template <typename S>
__device__ void WriteRow(const GroupedNms<S>& nms, int64_t image,
                         CandidateKey<ComputeType<S>> key, int64_t position,
                         int64_t row, const BatchedNmsOutput<S>& output) {
  using T = ComputeType<S>;
  const uint32_t slot = KeySlot<T>(key);
  const int64_t class_id = slot / nms.num_anchors;
  const int64_t anchor = slot % nms.num_anchors;
  const int64_t at = image * nms.max_detections + row;
  const int64_t source = image * nms.num_anchors + anchor;
  const int64_t place = image * nms.num_groups() * nms.kept_limit + position;
  output.classes[at] = static_cast<int32_t>(class_id);
  output.anchor_indices[at] = static_cast<int32_t>(anchor);
  S* corners = output.boxes + 4 * at;
  if (nms.moves_boxes) {
    StoreBox<S>(nms.kept_boxes[place], corners);
  } else if (nms.anchors != nullptr) {
    StoreBox<S>(CandidateBox(nms, image, anchor), corners);
  } else {
    for (int k = 0; k < 4; ++k) corners[k] = nms.boxes[4 * source + k];
  }
  if (nms.rescores) {
    output.scores[at] = Narrow<S>(nms.kept_scores[place]);
  } else if (nms.activation == ScoreActivation::kNone) {
    output.scores[at] = nms.scores[source * nms.num_classes + class_id];
  } else {
    output.scores[at] = Narrow<S>(KeyScore<T>(key));
  }
}

// The best of what the groups of an image have kept; a block per image.
template <typename S>
__global__ void __launch_bounds__(kMergeThreads)
    MergeKernel(GroupedNms<S> nms, BatchedNmsOutput<S> output) {
  using T = ComputeType<S>;
  using Key = CandidateKey<T>;
  __shared__ SliceStorage<Key> storage;
  __shared__ unsigned long long total;
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t groups = nms.num_groups();
  for (int64_t image = blockIdx.x; image < nms.batch; image += gridDim.x) {
    const uint32_t* counts = nms.kept_counts + image * groups;
    const Key* kept = nms.kept + image * groups * nms.kept_limit;
    if (thread == 0) total = 0;
    __syncthreads();
    for (int64_t g = thread; g < groups; g += kMergeThreads) {
      atomicAdd(&total, static_cast<unsigned long long>(counts[g]));
    }
    __syncthreads();
    const auto key_at = [&](int64_t i) {
      const int64_t group = i / nms.kept_limit;
      return i % nms.kept_limit < counts[group] ? kept[i] : Key{0};
    };
    SliceWalk<Key, decltype(key_at)> walk(groups * nms.kept_limit,
                                          static_cast<int64_t>(total),
                                          nms.max_detections, key_at, &storage);
    int64_t found = 0;
    for (;;) {
      const int size = walk.Next();
      if (size == 0) break;
      for (int i = thread; i < size; i += kMergeThreads) {
        WriteRow(nms, image, storage.keys[i], storage.positions[i], found + i,
                 output);
      }
      found += size;
    }
    for (int64_t row = found + thread; row < nms.max_detections;
         row += kMergeThreads) {
      const int64_t at = image * nms.max_detections + row;
      StoreBox<S>(Box<T>{T(0), T(0), T(0), T(0)}, output.boxes + 4 * at);
      output.scores[at] = Narrow<S>(T(0));
      output.classes[at] = 0;
      output.anchor_indices[at] = -1;
    }
    if (thread == 0) {
      output.num_detections[image] = static_cast<int32_t>(found);
    }
    __syncthreads();
  }
}

// All scores of the anchor of every row; half a warp per row.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    ProbabilitiesKernel(GroupedNms<S> nms, const int32_t* anchor_indices,
                        S* class_probabilities) {
  using T = ComputeType<S>;
  const RowLanes lanes;
  const int64_t rows = nms.batch * nms.max_detections;
  const int64_t classes = nms.num_classes;
  for (int64_t i = GlobalThread() / kRowLanes; i < rows;
       i += GlobalThreads() / kRowLanes) {
    S* out = class_probabilities + i * classes;
    const int64_t anchor = anchor_indices[i];
    if (anchor < 0) {
      lanes.ForEach(classes, [&](int64_t c) { out[c] = Narrow<S>(T(0)); });
      continue;
    }
    const int64_t image = i / nms.max_detections;
    const S* row = nms.scores + (image * nms.num_anchors + anchor) * classes;
    if (nms.activation != ScoreActivation::kSoftmax) {
      const bool is_sigmoid = nms.activation == ScoreActivation::kSigmoid;
      lanes.ForEach(classes, [&](int64_t c) {
        out[c] = is_sigmoid ? Narrow<S>(Sigmoid(Widen(row[c]))) : row[c];
      });
      continue;
    }
    const T largest = LargestLogit(lanes, row, classes);
    T part = T(0);
    lanes.ForEach(classes, [&](int64_t c) {
      part = part + Exp(Widen(row[c]) - largest);
    });
    const T sum = lanes.Sum(part);
    lanes.ForEach(classes, [&](int64_t c) {
      out[c] = Narrow<S>(Exp(Widen(row[c]) - largest) / sum);
    });
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchMerge(const GroupedNms<S>& nms,
                        const BatchedNmsOutput<S>& output,
                        S* class_probabilities, cudaStream_t stream) {
  const cudaError_t status =
      LaunchKernel(MergeKernel<S>, BlocksFor(nms.batch, 1), kMergeThreads,
                   stream, nms, output);
  if (status != cudaSuccess || class_probabilities == nullptr) return status;
  const int64_t rows = nms.batch * nms.max_detections;
  return LaunchKernel(ProbabilitiesKernel<S>,
                      BlocksFor(rows, kBlockThreads / kRowLanes), kBlockThreads,
                      stream, nms, output.anchor_indices, class_probabilities);
}

#define SSDOPS_INSTANTIATE(S)          \
  template cudaError_t LaunchMerge<S>( \
      const GroupedNms<S>&, const BatchedNmsOutput<S>&, S*, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
