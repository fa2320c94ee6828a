// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bind_box_coding.h"
#include "bindings.h"
#include "ssdops/decode_boxes.h"

namespace ssdops::python {
namespace {

py::array Call(const py::array& offsets, const py::array& anchors,
               const Variances& variances, const py::object& out,
               int num_threads) {
  return CallBoxCoding("offsets", "boxes", offsets, anchors, variances, out,
                       num_threads,
                       [](auto&&... args) { DecodeBoxes(args...); });
}

py::array CallGrad(const py::array& grad_boxes, const py::array& offsets,
                   const py::array& anchors, const Variances& variances,
                   const py::object& out, int num_threads) {
  return CallBoxCodingGrad("grad_boxes", "offsets", "grad_offsets", grad_boxes,
                           offsets, anchors, variances, out, num_threads,
                           [](auto&&... args) { DecodeBoxesGrad(args...); });
}

}  // namespace

void BindDecodeBoxes(py::module_& module) {
  module.def("decode_boxes", &Call, py::arg("offsets"), py::arg("anchors"),
             py::kw_only(), py::arg("variances") = kVariances,
             py::arg("out") = py::none(), py::arg("num_threads") = 1);
  module.def("decode_boxes_grad", &CallGrad, py::arg("grad_boxes"),
             py::arg("offsets"), py::arg("anchors"), py::kw_only(),
             py::arg("variances") = kVariances, py::arg("out") = py::none(),
             py::arg("num_threads") = 1);
}

}  // namespace ssdops::python
