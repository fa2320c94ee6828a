// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <limits>

#include "bind_box_coding.h"
#include "bindings.h"
#include "ssdops/detect_cuda.h"

namespace ssdops::python {
namespace {

int64_t AtLeastOne(const char* name, int64_t value, bool or_all) {
  if (value >= 1 || (or_all && value == -1)) return value;
  throw py::value_error(std::string(name) + " must be " +
                        (or_all ? "-1 or " : "") + "at least 1, got " +
                        std::to_string(value));
}

py::tuple Call(const Array& logits, const Array& offsets, const Array& anchors,
               const std::vector<double>& score_limits,
               const std::string& score_activation, const Variances& variances,
               bool clip, const std::string& criterion, double iou_threshold,
               double eta, bool class_agnostic, int64_t pre_nms_top_k,
               int64_t max_detections, bool return_class_probabilities,
               const py::object& out, int num_threads, intptr_t stream) {
  if (!HasShape(logits, {kAny, kAny, kAny})) {
    ThrowShape("logits", "[B, A, C]", logits);
  }
  const DetectShape shape = {logits.shape(0), logits.shape(1), logits.shape(2)};
  if (!HasShape(offsets, {shape.batch, shape.num_anchors, 4})) {
    ThrowShape("offsets", "[B, A, 4] of logits", offsets);
  }
  CheckBoxCoding("offsets", offsets, anchors, variances);
  CheckCandidates(shape.num_anchors, shape.num_classes);
  if (static_cast<int64_t>(score_limits.size()) != shape.num_classes) {
    throw py::value_error(
        "score_limits must have " + std::to_string(shape.num_classes) +
        " numbers, one per class, got " + std::to_string(score_limits.size()));
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double limit : score_limits) {
    InRange("score_limits", limit, -kInfinity, kInfinity, "[-inf, inf]");
  }
  DetectOptions options = {};
  options.activation = EnumOf<ScoreActivation>(
      "score_activation", score_activation, kScoreActivationNames);
  std::copy(variances.begin(), variances.end(), options.variances);
  options.clip = clip;
  options.criterion =
      EnumOf<NmsCriterion>("criterion", criterion, kNmsCriterionNames);
  options.iou_threshold =
      InRange("iou_threshold", iou_threshold, 0, 1, "[0, 1]");
  options.eta = InRange("eta", eta, 0, 1, "[0, 1]");
  options.class_agnostic = class_agnostic;
  options.pre_nms_top_k = AtLeastOne("pre_nms_top_k", pre_nms_top_k, true);
  options.max_detections = AtLeastOne("max_detections", max_detections, false);
  options.class_probabilities = return_class_probabilities;
  const Place place({&logits, &offsets, &anchors}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("logits", logits, [&](auto zero) -> py::tuple {
    using S = decltype(zero);
    const auto logit_data = Input<S>("logits", logits);
    const auto offset_data = Input<S>("offsets", offsets);
    const auto anchor_data = Input<S>("anchors", anchors);
    const py::ssize_t batch = shape.batch, rows = max_detections;
    const py::ssize_t classes =
        return_class_probabilities ? shape.num_classes : 0;
    auto out_boxes =
        Output<S>(place, "boxes", {batch, rows, 4}, OutputElement(out, 0, 6));
    auto out_scores =
        Output<S>(place, "scores", {batch, rows}, OutputElement(out, 1, 6));
    auto out_classes = Output<int32_t>(place, "classes", {batch, rows},
                                       OutputElement(out, 2, 6));
    auto out_count = Output<int32_t>(place, "num_detections", {batch},
                                     OutputElement(out, 3, 6));
    auto out_anchors = Output<int32_t>(place, "anchor_indices", {batch, rows},
                                       OutputElement(out, 4, 6));
    auto out_probabilities =
        Output<S>(place, "class_probabilities", {batch, rows, classes},
                  OutputElement(out, 5, 6));
    const DetectOutput<S> output = {
        out_boxes.mutable_data(),   out_scores.mutable_data(),
        out_classes.mutable_data(), out_count.mutable_data(),
        out_anchors.mutable_data(), out_probabilities.mutable_data()};
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(
          LaunchDetectWorkspaceBytes<S>(shape, options),
          [&](void* workspace, cudaStream_t device_stream) {
            return LaunchDetect(logit_data.data(), offset_data.data(),
                                anchor_data.data(), score_limits.data(), shape,
                                options, output, workspace, device_stream);
          }));
    } else {
      py::gil_scoped_release release;
      const Workspace workspace(
          DetectWorkspaceBytes<S>(shape, options, parallel_for.num_workers()));
      Detect(logit_data.data(), offset_data.data(), anchor_data.data(),
             score_limits.data(), shape, options, output, workspace.data(),
             parallel_for);
    }
    return py::make_tuple(out_boxes.object(), out_scores.object(),
                          out_classes.object(), out_count.object(),
                          out_anchors.object(), out_probabilities.object());
  });
}

}  // namespace

void BindDetect(py::module_& module) {
  module.def("detect", &Call, py::arg("logits"), py::arg("offsets"),
             py::arg("anchors"), py::kw_only(), py::arg("score_limits"),
             py::arg("score_activation") = "softmax",
             py::arg("variances") = kVariances, py::arg("clip") = false,
             py::arg("criterion") = "iou", py::arg("iou_threshold") = 0.45,
             py::arg("eta") = 1.0, py::arg("class_agnostic") = false,
             py::arg("pre_nms_top_k") = 400, py::arg("max_detections") = 200,
             py::arg("return_class_probabilities") = false,
             py::arg("out") = py::none(), py::arg("num_threads") = 1,
             py::arg("stream") = 0);
}

}  // namespace ssdops::python
