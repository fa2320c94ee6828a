// SPDX-License-Identifier: Apache-2.0
#include "launch.h"
#include "ssdops/box_iou_cuda.h"
#include "ssdops/storage.h"

namespace ssdops {
namespace {

// Rows of the result that a thread computes in one column, whose box it loads
// once.
constexpr int kRows = 16;

// The threads of a block side by side cover this many columns, a power of two.
int Columns(int64_t num_b) {
  int columns = 1;
  while (columns < num_b && columns < kBlockThreads) columns *= 2;
  return columns;
}

template <typename T>
struct Side {
  Box<T> box;
  T area, angle;
};

template <IouKind kind, typename S>
__device__ Side<ComputeType<S>> LoadSide(const S* corners) {
  const auto box = LoadWideBox(corners);
  return {box, Area(box), AngleFor<kind>(box)};
}

template <IouKind kind, typename T>
__device__ T Value(const Side<T>& a, const Side<T>& b) {
  return PairIou<kind, T>(a.box, a.area, a.angle, b.box, b.area, b.angle,
                          Intersection(a.box, b.box));
}

template <IouKind kind, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    PairwiseKernel(const S* boxes_a, const S* boxes_b, BoxIouShape shape,
                   int columns, S* iou) {
  const int lane = static_cast<int>(threadIdx.x) % columns;
  const int rows_aside = kBlockThreads / columns;
  const int64_t strip_rows = int64_t{kRows} * rows_aside;
  const int64_t strips = CeilDivide(shape.num_a, strip_rows);
  const int64_t tiles = CeilDivide(shape.num_b, columns);
  const int64_t count = shape.batch * strips * tiles;
  for (int64_t block = blockIdx.x; block < count; block += gridDim.x) {
    const int64_t column = block % tiles * columns + lane;
    if (column >= shape.num_b) continue;
    const int64_t strip = block / tiles % strips;
    const int64_t image = block / tiles / strips;
    const S* image_a =
        boxes_a + (shape.a_batched ? image : 0) * shape.num_a * 4;
    const S* image_b =
        boxes_b + (shape.b_batched ? image : 0) * shape.num_b * 4;
    const auto b = LoadSide<kind>(image_b + 4 * column);
    const int64_t first =
        strip * strip_rows + static_cast<int>(threadIdx.x) / columns;
    for (int k = 0; k < kRows; ++k) {
      const int64_t row = first + int64_t{k} * rows_aside;
      if (row >= shape.num_a) break;
      const auto a = LoadSide<kind>(image_a + 4 * row);
      iou[(image * shape.num_a + row) * shape.num_b + column] =
          Narrow<S>(Value<kind>(a, b));
    }
  }
}

template <IouKind kind, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    AlignedKernel(const S* boxes_a, const S* boxes_b, int64_t count, S* iou) {
  for (int64_t i = GlobalThread(); i < count; i += GlobalThreads()) {
    iou[i] = Narrow<S>(Value<kind>(LoadSide<kind>(boxes_a + 4 * i),
                                   LoadSide<kind>(boxes_b + 4 * i)));
  }
}

template <typename T>
__device__ Box<T> Sum(const Box<T>& a, const Box<T>& b) {
  return {a.ymin + b.ymin, a.xmin + b.xmin, a.ymax + b.ymax, a.xmax + b.xmax};
}

template <typename T>
__device__ Box<T> BoxOfLane(const Box<T>& box, int lane) {
  return {__shfl_sync(kAllLanes, box.ymin, lane),
          __shfl_sync(kAllLanes, box.xmin, lane),
          __shfl_sync(kAllLanes, box.ymax, lane),
          __shfl_sync(kAllLanes, box.xmax, lane)};
}

// The sums below are those of the CPU, addition by addition.

// Lanes that sum up the gradient of one row: by the number of the column modulo
// this one; then lanes at a distance of 8, 4, 2 and 1 are joined.
constexpr int kParts = 16;

template <IouKind kind, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    GradRowsKernel(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                   BoxIouShape shape, S* grad_boxes_a) {
  using T = ComputeType<S>;
  const int64_t num_a = shape.num_a, num_b = shape.num_b;
  const int64_t rows = (shape.a_batched ? shape.batch : 1) * num_a;
  const int64_t step = GlobalThreads() / kParts;
  const int lane = static_cast<int>(threadIdx.x) % kParts;
  // All lanes of a warp make the same number of steps, for the shuffles.
  for (int64_t first_row = GlobalThread() / kWarpThreads * 2; first_row < rows;
       first_row += step) {
    const int64_t row = first_row + static_cast<int>(threadIdx.x) / kParts % 2;
    Box<T> sum = {T(0), T(0), T(0), T(0)};
    if (row < rows) {
      const Box<T> a = LoadWideBox(boxes_a + 4 * row);
      const int64_t first = shape.a_batched ? row / num_a : 0;
      const int64_t last = shape.a_batched ? first + 1 : shape.batch;
      const int64_t row_of_image = shape.a_batched ? row % num_a : row;
      for (int64_t image = first; image < last; ++image) {
        const S* image_b = boxes_b + (shape.b_batched ? 4 * image * num_b : 0);
        const S* grads = grad_iou + (image * num_a + row_of_image) * num_b;
        for (int64_t j = lane; j < num_b; j += kParts) {
          Box<T> by_a, by_b;
          IouOfKindGrad<kind>(a, LoadWideBox(image_b + 4 * j), Widen(grads[j]),
                              &by_a, &by_b);
          sum = Sum(sum, by_a);
        }
      }
    }
    for (int distance = kParts / 2; distance > 0; distance /= 2) {
      sum =
          Sum(sum, BoxOfLane(sum, static_cast<int>(threadIdx.x) % kWarpThreads ^
                                      distance));
    }
    if (row < rows && lane == 0) StoreBox<S>(sum, grad_boxes_a + 4 * row);
  }
}

// Rows whose gradients are added up before they go to the sum of a column.
constexpr int kRowsOfPartialSum = 64;

// A warp per column; every lane adds up some rows.
template <IouKind kind, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    GradColumnsKernel(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                      BoxIouShape shape, S* grad_boxes_b) {
  using T = ComputeType<S>;
  const int64_t num_a = shape.num_a, num_b = shape.num_b;
  const int64_t columns = (shape.b_batched ? shape.batch : 1) * num_b;
  const int64_t partials = CeilDivide(num_a, kRowsOfPartialSum);
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  for (int64_t column = GlobalThread() / kWarpThreads; column < columns;
       column += GlobalThreads() / kWarpThreads) {
    const Box<T> b = LoadWideBox(boxes_b + 4 * column);
    const int64_t first = shape.b_batched ? column / num_b : 0;
    const int64_t last = shape.b_batched ? first + 1 : shape.batch;
    const int64_t j = column % num_b;
    Box<T> sum = {T(0), T(0), T(0), T(0)};
    for (int64_t image = first; image < last; ++image) {
      const S* image_a = boxes_a + (shape.a_batched ? 4 * image * num_a : 0);
      const S* grads = grad_iou + image * num_a * num_b + j;
      for (int64_t group = 0; group < partials; group += kWarpThreads) {
        const int64_t begin = (group + lane) * kRowsOfPartialSum;
        const int64_t end = begin + kRowsOfPartialSum;
        Box<T> partial = {T(0), T(0), T(0), T(0)};
        for (int64_t i = begin; i < end && i < num_a; ++i) {
          Box<T> by_a, by_b;
          IouOfKindGrad<kind>(LoadWideBox(image_a + 4 * i), b,
                              Widen(grads[i * num_b]), &by_a, &by_b);
          partial = Sum(partial, by_b);
        }
        for (int k = 0; k < kWarpThreads && group + k < partials; ++k) {
          sum = Sum(sum, BoxOfLane(partial, k));
        }
      }
    }
    if (lane == 0) StoreBox<S>(sum, grad_boxes_b + 4 * column);
  }
}

template <IouKind kind, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    AlignedGradKernel(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                      int64_t count, S* grad_boxes_a, S* grad_boxes_b) {
  using T = ComputeType<S>;
  for (int64_t i = GlobalThread(); i < count; i += GlobalThreads()) {
    Box<T> by_a, by_b;
    IouOfKindGrad<kind>(LoadWideBox(boxes_a + 4 * i),
                        LoadWideBox(boxes_b + 4 * i), Widen(grad_iou[i]), &by_a,
                        &by_b);
    StoreBox<S>(by_a, grad_boxes_a + 4 * i);
    StoreBox<S>(by_b, grad_boxes_b + 4 * i);
  }
}

// Runs launch for the kind.
template <typename Launch>
cudaError_t ForKind(IouKind kind, const Launch& launch) {
  switch (kind) {
    case IouKind::kIou:
      return launch.template Run<IouKind::kIou>();
    case IouKind::kGiou:
      return launch.template Run<IouKind::kGiou>();
    case IouKind::kDiou:
      return launch.template Run<IouKind::kDiou>();
    case IouKind::kCiou:
      return launch.template Run<IouKind::kCiou>();
    default:
      return launch.template Run<IouKind::kIoa>();
  }
}

template <typename S>
struct Pairwise {
  template <IouKind kind>
  cudaError_t Run() const {
    const int columns = Columns(shape.num_b);
    const int64_t strip_rows = int64_t{kRows} * (kBlockThreads / columns);
    const int64_t blocks = shape.batch * CeilDivide(shape.num_a, strip_rows) *
                           CeilDivide(shape.num_b, columns);
    return LaunchKernel(PairwiseKernel<kind, S>, BlocksFor(blocks, 1),
                        kBlockThreads, stream, boxes_a, boxes_b, shape, columns,
                        iou);
  }
  const S *boxes_a, *boxes_b;
  BoxIouShape shape;
  S* iou;
  cudaStream_t stream;
};

template <typename S>
struct Aligned {
  template <IouKind kind>
  cudaError_t Run() const {
    return LaunchKernel(AlignedKernel<kind, S>, BlocksFor(count, kBlockThreads),
                        kBlockThreads, stream, boxes_a, boxes_b, count, iou);
  }
  const S *boxes_a, *boxes_b;
  int64_t count;
  S* iou;
  cudaStream_t stream;
};

template <typename S>
struct PairwiseGrad {
  template <IouKind kind>
  cudaError_t Run() const {
    const int64_t rows = (shape.a_batched ? shape.batch : 1) * shape.num_a;
    const int64_t columns = (shape.b_batched ? shape.batch : 1) * shape.num_b;
    const cudaError_t status = LaunchKernel(
        GradRowsKernel<kind, S>, BlocksFor(rows, kBlockThreads / kParts),
        kBlockThreads, stream, grad_iou, boxes_a, boxes_b, shape, grad_boxes_a);
    if (status != cudaSuccess) return status;
    return LaunchKernel(GradColumnsKernel<kind, S>,
                        BlocksFor(columns, kBlockThreads / kWarpThreads),
                        kBlockThreads, stream, grad_iou, boxes_a, boxes_b,
                        shape, grad_boxes_b);
  }
  const S *grad_iou, *boxes_a, *boxes_b;
  BoxIouShape shape;
  S *grad_boxes_a, *grad_boxes_b;
  cudaStream_t stream;
};

template <typename S>
struct AlignedGrad {
  template <IouKind kind>
  cudaError_t Run() const {
    return LaunchKernel(AlignedGradKernel<kind, S>,
                        BlocksFor(count, kBlockThreads), kBlockThreads, stream,
                        grad_iou, boxes_a, boxes_b, count, grad_boxes_a,
                        grad_boxes_b);
  }
  const S *grad_iou, *boxes_a, *boxes_b;
  int64_t count;
  S *grad_boxes_a, *grad_boxes_b;
  cudaStream_t stream;
};

}  // namespace

template <typename S>
cudaError_t LaunchBoxIou(const S* boxes_a, const S* boxes_b,
                         const BoxIouShape& shape, IouKind kind, S* iou,
                         cudaStream_t stream) {
  return ForKind(kind, Pairwise<S>{boxes_a, boxes_b, shape, iou, stream});
}

template <typename S>
cudaError_t LaunchBoxIouAligned(const S* boxes_a, const S* boxes_b,
                                int64_t count, IouKind kind, S* iou,
                                cudaStream_t stream) {
  return ForKind(kind, Aligned<S>{boxes_a, boxes_b, count, iou, stream});
}

template <typename S>
cudaError_t LaunchBoxIouGrad(const S* grad_iou, const S* boxes_a,
                             const S* boxes_b, const BoxIouShape& shape,
                             IouKind kind, S* grad_boxes_a, S* grad_boxes_b,
                             cudaStream_t stream) {
  return ForKind(kind, PairwiseGrad<S>{grad_iou, boxes_a, boxes_b, shape,
                                       grad_boxes_a, grad_boxes_b, stream});
}

template <typename S>
cudaError_t LaunchBoxIouAlignedGrad(const S* grad_iou, const S* boxes_a,
                                    const S* boxes_b, int64_t count,
                                    IouKind kind, S* grad_boxes_a,
                                    S* grad_boxes_b, cudaStream_t stream) {
  return ForKind(kind, AlignedGrad<S>{grad_iou, boxes_a, boxes_b, count,
                                      grad_boxes_a, grad_boxes_b, stream});
}

#define SSDOPS_INSTANTIATE(S)                                                  \
  template cudaError_t LaunchBoxIou<S>(const S*, const S*, const BoxIouShape&, \
                                       IouKind, S*, cudaStream_t);             \
  template cudaError_t LaunchBoxIouAligned<S>(const S*, const S*, int64_t,     \
                                              IouKind, S*, cudaStream_t);      \
  template cudaError_t LaunchBoxIouGrad<S>(const S*, const S*, const S*,       \
                                           const BoxIouShape&, IouKind, S*,    \
                                           S*, cudaStream_t);                  \
  template cudaError_t LaunchBoxIouAlignedGrad<S>(                             \
      const S*, const S*, const S*, int64_t, IouKind, S*, S*, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
