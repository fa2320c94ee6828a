// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_RESCORING_NMS_H_
#define SSDOPS_CPU_RESCORING_NMS_H_

#include "ssdops/batched_nms.h"

namespace ssdops {

// The methods of BatchedNms that change scores or boxes, for one image: boxes,
// scores and output are those of the image, the workspace has
// RescoringNmsWorkspaceBytes<S>(shape, options) bytes.
template <typename S>
void RescoringNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                  const BatchedNmsOptions& options,
                  const BatchedNmsOutput<S>& output, void* workspace);

template <typename S>
int64_t RescoringNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                   const BatchedNmsOptions& options);

}  // namespace ssdops

#endif  // SSDOPS_CPU_RESCORING_NMS_H_
