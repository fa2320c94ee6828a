// SPDX-License-Identifier: Apache-2.0
#include "ssdops/match_anchors.h"

#include "anchor_matcher_simd.h"

namespace ssdops {

template <typename S>
void MatchAnchors(const S* anchors, const S* gt_boxes, const int32_t* gt_labels,
                  const MatchAnchorsShape& shape,
                  const MatchAnchorsOptions& options, int32_t* matched_gt,
                  S* matched_iou, void* workspace,
                  const ParallelFor& parallel_for) {
  if (shape.batch == 0 || shape.num_anchors == 0) return;
  using T = ComputeType<S>;
  const MatchWorkspace<T> parts(shape, workspace);
  SSDOPS_CALL_VARIANT(FillTiles<S>(anchors, options, parts.tiles));
  parallel_for(shape.batch, MatchCost(shape, gt_labels),
               [&](int64_t begin, int64_t end, int worker) {
                 const MatchScratch<T> scratch = parts.Scratch(worker);
                 for (int64_t image = begin; image < end; ++image) {
                   SSDOPS_CALL_VARIANT(MatchImage<S>(
                       parts.tiles, gt_boxes + 4 * image * shape.num_gt,
                       gt_labels + image * shape.num_gt, shape.num_gt, options,
                       scratch, matched_gt + image * shape.num_anchors,
                       matched_iou + image * shape.num_anchors));
                 }
               });
}

template <typename S>
int64_t MatchAnchorsWorkspaceBytes(const MatchAnchorsShape& shape,
                                   int num_workers) {
  return MatchWorkspace<ComputeType<S>>(shape, nullptr).Bytes(num_workers);
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void MatchAnchors<S>(                                            \
      const S*, const S*, const int32_t*, const MatchAnchorsShape&,         \
      const MatchAnchorsOptions&, int32_t*, S*, void*, const ParallelFor&); \
  template int64_t MatchAnchorsWorkspaceBytes<S>(const MatchAnchorsShape&, int);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
