// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bind_box_coding.h"
#include "bindings.h"
#include "ssdops/encode_boxes_cuda.h"

namespace ssdops::python {
namespace {

Array Call(const Array& boxes, const Array& anchors, const Variances& variances,
           const py::object& out, int num_threads, intptr_t stream) {
  return CallBoxCoding(
      "boxes", "offsets", boxes, anchors, variances, out, num_threads, stream,
      SSDOPS_FUNCTION(EncodeBoxes)
          SSDOPS_CUDA_ONLY(, SSDOPS_FUNCTION(LaunchEncodeBoxes)));
}

Array CallGrad(const Array& grad_offsets, const Array& boxes,
               const Array& anchors, const Variances& variances,
               const py::object& out, int num_threads, intptr_t stream) {
  return CallBoxCodingGrad("grad_offsets", "boxes", "grad_boxes", grad_offsets,
                           boxes, anchors, variances, out, num_threads, stream,
                           SSDOPS_FUNCTION(EncodeBoxesGrad) SSDOPS_CUDA_ONLY(
                               , SSDOPS_FUNCTION(LaunchEncodeBoxesGrad)));
}

}  // namespace

void BindEncodeBoxes(py::module_& module) {
  module.def("encode_boxes", &Call, py::arg("boxes"), py::arg("anchors"),
             py::kw_only(), py::arg("variances") = kVariances,
             py::arg("out") = py::none(), py::arg("num_threads") = 1,
             py::arg("stream") = 0);
  module.def("encode_boxes_grad", &CallGrad, py::arg("grad_offsets"),
             py::arg("boxes"), py::arg("anchors"), py::kw_only(),
             py::arg("variances") = kVariances, py::arg("out") = py::none(),
             py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
