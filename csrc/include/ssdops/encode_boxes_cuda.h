// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_ENCODE_BOXES_CUDA_H_
#define SSDOPS_ENCODE_BOXES_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/encode_boxes.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in encode_boxes.h, on a GPU (cuda_status.h); variances are in host memory.
// Those of float64 are equal to the results of the CPU up to the error of
// CUDA's own logarithm.
template <typename S>
cudaError_t LaunchEncodeBoxes(const S* boxes, const S* anchors,
                              const ComputeType<S>* variances, int64_t batch,
                              int64_t num_anchors, S* offsets,
                              cudaStream_t stream);

template <typename S>
cudaError_t LaunchEncodeBoxesGrad(const S* grad_offsets, const S* boxes,
                                  const S* anchors,
                                  const ComputeType<S>* variances,
                                  int64_t batch, int64_t num_anchors,
                                  S* grad_boxes, cudaStream_t stream);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_ENCODE_BOXES_CUDA_H_
