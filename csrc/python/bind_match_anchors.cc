// SPDX-License-Identifier: Apache-2.0
#include "bind_matching.h"
#include "bindings.h"
#include "ssdops/match_anchors_cuda.h"

namespace ssdops::python {
namespace {

py::tuple Call(const Array& anchors, const Array& gt_boxes,
               const Array& gt_labels, double iou_threshold,
               double negative_threshold, double ignore_threshold,
               bool bipartite_only, bool ignore_cross_boundary,
               const py::object& out, int num_threads, intptr_t stream) {
  const MatchAnchorsShape shape = CheckMatching(anchors, gt_boxes, gt_labels);
  const MatchAnchorsOptions options =
      CheckMatchingOptions(iou_threshold, negative_threshold, ignore_threshold,
                           bipartite_only, ignore_cross_boundary);
  const Place place({&anchors, &gt_boxes, &gt_labels}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("anchors", anchors, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    const auto anchor_data = Input<T>("anchors", anchors);
    const auto box_data = Input<T>("gt_boxes", gt_boxes);
    const auto label_data = Input<int32_t>("gt_labels", gt_labels);
    const std::vector<py::ssize_t> sizes = {shape.batch, shape.num_anchors};
    auto matched_gt =
        Output<int32_t>(place, "matched_gt", sizes, OutputElement(out, 0, 2));
    auto matched_iou =
        Output<T>(place, "matched_iou", sizes, OutputElement(out, 1, 2));
    int32_t* gt_out = matched_gt.mutable_data();
    T* iou_out = matched_iou.mutable_data();
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(
          LaunchMatchAnchorsWorkspaceBytes<T>(shape),
          [&](void* workspace, cudaStream_t device_stream) {
            return LaunchMatchAnchors(anchor_data.data(), box_data.data(),
                                      label_data.data(), shape, options, gt_out,
                                      iou_out, workspace, device_stream);
          }));
    } else {
      py::gil_scoped_release release;
      const Workspace workspace(
          MatchAnchorsWorkspaceBytes<T>(shape, parallel_for.num_workers()));
      MatchAnchors(anchor_data.data(), box_data.data(), label_data.data(),
                   shape, options, gt_out, iou_out, workspace.data(),
                   parallel_for);
    }
    return py::make_tuple(matched_gt.object(), matched_iou.object());
  });
}

}  // namespace

void BindMatchAnchors(py::module_& module) {
  module.def(
      "match_anchors", &Call, py::arg("anchors"), py::arg("gt_boxes"),
      py::arg("gt_labels"), py::kw_only(), py::arg("iou_threshold") = 0.5,
      py::arg("negative_threshold") = 0.5, py::arg("ignore_threshold") = 0.5,
      py::arg("bipartite_only") = false,
      py::arg("ignore_cross_boundary") = false, py::arg("out") = py::none(),
      py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
