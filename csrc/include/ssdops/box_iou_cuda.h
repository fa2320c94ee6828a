// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BOX_IOU_CUDA_H_
#define SSDOPS_BOX_IOU_CUDA_H_

#include "ssdops/box_iou.h"
#include "ssdops/cuda_status.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in box_iou.h, on a GPU (cuda_status.h). kCiou in float64 is equal to the
// result of the CPU up to the error of CUDA's own arctangent.
template <typename S>
cudaError_t LaunchBoxIou(const S* boxes_a, const S* boxes_b,
                         const BoxIouShape& shape, IouKind kind, S* iou,
                         cudaStream_t stream);

template <typename S>
cudaError_t LaunchBoxIouAligned(const S* boxes_a, const S* boxes_b,
                                int64_t count, IouKind kind, S* iou,
                                cudaStream_t stream);

template <typename S>
cudaError_t LaunchBoxIouGrad(const S* grad_iou, const S* boxes_a,
                             const S* boxes_b, const BoxIouShape& shape,
                             IouKind kind, S* grad_boxes_a, S* grad_boxes_b,
                             cudaStream_t stream);

template <typename S>
cudaError_t LaunchBoxIouAlignedGrad(const S* grad_iou, const S* boxes_a,
                                    const S* boxes_b, int64_t count,
                                    IouKind kind, S* grad_boxes_a,
                                    S* grad_boxes_b, cudaStream_t stream);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_BOX_IOU_CUDA_H_
