// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"
#include "numpy_support.h"
#include "ssdops/box_iou.h"

namespace ssdops::python {
namespace {

bool IsBoxes(const py::array& array) {
  return HasShape(array, {kAny, 4}) || HasShape(array, {kAny, kAny, 4});
}

py::array Call(const py::array& boxes_a, const py::array& boxes_b,
               const py::object& out, int num_threads) {
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
  std::vector<py::ssize_t> sizes = {shape.num_a, shape.num_b};
  if (shape.a_batched || shape.b_batched) {
    sizes.insert(sizes.begin(), shape.batch);
  }
  const ThreadedFor parallel_for(num_threads);
  return DispatchFloat("boxes_a", boxes_a, [&](auto zero) -> py::array {
    using T = decltype(zero);
    const auto a = Input<T>("boxes_a", boxes_a);
    const auto b = Input<T>("boxes_b", boxes_b);
    auto iou = Output<T>("iou", sizes, out);
    T* data = iou.mutable_data();
    {
      py::gil_scoped_release release;
      BoxIou(a.data(), b.data(), shape, data, parallel_for);
    }
    return iou;
  });
}

}  // namespace

void BindBoxIou(py::module_& module) {
  module.def("box_iou", &Call, py::arg("boxes_a"), py::arg("boxes_b"),
             py::kw_only(), py::arg("out") = py::none(),
             py::arg("num_threads") = 1);
}

}  // namespace ssdops::python
