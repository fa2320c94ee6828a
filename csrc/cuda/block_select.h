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

// Brings keys in shared memory into descending order, and the number beside
// each; `size` is a power of two. Called by all threads of a block; begins and
// ends with a barrier.
template <typename Key>
__device__ void BlockSortDescending(Key* keys, uint32_t* numbers, int size) {
  const int threads = static_cast<int>(blockDim.x);
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += threads) {
        const int low = 2 * i - i % step;
        const int high = low + step;
        const bool descending = (low & run) == 0;
        const Key a = keys[low], b = keys[high];
        if ((a < b) != descending) continue;
        keys[low] = b;
        keys[high] = a;
        const uint32_t number = numbers[low];
        numbers[low] = numbers[high];
        numbers[high] = number;
      }
    }
  }
  __syncthreads();
}

// The least power of two that is at least `count`.
__device__ inline int PowerOfTwoFrom(int count) {
  int size = 1;
  while (size < count) size *= 2;
  return size;
}

// Keys that are visited in descending order, a slice at a time.
constexpr int kSlice = 512;

template <typename Key>
struct SliceStorage {
  SelectStorage select;
  Key keys[kSlice];            // of the slice, in order
  uint32_t positions[kSlice];  // and where they are
  uint32_t count;
};

// Walks over the largest of the keys key_at(i), i < count, in slices. All
// members are called by all threads of a block; `storage` is in shared memory.
template <typename Key, typename KeyAt>
class SliceWalk {
 public:
  // There are `available` keys other than 0, of which the `wanted` largest are
  // visited.
  __device__ SliceWalk(int64_t count, int64_t available, int64_t wanted,
                       const KeyAt& key_at, SliceStorage<Key>* storage)
      : count_(count), key_at_(key_at), storage_(storage) {
    left_ = wanted < available ? wanted : available;
    if (left_ > 0 && left_ < available) {
      floor_ = BlockSelect<Key>(count, left_, key_at, &storage->select);
    }
  }

  // The number of keys in the next slice, which are then in the storage; 0 at
  // the end. Begins and ends with a barrier.
  __device__ int Next() {
    if (left_ == 0) return 0;
    const int size = static_cast<int>(left_ < kSlice ? left_ : kSlice);
    Key cut = floor_;
    if (left_ > kSlice) {
      const Key below = below_;
      const auto key_below = [&](int64_t i) {
        const Key key = key_at_(i);
        return key < below ? key : Key{0};
      };
      cut = BlockSelect<Key>(count_, kSlice, key_below, &storage_->select);
    }
    __syncthreads();
    if (threadIdx.x == 0) storage_->count = 0;
    const int padded = PowerOfTwoFrom(size);
    for (int i = size + static_cast<int>(threadIdx.x); i < padded;
         i += static_cast<int>(blockDim.x)) {
      storage_->keys[i] = 0;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count_; i += blockDim.x) {
      const Key key = key_at_(i);
      if (key < cut || key >= below_ || key == 0) continue;
      const uint32_t place = atomicAdd(&storage_->count, 1u);
      storage_->keys[place] = key;
      storage_->positions[place] = static_cast<uint32_t>(i);
    }
    BlockSortDescending(storage_->keys, storage_->positions, padded);
    below_ = cut;
    left_ -= size;
    return size;
  }

 private:
  int64_t count_;
  KeyAt key_at_;
  SliceStorage<Key>* storage_;
  int64_t left_ = 0;
  Key floor_ = 1;                          // keys below are not visited
  Key below_ = static_cast<Key>(~Key{0});  // those from here on have been
};

}  // namespace ssdops

#endif  // SSDOPS_CUDA_BLOCK_SELECT_H_
