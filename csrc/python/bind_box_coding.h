// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PYTHON_BIND_BOX_CODING_H_
#define SSDOPS_PYTHON_BIND_BOX_CODING_H_

// The bindings of encode, decode and their gradients differ in names only.

#include <array>

#include "array_support.h"

namespace ssdops::python {

using Variances = std::array<double, 4>;

constexpr Variances kVariances = {0.1, 0.1, 0.2, 0.2};

inline void CheckVariances(const Variances& variances) {
  for (const double variance : variances) {
    if (!(variance > 0 && std::isfinite(variance))) {
      throw py::value_error(
          "variances must be 4 positive finite numbers, got " +
          std::string(py::str(py::float_(variance))));
    }
  }
}

// Checked sizes: every coded array is [..., A, 4] for anchors [A, 4].
struct BoxCodingShape {
  int64_t batch;
  int64_t num_anchors;
  std::vector<py::ssize_t> sizes;
};

inline BoxCodingShape CheckBoxCoding(const char* name, const Array& coded,
                                     const Array& anchors,
                                     const Variances& variances) {
  if (!HasShape(anchors, {kAny, 4})) ThrowShape("anchors", "[A, 4]", anchors);
  const int64_t num_anchors = anchors.shape(0);
  const py::ssize_t dims = coded.ndim();
  if (dims < 2 || coded.shape(dims - 1) != 4 ||
      coded.shape(dims - 2) != num_anchors) {
    const std::string count = std::to_string(num_anchors);
    ThrowShape(name, "[..., " + count + ", 4] for " + count + " anchors",
               coded);
  }
  CheckVariances(variances);
  BoxCodingShape shape;
  shape.num_anchors = num_anchors;
  shape.batch = num_anchors == 0 ? 0 : coded.size() / 4 / num_anchors;
  shape.sizes = coded.sizes();
  return shape;
}

template <typename T>
std::array<T, 4> CastVariances(const Variances& variances) {
  return {static_cast<T>(variances[0]), static_cast<T>(variances[1]),
          static_cast<T>(variances[2]), static_cast<T>(variances[3])};
}

// kernel(input, anchors, variances, batch, num_anchors, output, parallel_for);
// launch(...), of a build with CUDA, has the stream as its last argument.
template <typename Kernel, typename... Launch>
Array CallBoxCoding(const char* input_name, const char* output_name,
                    const Array& input, const Array& anchors,
                    const Variances& variances, const py::object& out,
                    int num_threads, intptr_t stream, const Kernel& kernel,
                    const Launch&... launch) {
  const BoxCodingShape shape =
      CheckBoxCoding(input_name, input, anchors, variances);
  const Place place({&input, &anchors}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat(input_name, input, [&](auto zero) -> Array {
    using T = decltype(zero);
    const auto input_data = Input<T>(input_name, input);
    const auto anchor_data = Input<T>("anchors", anchors);
    const auto scale = CastVariances<ComputeType<T>>(variances);
    auto output = Output<T>(place, output_name, shape.sizes, out);
    T* data = output.mutable_data();
    const auto call = [&](const auto& function, const auto& last) {
      return function(input_data.data(), anchor_data.data(), scale.data(),
                      shape.batch, shape.num_anchors, data, last);
    };
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(0, [&](void*, cudaStream_t device_stream) {
        return (call(launch, device_stream), ...);
      }));
    } else {
      py::gil_scoped_release release;
      call(kernel, parallel_for);
    }
    return output;
  });
}

// kernel(grad, input, anchors, variances, batch, num_anchors, output,
// parallel_for), and launch accordingly.
template <typename Kernel, typename... Launch>
Array CallBoxCodingGrad(const char* grad_name, const char* input_name,
                        const char* output_name, const Array& grad,
                        const Array& input, const Array& anchors,
                        const Variances& variances, const py::object& out,
                        int num_threads, intptr_t stream, const Kernel& kernel,
                        const Launch&... launch) {
  const BoxCodingShape shape =
      CheckBoxCoding(input_name, input, anchors, variances);
  if (CheckBoxCoding(grad_name, grad, anchors, variances).sizes !=
      shape.sizes) {
    ThrowShape(grad_name, ShapeText(input.sizes()), grad);
  }
  const Place place({&grad, &input, &anchors}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat(grad_name, grad, [&](auto zero) -> Array {
    using T = decltype(zero);
    const auto grad_data = Input<T>(grad_name, grad);
    const auto input_data = Input<T>(input_name, input);
    const auto anchor_data = Input<T>("anchors", anchors);
    const auto scale = CastVariances<ComputeType<T>>(variances);
    auto output = Output<T>(place, output_name, shape.sizes, out);
    T* data = output.mutable_data();
    const auto call = [&](const auto& function, const auto& last) {
      return function(grad_data.data(), input_data.data(), anchor_data.data(),
                      scale.data(), shape.batch, shape.num_anchors, data, last);
    };
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(0, [&](void*, cudaStream_t device_stream) {
        return (call(launch, device_stream), ...);
      }));
    } else {
      py::gil_scoped_release release;
      call(kernel, parallel_for);
    }
    return output;
  });
}

}  // namespace ssdops::python

#endif  // SSDOPS_PYTHON_BIND_BOX_CODING_H_
