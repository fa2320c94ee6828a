// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TENSORFLOW_OP_SUPPORT_H_
#define SSDOPS_TENSORFLOW_OP_SUPPORT_H_

// What the thin op kernels share: TensorFlow's threads as a ParallelFor, its
// allocator as a workspace, and the run-time argument checks.

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <type_traits>

#include "ssdops/cuda_status.h"
#include "ssdops/parallel_for.h"
#include "ssdops/storage.h"
#include "ssdops/workspace.h"
#include "tf_prelude.h"

namespace ssdops {

// The storage type of the kernels for a type of TensorFlow.
template <typename T>
struct StorageOf {
  using Type = T;
};
template <>
struct StorageOf<Eigen::half> {
  using Type = Half;
};
template <>
struct StorageOf<Eigen::bfloat16> {
  using Type = BFloat16;
};
template <typename T>
using Storage = typename StorageOf<T>::Type;

// The elements of a tensor of type T as the kernels see them.
template <typename T>
const Storage<T>* Data(const tensorflow::Tensor& tensor) {
  return reinterpret_cast<const Storage<T>*>(tensor.flat<T>().data());
}
template <typename T>
Storage<T>* Data(tensorflow::Tensor* tensor) {
  return reinterpret_cast<Storage<T>*>(tensor->flat<T>().data());
}

// Below this much work a second thread costs more than it brings.
constexpr double kNanosecondsWorthAThread = 1e5;

// The intra-op thread pool of the device that runs the op.
class TfParallelFor final : public ParallelFor {
 public:
  explicit TfParallelFor(tensorflow::OpKernelContext* ctx)
      : pool_(ctx->device()->tensorflow_cpu_worker_threads()->workers) {}

  // Worker 0 is the calling thread.
  int num_workers() const override { return pool_->NumThreads() + 1; }

 protected:
  void Run(int64_t count, int64_t nanoseconds_per_item, Function function,
           const void* context) const override {
    const double work =
        static_cast<double>(count) * static_cast<double>(nanoseconds_per_item);
    if (count == 1 || work < kNanosecondsWorthAThread) {
      function(context, 0, count, 0);
      return;
    }
    // As many pieces as threads: uneven pieces cost less than waking threads
    // more often.
    const int64_t threads = std::min<int64_t>(
        pool_->NumThreads(),
        static_cast<int64_t>(2 * work / kNanosecondsWorthAThread));
    pool_->ParallelForWithWorkerId(
        count,
        tensorflow::thread::ThreadPool::SchedulingParams::Fixed(
            (count + threads - 1) / threads),
        [function, context](int64_t begin, int64_t end, int worker) {
          function(context, begin, end, worker);
        });
  }

 private:
  tensorflow::thread::ThreadPool* pool_;
};

// A workspace of at least `bytes` from TensorFlow's allocator, held by
// `buffer`.
inline absl::Status AllocateWorkspace(tensorflow::OpKernelContext* ctx,
                                      int64_t bytes, tensorflow::Tensor* buffer,
                                      void** workspace) {
  static_assert(EIGEN_MAX_ALIGN_BYTES >= kWorkspaceAlignment,
                "TensorFlow's allocator aligns for the kernels");
  TF_RETURN_IF_ERROR(ctx->allocate_temp(
      tensorflow::DT_INT8, tensorflow::TensorShape({bytes}), buffer));
  *workspace = buffer->flat<int8_t>().data();
  return absl::OkStatus();
}

// What an op kernel is a template on: a device and the type of the tensors.
template <typename T>
struct OnCpu {
  using Type = T;
  static constexpr bool kIsGpu = false;
};
template <typename T>
struct OnGpu {
  using Type = T;
  static constexpr bool kIsGpu = true;
};

#ifdef SSDOPS_WITH_CUDA
// Calls launch(workspace, stream) in the stream of the op. The workspace goes
// back to TensorFlow's allocator at once: what uses that memory next comes
// later in the same stream.
template <typename Function>
absl::Status LaunchOnGpu(tensorflow::OpKernelContext* ctx,
                         int64_t workspace_bytes, const Function& launch) {
  tensorflow::Tensor buffer;
  void* workspace = nullptr;
  TF_RETURN_IF_ERROR(
      AllocateWorkspace(ctx, workspace_bytes, &buffer, &workspace));
  const auto stream = static_cast<cudaStream_t>(
      ctx->op_device_context()->stream()->platform_specific_handle().stream);
  const cudaError_t status = launch(workspace, stream);
  if (status == cudaSuccess) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(
      "CUDA: ", cudaGetErrorName(status), " (", cudaGetErrorString(status),
      ") while starting ", ctx->op_kernel().type_string()));
}
#endif

// Expected shapes are written as in the documentation; kAny matches every size.
constexpr int64_t kAny = -1;

inline bool HasShape(const tensorflow::Tensor& tensor,
                     std::initializer_list<int64_t> sizes) {
  if (tensor.dims() != static_cast<int>(sizes.size())) return false;
  int axis = 0;
  for (const int64_t size : sizes) {
    if (size != kAny && tensor.dim_size(axis) != size) return false;
    ++axis;
  }
  return true;
}

inline absl::Status WrongShape(const char* name, const char* expected,
                               const tensorflow::Tensor& tensor) {
  return absl::InvalidArgumentError(absl::StrCat(name, " must have shape ",
                                                 expected, ", got ",
                                                 tensor.shape().DebugString()));
}

// Anchors and boxes are counted in 32-bit indices.
inline absl::Status CheckIndexable(const char* name, int64_t count) {
  if (count > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " must have fewer than 2147483648 rows, got ", count));
  }
  return absl::OkStatus();
}

// Candidates of an image, one per anchor and class, are counted in 32 bits.
inline absl::Status CheckCandidates(int64_t num_anchors, int64_t num_classes) {
  if (num_anchors > 0 && num_classes > 0xffffffff / num_anchors) {
    return absl::InvalidArgumentError(
        absl::StrCat("an image must have fewer than 4294967296 scores, got ",
                     num_anchors, " anchors with ", num_classes, " classes"));
  }
  return absl::OkStatus();
}

// A scalar input of type double that lies in [low, high].
inline absl::Status ScalarInRange(tensorflow::OpKernelContext* ctx, int index,
                                  const char* name, double low, double high,
                                  double* value) {
  const tensorflow::Tensor& tensor = ctx->input(index);
  if (!HasShape(tensor, {})) return WrongShape(name, "[]", tensor);
  *value = tensor.scalar<double>()();
  if (!(*value >= low && *value <= high)) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, " must be in [", low, ", ", high, "], got ", *value));
  }
  return absl::OkStatus();
}

// The four positive finite numbers of input `index`.
inline absl::Status ReadVariances(tensorflow::OpKernelContext* ctx, int index,
                                  double* variances) {
  const tensorflow::Tensor& tensor = ctx->input(index);
  if (!HasShape(tensor, {4})) return WrongShape("variances", "[4]", tensor);
  for (int k = 0; k < 4; ++k) {
    variances[k] = tensor.flat<double>()(k);
    if (!(variances[k] > 0 && std::isfinite(variances[k]))) {
      return absl::InvalidArgumentError(absl::StrCat(
          "variances must be 4 positive finite numbers, got ", variances[k]));
    }
  }
  return absl::OkStatus();
}

// The enumerator that an attribute names; the names are in its header, in its
// order, and the registration of the op admits no other.
template <typename Enum, size_t count>
absl::Status EnumAttr(tensorflow::OpKernelConstruction* ctx, const char* attr,
                      const char* const (&names)[count], Enum* value) {
  std::string name;
  TF_RETURN_IF_ERROR(ctx->GetAttr(attr, &name));
  for (size_t i = 0; i < count; ++i) {
    if (name == names[i]) *value = static_cast<Enum>(i);
  }
  return absl::OkStatus();
}

// Shape inference: input `index` has the rank and, where known, these sizes.
inline absl::Status MergeShape(
    tensorflow::shape_inference::InferenceContext* c, int index,
    std::initializer_list<tensorflow::shape_inference::DimensionOrConstant>
        sizes,
    tensorflow::shape_inference::ShapeHandle* merged) {
  std::vector<tensorflow::shape_inference::DimensionHandle> dims;
  for (const auto& size : sizes) dims.push_back(c->MakeDim(size));
  return c->Merge(c->input(index), c->MakeShape(dims), merged);
}

// The four dtypes of every op: the value of the attribute T, and M(T) for each.
#define SSDOPS_FLOAT_TYPES "T: {half, bfloat16, float, double}"
#define SSDOPS_FOR_EACH_FLOAT(M) \
  M(Eigen::half)                 \
  M(Eigen::bfloat16)             \
  M(float)                       \
  M(double)

// Registers Class<OnCpu<T>> and, in a build with CUDA, Class<OnGpu<T>> as
// kernels of an op; what follows is more of the registration, such as
// .HostMemory("variances") for an input that is read by the op kernel itself.
#define SSDOPS_REGISTER_KERNELS(op, Class, T, ...)                             \
  REGISTER_KERNEL_BUILDER(Name(op)                                             \
                              .Device(tensorflow::DEVICE_CPU)                  \
                              .TypeConstraint<T>("T") __VA_ARGS__,             \
                          Class<OnCpu<T>>);                                    \
  SSDOPS_CUDA_ONLY(REGISTER_KERNEL_BUILDER(Name(op)                            \
                                               .Device(tensorflow::DEVICE_GPU) \
                                               .TypeConstraint<T>("T")         \
                                                   __VA_ARGS__,                \
                                           Class<OnGpu<T>>);)

}  // namespace ssdops

#endif  // SSDOPS_TENSORFLOW_OP_SUPPORT_H_
