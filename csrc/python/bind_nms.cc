// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "array_support.h"
#include "bindings.h"
#include "ssdops/nms_cuda.h"

namespace ssdops::python {
namespace {

py::tuple Call(const Array& boxes, const Array& scores, double iou_threshold,
               double score_threshold, int64_t max_output_size,
               bool any_diagonal, const py::object& out, int num_threads,
               intptr_t stream) {
  if (!HasShape(boxes, {kAny, 4})) ThrowShape("boxes", "[N, 4]", boxes);
  const int64_t num_boxes = boxes.shape(0);
  if (!HasShape(scores, {num_boxes})) {
    ThrowShape("scores", "[N] of boxes", scores);
  }
  if (max_output_size < -1) {
    throw py::value_error("max_output_size must be at least -1, got " +
                          std::to_string(max_output_size));
  }
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const NmsOptions options = {
      InRange("score_threshold", score_threshold, -kInfinity, kInfinity,
              "[-inf, inf]"),
      InRange("iou_threshold", iou_threshold, 0, 1, "[0, 1]"),
      max_output_size < 0 ? num_boxes : max_output_size, any_diagonal};
  const Place place({&boxes, &scores}, stream);
  const ThreadedFor checks_the_number_of_threads(num_threads);
  return DispatchFloat("boxes", boxes, [&](auto zero) -> py::tuple {
    using S = decltype(zero);
    const auto box_data = Input<S>("boxes", boxes);
    const auto score_data = Input<S>("scores", scores);
    auto indices = Output<int32_t>(place, "indices", {options.max_output_size},
                                   OutputElement(out, 0, 2));
    auto num_valid =
        Output<int32_t>(place, "num_valid", {}, OutputElement(out, 1, 2));
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(
          LaunchNmsWorkspaceBytes<S>(num_boxes),
          [&](void* workspace, cudaStream_t device_stream) {
            return LaunchNms(box_data.data(), score_data.data(), num_boxes,
                             options, indices.mutable_data(),
                             num_valid.mutable_data(), workspace,
                             device_stream);
          }));
    } else {
      py::gil_scoped_release release;
      const Workspace workspace(NmsWorkspaceBytes<S>(num_boxes, options));
      Nms<S>(box_data.data(), score_data.data(), num_boxes, options,
             indices.mutable_data(), num_valid.mutable_data(),
             workspace.data());
    }
    return py::make_tuple(indices.object(), num_valid.object());
  });
}

}  // namespace

void BindNms(py::module_& module) {
  module.def(
      "nms", &Call, py::arg("boxes"), py::arg("scores"), py::kw_only(),
      py::arg("iou_threshold") = 0.5,
      py::arg("score_threshold") = -std::numeric_limits<double>::infinity(),
      py::arg("max_output_size") = -1, py::arg("any_diagonal") = false,
      py::arg("out") = py::none(), py::arg("num_threads") = 1,
      py::arg("stream") = 0);
}

}  // namespace ssdops::python
