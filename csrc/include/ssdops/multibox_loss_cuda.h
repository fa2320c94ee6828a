// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_MULTIBOX_LOSS_CUDA_H_
#define SSDOPS_MULTIBOX_LOSS_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/multibox_loss.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in multibox_loss.h, on a GPU (cuda_status.h), except:
//   - What is mined, and the gradient given its inputs, have the bits of the
//     CPU, but for the error of CUDA's own exp, log and atan in float64. The
//     losses of the anchors are summed up, in double, in another order, which
//     depends on the shape alone.
//   - Nobody waits for the result, so that a target class that does not exist
//     is no error: all three losses are NaN then, and so is the gradient of the
//     logits of that anchor.
template <typename S>
cudaError_t LaunchMultiboxLoss(const MultiboxLossInput<S>& input,
                               const MultiboxLossShape& shape,
                               const MultiboxLossOptions& options,
                               const MultiboxLossOutput<ComputeType<S>>& output,
                               void* workspace, cudaStream_t stream);

template <typename S>
int64_t LaunchMultiboxLossWorkspaceBytes(const MultiboxLossShape& shape);

// grad_losses [3] and num_positives [] are on the GPU.
template <typename S>
cudaError_t LaunchMultiboxLossGrad(const MultiboxLossInput<S>& input,
                                   const MultiboxLossShape& shape,
                                   const MultiboxLossOptions& options,
                                   const ComputeType<S>* grad_losses,
                                   const ComputeType<S>* num_positives,
                                   const bool* mined, S* grad_logits,
                                   S* grad_offsets, cudaStream_t stream);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_MULTIBOX_LOSS_CUDA_H_
