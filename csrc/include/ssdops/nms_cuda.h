// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_NMS_CUDA_H_
#define SSDOPS_NMS_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/nms.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As Nms of nms.h, on a GPU (cuda_status.h), but that the number of kernels
// depends on the number of boxes: two for every thousand.
template <typename S>
cudaError_t LaunchNms(const S* boxes, const S* scores, int64_t num_boxes,
                      const NmsOptions& options, int32_t* indices,
                      int32_t* num_valid, void* workspace, cudaStream_t stream);

template <typename S>
int64_t LaunchNmsWorkspaceBytes(int64_t num_boxes);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_NMS_CUDA_H_
