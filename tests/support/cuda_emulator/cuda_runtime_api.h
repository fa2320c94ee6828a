// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_API_H_
#define SSDOPS_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_API_H_

// The part of CUDA's runtime interface that ssdops uses, on the CPU: for tests
// of the CUDA kernels where there is no GPU. The memory of the "GPU" is that of
// the program, filled with a poison and guarded; there is one GPU, and a call
// has ended when it returns.

#include <cstddef>
#include <cstdint>
#include <string>

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
};
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
// As there, an address that no stream has.
#define cudaStreamPerThread (reinterpret_cast<cudaStream_t>(0x2))

enum cudaMemcpyKind {
  cudaMemcpyHostToHost,
  cudaMemcpyHostToDevice,
  cudaMemcpyDeviceToHost,
  cudaMemcpyDeviceToDevice,
  cudaMemcpyDefault,
};
enum cudaMemoryType {
  cudaMemoryTypeUnregistered,
  cudaMemoryTypeHost,
  cudaMemoryTypeDevice,
  cudaMemoryTypeManaged,
};
struct cudaPointerAttributes {
  cudaMemoryType type;
  int device;
  void* devicePointer;
  void* hostPointer;
};

cudaError_t cudaMalloc(void** address, size_t bytes);
// Ends the program if memory around the allocation was written.
cudaError_t cudaFree(void* address);
cudaError_t cudaMallocAsync(void** address, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* address, cudaStream_t stream);
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes,
                       cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes,
                                     const void* address);

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

constexpr unsigned cudaEventDisableTiming = 2;
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);

namespace cuda_emulator {

// The order in which blocks run, and threads between two barriers: "forward",
// "reverse", or a number, the seed of a random order.
void SetOrder(const std::string& order);

// Kernels started so far.
int64_t Launches();

}  // namespace cuda_emulator

#endif  // SSDOPS_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_API_H_
