// SPDX-License-Identifier: Apache-2.0
#include "ssdops/batched_nms.h"

#include "greedy_nms.h"

namespace ssdops {
namespace {

template <typename S>
GreedyNmsProblem<S> Problem(const BatchedNmsShape& shape,
                            const BatchedNmsOptions& options) {
  using T = ComputeType<S>;
  GreedyNmsProblem<S> problem = {};
  problem.num_anchors = shape.num_anchors;
  problem.num_classes = shape.num_classes;
  problem.activation = ScoreActivation::kNone;
  problem.criterion = NmsCriterion::kIou;
  problem.iou_threshold = static_cast<T>(options.iou_threshold);
  problem.eta = T(1);
  problem.pre_nms_top_k = options.pre_nms_top_k;
  problem.max_detections = options.max_detections;
  problem.score_threshold = options.score_threshold;
  problem.background_class = options.background_class;
  return problem;
}

// Nanoseconds for an image: reading the scores, and some hundred candidates.
constexpr int64_t Cost(const BatchedNmsShape& shape) {
  return 10000 + shape.num_anchors * (1 + shape.num_classes / 8);
}

}  // namespace

template <typename S>
void BatchedNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                const BatchedNmsOptions& options,
                const BatchedNmsOutput<S>& output, void* workspace,
                const ParallelFor& parallel_for) {
  const GreedyNmsProblem<S> problem = Problem<S>(shape, options);
  const int64_t slice = GreedyNms<S>(problem, nullptr).workspace_bytes();
  const int64_t rows = options.max_detections;
  parallel_for(
      shape.batch, Cost(shape), [&](int64_t begin, int64_t end, int worker) {
        GreedyNms<S> nms(problem,
                         static_cast<std::byte*>(workspace) + worker * slice);
        for (int64_t image = begin; image < end; ++image) {
          const int64_t first = image * shape.num_anchors;
          nms.Run(
              boxes + 4 * first, scores + first * shape.num_classes,
              {output.boxes + 4 * image * rows, output.scores + image * rows,
               output.classes + image * rows, output.num_detections + image,
               output.anchor_indices + image * rows, nullptr});
        }
      });
}

template <typename S>
int64_t BatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                 const BatchedNmsOptions& options,
                                 int num_workers) {
  return num_workers *
         GreedyNms<S>(Problem<S>(shape, options), nullptr).workspace_bytes();
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void BatchedNms<S>(                                              \
      const S*, const S*, const BatchedNmsShape&, const BatchedNmsOptions&, \
      const BatchedNmsOutput<S>&, void*, const ParallelFor&);               \
  template int64_t BatchedNmsWorkspaceBytes<S>(const BatchedNmsShape&,      \
                                               const BatchedNmsOptions&, int);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
