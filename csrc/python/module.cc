// SPDX-License-Identifier: Apache-2.0
#include <pybind11/stl.h>

#include "array_support.h"
#include "bindings.h"
#include "ssdops/atan.h"
#include "ssdops/exp_log.h"
#include "ssdops/isa.h"

namespace ssdops::python {
namespace {

// The float functions behind box coding and CIoU, for the tests of their error.
template <typename Function>
Array Map(const Array& x, const Function& function) {
  const Place place({&x}, 0);
  if (place.on_device()) throw py::value_error("x must be on the CPU");
  const auto input = Input<float>("x", x);
  auto output = Output<float>(place, "result", {input.size()}, py::none());
  for (py::ssize_t i = 0; i < input.size(); ++i) {
    output.mutable_data()[i] = function(input.data()[i]);
  }
  return output;
}

Isa IsaNamed(const std::string& name) {
  for (int i = 0; i < kNumIsas; ++i) {
    const auto isa = static_cast<Isa>(i);
    if (name == IsaName(isa)) return isa;
  }
  throw py::value_error("isa must be 'baseline', 'avx2' or 'avx512', got '" +
                        name + "'");
}

// Names of the instruction sets that can run here, lowest first.
std::vector<std::string> Isas() {
  std::vector<std::string> names;
  for (int i = 0; i <= static_cast<int>(BestIsa()); ++i) {
    names.emplace_back(IsaName(static_cast<Isa>(i)));
  }
  return names;
}

}  // namespace
}  // namespace ssdops::python

PYBIND11_MODULE(_native, module) {
  using ssdops::IsaName;
  using ssdops::python::Array;
  using ssdops::python::IsaNamed;
  using ssdops::python::Isas;
  using ssdops::python::Map;
  namespace py = ssdops::python::py;

  module.doc() = "The kernels of ssdops on NumPy arrays and arrays on a GPU.";
  ssdops::python::BindAssignTargets(module);
  ssdops::python::BindBatchedNms(module);
  ssdops::python::BindBoxIou(module);
  ssdops::python::BindDecodeBoxes(module);
  ssdops::python::BindDetect(module);
  ssdops::python::BindDevice(module);
  ssdops::python::BindEncodeBoxes(module);
  ssdops::python::BindMatchAnchors(module);
  ssdops::python::BindMineHardNegatives(module);
  ssdops::python::BindMultiboxLoss(module);
  ssdops::python::BindNms(module);
  module.def(
      "atan",
      [](const Array& x) {
        return Map(x, [](float value) { return ssdops::Atan(value); });
      },
      py::arg("x"));
  module.def(
      "exp",
      [](const Array& x) {
        return Map(x, [](float value) { return ssdops::Exp(value); });
      },
      py::arg("x"));
  module.def(
      "log",
      [](const Array& x) {
        return Map(x, [](float value) { return ssdops::Log(value); });
      },
      py::arg("x"));
  module.def("isas", &Isas);
  module.def("active_isa",
             [] { return std::string(IsaName(ssdops::ActiveIsa())); });
  module.def(
      "set_active_isa",
      [](const std::string& name) { ssdops::SetActiveIsa(IsaNamed(name)); },
      py::arg("name"));
}
