// SPDX-License-Identifier: Apache-2.0
#include "ssdops/mine_hard_negatives.h"

#include <algorithm>

#include "hard_negatives.h"

namespace ssdops {

template <typename S>
void MineHardNegatives(const S* losses, const int32_t* target_classes,
                       const MineHardNegativesShape& shape,
                       double negative_ratio, bool* mined, void* workspace,
                       const ParallelFor& parallel_for) {
  using T = ComputeType<S>;
  const int64_t num_anchors = shape.num_anchors;
  const int64_t slice = MineHardNegativesWorkspaceBytes<S>(shape, 1);
  parallel_for(
      shape.batch, 300 + num_anchors / 4,
      [&](int64_t begin, int64_t end, int worker) {
        WorkspaceCursor cursor(static_cast<std::byte*>(workspace) +
                               worker * slice);
        HardNegatives<T> negatives(num_anchors, &cursor);
        for (int64_t image = begin; image < end; ++image) {
          const int32_t* classes = target_classes + image * num_anchors;
          bool* out = mined + image * num_anchors;
          const ClassCounts counts =
              SSDOPS_CALL_VARIANT(CountClasses(classes, num_anchors));
          const int64_t wanted = NegativesWanted(counts, negative_ratio);
          if (wanted == 0) {
            std::fill(out, out + num_anchors, false);
            continue;
          }
          negatives.Rank(losses + image * num_anchors, classes);
          negatives.Write(negatives.Cut(wanted), out);
        }
      });
}

template <typename S>
int64_t MineHardNegativesWorkspaceBytes(const MineHardNegativesShape& shape,
                                        int num_workers) {
  WorkspaceCursor cursor(nullptr);
  HardNegatives<ComputeType<S>>(shape.num_anchors, &cursor);
  return num_workers * cursor.used();
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void MineHardNegatives<S>(const S*, const int32_t*,              \
                                     const MineHardNegativesShape&, double, \
                                     bool*, void*, const ParallelFor&);     \
  template int64_t MineHardNegativesWorkspaceBytes<S>(                      \
      const MineHardNegativesShape&, int);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
