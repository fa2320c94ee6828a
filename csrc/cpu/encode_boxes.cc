// SPDX-License-Identifier: Apache-2.0
#include "ssdops/encode_boxes.h"

#include "ssdops/box_coding.h"

namespace ssdops {
namespace {

constexpr int64_t kNanosecondsPerBox = 20;

// Both axes of one pair; false if it has no encoding.
template <typename T>
bool EncodeBox(const Box<T>& box, const Box<T>& anchor, const T* variances,
               T* offsets) {
  T encoded[4];
  if (!EncodeExtent(MakeExtent(box.ymin, box.ymax),
                    MakeExtent(anchor.ymin, anchor.ymax), variances[0],
                    variances[2], &encoded[0], &encoded[2]) ||
      !EncodeExtent(MakeExtent(box.xmin, box.xmax),
                    MakeExtent(anchor.xmin, anchor.xmax), variances[1],
                    variances[3], &encoded[1], &encoded[3])) {
    return false;
  }
  for (int k = 0; k < 4; ++k) offsets[k] = encoded[k];
  return true;
}

}  // namespace

template <typename T>
void EncodeBoxes(const T* boxes, const T* anchors, const T* variances,
                 int64_t batch, int64_t num_anchors, T* offsets,
                 const ParallelFor& parallel_for) {
  parallel_for(batch * num_anchors, kNanosecondsPerBox,
               [&](int64_t begin, int64_t end, int) {
                 for (int64_t i = begin; i < end; ++i) {
                   const Box<T> box = LoadBox(boxes + 4 * i);
                   const Box<T> anchor =
                       LoadBox(anchors + 4 * (i % num_anchors));
                   T* out = offsets + 4 * i;
                   if (!EncodeBox(box, anchor, variances, out)) {
                     for (int k = 0; k < 4; ++k) out[k] = T(0);
                   }
                 }
               });
}

template <typename T>
void EncodeBoxesGrad(const T* grad_offsets, const T* boxes, const T* anchors,
                     const T* variances, int64_t batch, int64_t num_anchors,
                     T* grad_boxes, const ParallelFor& parallel_for) {
  parallel_for(
      batch * num_anchors, kNanosecondsPerBox,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const Box<T> box = LoadBox(boxes + 4 * i);
          const Box<T> anchor = LoadBox(anchors + 4 * (i % num_anchors));
          const T* grad = grad_offsets + 4 * i;
          T* out = grad_boxes + 4 * i;
          T unused[4];
          if (!EncodeBox(box, anchor, variances, unused)) {
            for (int k = 0; k < 4; ++k) out[k] = T(0);
            continue;
          }
          // shift depends on the mean of the corners, stretch on their
          // distance.
          const T dy = grad[0] / variances[0] / (anchor.ymax - anchor.ymin);
          const T dx = grad[1] / variances[1] / (anchor.xmax - anchor.xmin);
          const T dh = grad[2] / variances[2] / (box.ymax - box.ymin);
          const T dw = grad[3] / variances[3] / (box.xmax - box.xmin);
          out[0] = T(0.5) * dy - dh;
          out[1] = T(0.5) * dx - dw;
          out[2] = T(0.5) * dy + dh;
          out[3] = T(0.5) * dx + dw;
        }
      });
}

#define SSDOPS_INSTANTIATE(T)                                                  \
  template void EncodeBoxes<T>(const T*, const T*, const T*, int64_t, int64_t, \
                               T*, const ParallelFor&);                        \
  template void EncodeBoxesGrad<T>(const T*, const T*, const T*, const T*,     \
                                   int64_t, int64_t, T*, const ParallelFor&);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(double)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
