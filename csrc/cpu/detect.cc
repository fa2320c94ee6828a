// SPDX-License-Identifier: Apache-2.0
#include "ssdops/detect.h"

#include "greedy_nms.h"
#include "nms_candidates.h"

namespace ssdops {
namespace {

template <typename S>
GreedyNmsProblem<S> Problem(const S* anchors, const double* score_limits,
                            const DetectShape& shape,
                            const DetectOptions& options) {
  using T = ComputeType<S>;
  GreedyNmsProblem<S> problem = {};
  problem.num_anchors = shape.num_anchors;
  problem.num_classes = shape.num_classes;
  problem.activation = options.activation;
  problem.anchors = anchors;
  for (int k = 0; k < 4; ++k) {
    problem.variances[k] = static_cast<T>(options.variances[k]);
  }
  problem.clip = options.clip;
  problem.criterion = options.criterion;
  problem.iou_threshold = static_cast<T>(options.iou_threshold);
  problem.eta = static_cast<T>(options.eta);
  problem.class_agnostic = options.class_agnostic;
  problem.pre_nms_top_k = options.pre_nms_top_k;
  problem.max_detections = options.max_detections;
  problem.score_limits = score_limits;
  problem.background_class = -1;
  // In a trained network the background, which is not detected, is the largest.
  problem.pivot = 0;
  for (int64_t c = shape.num_classes; c-- > 0 && score_limits != nullptr;) {
    if (score_limits[c] == std::numeric_limits<double>::infinity()) {
      problem.pivot = c;
    }
  }
  return problem;
}

// Nanoseconds for an image: reading the scores, and some hundred candidates.
constexpr int64_t Cost(const DetectShape& shape) {
  return 10000 + shape.num_anchors * (2 + shape.num_classes / 8);
}

}  // namespace

template <typename S>
void Detect(const S* logits, const S* offsets, const S* anchors,
            const double* score_limits, const DetectShape& shape,
            const DetectOptions& options, const DetectOutput<S>& output,
            void* workspace, const ParallelFor& parallel_for) {
  const GreedyNmsProblem<S> problem =
      Problem(anchors, score_limits, shape, options);
  const int64_t slice = GreedyNms<S>(problem, nullptr).workspace_bytes();
  const BatchedNmsOutput<S> rows = {output.boxes, output.scores, output.classes,
                                    output.num_detections,
                                    output.anchor_indices};
  parallel_for(
      shape.batch, Cost(shape), [&](int64_t begin, int64_t end, int worker) {
        GreedyNms<S> nms(problem,
                         static_cast<std::byte*>(workspace) + worker * slice);
        for (int64_t image = begin; image < end; ++image) {
          const int64_t first = image * shape.num_anchors;
          S* probabilities =
              options.class_probabilities
                  ? output.class_probabilities +
                        image * options.max_detections * shape.num_classes
                  : nullptr;
          nms.Run(offsets + 4 * first, logits + first * shape.num_classes,
                  ImageOutput(rows, image, options.max_detections),
                  probabilities);
        }
      });
}

template <typename S>
int64_t DetectWorkspaceBytes(const DetectShape& shape,
                             const DetectOptions& options, int num_workers) {
  const GreedyNmsProblem<S> problem =
      Problem<S>(nullptr, nullptr, shape, options);
  return num_workers * GreedyNms<S>(problem, nullptr).workspace_bytes();
}

#define SSDOPS_INSTANTIATE(S)                                                 \
  template void Detect<S>(const S*, const S*, const S*, const double*,        \
                          const DetectShape&, const DetectOptions&,           \
                          const DetectOutput<S>&, void*, const ParallelFor&); \
  template int64_t DetectWorkspaceBytes<S>(const DetectShape&,                \
                                           const DetectOptions&, int);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
