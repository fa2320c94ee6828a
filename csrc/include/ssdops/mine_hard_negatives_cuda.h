// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_MINE_HARD_NEGATIVES_CUDA_H_
#define SSDOPS_MINE_HARD_NEGATIVES_CUDA_H_

#include "ssdops/cuda_status.h"
#include "ssdops/mine_hard_negatives.h"

#ifdef SSDOPS_WITH_CUDA

namespace ssdops {

// As in mine_hard_negatives.h, on a GPU (cuda_status.h). Needs no workspace.
template <typename S>
cudaError_t LaunchMineHardNegatives(const S* losses,
                                    const int32_t* target_classes,
                                    const MineHardNegativesShape& shape,
                                    double negative_ratio, bool* mined,
                                    cudaStream_t stream);

}  // namespace ssdops

#endif  // SSDOPS_WITH_CUDA

#endif  // SSDOPS_MINE_HARD_NEGATIVES_CUDA_H_
