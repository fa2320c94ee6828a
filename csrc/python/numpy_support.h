// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PYTHON_NUMPY_SUPPORT_H_
#define SSDOPS_PYTHON_NUMPY_SUPPORT_H_

// What the NumPy bindings share: argument checks with the wording of the public
// ops, caller-provided outputs, and threads of their own.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "ssdops/parallel_for.h"
#include "ssdops/workspace.h"

namespace ssdops::python {

namespace py = pybind11;

// Starts threads per call: enough for tests and measurements.
class ThreadedFor final : public ParallelFor {
 public:
  explicit ThreadedFor(int num_threads) : num_threads_(num_threads) {
    if (num_threads < 1) {
      throw py::value_error("num_threads must be at least 1, got " +
                            std::to_string(num_threads));
    }
  }

  int num_workers() const override { return num_threads_; }

 protected:
  void Run(int64_t count, int64_t, Function function,
           const void* context) const override {
    // Several chunks per thread, taken as they come.
    const int64_t chunk =
        std::max<int64_t>(1, count / (4 * static_cast<int64_t>(num_threads_)));
    std::atomic<int64_t> next{0};
    const auto work = [&](int worker) {
      for (;;) {
        const int64_t begin = next.fetch_add(chunk);
        if (begin >= count) return;
        function(context, begin, std::min(count, begin + chunk), worker);
      }
    };
    std::vector<std::thread> threads;
    threads.reserve(num_threads_ - 1);
    for (int worker = 1; worker < num_threads_; ++worker) {
      threads.emplace_back(work, worker);
    }
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

 private:
  int num_threads_;
};

// An aligned workspace that lives as long as the call.
class Workspace {
 public:
  explicit Workspace(int64_t bytes)
      : data_(::operator new(static_cast<size_t>(bytes), kAlignment)) {}
  ~Workspace() { ::operator delete(data_, kAlignment); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  void* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{kWorkspaceAlignment};
  void* data_;
};

inline std::string ShapeText(const py::array& array) {
  std::string text = "[";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(array.shape(axis));
  }
  return text + "]";
}

[[noreturn]] inline void ThrowShape(const char* name,
                                    const std::string& expected,
                                    const py::array& array) {
  throw py::value_error(std::string(name) + " must have shape " + expected +
                        ", got " + ShapeText(array));
}

constexpr int64_t kAny = -1;

inline bool HasShape(const py::array& array,
                     std::initializer_list<int64_t> sizes) {
  if (array.ndim() != static_cast<py::ssize_t>(sizes.size())) return false;
  py::ssize_t axis = 0;
  for (const int64_t size : sizes) {
    if (size != kAny && array.shape(axis) != size) return false;
    ++axis;
  }
  return true;
}

// Calls `function` with a zero of the dtype of `array`, float or double.
template <typename Function>
auto DispatchFloat(const char* name, const py::array& array,
                   const Function& function) {
  if (py::isinstance<py::array_t<float>>(array)) return function(float{});
  if (py::isinstance<py::array_t<double>>(array)) return function(double{});
  throw py::value_error(std::string(name) +
                        " must have dtype float32 or float64, got " +
                        std::string(py::str(array.dtype())));
}

// A C-contiguous array of exactly this dtype (copied if it is not contiguous).
template <typename T>
py::array_t<T, py::array::c_style> Input(const char* name,
                                         const py::array& array) {
  if (!py::isinstance<py::array_t<T>>(array)) {
    throw py::value_error(std::string(name) + " must have dtype " +
                          std::string(py::str(py::dtype::of<T>())) + ", got " +
                          std::string(py::str(array.dtype())));
  }
  return py::array_t<T, py::array::c_style>::ensure(array);
}

// The caller's array if one is given, else a new one.
template <typename T>
py::array_t<T> Output(const char* name, const std::vector<py::ssize_t>& shape,
                      const py::object& out) {
  if (out.is_none()) return py::array_t<T>(shape);
  const auto array = py::cast<py::array>(out);
  const bool fits = py::isinstance<py::array_t<T, py::array::c_style>>(array) &&
                    std::vector<py::ssize_t>(
                        array.shape(), array.shape() + array.ndim()) == shape;
  if (!fits || !array.writeable()) {
    std::string expected;
    for (const py::ssize_t size : shape) {
      expected += (expected.empty() ? "" : ", ") + std::to_string(size);
    }
    throw py::value_error(std::string("out for ") + name +
                          " must be a writeable C-contiguous array of dtype " +
                          std::string(py::str(py::dtype::of<T>())) +
                          " and shape [" + expected + "], got dtype " +
                          std::string(py::str(array.dtype())) + " and shape " +
                          ShapeText(array));
  }
  return py::reinterpret_borrow<py::array_t<T>>(array);
}

// Element `index` of a tuple of outputs, or None.
inline py::object OutputElement(const py::object& out, size_t index,
                                size_t count) {
  if (out.is_none()) return py::none();
  const auto items = py::cast<py::sequence>(out);
  if (items.size() != count) {
    throw py::value_error("out must have " + std::to_string(count) +
                          " arrays, got " + std::to_string(items.size()));
  }
  return items[index];
}

inline double InRange(const char* name, double value, double low, double high,
                      const char* range) {
  if (!(value >= low && value <= high)) {
    throw py::value_error(std::string(name) + " must be in " + range +
                          ", got " + std::string(py::str(py::float_(value))));
  }
  return value;
}

}  // namespace ssdops::python

#endif  // SSDOPS_PYTHON_NUMPY_SUPPORT_H_
