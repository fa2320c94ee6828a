// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_DETECT_CUDA_H_
#define SSDOPS_DETECT_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/detect.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in detect.h, on a GPU (cuda_status.h); score_limits are in host memory.
// The number of kernels depends on the number of classes. Scores and boxes of
// float64 are equal to those of the CPU up to the error of CUDA's own
// exponential. The workspace has room for every score as a candidate: 8 bytes
// each, or 16 for float64.
template <typename S>
cudaError_t LaunchDetect(const S* logits, const S* offsets, const S* anchors,
                         const double* score_limits, const DetectShape& shape,
                         const DetectOptions& options,
                         const DetectOutput<S>& output, void* workspace,
                         cudaStream_t stream);

template <typename S>
int64_t LaunchDetectWorkspaceBytes(const DetectShape& shape,
                                   const DetectOptions& options);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_DETECT_CUDA_H_
