// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include <limits>
#include <optional>

#include "bind_box_coding.h"
#include "bindings.h"
#include "ssdops/multibox_loss_cuda.h"

namespace ssdops::python {
namespace {

// The arrays of a call and what they were checked for.
struct Arguments {
  const Array& logits;
  const Array& offsets;
  const Array& target_classes;
  const Array& target_offsets;
  const std::optional<Array>& anchors;
};

MultiboxLossShape CheckArrays(const Arguments& arrays,
                              LocalizationLoss localization) {
  const Array& logits = arrays.logits;
  if (!HasShape(logits, {kAny, kAny, kAny}) || logits.shape(2) < 1) {
    ThrowShape("logits", "[B, A, C] with at least one class", logits);
  }
  const MultiboxLossShape shape = {logits.shape(0), logits.shape(1),
                                   logits.shape(2)};
  if (!HasShape(arrays.offsets, {shape.batch, shape.num_anchors, 4})) {
    ThrowShape("offsets", "[B, A, 4] of logits", arrays.offsets);
  }
  if (!HasShape(arrays.target_classes, {shape.batch, shape.num_anchors})) {
    ThrowShape("target_classes", "[B, A] of logits", arrays.target_classes);
  }
  if (!HasShape(arrays.target_offsets, {shape.batch, shape.num_anchors, 4})) {
    ThrowShape("target_offsets", "[B, A, 4] of logits", arrays.target_offsets);
  }
  const bool on_boxes = localization != LocalizationLoss::kSmoothL1 &&
                        localization != LocalizationLoss::kL2;
  if (on_boxes && !arrays.anchors.has_value()) {
    throw py::value_error("anchors must be given for this localization_loss");
  }
  if (arrays.anchors.has_value() &&
      !HasShape(*arrays.anchors, {shape.num_anchors, 4})) {
    ThrowShape("anchors", "[A, 4] of logits", *arrays.anchors);
  }
  return shape;
}

#ifdef SSDOPS_WITH_CUDA
// On the GPU, where they may be already.
template <typename T>
TypedArray<T> GradLosses(const Place& place, const py::object& grad_losses) {
  if (py::hasattr(grad_losses, "__cuda_array_interface__")) {
    const Array array = Array::OnDevice(grad_losses);
    if (!HasShape(array, {3})) ThrowShape("grad_losses", "[3]", array);
    return Input<T>("grad_losses", array);
  }
  const auto host = py::cast<std::array<T, 3>>(grad_losses);
  return TypedArray<T>(place.CopyOf(host.data(), DtypeName<T>(), {3}));
}

template <typename S>
void LaunchBoth(const Place& place, const MultiboxLossInput<S>& input,
                const MultiboxLossShape& shape,
                const MultiboxLossOptions& options,
                const ComputeType<S>* grad_losses,
                const MultiboxLossOutput<ComputeType<S>>& output, S* by_logits,
                S* by_offsets) {
  place.Launch(LaunchMultiboxLossWorkspaceBytes<S>(shape),
               [&](void* workspace, cudaStream_t stream) {
                 const cudaError_t status = LaunchMultiboxLoss(
                     input, shape, options, output, workspace, stream);
                 if (status != cudaSuccess) return status;
                 return LaunchMultiboxLossGrad(
                     input, shape, options, grad_losses, output.num_positives,
                     output.mined, by_logits, by_offsets, stream);
               });
}
#endif

py::tuple Call(const Array& logits, const Array& offsets,
               const Array& target_classes, const Array& target_offsets,
               const std::optional<Array>& anchors, const Variances& variances,
               double negative_ratio, double localization_weight,
               const std::string& confidence_loss,
               const std::string& localization_loss,
               std::optional<double> normalizer, double focal_alpha,
               double focal_gamma, const py::object& grad_losses,
               const py::object& out, int num_threads, intptr_t stream) {
  constexpr double kMax = std::numeric_limits<double>::max();
  MultiboxLossOptions options = {};
  options.confidence = EnumOf<ConfidenceLoss>(
      "confidence_loss", confidence_loss, kConfidenceLossNames);
  options.localization = EnumOf<LocalizationLoss>(
      "localization_loss", localization_loss, kLocalizationLossNames);
  options.negative_ratio =
      InRange("negative_ratio", negative_ratio, 0, kMax, "[0, infinity)");
  options.localization_weight = InRange(
      "localization_weight", localization_weight, -kMax, kMax, "finite");
  options.focal_alpha = InRange("focal_alpha", focal_alpha, 0, 1, "[0, 1]");
  options.focal_gamma =
      InRange("focal_gamma", focal_gamma, 0, kMax, "[0, infinity)");
  std::copy(variances.begin(), variances.end(), options.variances);
  options.has_normalizer = normalizer.has_value();
  if (normalizer.has_value()) {
    options.normalizer =
        InRange("normalizer", *normalizer, 0, kMax, "[0, infinity)");
  }
  const Arguments arrays = {logits, offsets, target_classes, target_offsets,
                            anchors};
  const MultiboxLossShape shape = CheckArrays(arrays, options.localization);
  const Place place({&logits, &offsets, &target_classes, &target_offsets,
                     anchors.has_value() ? &*anchors : &logits},
                    stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("logits", logits, [&](auto zero) -> py::tuple {
    using S = decltype(zero);
    using T = ComputeType<S>;
    const auto logit_data = Input<S>("logits", logits);
    const auto offset_data = Input<S>("offsets", offsets);
    const auto class_data = Input<int32_t>("target_classes", target_classes);
    const auto target_data = Input<S>("target_offsets", target_offsets);
    std::optional<TypedArray<S>> anchor_data;
    if (anchors.has_value()) anchor_data = Input<S>("anchors", *anchors);
    const MultiboxLossInput<S> input = {
        logit_data.data(), offset_data.data(), class_data.data(),
        target_data.data(), anchor_data ? anchor_data->data() : nullptr};
    const py::ssize_t batch = shape.batch, rows = shape.num_anchors;
    const py::ssize_t classes = shape.num_classes;
    auto losses = Output<T>(place, "losses", {4}, OutputElement(out, 0, 4));
    auto mined =
        Output<bool>(place, "mined", {batch, rows}, OutputElement(out, 1, 4));
    auto grad_logits = Output<S>(place, "grad_logits", {batch, rows, classes},
                                 OutputElement(out, 2, 4));
    auto grad_offsets = Output<S>(place, "grad_offsets", {batch, rows, 4},
                                  OutputElement(out, 3, 4));
    T* scalars = losses.mutable_data();
    bool* chosen = mined.mutable_data();
    S* by_logits = grad_logits.mutable_data();
    S* by_offsets = grad_offsets.mutable_data();
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(
          LaunchBoth(place, input, shape, options,
                     GradLosses<T>(place, grad_losses).data(),
                     {scalars, scalars + 1, scalars + 2, scalars + 3, chosen},
                     by_logits, by_offsets));
      return py::make_tuple(losses.object(), mined.object(),
                            grad_logits.object(), grad_offsets.object());
    }
    const auto grads = py::cast<std::array<T, 3>>(grad_losses);
    bool valid = false;
    {
      py::gil_scoped_release release;
      const Workspace workspace(
          MultiboxLossWorkspaceBytes<S>(shape, parallel_for.num_workers()));
      valid = MultiboxLoss<S>(
          input, shape, options,
          {scalars, scalars + 1, scalars + 2, scalars + 3, chosen},
          workspace.data(), parallel_for);
      MultiboxLossGrad<S>(input, shape, options, grads.data(), scalars[3],
                          chosen, by_logits, by_offsets, parallel_for);
    }
    if (!valid) {
      throw py::value_error("target_classes must be below the " +
                            std::to_string(classes) +
                            " classes of the logits, and one is not");
    }
    return py::make_tuple(losses.object(), mined.object(), grad_logits.object(),
                          grad_offsets.object());
  });
}

}  // namespace

void BindMultiboxLoss(py::module_& module) {
  module.def("multibox_loss", &Call, py::arg("logits"), py::arg("offsets"),
             py::arg("target_classes"), py::arg("target_offsets"),
             py::kw_only(), py::arg("anchors") = py::none(),
             py::arg("variances") = kVariances, py::arg("negative_ratio") = 3.0,
             py::arg("localization_weight") = 1.0,
             py::arg("confidence_loss") = "softmax",
             py::arg("localization_loss") = "smooth_l1",
             py::arg("normalizer") = py::none(), py::arg("focal_alpha") = 0.25,
             py::arg("focal_gamma") = 2.0,
             py::arg("grad_losses") = py::make_tuple(1.0, 0.0, 0.0),
             py::arg("out") = py::none(), py::arg("num_threads") = 1,
             py::arg("stream") = 0);
}

}  // namespace ssdops::python
