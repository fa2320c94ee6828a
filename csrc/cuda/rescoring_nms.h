// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_RESCORING_NMS_H_
#define SSDOPS_CUDA_RESCORING_NMS_H_

#include "grouped_nms.h"

namespace ssdops {

// The methods of BatchedNms that change scores or boxes, in the place of
// LaunchSuppress.
template <typename S>
struct RescoringNms {
  using T = ComputeType<S>;

  // The arrays below and those of the groups; returns the size of the
  // workspace.
  int64_t TakeParts(void* workspace) {
    const int64_t used = groups.TakeParts(workspace);
    WorkspaceCursor cursor(workspace == nullptr
                               ? nullptr
                               : static_cast<std::byte*>(workspace) + used);
    const int64_t candidates = groups.num_all_groups() * groups.limit();
    sorted = cursor.Take<CandidateKey<T>>(candidates);
    scores = cursor.Take<T>(candidates);
    owners = cursor.Take<int32_t>(candidates);
    return used + cursor.used();
  }

  GroupedNms<S> groups;
  NmsMethod method;
  T score_threshold, iou_threshold, sigma;

  CandidateKey<T>* sorted;  // [groups, limit] candidates that take part
  T* scores;                // [groups, limit] as they are now, or a decay
  int32_t* owners;          // [groups, limit] kept one that a candidate is near
};

template <typename S>
cudaError_t LaunchRescoring(const RescoringNms<S>& nms, cudaStream_t stream);

}  // namespace ssdops

#endif  // SSDOPS_CUDA_RESCORING_NMS_H_
