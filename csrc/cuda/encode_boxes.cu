// SPDX-License-Identifier: Apache-2.0
#include "box_coding.h"
#include "ssdops/encode_boxes_cuda.h"

namespace ssdops {
namespace {

template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeKernel(const S* boxes, const S* anchors,
                 Variances<ComputeType<S>> variances, int64_t rows,
                 int64_t num_anchors, S* offsets) {
  for (int64_t row = GlobalThread(); row < rows; row += GlobalThreads()) {
    EncodeBox(LoadWideBox(boxes + 4 * row),
              LoadWideBox(anchors + 4 * (row % num_anchors)), variances.values,
              offsets + 4 * row);
  }
}

template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    EncodeGradKernel(const S* grad_offsets, const S* boxes, const S* anchors,
                     Variances<ComputeType<S>> variances, int64_t rows,
                     int64_t num_anchors, S* grad_boxes) {
  for (int64_t row = GlobalThread(); row < rows; row += GlobalThreads()) {
    S grad[4];
    CopyRow(grad_offsets + 4 * row, grad);
    EncodeBoxGrad(grad, LoadWideBox(boxes + 4 * row),
                  LoadWideBox(anchors + 4 * (row % num_anchors)),
                  variances.values, grad_boxes + 4 * row);
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchEncodeBoxes(const S* boxes, const S* anchors,
                              const ComputeType<S>* variances, int64_t batch,
                              int64_t num_anchors, S* offsets,
                              cudaStream_t stream) {
  const int64_t rows = batch * num_anchors;
  return LaunchKernel(EncodeKernel<S>, BlocksFor(rows, kBlockThreads),
                      kBlockThreads, stream, boxes, anchors,
                      Variances<ComputeType<S>>(variances), rows, num_anchors,
                      offsets);
}

template <typename S>
cudaError_t LaunchEncodeBoxesGrad(const S* grad_offsets, const S* boxes,
                                  const S* anchors,
                                  const ComputeType<S>* variances,
                                  int64_t batch, int64_t num_anchors,
                                  S* grad_boxes, cudaStream_t stream) {
  const int64_t rows = batch * num_anchors;
  return LaunchKernel(EncodeGradKernel<S>, BlocksFor(rows, kBlockThreads),
                      kBlockThreads, stream, grad_offsets, boxes, anchors,
                      Variances<ComputeType<S>>(variances), rows, num_anchors,
                      grad_boxes);
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template cudaError_t LaunchEncodeBoxes<S>(const S*, const S*,              \
                                            const ComputeType<S>*, int64_t,  \
                                            int64_t, S*, cudaStream_t);      \
  template cudaError_t LaunchEncodeBoxesGrad<S>(                             \
      const S*, const S*, const S*, const ComputeType<S>*, int64_t, int64_t, \
      S*, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
