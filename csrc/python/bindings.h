// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PYTHON_BINDINGS_H_
#define SSDOPS_PYTHON_BINDINGS_H_

#include <pybind11/pybind11.h>

namespace ssdops::python {

// One per op, each in bind_<op>.cc.
void BindAssignTargets(pybind11::module_& module);
void BindBatchedNms(pybind11::module_& module);
void BindBoxIou(pybind11::module_& module);
void BindDecodeBoxes(pybind11::module_& module);
void BindDetect(pybind11::module_& module);
void BindEncodeBoxes(pybind11::module_& module);
void BindMatchAnchors(pybind11::module_& module);
void BindNms(pybind11::module_& module);

}  // namespace ssdops::python

#endif  // SSDOPS_PYTHON_BINDINGS_H_
