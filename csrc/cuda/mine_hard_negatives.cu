// SPDX-License-Identifier: Apache-2.0
#include "hard_negatives.h"
#include "ssdops/mine_hard_negatives_cuda.h"

namespace ssdops {
namespace {

template <typename S>
__global__ void __launch_bounds__(kMiningThreads)
    MineKernel(const S* losses, const int32_t* classes,
               MineHardNegativesShape shape, double negative_ratio,
               bool* mined) {
  __shared__ MiningStorage storage;
  for (int64_t image = blockIdx.x; image < shape.batch; image += gridDim.x) {
    const int64_t first = image * shape.num_anchors;
    MineImage(losses + first, classes + first, shape.num_anchors,
              negative_ratio, mined + first, &storage);
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchMineHardNegatives(const S* losses,
                                    const int32_t* target_classes,
                                    const MineHardNegativesShape& shape,
                                    double negative_ratio, bool* mined,
                                    cudaStream_t stream) {
  return LaunchKernel(MineKernel<S>, BlocksFor(shape.batch, 1), kMiningThreads,
                      stream, losses, target_classes, shape, negative_ratio,
                      mined);
}

#define SSDOPS_INSTANTIATE(S)                                                 \
  template cudaError_t LaunchMineHardNegatives<S>(                            \
      const S*, const int32_t*, const MineHardNegativesShape&, double, bool*, \
      cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
