// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_BOX_CODING_H_
#define SSDOPS_CUDA_BOX_CODING_H_

// What encoding and decoding share: one thread per row, which reads all of it
// before it writes, because the result may be the same memory.

#include "launch.h"
#include "ssdops/box_coding.h"

namespace ssdops {

// The argument of a kernel.
template <typename T>
struct Variances {
  explicit Variances(const T* host)
      : values{host[0], host[1], host[2], host[3]} {}
  T values[4];
};

template <typename S>
__device__ void CopyRow(const S* from, S* to) {
  for (int k = 0; k < 4; ++k) to[k] = from[k];
}

}  // namespace ssdops

#endif  // SSDOPS_CUDA_BOX_CODING_H_
