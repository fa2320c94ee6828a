// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TESTS_CUDA_EMULATOR_CUB_BLOCK_REDUCE_CUH_
#define SSDOPS_TESTS_CUDA_EMULATOR_CUB_BLOCK_REDUCE_CUH_

// The reductions of CUB that ssdops uses; see cuda_runtime.h of this folder.

#include "cub/block/storage.h"

namespace cub {

template <typename T, int kThreads>
class BlockReduce {
 public:
  struct TempStorage {
    cuda_emulator::BlockStorage<T, kThreads> block;
  };

  explicit BlockReduce(TempStorage& storage) : block_(storage.block) {}

  T Sum(T input) {
    return Reduce(input, [](const T& a, const T& b) { return a + b; });
  }

  // The result is that of thread 0; other threads get their own input.
  template <typename Operation>
  T Reduce(T input, Operation operation) {
    block_.Begin(input);
    T result = input;
    if (threadIdx.x == 0) {
      for (int i = 1; i < kThreads; ++i) {
        result = operation(result, block_.values[i]);
      }
    }
    cuda_emulator::Barrier();
    block_.End();
    return result;
  }

 private:
  cuda_emulator::BlockStorage<T, kThreads>& block_;
};

}  // namespace cub

#endif  // SSDOPS_TESTS_CUDA_EMULATOR_CUB_BLOCK_REDUCE_CUH_
