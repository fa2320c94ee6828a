// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_CLASS_ROWS_H_
#define SSDOPS_CUDA_CLASS_ROWS_H_

// Rows of class logits, each by half a warp: the contracts divide their sums by
// the number of the class modulo 16, so that a lane has one part of the sum.

#include "launch.h"
#include "ssdops/storage.h"

namespace ssdops {

constexpr int kRowLanes = 16;

class RowLanes {
 public:
  __device__ RowLanes()
      : lane_(static_cast<int>(threadIdx.x) % kRowLanes),
        mask_(static_cast<int>(threadIdx.x) % kWarpThreads < kRowLanes
                  ? 0xffffu
                  : 0xffff0000u) {}

  __device__ int lane() const { return lane_; }

  // Calls body(j) for the elements j of a row that are this lane's.
  template <typename Body>
  __device__ void ForEach(int64_t count, const Body& body) const {
    for (int64_t j = lane_; j < count; j += kRowLanes) body(j);
  }

  // The sum of the lanes' parts: those at a distance of 8, then 4, 2 and 1.
  template <typename T>
  __device__ T Sum(T part) const {
    for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
      part = part + __shfl_xor_sync(mask_, part, distance);
    }
    return part;
  }

  // Of numbers; no lane may have a NaN.
  template <typename T>
  __device__ T Largest(T own) const {
    for (int distance = kRowLanes / 2; distance > 0; distance /= 2) {
      const T other = __shfl_xor_sync(mask_, own, distance);
      own = other > own ? other : own;
    }
    return own;
  }

  __device__ bool Any(bool own) const {
    return __any_sync(mask_, own ? 1 : 0) != 0;
  }

 private:
  int lane_;
  unsigned mask_;
};

// The largest logit of a row, a NaN left out.
template <typename S>
__device__ ComputeType<S> LargestLogit(const RowLanes& lanes, const S* row,
                                       int64_t count) {
  using T = ComputeType<S>;
  T largest = -std::numeric_limits<T>::infinity();
  lanes.ForEach(count, [&](int64_t j) {
    const T x = Widen(row[j]);
    largest = x > largest ? x : largest;
  });
  return lanes.Largest(largest);
}

}  // namespace ssdops

#endif  // SSDOPS_CUDA_CLASS_ROWS_H_
