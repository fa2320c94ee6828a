// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "grouped_nms.h"
#include "ssdops/detect_cuda.h"

namespace ssdops {
namespace {

template <typename S>
GroupedNms<S> Problem(const S* logits, const S* offsets, const S* anchors,
                      const double* score_limits, const DetectShape& shape,
                      const DetectOptions& options) {
  using T = ComputeType<S>;
  GroupedNms<S> nms = {};
  nms.batch = shape.batch;
  nms.num_anchors = shape.num_anchors;
  nms.num_classes = shape.num_classes;
  nms.boxes = offsets;
  nms.scores = logits;
  nms.anchors = anchors;
  for (int k = 0; k < 4; ++k) {
    nms.variances[k] = static_cast<T>(options.variances[k]);
  }
  nms.clip = options.clip;
  nms.activation = options.activation;
  // In a trained network the background, which is not detected, is the largest.
  for (int64_t c = shape.num_classes; c-- > 0 && score_limits != nullptr;) {
    if (score_limits[c] == std::numeric_limits<double>::infinity()) {
      nms.pivot = c;
    }
  }
  nms.criterion = options.criterion;
  nms.iou_threshold = static_cast<T>(options.iou_threshold);
  nms.eta = static_cast<T>(options.eta);
  nms.class_agnostic = options.class_agnostic;
  nms.top_k = options.pre_nms_top_k;
  nms.max_detections = options.max_detections;
  nms.kept_limit = nms.limit() < options.max_detections
                       ? nms.limit()
                       : options.max_detections;
  return nms;
}

}  // namespace

template <typename S>
cudaError_t LaunchDetect(const S* logits, const S* offsets, const S* anchors,
                         const double* score_limits, const DetectShape& shape,
                         const DetectOptions& options,
                         const DetectOutput<S>& output, void* workspace,
                         cudaStream_t stream) {
  GroupedNms<S> nms =
      Problem(logits, offsets, anchors, score_limits, shape, options);
  nms.TakeParts(workspace);
  const ScoreLimits limits = {score_limits, 0, -1};
  cudaError_t status = LaunchCollect(nms, limits, stream);
  if (status == cudaSuccess) status = LaunchSuppress(nms, stream);
  if (status != cudaSuccess) return status;
  const BatchedNmsOutput<S> rows = {output.boxes, output.scores, output.classes,
                                    output.num_detections,
                                    output.anchor_indices};
  return LaunchMerge(
      nms, rows,
      options.class_probabilities ? output.class_probabilities : nullptr,
      stream);
}

template <typename S>
int64_t LaunchDetectWorkspaceBytes(const DetectShape& shape,
                                   const DetectOptions& options) {
  return Problem<S>(nullptr, nullptr, nullptr, nullptr, shape, options)
      .TakeParts(nullptr);
}

#define SSDOPS_INSTANTIATE(S)                                             \
  template cudaError_t LaunchDetect<S>(                                   \
      const S*, const S*, const S*, const double*, const DetectShape&,    \
      const DetectOptions&, const DetectOutput<S>&, void*, cudaStream_t); \
  template int64_t LaunchDetectWorkspaceBytes<S>(const DetectShape&,      \
                                                 const DetectOptions&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
