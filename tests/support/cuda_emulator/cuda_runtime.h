// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_H_
#define SSDOPS_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_H_

// What CUDA kernels need, for kernels compiled as C++. Every thread of a block
// is a fiber on one thread of the CPU; blocks run one after another, so that a
// static variable serves as shared memory. Barriers must be reached by all
// threads that have not ended; a deadlock ends the program.

#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1)
      : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

namespace cuda_emulator {

constexpr int kWarp = 32;

cudaError_t Launch(const cudaLaunchConfig_t& config, size_t argument_bytes,
                   void (*call)(void*), void* context);

// Waits for all threads of the block; the number of those whose predicate
// holds.
int Barrier(bool predicate = false);

// Waits for the lanes of the mask; what each of them has given.
const uint64_t* Exchange(unsigned mask, uint64_t value);

int Lane();

// How often all threads of the block have met so far.
int64_t BlockMeetings();

[[noreturn]] void Fail(const char* what);

template <typename T>
uint64_t ToBits(T value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "as in CUDA");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <typename T>
T FromBits(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof(T));
  return value;
}

// What lane `source` gives. A lane outside the mask gives nothing that could be
// relied on.
template <typename T>
T FromLane(unsigned mask, T value, int source) {
  const uint64_t* values = Exchange(mask, ToBits(value));
  if ((mask >> source & 1u) == 0) return FromBits<T>(0xa5a5a5a5a5a5a5a5u);
  return FromBits<T>(values[source]);
}

template <typename T, typename Operation>
T Atomic(T* address, const Operation& operation) {
  const T old = *address;
  *address = operation(old);
  return old;
}

}  // namespace cuda_emulator

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config,
                               void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "arguments are copied byte by byte");
  const std::tuple<Parameters...> copies(std::forward<Arguments>(arguments)...);
  auto body = [&] { std::apply(kernel, copies); };
  return cuda_emulator::Launch(
      *config, (sizeof(Parameters) + ... + 0),
      [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
}

inline void __syncthreads() { cuda_emulator::Barrier(); }
inline int __syncthreads_or(int x) { return cuda_emulator::Barrier(x != 0); }
inline int __syncthreads_count(int x) { return cuda_emulator::Barrier(x != 0); }
inline int __syncthreads_and(int x) {
  return cuda_emulator::Barrier(x == 0) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_emulator::Exchange(mask, 0);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source,
              int width = cuda_emulator::kWarp) {
  const int first = cuda_emulator::Lane() & ~(width - 1);
  return cuda_emulator::FromLane(mask, value, first + (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int other,
                  int width = cuda_emulator::kWarp) {
  const int lane = cuda_emulator::Lane(), source = lane ^ other;
  const bool inside = source < (lane & ~(width - 1)) + width;
  return cuda_emulator::FromLane(mask, value, inside ? source : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned step,
                   int width = cuda_emulator::kWarp) {
  const int lane = cuda_emulator::Lane(), place = lane & (width - 1);
  const bool inside = place + static_cast<int>(step) < width;
  return cuda_emulator::FromLane(mask, value,
                                 inside ? lane + static_cast<int>(step) : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned step,
                 int width = cuda_emulator::kWarp) {
  const int lane = cuda_emulator::Lane(), place = lane & (width - 1);
  const bool inside = place >= static_cast<int>(step);
  return cuda_emulator::FromLane(mask, value,
                                 inside ? lane - static_cast<int>(step) : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const uint64_t* values = cuda_emulator::Exchange(mask, predicate != 0);
  unsigned bits = 0;
  for (int lane = 0; lane < cuda_emulator::kWarp; ++lane) {
    if ((mask >> lane & 1u) != 0 && values[lane] != 0) bits |= 1u << lane;
  }
  return bits;
}
inline int __any_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  const uint64_t own = cuda_emulator::ToBits(value);
  const uint64_t* values = cuda_emulator::Exchange(mask, own);
  unsigned bits = 0;
  for (int lane = 0; lane < cuda_emulator::kWarp; ++lane) {
    if ((mask >> lane & 1u) != 0 && values[lane] == own) bits |= 1u << lane;
  }
  return bits;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x));
}
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
  return reversed;
}
template <typename T>
T __ldg(const T* address) {
  return *address;
}

template <typename T>
T atomicAdd(T* address, std::common_type_t<T> value) {
  return cuda_emulator::Atomic(
      address, [&](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicMax(T* address, std::common_type_t<T> value) {
  return cuda_emulator::Atomic(
      address, [&](T old) { return old > value ? old : value; });
}
template <typename T>
T atomicMin(T* address, std::common_type_t<T> value) {
  return cuda_emulator::Atomic(
      address, [&](T old) { return old < value ? old : value; });
}
template <typename T>
T atomicOr(T* address, std::common_type_t<T> value) {
  return cuda_emulator::Atomic(
      address, [&](T old) { return static_cast<T>(old | value); });
}
template <typename T>
T atomicAnd(T* address, std::common_type_t<T> value) {
  return cuda_emulator::Atomic(
      address, [&](T old) { return static_cast<T>(old & value); });
}
template <typename T>
T atomicExch(T* address, std::common_type_t<T> value) {
  return cuda_emulator::Atomic(address, [&](T) { return value; });
}
template <typename T>
T atomicCAS(T* address, std::common_type_t<T> compare,
            std::common_type_t<T> value) {
  return cuda_emulator::Atomic(
      address, [&](T old) { return old == compare ? value : old; });
}
inline void __threadfence() {}
inline void __threadfence_block() {}

#endif  // SSDOPS_TESTS_CUDA_EMULATOR_CUDA_RUNTIME_H_
