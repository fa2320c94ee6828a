// SPDX-License-Identifier: Apache-2.0
#include "box_coding.h"
#include "ssdops/decode_boxes_cuda.h"

namespace ssdops {
namespace {

template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeKernel(const S* offsets, const S* anchors,
                 Variances<ComputeType<S>> variances, int64_t rows,
                 int64_t num_anchors, S* boxes) {
  for (int64_t row = GlobalThread(); row < rows; row += GlobalThreads()) {
    StoreBox(DecodeBox(offsets + 4 * row,
                       LoadWideBox(anchors + 4 * (row % num_anchors)),
                       variances.values),
             boxes + 4 * row);
  }
}

template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    DecodeGradKernel(const S* grad_boxes, const S* offsets, const S* anchors,
                     Variances<ComputeType<S>> variances, int64_t rows,
                     int64_t num_anchors, S* grad_offsets) {
  for (int64_t row = GlobalThread(); row < rows; row += GlobalThreads()) {
    const auto grad = LoadWideBox(grad_boxes + 4 * row);
    const auto t = LoadWideBox(offsets + 4 * row);
    const auto anchor = LoadWideBox(anchors + 4 * (row % num_anchors));
    S* to = grad_offsets + 4 * row;
    DecodeExtentGrad<S>(grad.ymin, grad.ymax, t.ymin, t.ymax,
                        MakeExtent(anchor.ymin, anchor.ymax),
                        variances.values[0], variances.values[2], to, to + 2);
    DecodeExtentGrad<S>(grad.xmin, grad.xmax, t.xmin, t.xmax,
                        MakeExtent(anchor.xmin, anchor.xmax),
                        variances.values[1], variances.values[3], to + 1,
                        to + 3);
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchDecodeBoxes(const S* offsets, const S* anchors,
                              const ComputeType<S>* variances, int64_t batch,
                              int64_t num_anchors, S* boxes,
                              cudaStream_t stream) {
  const int64_t rows = batch * num_anchors;
  return LaunchKernel(DecodeKernel<S>, BlocksFor(rows, kBlockThreads),
                      kBlockThreads, stream, offsets, anchors,
                      Variances<ComputeType<S>>(variances), rows, num_anchors,
                      boxes);
}

template <typename S>
cudaError_t LaunchDecodeBoxesGrad(const S* grad_boxes, const S* offsets,
                                  const S* anchors,
                                  const ComputeType<S>* variances,
                                  int64_t batch, int64_t num_anchors,
                                  S* grad_offsets, cudaStream_t stream) {
  const int64_t rows = batch * num_anchors;
  return LaunchKernel(DecodeGradKernel<S>, BlocksFor(rows, kBlockThreads),
                      kBlockThreads, stream, grad_boxes, offsets, anchors,
                      Variances<ComputeType<S>>(variances), rows, num_anchors,
                      grad_offsets);
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template cudaError_t LaunchDecodeBoxes<S>(const S*, const S*,              \
                                            const ComputeType<S>*, int64_t,  \
                                            int64_t, S*, cudaStream_t);      \
  template cudaError_t LaunchDecodeBoxesGrad<S>(                             \
      const S*, const S*, const S*, const ComputeType<S>*, int64_t, int64_t, \
      S*, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
