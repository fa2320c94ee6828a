// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_DECODE_BOXES_CUDA_H_
#define SSDOPS_DECODE_BOXES_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/decode_boxes.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in decode_boxes.h, on a GPU (cuda_status.h); variances are in host memory.
// Those of float64 are equal to the results of the CPU up to the error of
// CUDA's own exponential.
template <typename S>
cudaError_t LaunchDecodeBoxes(const S* offsets, const S* anchors,
                              const ComputeType<S>* variances, int64_t batch,
                              int64_t num_anchors, S* boxes,
                              cudaStream_t stream);

template <typename S>
cudaError_t LaunchDecodeBoxesGrad(const S* grad_boxes, const S* offsets,
                                  const S* anchors,
                                  const ComputeType<S>* variances,
                                  int64_t batch, int64_t num_anchors,
                                  S* grad_offsets, cudaStream_t stream);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_DECODE_BOXES_CUDA_H_
