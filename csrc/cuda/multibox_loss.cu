// SPDX-License-Identifier: Apache-2.0
#include <cub/block/block_reduce.cuh>

#include "class_rows.h"
#include "hard_negatives.h"
#include "ssdops/confidence_loss.h"
#include "ssdops/localization_loss.h"
#include "ssdops/multibox_loss_cuda.h"
#include "ssdops/workspace.h"

namespace ssdops {
namespace {

// Rows that half a warp works on, and those of a block.
constexpr int kRowsOfGroup = 16;
constexpr int kRowsOfBlock = kBlockThreads / kRowLanes * kRowsOfGroup;

// What the rows of a block, or of an image, add to the losses.
struct PartialLoss {
  double localization, confidence, positives;
  // Rows whose class does not exist.
  double invalid;
};

__device__ inline PartialLoss operator+(const PartialLoss& a,
                                        const PartialLoss& b) {
  return {a.localization + b.localization, a.confidence + b.confidence,
          a.positives + b.positives, a.invalid + b.invalid};
}

template <typename T>
struct Parts {
  Parts(const MultiboxLossShape& shape, void* workspace)
      : num_blocks(CeilDivide(shape.batch * shape.num_anchors, kRowsOfBlock)) {
    WorkspaceCursor cursor(workspace);
    losses = cursor.Take<T>(shape.batch * shape.num_anchors);
    partial = cursor.Take<PartialLoss>(num_blocks);
    bytes = cursor.used();
  }
  int64_t num_blocks, bytes;
  T* losses;             // [batch, num_anchors] by which candidates are ranked
  PartialLoss* partial;  // [num_blocks]
};

// Calls body(row) with half a warp for the rows of this block.
template <typename Body>
__device__ void ForEachRow(int64_t block, int64_t num_rows, const Body& body) {
  constexpr int kGroups = kBlockThreads / kRowLanes;
  const int group = static_cast<int>(threadIdx.x) / kRowLanes;
  for (int k = 0; k < kRowsOfGroup; ++k) {
    // Neighbouring groups have neighbouring rows.
    const int64_t row = block * kRowsOfBlock + k * kGroups + group;
    if (row < num_rows) body(row);
  }
}

template <typename S>
__device__ RowSoftmax<ComputeType<S>> SoftmaxOf(const RowLanes& lanes,
                                                const S* row, int64_t count,
                                                int32_t target) {
  using T = ComputeType<S>;
  RowSoftmax<T> s;
  s.largest = LargestLogit(lanes, row, count);
  s.target = Widen(row[target]);
  s.of_target = Exp(s.target - s.largest);
  T part = T(0);
  lanes.ForEach(count, [&](int64_t j) {
    const T e = Exp(Widen(row[j]) - s.largest);
    part = part + (j == target ? T(0) : e);
  });
  s.of_others = lanes.Sum(part);
  return s;
}

template <typename S>
__device__ ComputeType<S> SigmoidLoss(const RowLanes& lanes, const S* row,
                                      int64_t count, int32_t target,
                                      const MultiboxLossOptions& options) {
  using T = ComputeType<S>;
  const bool is_focal = options.confidence == ConfidenceLoss::kSigmoidFocal;
  const T alpha = static_cast<T>(options.focal_alpha);
  const T gamma = static_cast<T>(options.focal_gamma);
  T part = T(0);
  lanes.ForEach(count, [&](int64_t j) {
    if (is_focal && j == 0) return;
    const bool is_target = j == target;
    const ClassSigmoid<T> s = SigmoidOf(Widen(row[j]), is_target);
    T loss = CrossEntropy(s);
    if (is_focal) loss = loss * FocalWeight(s, is_target, alpha, gamma);
    part = part + loss;
  });
  return lanes.Sum(part);
}

// The losses by which candidates are ranked.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    RankKernel(MultiboxLossInput<S> input, MultiboxLossShape shape,
               MultiboxLossOptions options, Parts<ComputeType<S>> parts) {
  using T = ComputeType<S>;
  const RowLanes lanes;
  const int64_t num_rows = shape.batch * shape.num_anchors;
  const int64_t classes = shape.num_classes;
  for (int64_t block = blockIdx.x; block < parts.num_blocks;
       block += gridDim.x) {
    ForEachRow(block, num_rows, [&](int64_t i) {
      if (input.target_classes[i] != 0) return;
      const S* row = input.logits + i * classes;
      T loss;
      if (options.confidence == ConfidenceLoss::kSoftmax) {
        const T background = Widen(row[0]);
        T part = T(0);
        lanes.ForEach(classes - 1, [&](int64_t j) {
          part = part + OddsOf(Widen(row[j + 1]), background);
        });
        loss = LimitOdds(lanes.Sum(part));
      } else {
        loss = SigmoidLoss(lanes, row, classes, 0, options);
      }
      if (lanes.lane() == 0) parts.losses[i] = loss;
    });
  }
}

template <typename T>
__global__ void __launch_bounds__(kMiningThreads)
    MineKernel(const int32_t* classes, MultiboxLossShape shape,
               double negative_ratio, Parts<T> parts, bool* mined) {
  __shared__ MiningStorage storage;
  for (int64_t image = blockIdx.x; image < shape.batch; image += gridDim.x) {
    const int64_t first = image * shape.num_anchors;
    MineImage(parts.losses + first, classes + first, shape.num_anchors,
              negative_ratio, mined + first, &storage);
  }
}

// Without mining.
__global__ void __launch_bounds__(kBlockThreads)
    MineNothingKernel(int64_t count, bool* mined) {
  for (int64_t i = GlobalThread(); i < count; i += GlobalThreads()) {
    mined[i] = false;
  }
}

__device__ inline bool Counts(const MultiboxLossOptions& options,
                              int32_t target, bool mined) {
  return options.confidence == ConfidenceLoss::kSigmoidFocal
             ? target >= 0
             : target > 0 || mined;
}

// Null where there are no anchors, which only the losses on boxes need.
template <typename S>
__device__ const S* AnchorOfRow(const MultiboxLossInput<S>& input,
                                const MultiboxLossShape& shape, int64_t row) {
  return input.anchors == nullptr
             ? nullptr
             : input.anchors + 4 * (row % shape.num_anchors);
}

// The losses of what counts, summed up by block.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    LossKernel(MultiboxLossInput<S> input, MultiboxLossShape shape,
               MultiboxLossOptions options, const bool* mined,
               Parts<ComputeType<S>> parts) {
  using T = ComputeType<S>;
  using Reduce = cub::BlockReduce<PartialLoss, kBlockThreads>;
  __shared__ typename Reduce::TempStorage storage;
  const RowLanes lanes;
  const Localization<S> localization(options);
  const int64_t num_rows = shape.batch * shape.num_anchors;
  for (int64_t block = blockIdx.x; block < parts.num_blocks;
       block += gridDim.x) {
    PartialLoss own = {0, 0, 0, 0};
    ForEachRow(block, num_rows, [&](int64_t i) {
      const int32_t target = input.target_classes[i];
      const bool exists = target < shape.num_classes;
      if (lanes.lane() == 0) {
        own.invalid += exists ? 0 : 1;
        if (target > 0) {
          own.positives += 1;
          own.localization += localization.Loss(input.offsets + 4 * i,
                                                input.target_offsets + 4 * i,
                                                AnchorOfRow(input, shape, i));
        }
      }
      if (!exists || !Counts(options, target, mined[i])) return;
      const S* row = input.logits + i * shape.num_classes;
      const T loss =
          options.confidence == ConfidenceLoss::kSoftmax
              ? SoftmaxLoss(SoftmaxOf(lanes, row, shape.num_classes, target))
              : SigmoidLoss(lanes, row, shape.num_classes, target, options);
      if (lanes.lane() == 0) own.confidence += static_cast<double>(loss);
    });
    own = Reduce(storage).Reduce(
        own, [](const PartialLoss& a, const PartialLoss& b) { return a + b; });
    if (threadIdx.x == 0) parts.partial[block] = own;
    __syncthreads();
  }
}

// The sum over all blocks, and what is made of it; one block.
template <typename T>
__global__ void __launch_bounds__(kBlockThreads)
    TotalKernel(MultiboxLossOptions options, Parts<T> parts,
                MultiboxLossOutput<T> output) {
  using Reduce = cub::BlockReduce<PartialLoss, kBlockThreads>;
  __shared__ typename Reduce::TempStorage storage;
  PartialLoss sum = {0, 0, 0, 0};
  for (int64_t block = threadIdx.x; block < parts.num_blocks;
       block += kBlockThreads) {
    sum = sum + parts.partial[block];
  }
  sum = Reduce(storage).Reduce(
      sum, [](const PartialLoss& a, const PartialLoss& b) { return a + b; });
  if (threadIdx.x != 0) return;
  const double n = Normalizer(options, sum.positives);
  const bool counts = HasLoss(options, sum.positives);
  double localized = counts ? sum.localization / n : 0;
  double confidence = counts ? sum.confidence / n : 0;
  if (sum.invalid > 0) {
    localized = confidence = std::numeric_limits<double>::quiet_NaN();
  }
  *output.total =
      static_cast<T>(options.localization_weight * localized + confidence);
  *output.localization = static_cast<T>(localized);
  *output.confidence = static_cast<T>(confidence);
  *output.num_positives = static_cast<T>(sum.positives);
}

// Gradient of the logits of a row that counts.
template <typename S>
__device__ void RowGrad(const RowLanes& lanes, const S* row, int64_t count,
                        int32_t target, const MultiboxLossOptions& options,
                        ComputeType<S> scale, S* grad) {
  using T = ComputeType<S>;
  if (options.confidence == ConfidenceLoss::kSoftmax) {
    const RowSoftmax<T> s = SoftmaxOf(lanes, row, count, target);
    const T factor = scale / (s.of_target + s.of_others);
    const T of_target = -(s.of_others * factor);
    lanes.ForEach(count, [&](int64_t j) {
      const T value = Exp(Widen(row[j]) - s.largest) * factor;
      grad[j] = Narrow<S>(j == target ? of_target : value);
    });
    return;
  }
  const bool is_focal = options.confidence == ConfidenceLoss::kSigmoidFocal;
  const T alpha = static_cast<T>(options.focal_alpha);
  const T gamma = static_cast<T>(options.focal_gamma);
  lanes.ForEach(count, [&](int64_t j) {
    const bool is_target = j == target;
    const ClassSigmoid<T> s = SigmoidOf(Widen(row[j]), is_target);
    T slope = is_focal ? FocalSlope(s, is_target, alpha, gamma) : s.wrong;
    if (is_focal && j == 0) slope = T(0);
    slope = slope * scale;
    grad[j] = Narrow<S>(is_target ? -slope : slope);
  });
}

template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    GradKernel(MultiboxLossInput<S> input, MultiboxLossShape shape,
               MultiboxLossOptions options, int64_t num_blocks,
               const ComputeType<S>* grad_losses,
               const ComputeType<S>* num_positives, const bool* mined,
               S* grad_logits, S* grad_offsets) {
  using T = ComputeType<S>;
  const RowLanes lanes;
  const Localization<S> localization(options);
  const int64_t num_rows = shape.batch * shape.num_anchors;
  const double n = Normalizer(options, *num_positives);
  const bool counts = HasLoss(options, *num_positives);
  const double total = grad_losses[0];
  const auto localization_scale = static_cast<T>(
      (options.localization_weight * total + grad_losses[1]) / n);
  const auto confidence_scale = static_cast<T>((total + grad_losses[2]) / n);
  for (int64_t block = blockIdx.x; block < num_blocks; block += gridDim.x) {
    ForEachRow(block, num_rows, [&](int64_t i) {
      const int32_t target = input.target_classes[i];
      S* grad = grad_logits + i * shape.num_classes;
      S* by_offsets = grad_offsets + 4 * i;
      const bool exists = target < shape.num_classes;
      if (counts && exists && Counts(options, target, mined[i])) {
        RowGrad(lanes, input.logits + i * shape.num_classes, shape.num_classes,
                target, options, confidence_scale, grad);
      } else {
        const S none =
            Narrow<S>(exists ? T(0) : std::numeric_limits<T>::quiet_NaN());
        lanes.ForEach(shape.num_classes, [&](int64_t j) { grad[j] = none; });
      }
      if (!counts || target <= 0) {
        if (lanes.lane() < 4) by_offsets[lanes.lane()] = Narrow<S>(T(0));
      } else if (lanes.lane() == 0) {
        localization.Grad(input.offsets + 4 * i, input.target_offsets + 4 * i,
                          AnchorOfRow(input, shape, i), localization_scale,
                          by_offsets);
      }
    });
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchMultiboxLoss(const MultiboxLossInput<S>& input,
                               const MultiboxLossShape& shape,
                               const MultiboxLossOptions& options,
                               const MultiboxLossOutput<ComputeType<S>>& output,
                               void* workspace, cudaStream_t stream) {
  using T = ComputeType<S>;
  const Parts<T> parts(shape, workspace);
  const int64_t blocks = BlocksFor(parts.num_blocks, 1);
  cudaError_t status;
  if (options.confidence == ConfidenceLoss::kSigmoidFocal) {
    const int64_t count = shape.batch * shape.num_anchors;
    status = LaunchKernel(MineNothingKernel, BlocksFor(count, kBlockThreads),
                          kBlockThreads, stream, count, output.mined);
  } else {
    status = LaunchKernel(RankKernel<S>, blocks, kBlockThreads, stream, input,
                          shape, options, parts);
    if (status != cudaSuccess) return status;
    status = LaunchKernel(MineKernel<T>, BlocksFor(shape.batch, 1),
                          kMiningThreads, stream, input.target_classes, shape,
                          options.negative_ratio, parts, output.mined);
  }
  if (status != cudaSuccess) return status;
  status = LaunchKernel(LossKernel<S>, blocks, kBlockThreads, stream, input,
                        shape, options, output.mined, parts);
  if (status != cudaSuccess) return status;
  return LaunchKernel(TotalKernel<T>, 1, kBlockThreads, stream, options, parts,
                      output);
}

template <typename S>
int64_t LaunchMultiboxLossWorkspaceBytes(const MultiboxLossShape& shape) {
  return Parts<ComputeType<S>>(shape, nullptr).bytes;
}

template <typename S>
cudaError_t LaunchMultiboxLossGrad(const MultiboxLossInput<S>& input,
                                   const MultiboxLossShape& shape,
                                   const MultiboxLossOptions& options,
                                   const ComputeType<S>* grad_losses,
                                   const ComputeType<S>* num_positives,
                                   const bool* mined, S* grad_logits,
                                   S* grad_offsets, cudaStream_t stream) {
  const int64_t blocks =
      CeilDivide(shape.batch * shape.num_anchors, kRowsOfBlock);
  return LaunchKernel(GradKernel<S>, BlocksFor(blocks, 1), kBlockThreads,
                      stream, input, shape, options, blocks, grad_losses,
                      num_positives, mined, grad_logits, grad_offsets);
}

#define SSDOPS_INSTANTIATE(S)                                                \
  template cudaError_t LaunchMultiboxLoss<S>(                                \
      const MultiboxLossInput<S>&, const MultiboxLossShape&,                 \
      const MultiboxLossOptions&, const MultiboxLossOutput<ComputeType<S>>&, \
      void*, cudaStream_t);                                                  \
  template int64_t LaunchMultiboxLossWorkspaceBytes<S>(                      \
      const MultiboxLossShape&);                                             \
  template cudaError_t LaunchMultiboxLossGrad<S>(                            \
      const MultiboxLossInput<S>&, const MultiboxLossShape&,                 \
      const MultiboxLossOptions&, const ComputeType<S>*,                     \
      const ComputeType<S>*, const bool*, S*, S*, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
