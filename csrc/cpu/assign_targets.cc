// SPDX-License-Identifier: Apache-2.0
#include "ssdops/assign_targets.h"

#include "anchor_matcher_simd.h"
#include "assign_targets_simd.h"

namespace ssdops {

template <typename S>
void AssignTargets(const S* anchors, const S* gt_boxes,
                   const int32_t* gt_labels, const ComputeType<S>* variances,
                   const MatchAnchorsShape& shape,
                   const MatchAnchorsOptions& options,
                   const TargetOutputs<S>& targets, void* workspace,
                   const ParallelFor& parallel_for) {
  if (shape.batch == 0 || shape.num_anchors == 0) return;
  using T = ComputeType<S>;
  const MatchWorkspace<T> parts(shape, workspace);
  SSDOPS_CALL_VARIANT(FillTiles<S>(anchors, options, parts.tiles));
  // What an image writes stays in the cache between the two steps.
  const int64_t cost = MatchCost(shape, gt_labels) + shape.num_anchors;
  parallel_for(shape.batch, cost, [&](int64_t begin, int64_t end, int worker) {
    const MatchScratch<T> scratch = parts.Scratch(worker);
    for (int64_t image = begin; image < end; ++image) {
      const S* boxes = gt_boxes + 4 * image * shape.num_gt;
      const int32_t* labels = gt_labels + image * shape.num_gt;
      const int64_t first = image * shape.num_anchors;
      int32_t* matched_gt = targets.matched_gt + first;
      SSDOPS_CALL_VARIANT(
          MatchImage<S>(parts.tiles, boxes, labels, shape.num_gt, options,
                        scratch, matched_gt, targets.matched_iou + first));
      SSDOPS_CALL_VARIANT(WriteTargets<S>(
          anchors, boxes, labels, variances, shape.num_anchors, matched_gt,
          targets.classes + first, targets.offsets + 4 * first));
    }
  });
}

template <typename S>
int64_t AssignTargetsWorkspaceBytes(const MatchAnchorsShape& shape,
                                    int num_workers) {
  return MatchWorkspace<ComputeType<S>>(shape, nullptr).Bytes(num_workers);
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void AssignTargets<S>(                                           \
      const S*, const S*, const int32_t*, const ComputeType<S>*,            \
      const MatchAnchorsShape&, const MatchAnchorsOptions&,                 \
      const TargetOutputs<S>&, void*, const ParallelFor&);                  \
  template int64_t AssignTargetsWorkspaceBytes<S>(const MatchAnchorsShape&, \
                                                  int);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
