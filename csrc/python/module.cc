// SPDX-License-Identifier: Apache-2.0
#include "bindings.h"
#include "numpy_support.h"
#include "ssdops/exp_log.h"

namespace ssdops::python {
namespace {

// The float functions behind box coding, for the tests of their error.
template <float (*Function)(float)>
py::array_t<float> Map(const py::array& x) {
  const auto input = Input<float>("x", x);
  py::array_t<float> output(input.size());
  for (py::ssize_t i = 0; i < input.size(); ++i) {
    output.mutable_data()[i] = Function(input.data()[i]);
  }
  return output;
}

}  // namespace
}  // namespace ssdops::python

PYBIND11_MODULE(_native, module) {
  module.doc() = "The CPU kernels of ssdops on NumPy arrays.";
  ssdops::python::BindBatchedNms(module);
  ssdops::python::BindBoxIou(module);
  ssdops::python::BindDecodeBoxes(module);
  ssdops::python::BindEncodeBoxes(module);
  ssdops::python::BindMatchAnchors(module);
  module.def("exp", &ssdops::python::Map<&ssdops::Exp>, pybind11::arg("x"));
  module.def("log", &ssdops::python::Map<&ssdops::Log>, pybind11::arg("x"));
}
