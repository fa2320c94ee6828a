// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "bind_box_coding.h"
#include "bindings.h"
#include "ssdops/decode_boxes_cuda.h"

namespace ssdops::python {
namespace {

Array Call(const Array& offsets, const Array& anchors,
           const Variances& variances, const py::object& out, int num_threads,
           intptr_t stream) {
  return CallBoxCoding(
      "offsets", "boxes", offsets, anchors, variances, out, num_threads, stream,
      SSDOPS_FUNCTION(DecodeBoxes)
          SSDOPS_CUDA_ONLY(, SSDOPS_FUNCTION(LaunchDecodeBoxes)));
}

Array CallGrad(const Array& grad_boxes, const Array& offsets,
               const Array& anchors, const Variances& variances,
               const py::object& out, int num_threads, intptr_t stream) {
  return CallBoxCodingGrad(
      "grad_boxes", "offsets", "grad_offsets", grad_boxes, offsets, anchors,
      variances, out, num_threads, stream,
      SSDOPS_FUNCTION(DecodeBoxesGrad)
          SSDOPS_CUDA_ONLY(, SSDOPS_FUNCTION(LaunchDecodeBoxesGrad)));
}

}  // namespace

void BindDecodeBoxes(py::module_& module) {
  module.def("decode_boxes", &Call, py::arg("offsets"), py::arg("anchors"),
             py::kw_only(), py::arg("variances") = kVariances,
             py::arg("out") = py::none(), py::arg("num_threads") = 1,
             py::arg("stream") = 0);
  module.def("decode_boxes_grad", &CallGrad, py::arg("grad_boxes"),
             py::arg("offsets"), py::arg("anchors"), py::kw_only(),
             py::arg("variances") = kVariances, py::arg("out") = py::none(),
             py::arg("num_threads") = 1, py::arg("stream") = 0);
}

}  // namespace ssdops::python
