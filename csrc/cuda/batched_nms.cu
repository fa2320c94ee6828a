// SPDX-License-Identifier: Apache-2.0
#include "rescoring_nms.h"
#include "ssdops/batched_nms_cuda.h"

namespace ssdops {
namespace {

template <typename S>
RescoringNms<S> Problem(const S* boxes, const S* scores,
                        const BatchedNmsShape& shape,
                        const BatchedNmsOptions& options) {
  using T = ComputeType<S>;
  GroupedNms<S> nms = {};
  nms.batch = shape.batch;
  nms.num_anchors = shape.num_anchors;
  nms.num_classes = shape.num_classes;
  nms.boxes = boxes;
  nms.scores = scores;
  nms.activation = ScoreActivation::kNone;
  nms.criterion = options.criterion;
  nms.iou_threshold = static_cast<T>(options.iou_threshold);
  nms.eta = T(1);
  nms.class_agnostic = options.class_agnostic;
  nms.top_k = options.pre_nms_top_k;
  nms.max_detections = options.max_detections;
  nms.moves_boxes = options.method == NmsMethod::kWeighted;
  nms.rescores = options.method != NmsMethod::kGreedy && !nms.moves_boxes;
  nms.kept_limit = nms.limit();
  // With new scores any of a group can be among the best of all in the end.
  if (!nms.rescores && options.max_detections < nms.kept_limit) {
    nms.kept_limit = options.max_detections;
  }
  RescoringNms<S> rescoring = {};
  rescoring.groups = nms;
  rescoring.method = options.method;
  rescoring.score_threshold = static_cast<T>(options.score_threshold);
  rescoring.iou_threshold = static_cast<T>(options.iou_threshold);
  rescoring.sigma = static_cast<T>(options.sigma);
  return rescoring;
}

template <typename S>
int64_t TakeParts(const BatchedNmsOptions& options, void* workspace,
                  RescoringNms<S>* nms) {
  return options.method == NmsMethod::kGreedy ? nms->groups.TakeParts(workspace)
                                              : nms->TakeParts(workspace);
}

}  // namespace

template <typename S>
cudaError_t LaunchBatchedNms(const S* boxes, const S* scores,
                             const BatchedNmsShape& shape,
                             const BatchedNmsOptions& options,
                             const BatchedNmsOutput<S>& output, void* workspace,
                             cudaStream_t stream) {
  RescoringNms<S> nms = Problem(boxes, scores, shape, options);
  TakeParts(options, workspace, &nms);
  const ScoreLimits limits = {nullptr, options.score_threshold,
                              options.background_class};
  cudaError_t status = LaunchCollect(nms.groups, limits, stream);
  if (status != cudaSuccess) return status;
  status = options.method == NmsMethod::kGreedy
               ? LaunchSuppress(nms.groups, stream)
               : LaunchRescoring(nms, stream);
  if (status != cudaSuccess) return status;
  return LaunchMerge<S>(nms.groups, output, nullptr, stream);
}

template <typename S>
int64_t LaunchBatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                       const BatchedNmsOptions& options) {
  RescoringNms<S> nms = Problem<S>(nullptr, nullptr, shape, options);
  return TakeParts(options, nullptr, &nms);
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template cudaError_t LaunchBatchedNms<S>(                                 \
      const S*, const S*, const BatchedNmsShape&, const BatchedNmsOptions&, \
      const BatchedNmsOutput<S>&, void*, cudaStream_t);                     \
  template int64_t LaunchBatchedNmsWorkspaceBytes<S>(                       \
      const BatchedNmsShape&, const BatchedNmsOptions&);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
