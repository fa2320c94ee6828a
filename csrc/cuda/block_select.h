// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_BLOCK_SELECT_H_
#define SSDOPS_CUDA_BLOCK_SELECT_H_

// The largest of many keys, found by one block: which they are, and in order.
// Keys are unsigned integers and different from each other, but for 0, which
// stands for no key.

#include "launch.h"

namespace ssdops {

constexpr int kSelectDigitBits = 8;
constexpr int kSelectDigits = 1 << kSelectDigitBits;

struct SelectStorage {
  uint32_t histogram[kSelectDigits];
  uint32_t digit;  // of the key that is looked for
  uint32_t above;  // keys with a larger digit
};

// Sets digit and above: the place of the `wanted`-th largest key, wanted >= 1.
// By the first warp.
__device__ inline void FindDigit(uint32_t wanted, SelectStorage* storage) {
  constexpr int kPerLane = kSelectDigits / kWarpThreads;
  const int lane = static_cast<int>(threadIdx.x);
  // Lane 0 has the largest digits.
  const int first = kSelectDigits - 1 - lane * kPerLane;
  uint32_t own = 0;
  for (int k = 0; k < kPerLane; ++k) own += storage->histogram[first - k];
  uint32_t above = own;
  for (int step = 1; step < kWarpThreads; step *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, above, step);
    if (lane >= step) above += other;
  }
  above -= own;
  if (above < wanted && wanted <= above + own) {
    int digit = first;
    while (above + storage->histogram[digit] < wanted) {
      above += storage->histogram[digit];
      --digit;
    }
    storage->digit = static_cast<uint32_t>(digit);
    storage->above = above;
  }
}

// The cut of the `wanted` largest of the keys key_at(i), i < count: exactly
// that many are at least as large as what is returned. There must be as many.
// Called by all threads of a block of at least a warp; the storage is in shared
// memory and may be used again after a barrier.
//
// A digit at a time, from the highest; it ends as soon as a digit divides the
// keys as wanted, mostly long before the last.
template <typename Key, typename KeyAt>
__device__ Key BlockSelect(int64_t count, int64_t wanted, const KeyAt& key_at,
                           SelectStorage* storage) {
  constexpr int kKeyBits = 8 * static_cast<int>(sizeof(Key));
  const int threads = static_cast<int>(blockDim.x);
  const int thread = static_cast<int>(threadIdx.x);
  Key prefix = 0;  // the digits found so far
  auto remaining = static_cast<uint32_t>(wanted);
  for (int shift = kKeyBits - kSelectDigitBits;; shift -= kSelectDigitBits) {
    for (int d = thread; d < kSelectDigits; d += threads) {
      storage->histogram[d] = 0;
    }
    __syncthreads();
    const int higher = shift + kSelectDigitBits;
    for (int64_t i = thread; i < count; i += threads) {
      const Key key = key_at(i);
      if (key == 0) continue;
      if (higher < kKeyBits && (key >> higher) != (prefix >> higher)) continue;
      const auto digit =
          static_cast<uint32_t>(key >> shift) & (kSelectDigits - 1);
      atomicAdd(&storage->histogram[digit], 1u);
    }
    __syncthreads();
    if (thread < kWarpThreads) FindDigit(remaining, storage);
    __syncthreads();
    const uint32_t digit = storage->digit;
    const uint32_t found = storage->histogram[digit];
    remaining -= storage->above;
    prefix |= Key{digit} << shift;
    // Nobody clears the histogram while another thread reads it.
    __syncthreads();
    if (found == remaining || shift == 0) return prefix;
  }
}

// Brings keys in shared memory into descending order; `size` is a power of two.
// Called by all threads of a block; ends with a barrier.
template <typename Key>
__device__ void BlockSortDescending(Key* keys, int size) {
  const int threads = static_cast<int>(blockDim.x);
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += threads) {
        const int low = 2 * i - i % step;
        const int high = low + step;
        const bool descending = (low & run) == 0;
        const Key a = keys[low], b = keys[high];
        if ((a < b) == descending) {
          keys[low] = b;
          keys[high] = a;
        }
      }
    }
  }
  __syncthreads();
}

}  // namespace ssdops

#endif  // SSDOPS_CUDA_BLOCK_SELECT_H_
