// SPDX-License-Identifier: Apache-2.0
#include "array.h"

#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>
#include <utility>

namespace ssdops::python {
namespace {

// Its name, and the byte order if it is not that of this machine.
std::string NameOf(const py::dtype& dtype) {
  if (!py::cast<bool>(dtype.attr("isnative"))) return py::str(dtype);
  return py::str(dtype.attr("name"));
}

// bfloat16 is no dtype of NumPy's own.
py::dtype DtypeNamed(const std::string& name) {
  if (name == "bfloat16") {
    return py::dtype::from_args(
        py::module_::import("ml_dtypes").attr("bfloat16"));
  }
  return py::dtype(name);
}

// Python hands addresses on as numbers.
template <typename Pointer, typename Address>
[[maybe_unused]] Pointer AtAddress(Address address) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  return reinterpret_cast<Pointer>(address);
}

}  // namespace

Array::Array(const py::array& host)
    : object_(host),
      data_(const_cast<void*>(host.data())),
      shape_(host.shape(), host.shape() + host.ndim()),
      dtype_(NameOf(host.dtype())),
      is_contiguous_((host.flags() & py::array::c_style) != 0),
      is_writeable_(host.writeable()) {}

py::ssize_t Array::size() const {
  py::ssize_t product = 1;
  for (const py::ssize_t size : shape_) product *= size;
  return product;
}

Array Array::Contiguous(const char* name) const {
  if (is_contiguous_) return *this;
  if (device_ != kHost) {
    throw py::value_error(std::string(name) +
                          " must be C-contiguous, because it is on a GPU");
  }
  return Array(py::array::ensure(object_, py::array::c_style));
}

std::string PlaceName(int device) {
  return device == kHost ? "the CPU" : "GPU " + std::to_string(device);
}

Place::Place(std::initializer_list<const Array*> arrays, intptr_t stream)
    : device_((*arrays.begin())->device()) {
  for (const Array* array : arrays) {
    if (array->device() == device_) continue;
    throw py::value_error("all arrays must be at the same place, got one on " +
                          name() + " and one on " + PlaceName(array->device()));
  }
  if (!on_device()) {
    if (stream == 0) return;
    throw py::value_error("stream is for arrays on a GPU, which these are not");
  }
#ifdef SSDOPS_WITH_CUDA
  stream_ = AtAddress<cudaStream_t>(stream);
  for (const Array* array : arrays) WaitFor(array->stream());
#endif
}

#ifndef SSDOPS_WITH_CUDA

Array Array::OnDevice(const py::object&) {
  throw py::value_error(
      "arrays on a GPU need a build with CUDA (SSDOPS_WITH_CUDA=ON)");
}

Array Place::NewArray(const char* dtype,
                      const std::vector<py::ssize_t>& shape) const {
  return Array(py::array(DtypeNamed(dtype), shape));
}

void BindDevice(py::module_& module) {
  module.def("cuda_device_count", [] { return 0; });
  module.def("cuda_is_emulated", [] { return false; });
}

#else

namespace {

void ThrowIfCudaFailed(cudaError_t status) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorName(status) +
                           " (" + cudaGetErrorString(status) + ")");
}

// The GPU on which calls of the CUDA runtime act, until the end of the scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) {
    ThrowIfCudaFailed(cudaGetDevice(&previous_));
    ThrowIfCudaFailed(cudaSetDevice(device));
  }
  ~CurrentDevice() { cudaSetDevice(previous_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int previous_ = 0;
};

// A name such as "float32" for a type string of the array interface.
std::string NameOfTypeString(const std::string& type) {
  // Frameworks describe bfloat16, which the interface does not know, as two
  // bytes without a meaning.
  if (type == "<V2" || type == "|V2") return "bfloat16";
  return NameOf(py::dtype(type));
}

bool IsContiguous(const py::object& strides,
                  const std::vector<py::ssize_t>& shape, int64_t item_size) {
  if (strides.is_none()) return true;
  const auto steps = py::cast<std::vector<int64_t> >(strides);
  int64_t expected = item_size;
  for (size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] == 0) return true;
    if (shape[axis] != 1 && steps[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

// An array in the memory of a GPU that is freed with it.
class DeviceArray {
 public:
  DeviceArray(std::string dtype, std::vector<py::ssize_t> shape, int device,
              cudaStream_t stream)
      : dtype_(std::move(dtype)),
        shape_(std::move(shape)),
        device_(device),
        stream_(stream) {
    bytes_ = static_cast<size_t>(
        py::cast<int64_t>(DtypeNamed(dtype_).attr("itemsize")));
    for (const py::ssize_t size : shape_) bytes_ *= static_cast<size_t>(size);
    const CurrentDevice current(device_);
    if (bytes_ > 0) ThrowIfCudaFailed(cudaMallocAsync(&data_, bytes_, stream_));
  }
  ~DeviceArray() {
    if (data_ != nullptr) cudaFreeAsync(data_, stream_);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  static std::unique_ptr<DeviceArray> FromHost(const py::array& array) {
    const py::array host = py::array::ensure(array, py::array::c_style);
    int device = 0;
    ThrowIfCudaFailed(cudaGetDevice(&device));
    auto result = std::make_unique<DeviceArray>(
        NameOf(host.dtype()),
        std::vector<py::ssize_t>(host.shape(), host.shape() + host.ndim()),
        device, nullptr);
    ThrowIfCudaFailed(cudaMemcpy(result->data_, host.data(), result->bytes_,
                                 cudaMemcpyHostToDevice));
    return result;
  }

  py::array ToHost() const {
    py::array host(DtypeNamed(dtype_), shape_);
    ThrowIfCudaFailed(cudaStreamSynchronize(stream_));
    ThrowIfCudaFailed(
        cudaMemcpy(host.mutable_data(), data_, bytes_, cudaMemcpyDeviceToHost));
    return host;
  }

  py::dict Interface() const {
    py::dict interface;
    interface["shape"] = Shape();
    interface["typestr"] = dtype_ == "bfloat16"
                               ? py::object(py::str("<V2"))
                               : DtypeNamed(dtype_).attr("str");
    interface["data"] =
        py::make_tuple(reinterpret_cast<uintptr_t>(data_), false);
    interface["strides"] = py::none();
    interface["version"] = 3;
    // 1 stands for the default stream.
    const auto stream = reinterpret_cast<intptr_t>(stream_);
    interface["stream"] = stream == 0 ? 1 : stream;
    return interface;
  }

  py::tuple Shape() const { return py::tuple(py::cast(shape_)); }
  const std::string& dtype() const { return dtype_; }
  int device() const { return device_; }

 private:
  std::string dtype_;
  std::vector<py::ssize_t> shape_;
  int device_;
  cudaStream_t stream_;
  size_t bytes_ = 0;
  void* data_ = nullptr;
};

}  // namespace

Array Array::OnDevice(const py::object& object) {
  const py::dict interface = object.attr("__cuda_array_interface__");
  Array array;
  array.object_ = object;
  array.shape_ = py::cast<std::vector<py::ssize_t> >(interface["shape"]);
  const std::string type = py::str(interface["typestr"]);
  array.dtype_ = NameOfTypeString(type);
  const py::tuple data = interface["data"];
  array.data_ = AtAddress<void*>(py::cast<uintptr_t>(data[0]));
  array.is_writeable_ = !py::cast<bool>(data[1]);
  const py::object strides = interface.attr("get")("strides", py::none());
  const auto item_size = py::cast<int64_t>(py::dtype(type).attr("itemsize"));
  array.is_contiguous_ = IsContiguous(strides, array.shape_, item_size);
  const py::object stream = interface.attr("get")("stream", py::none());
  if (!stream.is_none()) array.stream_ = py::cast<intptr_t>(stream);
  if (array.data_ == nullptr) {
    if (array.size() > 0) {
      throw py::value_error("an array with __cuda_array_interface__ is null");
    }
    ThrowIfCudaFailed(cudaGetDevice(&array.device_));
    return array;
  }
  cudaPointerAttributes attributes = {};
  ThrowIfCudaFailed(cudaPointerGetAttributes(&attributes, array.data_));
  if (attributes.type != cudaMemoryTypeDevice &&
      attributes.type != cudaMemoryTypeManaged) {
    throw py::value_error(
        "an array with __cuda_array_interface__ is not in the memory of a GPU");
  }
  array.device_ = attributes.device;
  return array;
}

Array Place::NewArray(const char* dtype,
                      const std::vector<py::ssize_t>& shape) const {
  if (!on_device()) return Array(py::array(DtypeNamed(dtype), shape));
  return Array::OnDevice(
      py::cast(std::make_unique<DeviceArray>(dtype, shape, device_, stream_)));
}

Array Place::CopyOf(const void* host, const char* dtype,
                    const std::vector<py::ssize_t>& shape) const {
  Array copy = NewArray(dtype, shape);
  const CurrentDevice current(device_);
  const int64_t item_size =
      py::cast<int64_t>(DtypeNamed(dtype).attr("itemsize"));
  ThrowIfCudaFailed(cudaMemcpyAsync(
      copy.address(), host, static_cast<size_t>(copy.size() * item_size),
      cudaMemcpyHostToDevice, stream_));
  return copy;
}

// What another stream has begun to write is waited for by this one.
void Place::WaitFor(intptr_t other) const {
  constexpr intptr_t kDefault = 1, kPerThread = 2;
  if (other == 0 || other == reinterpret_cast<intptr_t>(stream_)) return;
  if (other == kDefault && stream_ == nullptr) return;
  const CurrentDevice current(device_);
  const auto producer = other == kDefault     ? cudaStream_t{nullptr}
                        : other == kPerThread ? cudaStreamPerThread
                                              : AtAddress<cudaStream_t>(other);
  cudaEvent_t written;
  ThrowIfCudaFailed(cudaEventCreateWithFlags(&written, cudaEventDisableTiming));
  const cudaError_t recorded = cudaEventRecord(written, producer);
  const cudaError_t waits = recorded == cudaSuccess
                                ? cudaStreamWaitEvent(stream_, written, 0)
                                : recorded;
  cudaEventDestroy(written);
  ThrowIfCudaFailed(waits);
}

void Place::ThrowIfFailed(cudaError_t status) { ThrowIfCudaFailed(status); }

Place::DeviceCall::DeviceCall(const Place& place, int64_t workspace_bytes)
    : stream_(place.stream_) {
  ThrowIfCudaFailed(cudaGetDevice(&previous_device_));
  ThrowIfCudaFailed(cudaSetDevice(place.device_));
  if (workspace_bytes > 0) {
    ThrowIfCudaFailed(cudaMallocAsync(
        &workspace_, static_cast<size_t>(workspace_bytes), stream_));
  }
}

Place::DeviceCall::~DeviceCall() {
  if (workspace_ != nullptr) cudaFreeAsync(workspace_, stream_);
  cudaSetDevice(previous_device_);
}

void BindDevice(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray")
      .def(py::init(&DeviceArray::FromHost), py::arg("array"))
      .def("numpy", &DeviceArray::ToHost)
      .def_property_readonly("__cuda_array_interface__",
                             &DeviceArray::Interface)
      .def_property_readonly("shape", &DeviceArray::Shape)
      .def_property_readonly("dtype", &DeviceArray::dtype)
      .def_property_readonly("device", &DeviceArray::device);
  module.def("cuda_device_count", [] {
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
  });
#ifdef SSDOPS_CUDA_EMULATOR
  module.def("cuda_is_emulated", [] { return true; });
  module.def(
      "set_emulator_order",
      [](const std::string& order) { cuda_emulator::SetOrder(order); },
      py::arg("order"));
  module.def("emulator_launches", &cuda_emulator::Launches);
#else
  module.def("cuda_is_emulated", [] { return false; });
#endif
}

#endif  // SSDOPS_WITH_CUDA

}  // namespace ssdops::python
