// SPDX-License-Identifier: Apache-2.0
#include "ssdops/decode_boxes.h"

#include "ssdops/box_coding.h"

namespace ssdops {
namespace {

constexpr int64_t kNanosecondsPerBox = 20;

// Gradient along one axis: of the two corners to the two offsets.
template <typename T>
void DecodeExtentGrad(T grad_low, T grad_high, T shift, T stretch,
                      const Extent<T>& anchor, T centre_variance,
                      T size_variance, T* grad_shift, T* grad_stretch) {
  constexpr T kMax = std::numeric_limits<T>::max();
  const Extent<T> box =
      DecodeExtent(shift, stretch, anchor, centre_variance, size_variance);
  const T half = box.size * T(0.5);
  // A value that was limited does not change with the offsets.
  if (!IsFinite(box.centre - half)) grad_low = T(0);
  if (!IsFinite(box.centre + half)) grad_high = T(0);
  const T product = shift * centre_variance;
  const bool centre_free =
      IsFinite(product) && IsFinite(product * anchor.size + anchor.centre);
  const T exponent = stretch * size_variance;
  const bool size_free =
      exponent <= kMaxExpArgument<T> && kMax > box.size && -kMax < box.size;
  *grad_shift = centre_free
                    ? (grad_low + grad_high) * anchor.size * centre_variance
                    : T(0);
  *grad_stretch =
      size_free ? (grad_high - grad_low) * T(0.5) * box.size * size_variance
                : T(0);
}

}  // namespace

template <typename T>
void DecodeBoxes(const T* offsets, const T* anchors, const T* variances,
                 int64_t batch, int64_t num_anchors, T* boxes,
                 const ParallelFor& parallel_for) {
  parallel_for(
      batch * num_anchors, kNanosecondsPerBox,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const Box<T> anchor = LoadBox(anchors + 4 * (i % num_anchors));
          const T* t = offsets + 4 * i;
          const Extent<T> y =
              DecodeExtent(t[0], t[2], MakeExtent(anchor.ymin, anchor.ymax),
                           variances[0], variances[2]);
          const Extent<T> x =
              DecodeExtent(t[1], t[3], MakeExtent(anchor.xmin, anchor.xmax),
                           variances[1], variances[3]);
          T* out = boxes + 4 * i;
          out[0] = Saturate(y.centre - y.size * T(0.5));
          out[1] = Saturate(x.centre - x.size * T(0.5));
          out[2] = Saturate(y.centre + y.size * T(0.5));
          out[3] = Saturate(x.centre + x.size * T(0.5));
        }
      });
}

template <typename T>
void DecodeBoxesGrad(const T* grad_boxes, const T* offsets, const T* anchors,
                     const T* variances, int64_t batch, int64_t num_anchors,
                     T* grad_offsets, const ParallelFor& parallel_for) {
  parallel_for(
      batch * num_anchors, kNanosecondsPerBox,
      [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          const Box<T> anchor = LoadBox(anchors + 4 * (i % num_anchors));
          const Box<T> grad = LoadBox(grad_boxes + 4 * i);
          const T* t = offsets + 4 * i;
          T* out = grad_offsets + 4 * i;
          DecodeExtentGrad(grad.ymin, grad.ymax, t[0], t[2],
                           MakeExtent(anchor.ymin, anchor.ymax), variances[0],
                           variances[2], &out[0], &out[2]);
          DecodeExtentGrad(grad.xmin, grad.xmax, t[1], t[3],
                           MakeExtent(anchor.xmin, anchor.xmax), variances[1],
                           variances[3], &out[1], &out[3]);
        }
      });
}

#define SSDOPS_INSTANTIATE(T)                                                  \
  template void DecodeBoxes<T>(const T*, const T*, const T*, int64_t, int64_t, \
                               T*, const ParallelFor&);                        \
  template void DecodeBoxesGrad<T>(const T*, const T*, const T*, const T*,     \
                                   int64_t, int64_t, T*, const ParallelFor&);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(double)
#undef SSDOPS_INSTANTIATE

}  // namespace ssdops
