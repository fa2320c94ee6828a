// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_emulator {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;
constexpr size_t kPageBytes = 4096;
constexpr size_t kMaxThreads = 1024;
constexpr size_t kMaxArgumentBytes = 4096;

enum class State { kReady, kAtBarrier, kAtWarp, kDone };

#if defined(__x86_64__)
// Saves the registers that a function must keep, and goes on with those of
// another stack.
using Context = void*;
extern "C" void cuda_emulator_switch(void** from, void* to);
asm(R"(
.text
.type cuda_emulator_switch, @function
cuda_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_emulator_switch, .-cuda_emulator_switch
)");
void Switch(Context* from, Context* to) { cuda_emulator_switch(from, *to); }
Context NewContext(std::byte* stack, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(stack + kStackBytes);
  // As if `entry` had been called at a stack of the right alignment.
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry);
  for (int k = 3; k <= 8; ++k) top[-k] = nullptr;
  return top - 8;
}
#else
using Context = ucontext_t;
void Switch(Context* from, Context* to) { swapcontext(from, to); }
Context NewContext(std::byte* stack, void (*entry)()) {
  Context context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  return context;
}
#endif

struct Fiber {
  Context context;
  State state;
  bool predicate;  // what it brought to the barrier
};

// Lanes of a warp that meet under one mask.
struct Group {
  unsigned mask;
  unsigned arrived;
  int64_t meetings;
  // Of two meetings: nobody reads those of the last but one any more.
  uint64_t values[2][kWarp];
};

struct Machine {
  std::mutex mutex;
  std::vector<Fiber> fibers;
  std::vector<std::vector<Group>> warps;
  Context scheduler;
  int current;
  int num_threads;
  int num_alive;
  int num_at_barrier;
  int barrier_count;  // of predicates at the last barrier
  int64_t meetings = 0;
  void (*call)(void*);
  void* context;
  int64_t launches = 0;
  std::string order = "forward";
  std::map<uintptr_t, size_t> allocations;
};

Machine& TheMachine() {
  static Machine machine;
  return machine;
}

void FiberMain() {
  Machine& m = TheMachine();
  for (;;) {
    m.call(m.context);
    Fiber& self = m.fibers[static_cast<size_t>(m.current)];
    self.state = State::kDone;
    --m.num_alive;
    Switch(&self.context, &m.scheduler);
  }
}

void Yield(State state) {
  Machine& m = TheMachine();
  Fiber& self = m.fibers[static_cast<size_t>(m.current)];
  self.state = state;
  Switch(&self.context, &m.scheduler);
}

void SetThread(int thread) {
  const auto t = static_cast<unsigned>(thread);
  threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y,
               t / blockDim.x / blockDim.y};
}

void MakeFibers(size_t count) {
  Machine& m = TheMachine();
  while (m.fibers.size() < count) {
    void* memory =
        mmap(nullptr, kStackBytes + kPageBytes, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) Fail("no memory for the stack of a thread");
    // Below the stack nothing may be written.
    mprotect(memory, kPageBytes, PROT_NONE);
    auto* stack = static_cast<std::byte*>(memory) + kPageBytes;
    m.fibers.push_back({NewContext(stack, FiberMain), State::kDone, false});
  }
}

std::vector<int64_t> Order(int64_t count, std::mt19937_64* random) {
  const std::string& order = TheMachine().order;
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), 0);
  if (order == "reverse") {
    std::reverse(indices.begin(), indices.end());
  } else if (order != "forward") {
    std::shuffle(indices.begin(), indices.end(), *random);
  }
  return indices;
}

void ReleaseBarrier() {
  Machine& m = TheMachine();
  m.barrier_count = 0;
  for (int t = 0; t < m.num_threads; ++t) {
    Fiber& fiber = m.fibers[static_cast<size_t>(t)];
    if (fiber.state != State::kAtBarrier) continue;
    m.barrier_count += fiber.predicate ? 1 : 0;
    fiber.state = State::kReady;
  }
  m.num_at_barrier = 0;
  ++m.meetings;
}

void RunBlock(const std::vector<int64_t>& order) {
  Machine& m = TheMachine();
  for (int t = 0; t < m.num_threads; ++t) {
    m.fibers[static_cast<size_t>(t)].state = State::kReady;
  }
  for (auto& groups : m.warps) groups.clear();
  m.num_alive = m.num_threads;
  m.num_at_barrier = 0;
  ++m.meetings;
  while (m.num_alive > 0) {
    bool any = false;
    for (const int64_t thread : order) {
      Fiber& fiber = m.fibers[static_cast<size_t>(thread)];
      if (fiber.state != State::kReady) continue;
      any = true;
      m.current = static_cast<int>(thread);
      SetThread(m.current);
      Switch(&m.scheduler, &fiber.context);
    }
    if (m.num_alive > 0 && m.num_at_barrier == m.num_alive) {
      ReleaseBarrier();
    } else if (!any) {
      Fail(
          "deadlock: some threads wait for others that wait elsewhere or "
          "ended");
    }
  }
}

constexpr unsigned char kPoison = 0xa5, kGuard = 0x5b;
constexpr size_t kGuardBytes = 256;

}  // namespace

void Fail(const char* what) {
  Machine& m = TheMachine();
  fprintf(stderr, "CUDA emulator: %s (block %u %u %u, thread %d of %d)\n", what,
          blockIdx.x, blockIdx.y, blockIdx.z, m.current, m.num_threads);
  abort();
}

cudaError_t Launch(const cudaLaunchConfig_t& config, size_t argument_bytes,
                   void (*call)(void*), void* context) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  const size_t threads = size_t{block.x} * block.y * block.z;
  constexpr unsigned kMaxSide = 65535, kMaxX = 0x7fffffff;
  if (threads == 0 || threads > kMaxThreads || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > kMaxX || grid.y > kMaxSide || grid.z > kMaxSide) {
    return cudaErrorInvalidConfiguration;
  }
  if (argument_bytes > kMaxArgumentBytes) return cudaErrorInvalidValue;
  Machine& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  ++m.launches;
  MakeFibers(threads);
  m.num_threads = static_cast<int>(threads);
  m.warps.resize((threads + kWarp - 1) / kWarp);
  m.call = call;
  m.context = context;
  gridDim = grid;
  blockDim = block;
  std::mt19937_64 random(strtoull(m.order.c_str(), nullptr, 10));
  const std::vector<int64_t> order =
      Order(static_cast<int64_t>(threads), &random);
  const int64_t plane = int64_t{grid.x} * grid.y;
  for (const int64_t index : Order(plane * grid.z, &random)) {
    blockIdx = {static_cast<unsigned>(index % grid.x),
                static_cast<unsigned>(index / grid.x % grid.y),
                static_cast<unsigned>(index / plane)};
    RunBlock(order);
  }
  return cudaSuccess;
}

int Barrier(bool predicate) {
  Machine& m = TheMachine();
  m.fibers[static_cast<size_t>(m.current)].predicate = predicate;
  ++m.num_at_barrier;
  Yield(State::kAtBarrier);
  return m.barrier_count;
}

const uint64_t* Exchange(unsigned mask, uint64_t value) {
  Machine& m = TheMachine();
  const int warp = m.current / kWarp, lane = m.current % kWarp;
  const unsigned own = 1u << lane;
  if ((mask & own) == 0) Fail("a lane is not in its own mask");
  const int lanes = std::min(kWarp, m.num_threads - warp * kWarp);
  if (lanes < kWarp) mask &= (1u << lanes) - 1;
  std::vector<Group>& groups = m.warps[static_cast<size_t>(warp)];
  size_t g = 0;
  while (g < groups.size() && groups[g].mask != mask) ++g;
  if (g == groups.size()) groups.push_back({mask, 0, 0, {}});
  const int64_t meeting = groups[g].meetings;
  groups[g].values[meeting % 2][lane] = value;
  groups[g].arrived |= own;
  if (groups[g].arrived == mask) {
    groups[g].arrived = 0;
    ++groups[g].meetings;
    for (int other = 0; other < kWarp; ++other) {
      if ((mask >> other & 1u) == 0 || other == lane) continue;
      m.fibers[static_cast<size_t>(warp * kWarp + other)].state = State::kReady;
    }
  } else {
    Yield(State::kAtWarp);
  }
  // Other groups may have been added meanwhile.
  return groups[g].values[meeting % 2];
}

int Lane() { return TheMachine().current % kWarp; }

int64_t BlockMeetings() { return TheMachine().meetings; }

void SetOrder(const std::string& order) { TheMachine().order = order; }

int64_t Launches() { return TheMachine().launches; }

}  // namespace cuda_emulator

using cuda_emulator::Fail;
using cuda_emulator::kGuard;
using cuda_emulator::kGuardBytes;
using cuda_emulator::kPoison;
using cuda_emulator::TheMachine;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    default:
      return "cudaErrorInvalidValue";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}

cudaError_t cudaMalloc(void** address, size_t bytes) {
  constexpr size_t kAlignment = 256;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  auto* memory = static_cast<unsigned char*>(
      std::aligned_alloc(kAlignment, rounded + 2 * kGuardBytes));
  if (memory == nullptr) return cudaErrorMemoryAllocation;
  memset(memory, kGuard, kGuardBytes);
  memset(memory + kGuardBytes, kPoison, bytes);
  memset(memory + kGuardBytes + bytes, kGuard, rounded + kGuardBytes - bytes);
  *address = memory + kGuardBytes;
  auto& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  m.allocations[reinterpret_cast<uintptr_t>(*address)] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  if (address == nullptr) return cudaSuccess;
  auto& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto found = m.allocations.find(reinterpret_cast<uintptr_t>(address));
  if (found == m.allocations.end()) return cudaErrorInvalidValue;
  auto* data = static_cast<unsigned char*>(address);
  for (size_t k = 0; k < kGuardBytes; ++k) {
    if (data[found->second + k] != kGuard ||
        data[-1 - static_cast<int64_t>(k)] != kGuard) {
      Fail("memory beside an allocation was written");
    }
  }
  m.allocations.erase(found);
  std::free(data - kGuardBytes);
  return cudaSuccess;
}

cudaError_t cudaMallocAsync(void** address, size_t bytes, cudaStream_t) {
  return cudaMalloc(address, bytes);
}
cudaError_t cudaFreeAsync(void* address, cudaStream_t) {
  return cudaFree(address);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes,
                       cudaMemcpyKind) {
  if (bytes > 0) memcpy(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes,
                                     const void* address) {
  auto& m = TheMachine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const auto place = reinterpret_cast<uintptr_t>(address);
  auto next = m.allocations.upper_bound(place);
  const bool known =
      next != m.allocations.begin() &&
      place < (--next)->first + std::max<size_t>(next->second, 1);
  *attributes = {known ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered, 0,
                 nullptr, nullptr};
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = nullptr;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
