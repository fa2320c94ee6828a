// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PYTHON_ARRAY_SUPPORT_H_
#define SSDOPS_PYTHON_ARRAY_SUPPORT_H_

// What the bindings share: argument checks with the wording of the public ops,
// caller-provided outputs, and threads of their own.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <new>
#include <thread>

#include "array.h"
#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"
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

inline std::string ShapeText(const std::vector<py::ssize_t>& shape) {
  std::string text;
  for (const py::ssize_t size : shape) {
    text += (text.empty() ? "" : ", ") + std::to_string(size);
  }
  return "[" + text + "]";
}

[[noreturn]] inline void ThrowShape(const char* name,
                                    const std::string& expected,
                                    const Array& array) {
  throw py::value_error(std::string(name) + " must have shape " + expected +
                        ", got " + ShapeText(array.sizes()));
}

constexpr int64_t kAny = -1;

inline bool HasShape(const Array& array, std::initializer_list<int64_t> sizes) {
  if (array.ndim() != static_cast<py::ssize_t>(sizes.size())) return false;
  py::ssize_t axis = 0;
  for (const int64_t size : sizes) {
    if (size != kAny && array.shape(axis) != size) return false;
    ++axis;
  }
  return true;
}

// Calls `function` with a zero of the dtype of `array`.
template <typename Function>
auto DispatchFloat(const char* name, const Array& array,
                   const Function& function) {
  const std::string& dtype = array.dtype();
  if (dtype == "float32") return function(float{});
  if (dtype == "float64") return function(double{});
  if (dtype == "float16") return function(Half{});
  if (dtype == "bfloat16") return function(BFloat16{});
  throw py::value_error(
      std::string(name) +
      " must have dtype float16, bfloat16, float32 or float64, got " + dtype);
}

// A C-contiguous array whose dtype is that of T.
template <typename T>
class TypedArray : public Array {
 public:
  explicit TypedArray(Array array) : Array(std::move(array)) {}

  const T* data() const { return static_cast<const T*>(address()); }
  T* mutable_data() { return static_cast<T*>(address()); }
};

// The argument with exactly this dtype, copied if it is not contiguous.
template <typename T>
TypedArray<T> Input(const char* name, const Array& array) {
  if (array.dtype() != DtypeName<T>()) {
    throw py::value_error(std::string(name) + " must have dtype " +
                          DtypeName<T>() + ", got " + array.dtype());
  }
  return TypedArray<T>(array.Contiguous(name));
}

// The caller's array if one is given, else a new one at that place.
template <typename T>
TypedArray<T> Output(const Place& place, const char* name,
                     const std::vector<py::ssize_t>& shape,
                     const py::object& out) {
  if (out.is_none())
    return TypedArray<T>(place.NewArray(DtypeName<T>(), shape));
  const auto array = py::cast<Array>(out);
  const bool fits = array.dtype() == DtypeName<T>() && array.is_contiguous() &&
                    array.sizes() == shape && array.device() == place.device();
  if (!fits || !array.is_writeable()) {
    throw py::value_error(
        std::string("out for ") + name +
        " must be a writeable C-contiguous array of dtype " + DtypeName<T>() +
        " and shape " + ShapeText(shape) + " on " + place.name() +
        ", got dtype " + array.dtype() + " and shape " +
        ShapeText(array.sizes()) + " on " + PlaceName(array.device()));
  }
  return TypedArray<T>(array);
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

// Candidates of an image, one per anchor and class, are counted in 32 bits.
inline void CheckCandidates(int64_t num_anchors, int64_t num_classes) {
  if (num_anchors > 0 && num_classes > 0xffffffff / num_anchors) {
    throw py::value_error(
        "an image must have fewer than 4294967296 scores, got " +
        std::to_string(num_anchors) + " anchors with " +
        std::to_string(num_classes) + " classes");
  }
}

// The enumerator that a user names; the names are in its header, in its order.
template <typename Enum, size_t count>
Enum EnumOf(const char* argument, const std::string& name,
            const char* const (&names)[count]) {
  std::string expected;
  for (size_t i = 0; i < count; ++i) {
    if (name == names[i]) return static_cast<Enum>(i);
    expected += (i == 0 ? "" : ", ") + std::string(names[i]);
  }
  throw py::value_error(std::string(argument) + " must be one of " + expected +
                        ", got " + name);
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

#endif  // SSDOPS_PYTHON_ARRAY_SUPPORT_H_
