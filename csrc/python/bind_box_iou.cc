// SPDX-License-Identifier: Apache-2.0
#include "array_support.h"
#include "bindings.h"
#include "ssdops/box_iou_cuda.h"

namespace ssdops::python {
namespace {

IouKind KindNamed(const std::string& name) {
  if (name == "iou") return IouKind::kIou;
  if (name == "giou") return IouKind::kGiou;
  if (name == "diou") return IouKind::kDiou;
  if (name == "ciou") return IouKind::kCiou;
  if (name == "ioa") return IouKind::kIoa;
  throw py::value_error(
      "kind must be 'iou', 'giou', 'diou', 'ciou' or 'ioa', got '" + name +
      "'");
}

bool IsBoxes(const Array& array) {
  return HasShape(array, {kAny, 4}) || HasShape(array, {kAny, kAny, 4});
}

std::vector<py::ssize_t> Sizes(const Array& array, py::ssize_t rank) {
  return {array.sizes().begin(), array.sizes().begin() + rank};
}

// Checks two arrays of which every box meets every box of the other; returns
// the shape of the result too.
BoxIouShape PairwiseShape(const Array& boxes_a, const Array& boxes_b,
                          std::vector<py::ssize_t>* sizes) {
  if (!IsBoxes(boxes_a)) {
    ThrowShape("boxes_a", "[N, 4] or [B, N, 4]", boxes_a);
  }
  if (!IsBoxes(boxes_b)) {
    ThrowShape("boxes_b", "[M, 4] or [B, M, 4]", boxes_b);
  }
  BoxIouShape shape;
  shape.a_batched = boxes_a.ndim() == 3;
  shape.b_batched = boxes_b.ndim() == 3;
  shape.num_a = boxes_a.shape(boxes_a.ndim() - 2);
  shape.num_b = boxes_b.shape(boxes_b.ndim() - 2);
  shape.batch = shape.a_batched   ? boxes_a.shape(0)
                : shape.b_batched ? boxes_b.shape(0)
                                  : 1;
  if (shape.b_batched && boxes_b.shape(0) != shape.batch) {
    throw py::value_error("boxes_b must have " + std::to_string(shape.batch) +
                          " images along axis 0 as boxes_a, got " +
                          std::to_string(boxes_b.shape(0)));
  }
  *sizes = {shape.num_a, shape.num_b};
  if (shape.a_batched || shape.b_batched) {
    sizes->insert(sizes->begin(), shape.batch);
  }
  return shape;
}

// Checks two arrays of pairs; returns the shape of the result.
std::vector<py::ssize_t> AlignedSizes(const Array& boxes_a,
                                      const Array& boxes_b) {
  const py::ssize_t rank = boxes_a.ndim();
  if (rank < 2 || boxes_a.shape(rank - 1) != 4) {
    ThrowShape("boxes_a", "[..., N, 4]", boxes_a);
  }
  if (Sizes(boxes_b, boxes_b.ndim()) != Sizes(boxes_a, rank)) {
    ThrowShape("boxes_b", ShapeText(boxes_a.sizes()), boxes_b);
  }
  return Sizes(boxes_a, rank - 1);
}

Array Call(const Array& boxes_a, const Array& boxes_b,
           const std::string& kind_name, bool aligned, const py::object& out,
           int num_threads, intptr_t stream) {
  const IouKind kind = KindNamed(kind_name);
  BoxIouShape shape = {};
  std::vector<py::ssize_t> sizes;
  if (aligned) {
    sizes = AlignedSizes(boxes_a, boxes_b);
  } else {
    shape = PairwiseShape(boxes_a, boxes_b, &sizes);
  }
  const Place place({&boxes_a, &boxes_b}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("boxes_a", boxes_a, [&](auto zero) -> Array {
    using T = decltype(zero);
    const auto a = Input<T>("boxes_a", boxes_a);
    const auto b = Input<T>("boxes_b", boxes_b);
    auto iou = Output<T>(place, "iou", sizes, out);
    T* data = iou.mutable_data();
    const int64_t count = iou.size();
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(0, [&](void*, cudaStream_t device_stream) {
        return aligned ? LaunchBoxIouAligned(a.data(), b.data(), count, kind,
                                             data, device_stream)
                       : LaunchBoxIou(a.data(), b.data(), shape, kind, data,
                                      device_stream);
      }));
    } else {
      py::gil_scoped_release release;
      if (aligned) {
        BoxIouAligned(a.data(), b.data(), count, kind, data, parallel_for);
      } else {
        BoxIou(a.data(), b.data(), shape, kind, data, parallel_for);
      }
    }
    return iou;
  });
}

py::tuple CallGrad(const Array& grad_iou, const Array& boxes_a,
                   const Array& boxes_b, const std::string& kind_name,
                   bool aligned, const py::object& out, int num_threads,
                   intptr_t stream) {
  const IouKind kind = KindNamed(kind_name);
  BoxIouShape shape = {};
  std::vector<py::ssize_t> sizes;
  if (aligned) {
    sizes = AlignedSizes(boxes_a, boxes_b);
  } else {
    shape = PairwiseShape(boxes_a, boxes_b, &sizes);
  }
  if (Sizes(grad_iou, grad_iou.ndim()) != sizes) {
    std::string expected;
    for (const py::ssize_t size : sizes) {
      expected += (expected.empty() ? "" : ", ") + std::to_string(size);
    }
    ThrowShape("grad_iou", "[" + expected + "]", grad_iou);
  }
  const Place place({&grad_iou, &boxes_a, &boxes_b}, stream);
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("boxes_a", boxes_a, [&](auto zero) -> py::tuple {
    using T = decltype(zero);
    const auto a = Input<T>("boxes_a", boxes_a);
    const auto b = Input<T>("boxes_b", boxes_b);
    const auto grad = Input<T>("grad_iou", grad_iou);
    auto grad_a = Output<T>(place, "grad_boxes_a", Sizes(a, a.ndim()),
                            OutputElement(out, 0, 2));
    auto grad_b = Output<T>(place, "grad_boxes_b", Sizes(b, b.ndim()),
                            OutputElement(out, 1, 2));
    T* data_a = grad_a.mutable_data();
    T* data_b = grad_b.mutable_data();
    const int64_t count = grad.size();
    if (place.on_device()) {
      SSDOPS_CUDA_ONLY(place.Launch(0, [&](void*, cudaStream_t device_stream) {
        return aligned
                   ? LaunchBoxIouAlignedGrad(grad.data(), a.data(), b.data(),
                                             count, kind, data_a, data_b,
                                             device_stream)
                   : LaunchBoxIouGrad(grad.data(), a.data(), b.data(), shape,
                                      kind, data_a, data_b, device_stream);
      }));
    } else {
      py::gil_scoped_release release;
      if (aligned) {
        BoxIouAlignedGrad(grad.data(), a.data(), b.data(), count, kind, data_a,
                          data_b, parallel_for);
      } else {
        BoxIouGrad(grad.data(), a.data(), b.data(), shape, kind, data_a, data_b,
                   parallel_for);
      }
    }
    return py::make_tuple(grad_a.object(), grad_b.object());
  });
}

}  // namespace

void BindBoxIou(py::module_& module) {
  module.def("box_iou", &Call, py::arg("boxes_a"), py::arg("boxes_b"),
             py::kw_only(), py::arg("kind") = "iou", py::arg("aligned") = false,
             py::arg("out") = py::none(), py::arg("num_threads") = 1,
             py::arg("stream") = 0);
  module.def("box_iou_grad", &CallGrad, py::arg("grad_iou"), py::arg("boxes_a"),
             py::arg("boxes_b"), py::kw_only(), py::arg("kind") = "iou",
             py::arg("aligned") = false, py::arg("out") = py::none(),
             py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
