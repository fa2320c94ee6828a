// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bind_box_coding.h"
#include "bind_matching.h"
#include "bindings.h"
#include "ssdops/assign_targets_cuda.h"

namespace ssdops::python {
namespace {

py::tuple Call(const Array& anchors, const Array& gt_boxes,
               const Array& gt_labels, double iou_threshold,
               double negative_threshold, double ignore_threshold,
               bool bipartite_only, bool ignore_cross_boundary,
               const Variances& variances, const py::object& out,
               int num_threads, intptr_t stream) {
  const MatchAnchorsShape shape = CheckMatching(anchors, gt_boxes, gt_labels);
  const MatchAnchorsOptions options =
      CheckMatchingOptions(iou_threshold, negative_threshold, ignore_threshold,
                           bipartite_only, ignore_cross_boundary);
  CheckVariances(variances);
  const Place place({&anchors, &gt_boxes, &gt_labels}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("anchors", anchors, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    const auto anchor_data = Input<T>("anchors", anchors);
    const auto box_data = Input<T>("gt_boxes", gt_boxes);
    const auto label_data = Input<int32_t>("gt_labels", gt_labels);
    const auto scale = CastVariances<ComputeType<T>>(variances);
    const std::vector<py::ssize_t> sizes = {shape.batch, shape.num_anchors};
    auto classes =
        Output<int32_t>(place, "classes", sizes, OutputElement(out, 0, 4));
    auto offsets = Output<T>(place, "offsets", {sizes[0], sizes[1], 4},
                             OutputElement(out, 1, 4));
    auto matched_gt =
        Output<int32_t>(place, "matched_gt", sizes, OutputElement(out, 2, 4));
    auto matched_iou =
        Output<T>(place, "matched_iou", sizes, OutputElement(out, 3, 4));
    const TargetOutputs<T> targets = {
        classes.mutable_data(), offsets.mutable_data(),
        matched_gt.mutable_data(), matched_iou.mutable_data()};
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(
          LaunchAssignTargetsWorkspaceBytes<T>(shape),
          [&](void* workspace, cudaStream_t device_stream) {
            return LaunchAssignTargets(anchor_data.data(), box_data.data(),
                                       label_data.data(), scale.data(), shape,
                                       options, targets, workspace,
                                       device_stream);
          }));
    } else {
      py::gil_scoped_release release;
      const Workspace workspace(
          AssignTargetsWorkspaceBytes<T>(shape, parallel_for.num_workers()));
      AssignTargets(anchor_data.data(), box_data.data(), label_data.data(),
                    scale.data(), shape, options, targets, workspace.data(),
                    parallel_for);
    }
    return py::make_tuple(classes.object(), offsets.object(),
                          matched_gt.object(), matched_iou.object());
  });
}

}  // namespace

void BindAssignTargets(py::module_& module) {
  module.def(
      "assign_targets", &Call, py::arg("anchors"), py::arg("gt_boxes"),
      py::arg("gt_labels"), py::kw_only(), py::arg("iou_threshold") = 0.5,
      py::arg("negative_threshold") = 0.5, py::arg("ignore_threshold") = 0.5,
      py::arg("bipartite_only") = false,
      py::arg("ignore_cross_boundary") = false,
      py::arg("variances") = kVariances, py::arg("out") = py::none(),
      py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
