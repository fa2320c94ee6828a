// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TESTS_CUDA_EMULATOR_CUB_DEVICE_RADIX_SORT_CUH_
#define SSDOPS_TESTS_CUDA_EMULATOR_CUB_DEVICE_RADIX_SORT_CUH_

// The sort of CUB that ssdops uses; see cuda_runtime.h of this folder.

#include <algorithm>
#include <functional>

#include "cuda_runtime.h"

namespace cub {

struct DeviceRadixSort {
  template <typename Key, typename Count>
  static cudaError_t SortKeysDescending(void* storage, size_t& bytes,
                                        const Key* in, Key* out, Count count,
                                        int begin_bit = 0,
                                        int end_bit = 8 * sizeof(Key),
                                        cudaStream_t = nullptr) {
    if (storage == nullptr) {
      bytes = 1;
      return cudaSuccess;
    }
    if (begin_bit != 0 || end_bit != 8 * static_cast<int>(sizeof(Key))) {
      return cudaErrorInvalidValue;
    }
    std::copy(in, in + count, out);
    std::sort(out, out + count, std::greater<Key>());
    return cudaSuccess;
  }
};

}  // namespace cub

#endif  // SSDOPS_TESTS_CUDA_EMULATOR_CUB_DEVICE_RADIX_SORT_CUH_
