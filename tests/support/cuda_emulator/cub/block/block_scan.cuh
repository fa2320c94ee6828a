// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TESTS_CUDA_EMULATOR_CUB_BLOCK_SCAN_CUH_
#define SSDOPS_TESTS_CUDA_EMULATOR_CUB_BLOCK_SCAN_CUH_

// The prefix sums of CUB that ssdops uses; see cuda_runtime.h of this folder.

#include "cub/block/storage.h"

namespace cub {

template <typename T, int kThreads>
class BlockScan {
 public:
  struct TempStorage {
    cuda_emulator::BlockStorage<T, kThreads> block;
  };

  explicit BlockScan(TempStorage& storage) : block_(storage.block) {}

  void ExclusiveSum(T input, T& output) {
    T total;
    ExclusiveSum(input, output, total);
  }
  void ExclusiveSum(T input, T& output, T& total) {
    Scan(input);
    const unsigned thread = threadIdx.x;
    output = thread == 0 ? T(0) : block_.values[thread - 1];
    total = block_.values[kThreads - 1];
    block_.End();
  }
  void InclusiveSum(T input, T& output) {
    T total;
    InclusiveSum(input, output, total);
  }
  void InclusiveSum(T input, T& output, T& total) {
    Scan(input);
    output = block_.values[threadIdx.x];
    total = block_.values[kThreads - 1];
    block_.End();
  }

 private:
  void Scan(T input) {
    block_.Begin(input);
    if (threadIdx.x == 0) {
      for (int i = 1; i < kThreads; ++i) {
        block_.values[i] = block_.values[i - 1] + block_.values[i];
      }
    }
    cuda_emulator::Barrier();
  }

  cuda_emulator::BlockStorage<T, kThreads>& block_;
};

}  // namespace cub

#endif  // SSDOPS_TESTS_CUDA_EMULATOR_CUB_BLOCK_SCAN_CUH_
