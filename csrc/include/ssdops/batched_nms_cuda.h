// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BATCHED_NMS_CUDA_H_
#define SSDOPS_BATCHED_NMS_CUDA_H_

#include "ssdops/batched_nms.h"
#include "ssdops/cuda_status.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in batched_nms.h, on a GPU (cuda_status.h). The number of kernels depends
// on the number of classes. Gaussian methods in float64 are equal to those of
// the CPU up to the error of CUDA's own exponential. The workspace has room for
// every score as a candidate: 8 bytes each, or 16 for float64, and more for the
// methods that change scores or boxes.
template <typename S>
cudaError_t LaunchBatchedNms(const S* boxes, const S* scores,
                             const BatchedNmsShape& shape,
                             const BatchedNmsOptions& options,
                             const BatchedNmsOutput<S>& output, void* workspace,
                             cudaStream_t stream);

template <typename S>
int64_t LaunchBatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                       const BatchedNmsOptions& options);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_BATCHED_NMS_CUDA_H_
