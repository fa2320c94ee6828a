// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bind_box_coding.h"
#include "bindings.h"
#include "ssdops/encode_boxes.h"

namespace ssdops::python {
namespace {

py::array Call(const py::array& boxes, const py::array& anchors,
               const Variances& variances, const py::object& out,
               int num_threads) {
  return CallBoxCoding("boxes", "offsets", boxes, anchors, variances, out,
                       num_threads,
                       [](auto&&... args) { EncodeBoxes(args...); });
}

py::array CallGrad(const py::array& grad_offsets, const py::array& boxes,
                   const py::array& anchors, const Variances& variances,
                   const py::object& out, int num_threads) {
  return CallBoxCodingGrad("grad_offsets", "boxes", "grad_boxes", grad_offsets,
                           boxes, anchors, variances, out, num_threads,
                           [](auto&&... args) { EncodeBoxesGrad(args...); });
}

}  // namespace

void BindEncodeBoxes(py::module_& module) {
  module.def("encode_boxes", &Call, py::arg("boxes"), py::arg("anchors"),
             py::kw_only(), py::arg("variances") = kVariances,
             py::arg("out") = py::none(), py::arg("num_threads") = 1);
  module.def("encode_boxes_grad", &CallGrad, py::arg("grad_offsets"),
             py::arg("boxes"), py::arg("anchors"), py::kw_only(),
             py::arg("variances") = kVariances, py::arg("out") = py::none(),
             py::arg("num_threads") = 1);
}

}  // namespace ssdops::python
