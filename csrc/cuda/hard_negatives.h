// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_HARD_NEGATIVES_H_
#define SSDOPS_CUDA_HARD_NEGATIVES_H_

// Mining in one image by one block, shared by mine_hard_negatives and
// multibox_loss.

#include <cub/block/block_reduce.cuh>

#include "block_select.h"
#include "ssdops/candidate_key.h"
#include "ssdops/storage.h"

namespace ssdops {

constexpr int kMiningThreads = 1024;

// Positives in the upper half, candidates in the lower one: an image has fewer
// than 2^31 anchors.
using PackedCounts = unsigned long long;

struct MiningStorage {
  typename cub::BlockReduce<PackedCounts, kMiningThreads>::TempStorage reduce;
  SelectStorage select;
  PackedCounts counts;
};

// Larger for a larger loss, then for a lower anchor. A NaN is larger than
// infinity; the two zeros are equal.
template <typename T>
__device__ CandidateKey<T> LossKey(T loss, uint32_t anchor) {
  if (loss == loss) return MakeKey(loss, anchor);
  using Score = typename CandidateKeyOf<T>::Score;
  return (CandidateKey<T>{static_cast<Score>(~Score{0})} << 32u) |
         (0xffffffffu - anchor);
}

// Called by all kMiningThreads threads of a block; ends with a barrier.
template <typename S>
__device__ void MineImage(const S* losses, const int32_t* classes,
                          int64_t num_anchors, double negative_ratio,
                          bool* mined, MiningStorage* storage) {
  using T = ComputeType<S>;
  PackedCounts own = 0;
  for (int64_t i = threadIdx.x; i < num_anchors; i += kMiningThreads) {
    const int32_t c = classes[i];
    own += c > 0 ? PackedCounts{1} << 32u : c == 0 ? 1 : 0;
  }
  own =
      cub::BlockReduce<PackedCounts, kMiningThreads>(storage->reduce).Sum(own);
  if (threadIdx.x == 0) storage->counts = own;
  __syncthreads();
  const auto positives = static_cast<double>(storage->counts >> 32u);
  const auto candidates = static_cast<int64_t>(storage->counts & 0xffffffffu);
  const double product = positives * negative_ratio;
  const int64_t wanted = product < static_cast<double>(candidates)
                             ? static_cast<int64_t>(product)
                             : candidates;
  const auto key_at = [&](int64_t i) {
    return classes[i] == 0 ? LossKey(Widen(losses[i]), static_cast<uint32_t>(i))
                           : CandidateKey<T>{0};
  };
  // Most keys of losses have the same few first digits: all are looked at once
  // per digit anyway.
  CandidateKey<T> cut = 1;
  if (wanted > 0 && wanted < candidates) {
    cut = BlockSelect<CandidateKey<T>>(num_anchors, wanted, key_at,
                                       &storage->select);
  }
  for (int64_t i = threadIdx.x; i < num_anchors; i += kMiningThreads) {
    mined[i] = wanted > 0 && key_at(i) >= cut;
  }
  __syncthreads();
}

}  // namespace ssdops

#endif  // SSDOPS_CUDA_HARD_NEGATIVES_H_
