// SPDX-License-Identifier: Apache-2.0
#include "ssdops/box_iou.h"

#include "ssdops/box_math.h"

namespace ssdops {

template <typename T>
void BoxIou(const T* boxes_a, const T* boxes_b, const BoxIouShape& shape,
            T* iou, const ParallelFor& parallel_for) {
  const int64_t num_a = shape.num_a, num_b = shape.num_b;
  if (num_b == 0) return;
  // One item is one row of the output, so that one large image is spread too.
  parallel_for(
      shape.batch * num_a, 2 * num_b, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t image = row / num_a, i = row % num_a;
          const Box<T> a = LoadBox(boxes_a + 4 * (shape.a_batched ? row : i));
          const T area_a = Area(a);
          const T* row_b = boxes_b + (shape.b_batched ? 4 * image * num_b : 0);
          T* row_iou = iou + row * num_b;
          for (int64_t j = 0; j < num_b; ++j) {
            const Box<T> b = LoadBox(row_b + 4 * j);
            row_iou[j] = Iou(a, area_a, b, Area(b));
          }
        }
      });
}

template void BoxIou<float>(const float*, const float*, const BoxIouShape&,
                            float*, const ParallelFor&);
template void BoxIou<double>(const double*, const double*, const BoxIouShape&,
                             double*, const ParallelFor&);

}  // namespace ssdops
