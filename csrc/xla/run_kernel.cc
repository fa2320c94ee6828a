// SPDX-License-Identifier: Apache-2.0

// What compiled programs call: runs an op kernel of TensorFlow on XLA's
// buffers.

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "ffi_prelude.h"

namespace ssdops {
namespace {

using tensorflow::Allocator;
using tensorflow::AllocatorAttributes;
using tensorflow::DataType;
using tensorflow::OpKernel;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorValue;

namespace ffi = xla::ffi;

absl::StatusOr<DataType> TypeOf(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32:
      return tensorflow::DT_FLOAT;
    case ffi::DataType::F64:
      return tensorflow::DT_DOUBLE;
    case ffi::DataType::F16:
      return tensorflow::DT_HALF;
    case ffi::DataType::BF16:
      return tensorflow::DT_BFLOAT16;
    case ffi::DataType::S32:
      return tensorflow::DT_INT32;
    case ffi::DataType::PRED:
      return tensorflow::DT_BOOL;
    default:
      return absl::InvalidArgumentError("no op takes this type");
  }
}

// A buffer of XLA, without owning it.
class BorrowedBuffer final : public tensorflow::TensorBuffer {
 public:
  BorrowedBuffer(void* data, size_t size) : TensorBuffer(data), size_(size) {}

  size_t size() const override { return size_; }
  TensorBuffer* root_buffer() override { return this; }
  void FillAllocationDescription(
      tensorflow::AllocationDescription*) const override {}
  // So that no kernel writes its result there.
  bool OwnsMemory() const override { return false; }

 private:
  size_t size_;
};

bool IsAligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % EIGEN_MAX_ALIGN_BYTES == 0;
}

// The buffer as a tensor, without a copy where its place allows.
absl::StatusOr<Tensor> InputTensor(const ffi::AnyBuffer& buffer) {
  const absl::StatusOr<DataType> type = TypeOf(buffer.element_type());
  if (!type.ok()) return type.status();
  TensorShape shape;
  for (const int64_t size : buffer.dimensions()) shape.AddDim(size);
  if (shape.num_elements() == 0 || !IsAligned(buffer.untyped_data())) {
    Tensor copy(*type, shape);
    if (shape.num_elements() > 0) {
      memcpy(copy.data(), buffer.untyped_data(), buffer.size_bytes());
    }
    return copy;
  }
  auto* borrowed =
      new BorrowedBuffer(buffer.untyped_data(), buffer.size_bytes());
  Tensor tensor(*type, shape, borrowed);
  borrowed->Unref();
  return tensor;
}

// Gives out one buffer of XLA, once.
class ResultAllocator final : public Allocator {
 public:
  void Set(void* data, size_t bytes) {
    data_ = data;
    bytes_ = bytes;
  }

  std::string Name() override { return "ssdops_xla_result"; }
  void* AllocateRaw(size_t alignment, size_t bytes) override {
    if (bytes != bytes_ ||
        reinterpret_cast<uintptr_t>(data_) % alignment != 0) {
      return tensorflow::cpu_allocator()->AllocateRaw(alignment, bytes);
    }
    return data_;
  }
  void DeallocateRaw(void* data) override {
    if (data != data_) tensorflow::cpu_allocator()->DeallocateRaw(data);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// The upper bits of the attributes are a device's own: the number of the
// result, from 1.
constexpr uint32_t kResultShift = 24;
constexpr size_t kMaxResults = 8;

// A CPU of TensorFlow, for one call.
class CallDevice final : public tensorflow::DeviceBase {
 public:
  explicit CallDevice(const CpuWorkerThreads* threads)
      : DeviceBase(tsl::Env::Default()) {
    set_tensorflow_cpu_worker_threads(const_cast<CpuWorkerThreads*>(threads));
  }

  Allocator* GetAllocator(AllocatorAttributes attributes) override {
    const size_t result = attributes.value >> kResultShift;
    return result == 0 ? tensorflow::cpu_allocator() : &results[result - 1];
  }

  ResultAllocator results[kMaxResults];
};

// Threads of our own, as many as XLA has: to wait on one of XLA's for others of
// them would be a deadlock when all wait.
const tensorflow::DeviceBase::CpuWorkerThreads* Threads(int count) {
  static std::mutex mutex;
  // Never freed: calls may run until the process ends.
  static auto& pools =
      *new std::map<int, tensorflow::DeviceBase::CpuWorkerThreads>();
  const std::lock_guard<std::mutex> lock(mutex);
  auto& threads = pools[count];
  if (threads.workers == nullptr) {
    threads.num_threads = count;
    threads.workers = new tensorflow::thread::ThreadPool(tsl::Env::Default(),
                                                         "ssdops_xla", count);
  }
  return &threads;
}

std::string FromHex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>(16 * digit(text[i]) + digit(text[i + 1]));
  }
  return bytes;
}

// The kernel for a node, made at its first call.
absl::StatusOr<OpKernel*> KernelFor(std::string_view text) {
  static std::mutex mutex;
  static auto& kernels =
      *new std::unordered_map<std::string, std::unique_ptr<OpKernel>>();
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<OpKernel>& kernel = kernels[std::string(text)];
  if (kernel == nullptr) {
    tensorflow::NodeDef node;
    if (!node.ParseFromString(FromHex(text))) {
      return absl::InternalError("the node of a call cannot be read");
    }
    std::shared_ptr<const tensorflow::NodeProperties> properties;
    absl::Status status = tensorflow::NodeProperties::CreateFromNodeDef(
        node, tensorflow::OpRegistry::Global(), &properties);
    if (!status.ok()) return status;
    // A kernel needs no threads before it runs.
    CallDevice device(nullptr);
    OpKernel* made = nullptr;
    status = tensorflow::CreateOpKernel(
        tensorflow::DeviceType(tensorflow::DEVICE_CPU), &device,
        tensorflow::cpu_allocator(), /*flib=*/nullptr, properties,
        TF_GRAPH_DEF_VERSION, &made);
    if (!status.ok()) return status;
    kernel.reset(made);
  }
  return kernel.get();
}

absl::Status Run(int num_threads, const ffi::RemainingArgs& arguments,
                 const ffi::RemainingRets& results, std::string_view node) {
  const absl::StatusOr<OpKernel*> kernel = KernelFor(node);
  if (!kernel.ok()) return kernel.status();
  std::vector<Tensor> inputs(arguments.size());
  std::vector<TensorValue> values(arguments.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto argument = arguments.get<ffi::AnyBuffer>(i);
    if (argument.has_error()) {
      return absl::InternalError(argument.error().message());
    }
    absl::StatusOr<Tensor> tensor = InputTensor(*argument);
    if (!tensor.ok()) return tensor.status();
    inputs[i] = *std::move(tensor);
    values[i] = TensorValue(&inputs[i]);
  }
  if (results.size() > kMaxResults) {
    return absl::InternalError("an op has more results than expected");
  }
  CallDevice device(Threads(num_threads));
  AllocatorAttributes output_attributes[kMaxResults];
  ffi::AnyBuffer* buffers[kMaxResults] = {};
  std::vector<ffi::Result<ffi::AnyBuffer>> kept;
  kept.reserve(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    auto result = results.get<ffi::AnyBuffer>(i);
    if (result.has_error()) {
      return absl::InternalError(result.error().message());
    }
    kept.push_back(*result);
    buffers[i] = &*kept.back();
    device.results[i].Set(buffers[i]->untyped_data(), buffers[i]->size_bytes());
    output_attributes[i].value = static_cast<uint32_t>(i + 1) << kResultShift;
  }
  OpKernelContext::Params params;
  params.op_kernel = *kernel;
  params.device = &device;
  params.inputs = values;
  params.output_attr_array = output_attributes;
  params.frame_iter = tensorflow::FrameAndIter(0, 0);
  OpKernelContext context(&params, static_cast<int>(results.size()));
  (*kernel)->Compute(&context);
  if (!context.status().ok()) return context.status();
  for (size_t i = 0; i < results.size(); ++i) {
    const Tensor* output = context.mutable_output(static_cast<int>(i));
    const size_t bytes = buffers[i]->size_bytes();
    if (output == nullptr || output->TotalBytes() != bytes) {
      return absl::InternalError("a result has another size than XLA expects");
    }
    if (bytes > 0 && output->data() != buffers[i]->untyped_data()) {
      memcpy(buffers[i]->untyped_data(), output->data(), bytes);
    }
  }
  return absl::OkStatus();
}

ffi::Error RunKernel(ffi::ThreadPool threads, ffi::RemainingArgs arguments,
                     ffi::RemainingRets results, std::string_view node) {
  const int num_threads =
      std::max<int>(1, static_cast<int>(threads.num_threads()));
  const absl::Status status = Run(num_threads, arguments, results, node);
  if (status.ok()) return ffi::Error::Success();
  return ffi::Error(static_cast<ffi::ErrorCode>(status.raw_code()),
                    std::string(status.message()));
}

XLA_FFI_DEFINE_HANDLER(kRunKernel, RunKernel,
                       ffi::Ffi::Bind()
                           .Ctx<ffi::ThreadPool>()
                           .RemainingArgs()
                           .RemainingRets()
                           .Attr<std::string_view>("node"));

XLA_FFI_REGISTER_HANDLER(ffi::GetXlaFfiApi(), "ssdops_run_kernel", "Host",
                         kRunKernel);

}  // namespace
}  // namespace ssdops
