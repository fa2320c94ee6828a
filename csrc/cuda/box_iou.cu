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

// Of the numbers of all lanes, the same in every lane, in one order.
template <typename T>
__device__ T WarpSum(T x) {
  for (int step = kWarpThreads / 2; step > 0; step /= 2) {
    x = x + __shfl_xor_sync(0xffffffffu, x, step);
  }
  return x;
}

// One warp sums up the gradient of one box of the side `of_a`, over the boxes
// of the other side and, if its own side is not batched, the images.
template <IouKind kind, bool of_a, typename S>
__global__ void __launch_bounds__(kBlockThreads)
    PairwiseGradKernel(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                       BoxIouShape shape, S* grad_boxes) {
  using T = ComputeType<S>;
  const bool batched = of_a ? shape.a_batched : shape.b_batched;
  const int64_t num_own = of_a ? shape.num_a : shape.num_b;
  const int64_t num_other = of_a ? shape.num_b : shape.num_a;
  const int64_t count = (batched ? shape.batch : 1) * num_own;
  const int64_t images = batched ? 1 : shape.batch;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  for (int64_t box = GlobalThread() / kWarpThreads; box < count;
       box += GlobalThreads() / kWarpThreads) {
    const int64_t own = box % num_own;
    Box<T> sum = {T(0), T(0), T(0), T(0)};
    for (int64_t pair = lane; pair < images * num_other; pair += kWarpThreads) {
      const int64_t image = batched ? box / num_own : pair / num_other;
      const int64_t other = pair % num_other;
      const int64_t i = of_a ? own : other, j = of_a ? other : own;
      const int64_t row_a = (shape.a_batched ? image : 0) * shape.num_a + i;
      const int64_t row_b = (shape.b_batched ? image : 0) * shape.num_b + j;
      const T grad =
          Widen(grad_iou[(image * shape.num_a + i) * shape.num_b + j]);
      Box<T> by_a, by_b;
      IouOfKindGrad<kind>(LoadWideBox(boxes_a + 4 * row_a),
                          LoadWideBox(boxes_b + 4 * row_b), grad, &by_a, &by_b);
      const Box<T>& by_own = of_a ? by_a : by_b;
      sum = {sum.ymin + by_own.ymin, sum.xmin + by_own.xmin,
             sum.ymax + by_own.ymax, sum.xmax + by_own.xmax};
    }
    sum = {WarpSum(sum.ymin), WarpSum(sum.xmin), WarpSum(sum.ymax),
           WarpSum(sum.xmax)};
    if (lane == 0) StoreBox(sum, grad_boxes + 4 * box);
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
    StoreBox(by_a, grad_boxes_a + 4 * i);
    StoreBox(by_b, grad_boxes_b + 4 * i);
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
    constexpr int kWarps = kBlockThreads / kWarpThreads;
    const int64_t count_a = (shape.a_batched ? shape.batch : 1) * shape.num_a;
    const int64_t count_b = (shape.b_batched ? shape.batch : 1) * shape.num_b;
    const cudaError_t status = LaunchKernel(
        PairwiseGradKernel<kind, true, S>, BlocksFor(count_a, kWarps),
        kBlockThreads, stream, grad_iou, boxes_a, boxes_b, shape, grad_boxes_a);
    if (status != cudaSuccess) return status;
    return LaunchKernel(PairwiseGradKernel<kind, false, S>,
                        BlocksFor(count_b, kWarps), kBlockThreads, stream,
                        grad_iou, boxes_a, boxes_b, shape, grad_boxes_b);
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
