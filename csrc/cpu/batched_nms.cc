// SPDX-License-Identifier: Apache-2.0
#include "ssdops/batched_nms.h"

#include <cstddef>

#include "greedy_nms.h"
#include "nms_candidates.h"
#include "rescoring_nms.h"

namespace ssdops {
namespace {

template <typename S>
GreedyNmsProblem<S> GreedyProblem(const BatchedNmsShape& shape,
                                  const BatchedNmsOptions& options) {
  using T = ComputeType<S>;
  GreedyNmsProblem<S> problem = {};
  problem.num_anchors = shape.num_anchors;
  problem.num_classes = shape.num_classes;
  problem.activation = ScoreActivation::kNone;
  problem.criterion = options.criterion;
  problem.iou_threshold = static_cast<T>(options.iou_threshold);
  problem.eta = T(1);
  problem.class_agnostic = options.class_agnostic;
  problem.pre_nms_top_k = options.pre_nms_top_k;
  problem.max_detections = options.max_detections;
  problem.score_threshold = options.score_threshold;
  problem.background_class = options.background_class;
  return problem;
}

// Nanoseconds for an image: reading the scores, and some hundred candidates.
int64_t Cost(const BatchedNmsShape& shape, const BatchedNmsOptions& options) {
  const int64_t per_anchor = options.method == NmsMethod::kGreedy ? 1 : 5;
  return 10000 + shape.num_anchors * per_anchor * (1 + shape.num_classes / 8);
}

template <typename S>
int64_t SliceBytes(const BatchedNmsShape& shape,
                   const BatchedNmsOptions& options) {
  return options.method == NmsMethod::kGreedy
             ? GreedyNms<S>(GreedyProblem<S>(shape, options), nullptr)
                   .workspace_bytes()
             : RescoringNmsWorkspaceBytes<S>(shape, options);
}

}  // namespace

template <typename S>
void BatchedNms(const S* boxes, const S* scores, const BatchedNmsShape& shape,
                const BatchedNmsOptions& options,
                const BatchedNmsOutput<S>& output, void* workspace,
                const ParallelFor& parallel_for) {
  const int64_t slice = SliceBytes<S>(shape, options);
  const GreedyNmsProblem<S> problem = GreedyProblem<S>(shape, options);
  parallel_for(
      shape.batch, Cost(shape, options),
      [&](int64_t begin, int64_t end, int worker) {
        void* own = static_cast<std::byte*>(workspace) + worker * slice;
        const bool is_greedy = options.method == NmsMethod::kGreedy;
        GreedyNms<S> greedy(problem, is_greedy ? own : nullptr);
        for (int64_t image = begin; image < end; ++image) {
          const S* image_boxes = boxes + 4 * image * shape.num_anchors;
          const S* image_scores =
              scores + image * shape.num_anchors * shape.num_classes;
          const BatchedNmsOutput<S> rows =
              ImageOutput(output, image, options.max_detections);
          if (is_greedy) {
            greedy.Run(image_boxes, image_scores, rows, nullptr);
          } else {
            RescoringNms(image_boxes, image_scores, shape, options, rows, own);
          }
        }
      });
}

template <typename S>
int64_t BatchedNmsWorkspaceBytes(const BatchedNmsShape& shape,
                                 const BatchedNmsOptions& options,
                                 int num_workers) {
  return num_workers * SliceBytes<S>(shape, options);
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
