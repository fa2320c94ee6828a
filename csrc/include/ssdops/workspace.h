// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_WORKSPACE_H_
#define SSDOPS_WORKSPACE_H_

#include <cstddef>
#include <cstdint>

namespace ssdops {

// Every part of a workspace, and every worker's slice, begins on a cache line.
constexpr int64_t kWorkspaceAlignment = 64;

constexpr int64_t AlignedBytes(int64_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment *
         kWorkspaceAlignment;
}

// Hands out the parts of a workspace in order. With a null base it only adds up
// sizes, so the size function and the kernel walk the same code.
class WorkspaceCursor {
 public:
  explicit WorkspaceCursor(void* base) : base_(static_cast<std::byte*>(base)) {}

  template <typename T>
  T* Take(int64_t count) {
    T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += AlignedBytes(count * static_cast<int64_t>(sizeof(T)));
    return part;
  }

  int64_t used() const { return used_; }

 private:
  std::byte* base_;
  int64_t used_ = 0;
};

}  // namespace ssdops

#endif  // SSDOPS_WORKSPACE_H_
