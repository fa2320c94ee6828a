// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_MATCH_ANCHORS_CUDA_H_
#define SSDOPS_MATCH_ANCHORS_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/match_anchors.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in match_anchors.h, on a GPU (cuda_status.h).
template <typename S>
cudaError_t LaunchMatchAnchors(const S* anchors, const S* gt_boxes,
                               const int32_t* gt_labels,
                               const MatchAnchorsShape& shape,
                               const MatchAnchorsOptions& options,
                               int32_t* matched_gt, S* matched_iou,
                               void* workspace, cudaStream_t stream);

template <typename S>
int64_t LaunchMatchAnchorsWorkspaceBytes(const MatchAnchorsShape& shape);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_MATCH_ANCHORS_CUDA_H_
