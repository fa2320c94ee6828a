// SPDX-License-Identifier: Apache-2.0
#include "box_iou_simd.h"

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {

// Rows that share one pass over boxes_b: its corners are brought into vectors
// once for all of them.
constexpr int64_t kRows = 8;

template <typename S>
void BoxIouRows(const S* boxes_a, const S* boxes_b, const BoxIouShape& shape,
                int64_t begin, int64_t end, S* iou) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const int64_t num_a = shape.num_a, num_b = shape.num_b;
  for (int64_t row = begin; row < end;) {
    const int64_t image = row / num_a;
    int64_t rows = (image + 1) * num_a - row;
    rows = rows < end - row ? rows : end - row;
    rows = rows < kRows ? rows : kRows;
    const int64_t first_a = shape.a_batched ? row : row % num_a;
    Box<T> a[kRows];
    T area_a[kRows];
    for (int64_t r = 0; r < rows; ++r) {
      a[r] = LoadWideBox(boxes_a + 4 * (first_a + r));
      area_a[r] = Area(a[r]);
    }
    const S* image_b = boxes_b + (shape.b_batched ? 4 * image * num_b : 0);
    for (int64_t j = 0; j < num_b; j += kStep) {
      const int64_t count = num_b - j < kStep ? num_b - j : kStep;
      T corners[4][kStep] = {};
      for (int64_t k = 0; k < count; ++k) {
        for (int c = 0; c < 4; ++c)
          corners[c][k] = Widen(image_b[4 * (j + k) + c]);
      }
      const VecBox<T> b = {Load(corners[0]), Load(corners[1]), Load(corners[2]),
                           Load(corners[3])};
      const Vec<T> area_b = Area<T>(b);
      for (int64_t r = 0; r < rows; ++r) {
        const Vec<T> value =
            Iou<T>(SplatBox(a[r]), Splat(area_a[r]), b, area_b);
        S* out = iou + (row + r) * num_b + j;
        if (count == kStep) {
          StoreNarrow(out, value);
        } else {
          S lanes[kStep];
          StoreNarrow(lanes, value);
          for (int64_t k = 0; k < count; ++k) out[k] = lanes[k];
        }
      }
    }
    row += rows;
  }
}

#define SSDOPS_INSTANTIATE(S)                                                  \
  template void BoxIouRows<S>(const S*, const S*, const BoxIouShape&, int64_t, \
                              int64_t, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
