// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PYTHON_ARRAY_H_
#define SSDOPS_PYTHON_ARRAY_H_

// An array argument, in host memory (NumPy) or on a GPU (any object with
// `__cuda_array_interface__`: CuPy, PyTorch, Numba, JAX, DeviceArray), and the
// place where a call runs: where its arrays are.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "ssdops/cuda_status.h"
#include "ssdops/storage.h"

namespace ssdops::python {

namespace py = pybind11;

constexpr int kHost = -1;  // instead of the number of a GPU

// The name of a kernel type's dtype.
template <typename T>
const char* DtypeName();
template <>
inline const char* DtypeName<float>() {
  return "float32";
}
template <>
inline const char* DtypeName<double>() {
  return "float64";
}
template <>
inline const char* DtypeName<Half>() {
  return "float16";
}
template <>
inline const char* DtypeName<BFloat16>() {
  return "bfloat16";
}
template <>
inline const char* DtypeName<int32_t>() {
  return "int32";
}
template <>
inline const char* DtypeName<bool>() {
  return "bool";
}

class Array {
 public:
  Array() = default;
  explicit Array(const py::array& host);
  // Throws unless the object describes an array on a GPU.
  static Array OnDevice(const py::object& object);

  py::ssize_t ndim() const { return static_cast<py::ssize_t>(shape_.size()); }
  py::ssize_t shape(py::ssize_t axis) const { return shape_[axis]; }
  const std::vector<py::ssize_t>& sizes() const { return shape_; }
  py::ssize_t size() const;
  // With the byte order if it is not that of this machine.
  const std::string& dtype() const { return dtype_; }
  int device() const { return device_; }
  bool is_contiguous() const { return is_contiguous_; }
  bool is_writeable() const { return is_writeable_; }
  // The stream on which what is in the array is made, as the interface writes
  // it; 0: none is named.
  intptr_t stream() const { return stream_; }
  void* address() const { return data_; }
  // What Python knows it as.
  const py::object& object() const { return object_; }

  // A copy if it is not contiguous; an error for one on a GPU.
  Array Contiguous(const char* name) const;

 private:
  py::object object_;
  void* data_ = nullptr;
  std::vector<py::ssize_t> shape_;
  std::string dtype_;
  int device_ = kHost;
  bool is_contiguous_ = true;
  bool is_writeable_ = false;
  intptr_t stream_ = 0;
};

std::string PlaceName(int device);

// Where a call runs, and on a GPU in which stream.
class Place {
 public:
  // Of the arrays of a call, in the stream with this address (0: the default
  // stream). Throws if they are not all at the same place.
  Place(std::initializer_list<const Array*> arrays, intptr_t stream);

  int device() const { return device_; }
  bool on_device() const { return device_ != kHost; }
  std::string name() const { return PlaceName(device_); }

  Array NewArray(const char* dtype,
                 const std::vector<py::ssize_t>& shape) const;

#ifdef SSDOPS_WITH_CUDA
  // A copy of host memory on the GPU.
  Array CopyOf(const void* host, const char* dtype,
               const std::vector<py::ssize_t>& shape) const;

  // Calls launch(workspace, stream) on the GPU, with the interpreter free;
  // throws what it returns.
  template <typename Function>
  void Launch(int64_t workspace_bytes, const Function& launch) const {
    const DeviceCall call(*this, workspace_bytes);
    cudaError_t status;
    {
      py::gil_scoped_release release;
      status = launch(call.workspace(), stream_);
    }
    ThrowIfFailed(status);
  }

 private:
  static void ThrowIfFailed(cudaError_t status);
  void WaitFor(intptr_t other) const;

  // The GPU is the current one and holds a workspace.
  class DeviceCall {
   public:
    DeviceCall(const Place& place, int64_t workspace_bytes);
    ~DeviceCall();
    DeviceCall(const DeviceCall&) = delete;
    DeviceCall& operator=(const DeviceCall&) = delete;
    void* workspace() const { return workspace_; }

   private:
    cudaStream_t stream_;
    int previous_device_ = 0;
    void* workspace_ = nullptr;
  };

  cudaStream_t stream_ = nullptr;
#endif

 private:
  int device_ = kHost;
};

// A function template as an argument.
#define SSDOPS_FUNCTION(name) [](auto&&... args) { return name(args...); }

// DeviceArray, and what a GPU is there.
void BindDevice(py::module_& module);

}  // namespace ssdops::python

// Arguments of type Array take NumPy arrays, what NumPy makes an array of, and
// arrays on a GPU.
template <>
struct pybind11::detail::type_caster<ssdops::python::Array> {
 public:
  PYBIND11_TYPE_CASTER(ssdops::python::Array, const_name("array"));

  bool load(handle source, bool convert) {
    const auto object = reinterpret_borrow<pybind11::object>(source);
    if (!isinstance<array>(object) &&
        hasattr(object, "__cuda_array_interface__")) {
      value = ssdops::python::Array::OnDevice(object);
      return true;
    }
    if (!convert && !isinstance<array>(object)) return false;
    const array host = array::ensure(object);
    if (!host) {
      PyErr_Clear();
      return false;
    }
    value = ssdops::python::Array(host);
    return true;
  }

  static handle cast(const ssdops::python::Array& result, return_value_policy,
                     handle) {
    return pybind11::object(result.object()).release();
  }
};

#endif  // SSDOPS_PYTHON_ARRAY_H_
