// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "array_support.h"
#include "bindings.h"
#include "ssdops/batched_nms_cuda.h"

namespace ssdops::python {
namespace {

py::tuple Call(const Array& boxes, const Array& scores,
               const std::string& method, const std::string& criterion,
               double sigma, bool class_agnostic, double score_threshold,
               double iou_threshold, int64_t pre_nms_top_k,
               int64_t max_detections, int64_t background_class,
               const py::object& out, int num_threads, intptr_t stream) {
  if (!HasShape(boxes, {kAny, kAny, 4})) {
    ThrowShape("boxes", "[B, A, 4]", boxes);
  }
  if (!HasShape(scores, {boxes.shape(0), boxes.shape(1), kAny})) {
    ThrowShape("scores", "[B, A, C] of boxes", scores);
  }
  const BatchedNmsShape shape = {boxes.shape(0), boxes.shape(1),
                                 scores.shape(2)};
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const BatchedNmsOptions options = {
      EnumOf<NmsMethod>("method", method, kNmsMethodNames),
      EnumOf<NmsCriterion>("criterion", criterion, kNmsCriterionNames),
      InRange("sigma", sigma, kMinNmsSigma, kMaxNmsSigma, "[1e-6, 1e6]"),
      class_agnostic,
      InRange("score_threshold", score_threshold, -kInfinity, kInfinity,
              "[-inf, inf]"),
      InRange("iou_threshold", iou_threshold, 0, 1, "[0, 1]"),
      pre_nms_top_k,
      max_detections,
      background_class};
  if (pre_nms_top_k == 0 || pre_nms_top_k < -1) {
    throw py::value_error("pre_nms_top_k must be -1 or at least 1, got " +
                          std::to_string(pre_nms_top_k));
  }
  if (max_detections < 1) {
    throw py::value_error("max_detections must be at least 1, got " +
                          std::to_string(max_detections));
  }
  if (background_class < -1) {
    throw py::value_error("background_class must be at least -1, got " +
                          std::to_string(background_class));
  }
  const Place place({&boxes, &scores}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("boxes", boxes, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    const auto box_data = Input<T>("boxes", boxes);
    const auto score_data = Input<T>("scores", scores);
    const py::ssize_t batch = shape.batch, rows = max_detections;
    auto out_boxes =
        Output<T>(place, "boxes", {batch, rows, 4}, OutputElement(out, 0, 5));
    auto out_scores =
        Output<T>(place, "scores", {batch, rows}, OutputElement(out, 1, 5));
    auto out_classes = Output<int32_t>(place, "classes", {batch, rows},
                                       OutputElement(out, 2, 5));
    auto out_count = Output<int32_t>(place, "num_detections", {batch},
                                     OutputElement(out, 3, 5));
    auto out_anchors = Output<int32_t>(place, "anchor_indices", {batch, rows},
                                       OutputElement(out, 4, 5));
    const BatchedNmsOutput<T> output = {
        out_boxes.mutable_data(), out_scores.mutable_data(),
        out_classes.mutable_data(), out_count.mutable_data(),
        out_anchors.mutable_data()};
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(
          LaunchBatchedNmsWorkspaceBytes<T>(shape, options),
          [&](void* workspace, cudaStream_t device_stream) {
            return LaunchBatchedNms(box_data.data(), score_data.data(), shape,
                                    options, output, workspace, device_stream);
          }));
    } else {
      py::gil_scoped_release release;
      const Workspace workspace(BatchedNmsWorkspaceBytes<T>(
          shape, options, parallel_for.num_workers()));
      BatchedNms(box_data.data(), score_data.data(), shape, options, output,
                 workspace.data(), parallel_for);
    }
    return py::make_tuple(out_boxes.object(), out_scores.object(),
                          out_classes.object(), out_count.object(),
                          out_anchors.object());
  });
}

}  // namespace

void BindBatchedNms(py::module_& module) {
  module.def("batched_nms", &Call, py::arg("boxes"), py::arg("scores"),
             py::kw_only(), py::arg("method") = "greedy",
             py::arg("criterion") = "iou", py::arg("sigma") = 0.5,
             py::arg("class_agnostic") = false,
             py::arg("score_threshold") = 0.01, py::arg("iou_threshold") = 0.45,
             py::arg("pre_nms_top_k") = 400, py::arg("max_detections") = 200,
             py::arg("background_class") = 0, py::arg("out") = py::none(),
             py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
