// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TESTS_CUDA_EMULATOR_CUB_STORAGE_H_
#define SSDOPS_TESTS_CUDA_EMULATOR_CUB_STORAGE_H_

#include "cuda_runtime.h"

namespace cuda_emulator {

// Shared memory of an operation of a whole block. It may be used again after a
// barrier only: what is missing one ends the program.
template <typename T, int kThreads>
struct BlockStorage {
  void Begin(T value) {
    if (blockDim.x != kThreads) Fail("the block has another size");
    if (meetings == BlockMeetings()) {
      Fail("temporary storage is used again without a barrier");
    }
    values[threadIdx.x] = value;
    Barrier();
  }
  void End() { meetings = BlockMeetings(); }

  T values[kThreads];
  int64_t meetings;  // when it was used last
};

}  // namespace cuda_emulator

#endif  // SSDOPS_TESTS_CUDA_EMULATOR_CUB_STORAGE_H_
