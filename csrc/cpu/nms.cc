// SPDX-License-Identifier: Apache-2.0
#include "ssdops/nms.h"

#include <algorithm>

#include "single_class_nms.h"

namespace ssdops {

template <typename S>
void Nms(const S* boxes, const S* scores, int64_t num_boxes,
         const NmsOptions& options, int32_t* indices, int32_t* num_valid,
         void* workspace) {
  using T = ComputeType<S>;
  const NmsScratch<T> scratch(num_boxes, options, workspace);
  SingleClassNms<S> nms({boxes, 4, options.any_diagonal}, num_boxes, options,
                        indices, scratch);
  const int64_t count = SSDOPS_CALL_VARIANT(
      NmsCandidates<S>(scores, num_boxes,
                       static_cast<T>(options.score_threshold), scratch.items));
  nms.VisitBest(scratch.items, count);
  const int64_t found = nms.num_kept();
  std::fill(indices + found, indices + options.max_output_size, -1);
  *num_valid = static_cast<int32_t>(found);
}

template <typename S>
int64_t NmsWorkspaceBytes(int64_t num_boxes, const NmsOptions& options) {
  return NmsScratch<ComputeType<S>>(num_boxes, options, nullptr).bytes;
}

#define SSDOPS_INSTANTIATE(S)                                          \
  template void Nms<S>(const S*, const S*, int64_t, const NmsOptions&, \
                       int32_t*, int32_t*, void*);                     \
  template int64_t NmsWorkspaceBytes<S>(int64_t, const NmsOptions&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
