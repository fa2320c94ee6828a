// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_LAUNCH_H_
#define SSDOPS_CUDA_LAUNCH_H_

// How kernels are started. The files of this folder keep to what the emulator
// of the tests (tests/support/cuda_emulator) knows too: C++17, kernels started
// by LaunchKernel, shared memory of a size that is known at compile time.

#include <cuda_runtime.h>

#include <cstdint>
#include <utility>

namespace ssdops {

// Threads of a block, if nothing asks for another number.
constexpr int kBlockThreads = 256;
constexpr int kWarpThreads = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Blocks of a grid, which walk over what there is to do in steps of the grid.
// Enough to fill every GPU; few enough that 64-bit sizes are no matter.
constexpr int64_t kMaxBlocks = int64_t{1} << 20;

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int64_t BlocksFor(int64_t items, int64_t items_per_block) {
  const int64_t blocks = CeilDivide(items, items_per_block);
  return blocks < kMaxBlocks ? blocks : kMaxBlocks;
}

// Starts no kernel where there are no blocks.
template <typename... Parameters, typename... Arguments>
cudaError_t LaunchKernel(void (*kernel)(Parameters...), int64_t blocks,
                         int threads, cudaStream_t stream,
                         Arguments&&... arguments) {
  if (blocks == 0) return cudaSuccess;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel,
                            std::forward<Arguments>(arguments)...);
}

// Of all threads of the grid.
__device__ inline int64_t GlobalThread() {
  return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline int64_t GlobalThreads() {
  return int64_t{gridDim.x} * blockDim.x;
}

}  // namespace ssdops

#endif  // SSDOPS_CUDA_LAUNCH_H_
