// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "class_rows.h"
#include "grouped_nms.h"

namespace ssdops {
namespace {

// As in cpu/greedy_nms.cc: a probability is at most exp(logit - pivot logit);
// the error of exp and of the quotient is far below this share.
constexpr double kLogitSlack = 1e-4;
// Probabilities below underflow on the way: no bound of the logits is used.
constexpr double kSmallestBound = 1e-30;

double LimitOf(const ScoreLimits& limits, int64_t class_id) {
  if (class_id == limits.background_class) {
    return std::numeric_limits<double>::infinity();
  }
  return limits.of_classes == nullptr ? limits.of_all
                                      : limits.of_classes[class_id];
}

// A logit, above the pivot for a softmax, that is at most this is no candidate;
// NaN if there is no such number.
double LogitBound(double limit, ScoreActivation activation) {
  if (limit == std::numeric_limits<double>::infinity()) return limit;
  if (!(limit >= kSmallestBound)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  // Close to 1 the rounding of the sigmoid is no small share.
  const double share = std::min(limit, 0.99);
  const double bound = activation == ScoreActivation::kSoftmax
                           ? std::log(limit)
                           : std::log(share) - std::log1p(-share);
  return bound - kLogitSlack * std::max(1.0, std::abs(bound));
}

// As many classes as an argument of a kernel takes.
constexpr int kClassesAtOnce = 128;
struct ClassLimits {
  double limits[kClassesAtOnce];
  double logit_bounds[kClassesAtOnce];
};

// Makes arguments of `count` classes data in memory, and the lists empty.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    SetLimitsKernel(GroupedNms<S> nms, ClassLimits limits, int64_t first,
                    int count) {
  using T = ComputeType<S>;
  const int64_t thread = GlobalThread();
  if (thread < count) {
    nms.limits[first + thread] = static_cast<T>(limits.limits[thread]);
    nms.logit_bounds[first + thread] =
        static_cast<T>(limits.logit_bounds[thread]);
  }
  for (int64_t g = thread; g < nms.num_all_groups(); g += GlobalThreads()) {
    nms.counts[g] = 0;
  }
}

// Rows that half a warp looks at.
constexpr int kRowsOfGroup = 8;
constexpr int kRowsOfBlock = kBlockThreads / kRowLanes * kRowsOfGroup;

// Adds what is a candidate to the list of its group.
template <typename S>
__device__ void Append(const GroupedNms<S>& nms, int64_t image, int64_t anchor,
                       int64_t class_id, ComputeType<S> score) {
  const int64_t group =
      nms.class_agnostic ? image : image * nms.num_classes + class_id;
  const auto slot = static_cast<uint32_t>(class_id * nms.num_anchors + anchor);
  const uint32_t place = atomicAdd(&nms.counts[group], 1u);
  nms.keys[group * nms.capacity() + place] = MakeKey(score, slot);
}

template <typename S>
__device__ void CollectSoftmax(const GroupedNms<S>& nms, const RowLanes& lanes,
                               int64_t image, int64_t anchor, const S* row) {
  using T = ComputeType<S>;
  const int64_t classes = nms.num_classes;
  const T pivot = Widen(row[nms.pivot]);
  bool above = false;
  lanes.ForEach(classes, [&](int64_t c) {
    above |= !(Widen(row[c]) - pivot <= nms.logit_bounds[c]);
  });
  // Most rows end here.
  if (!lanes.Any(above)) return;
  const T largest = LargestLogit(lanes, row, classes);
  T part = T(0);
  lanes.ForEach(classes,
                [&](int64_t c) { part = part + Exp(Widen(row[c]) - largest); });
  const T sum = lanes.Sum(part);
  lanes.ForEach(classes, [&](int64_t c) {
    const T score = Exp(Widen(row[c]) - largest) / sum;
    if (score > nms.limits[c]) Append(nms, image, anchor, c, score);
  });
}

// The candidates of all images, in any order.
template <typename S>
__global__ void __launch_bounds__(kBlockThreads)
    CollectKernel(GroupedNms<S> nms) {
  using T = ComputeType<S>;
  constexpr int kGroups = kBlockThreads / kRowLanes;
  const RowLanes lanes;
  const int64_t num_rows = nms.batch * nms.num_anchors;
  const int64_t blocks = CeilDivide(num_rows, kRowsOfBlock);
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    for (int k = 0; k < kRowsOfGroup; ++k) {
      const int64_t i = block * kRowsOfBlock + k * kGroups +
                        static_cast<int>(threadIdx.x) / kRowLanes;
      if (i >= num_rows) continue;
      const int64_t image = i / nms.num_anchors;
      const int64_t anchor = i % nms.num_anchors;
      const S* row = nms.scores + i * nms.num_classes;
      if (nms.activation == ScoreActivation::kSoftmax) {
        CollectSoftmax(nms, lanes, image, anchor, row);
        continue;
      }
      lanes.ForEach(nms.num_classes, [&](int64_t c) {
        T score = Widen(row[c]);
        if (nms.activation == ScoreActivation::kSigmoid) {
          if (score <= nms.logit_bounds[c]) return;
          score = Sigmoid(score);
        }
        if (score > nms.limits[c]) Append(nms, image, anchor, c, score);
      });
    }
  }
}

}  // namespace

template <typename S>
cudaError_t LaunchCollect(const GroupedNms<S>& nms, const ScoreLimits& limits,
                          cudaStream_t stream) {
  const int64_t items = nms.num_all_groups() > kClassesAtOnce
                            ? nms.num_all_groups()
                            : kClassesAtOnce;
  // Once at least: the lists are made empty too.
  int64_t first = 0;
  do {
    ClassLimits part = {};
    int count = 0;
    for (; count < kClassesAtOnce && first + count < nms.num_classes; ++count) {
      // Rounded as it is compared.
      part.limits[count] = static_cast<double>(
          static_cast<ComputeType<S>>(LimitOf(limits, first + count)));
      part.logit_bounds[count] = LogitBound(part.limits[count], nms.activation);
    }
    const cudaError_t status =
        LaunchKernel(SetLimitsKernel<S>, BlocksFor(items, kBlockThreads),
                     kBlockThreads, stream, nms, part, first, count);
    if (status != cudaSuccess) return status;
    first += kClassesAtOnce;
  } while (first < nms.num_classes);
  if (nms.num_classes == 0) return cudaSuccess;
  return LaunchKernel(CollectKernel<S>,
                      BlocksFor(nms.batch * nms.num_anchors, kRowsOfBlock),
                      kBlockThreads, stream, nms);
}

#define SSDOPS_INSTANTIATE(S)                                 \
  template cudaError_t LaunchCollect<S>(const GroupedNms<S>&, \
                                        const ScoreLimits&, cudaStream_t);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
