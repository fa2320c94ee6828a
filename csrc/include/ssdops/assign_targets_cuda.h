// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_ASSIGN_TARGETS_CUDA_H_
#define SSDOPS_ASSIGN_TARGETS_CUDA_H_

#include "ssdops/assign_targets.h"
#include "ssdops/cuda_status.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in assign_targets.h, on a GPU (cuda_status.h); variances are in host
// memory. Offsets of float64 are equal to those of the CPU up to the error of
// CUDA's own logarithm.
template <typename S>
cudaError_t LaunchAssignTargets(const S* anchors, const S* gt_boxes,
                                const int32_t* gt_labels,
                                const ComputeType<S>* variances,
                                const MatchAnchorsShape& shape,
                                const MatchAnchorsOptions& options,
                                const TargetOutputs<S>& targets,
                                void* workspace, cudaStream_t stream);

template <typename S>
int64_t LaunchAssignTargetsWorkspaceBytes(const MatchAnchorsShape& shape);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_ASSIGN_TARGETS_CUDA_H_
