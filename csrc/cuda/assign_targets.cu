// SPDX-License-Identifier: Apache-2.0
#include "box_coding.h"
#include "ssdops/assign_targets_cuda.h"
#include "ssdops/match_anchors_cuda.h"

namespace ssdops {
namespace {

// What every anchor shall predict, given its row; a thread per anchor.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    WriteTargetsKernel(const S* anchors, const S* gt_boxes,
                       const int32_t* gt_labels,
                       Variances<ComputeType<S>> variances,
                       MatchAnchorsShape shape, TargetOutputs<S> targets) {
  using T = ComputeType<S>;
  const int64_t count = shape.batch * shape.num_anchors;
  for (int64_t i = GlobalThread(); i < count; i += GlobalThreads()) {
    const int32_t row = targets.matched_gt[i];
    S* offsets = targets.offsets + 4 * i;
    if (row < 0) {
      targets.classes[i] = row == kNegative ? kBackgroundClass : kIgnoredClass;
      StoreBox<S>(Box<T>{T(0), T(0), T(0), T(0)}, offsets);
      continue;
    }
    const int64_t gt = i / shape.num_anchors * shape.num_gt + row;
    targets.classes[i] = gt_labels[gt];
    EncodeBox(LoadWideBox(gt_boxes + 4 * gt),
              LoadWideBox(anchors + 4 * (i % shape.num_anchors)),
              variances.values, offsets);
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchAssignTargets(const S* anchors, const S* gt_boxes,
                                const int32_t* gt_labels,
                                const ComputeType<S>* variances,
                                const MatchAnchorsShape& shape,
                                const MatchAnchorsOptions& options,
                                const TargetOutputs<S>& targets,
                                void* workspace, cudaStream_t stream) {
  const cudaError_t status = LaunchMatchAnchors(
      anchors, gt_boxes, gt_labels, shape, options, targets.matched_gt,
      targets.matched_iou, workspace, stream);
  if (status != cudaSuccess) return status;
  return LaunchKernel(WriteTargetsKernel<S>,
                      BlocksFor(shape.batch * shape.num_anchors, kBlockThreads),
                      kBlockThreads, stream, anchors, gt_boxes, gt_labels,
                      Variances<ComputeType<S>>(variances), shape, targets);
}

template <typename S>
int64_t LaunchAssignTargetsWorkspaceBytes(const MatchAnchorsShape& shape) {
  return LaunchMatchAnchorsWorkspaceBytes<S>(shape);
}

#define SSDOPS_INSTANTIATE(S)                                    \
  template cudaError_t LaunchAssignTargets<S>(                   \
      const S*, const S*, const int32_t*, const ComputeType<S>*, \
      const MatchAnchorsShape&, const MatchAnchorsOptions&,      \
      const TargetOutputs<S>&, void*, cudaStream_t);             \
  template int64_t LaunchAssignTargetsWorkspaceBytes<S>(         \
      const MatchAnchorsShape&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
