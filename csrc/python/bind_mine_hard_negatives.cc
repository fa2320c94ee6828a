// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "array_support.h"
#include "bindings.h"
#include "ssdops/mine_hard_negatives_cuda.h"

namespace ssdops::python {
namespace {

Array Call(const Array& losses, const Array& target_classes,
           double negative_ratio, const py::object& out, int num_threads,
           intptr_t stream) {
  if (!HasShape(losses, {kAny, kAny})) ThrowShape("losses", "[B, A]", losses);
  const MineHardNegativesShape shape = {losses.shape(0), losses.shape(1)};
  if (!HasShape(target_classes, {shape.batch, shape.num_anchors})) {
    ThrowShape("target_classes", "[B, A] of losses", target_classes);
  }
  InRange("negative_ratio", negative_ratio, 0,
          std::numeric_limits<double>::max(), "[0, infinity)");
  const Place place({&losses, &target_classes}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("losses", losses, [&](auto zero) -> Array {
    using S = decltype(zero);
    const auto loss_data = Input<S>("losses", losses);
    const auto class_data = Input<int32_t>("target_classes", target_classes);
    auto mined =
        Output<bool>(place, "mined", {shape.batch, shape.num_anchors}, out);
    bool* data = mined.mutable_data();
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(0, [&](void*, cudaStream_t device_stream) {
        return LaunchMineHardNegatives(loss_data.data(), class_data.data(),
                                       shape, negative_ratio, data,
                                       device_stream);
      }));
    } else {
      py::gil_scoped_release release;
      const Workspace workspace(MineHardNegativesWorkspaceBytes<S>(
          shape, parallel_for.num_workers()));
      MineHardNegatives(loss_data.data(), class_data.data(), shape,
                        negative_ratio, data, workspace.data(), parallel_for);
    }
    return mined;
  });
}

}  // namespace

void BindMineHardNegatives(py::module_& module) {
  module.def("mine_hard_negatives", &Call, py::arg("losses"),
             py::arg("target_classes"), py::kw_only(),
             py::arg("negative_ratio") = 3.0, py::arg("out") = py::none(),
             py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
