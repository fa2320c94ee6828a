// SPDX-License-Identifier: Apache-2.0
#include "box_iou_simd.h"

#include "simd.h"
#include "simd_math.h"

namespace ssdops {
namespace SSDOPS_ISA {
namespace {

// Boxes that are brought into columns at a time; a multiple of every vector
// width.
constexpr int64_t kTile = 256;

// A box that meets nothing, for IoU and IoA in place of all empty ones.
template <typename T>
constexpr Box<T> kNowhere = {
    std::numeric_limits<T>::infinity(), std::numeric_limits<T>::infinity(),
    -std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity()};

constexpr bool IsQuotient(IouKind kind) {
  return kind == IouKind::kIou || kind == IouKind::kIoa;
}

// Boxes with what a kind needs to know of each of them.
template <IouKind kind, typename T>
struct Boxes {
  VecBox<T> box;
  Vec<T> area, angle;
};

template <IouKind kind, typename T>
SSDOPS_INLINE Boxes<kind, T> Prepared(VecBox<T> box) {
  Boxes<kind, T> boxes = {box, Area<T>(box), Vec<T>{}};
  if constexpr (kind == IouKind::kCiou) {
    boxes.angle = Atan(PairAspect<T, Vec<T>>(box));
  }
  if constexpr (IsQuotient(kind)) {
    const Mask<T> valid = (box.ymax > box.ymin) & (box.xmax > box.xmin);
    const VecBox<T> nowhere = SplatBox(kNowhere<T>);
    boxes.box = {
        valid ? box.ymin : nowhere.ymin, valid ? box.xmin : nowhere.xmin,
        valid ? box.ymax : nowhere.ymax, valid ? box.xmax : nowhere.xmax};
  }
  return boxes;
}

// The same of one box in all lanes.
template <IouKind kind, typename T>
SSDOPS_INLINE Boxes<kind, T> PreparedOne(const Box<T>& box) {
  const bool replaced = IsQuotient(kind) && !IsValid(box);
  return {SplatBox(replaced ? kNowhere<T> : box), Splat(Area(box)),
          Splat(AngleFor<kind>(box))};
}

// `count` stored boxes, at most kLanes of them; zeros in the other lanes.
template <typename S>
SSDOPS_INLINE VecBox<ComputeType<S>> LoadSomeBoxes(const S* from,
                                                   int64_t count) {
  using T = ComputeType<S>;
  if (count >= kLanes<T>) return LoadBoxes(from);
  S rows[4 * kLanes<T>] = {};
  for (int64_t k = 0; k < 4 * count; ++k) rows[k] = from[k];
  return LoadBoxes(rows);
}

template <typename S>
SSDOPS_INLINE void StoreSome(S* to, Vec<ComputeType<S>> v, int64_t count) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  if (count >= kStep) {
    StoreNarrow(to, v);
    return;
  }
  S lanes[kStep];
  StoreNarrow(lanes, v);
  for (int64_t k = 0; k < count; ++k) to[k] = lanes[k];
}

template <IouKind kind, typename T>
SSDOPS_INLINE Vec<T> Value(const Boxes<kind, T>& a, const Boxes<kind, T>& b) {
  if constexpr (IsQuotient(kind)) {
    // As PairIou with Intersection, but no box is empty: a positive height
    // and a positive area are a positive width too.
    const Vec<T> zero = {};
    const Vec<T> height =
        Min(a.box.ymax, b.box.ymax) - Max(a.box.ymin, b.box.ymin);
    const Vec<T> width =
        Min(a.box.xmax, b.box.xmax) - Max(a.box.xmin, b.box.xmin);
    const Vec<T> overlap = height * width;
    const Mask<T> meets = (height > zero) & (overlap > zero) &
                          (overlap <= std::numeric_limits<T>::max());
    const Vec<T> total =
        kind == IouKind::kIoa ? a.area : (a.area + b.area) - overlap;
    const Vec<T> quotient = overlap / total;
    return meets ? quotient : zero;
  } else {
    return PairIou<kind, T>(a.box, a.area, a.angle, b.box, b.area, b.angle,
                            Intersection<T>(a.box, b.box));
  }
}

// One lane in all lanes.
template <IouKind kind, typename T>
SSDOPS_INLINE Boxes<kind, T> SplatLane(const Boxes<kind, T>& boxes, int lane) {
  return {{Splat<T>(boxes.box.ymin[lane]), Splat<T>(boxes.box.xmin[lane]),
           Splat<T>(boxes.box.ymax[lane]), Splat<T>(boxes.box.xmax[lane])},
          Splat<T>(boxes.area[lane]),
          Splat<T>(boxes.angle[lane])};
}

// A rectangle of the output: num_a boxes against num_b boxes, whose rows are
// `stride` apart.
template <IouKind kind, typename S>
SSDOPS_INLINE void Rectangle(const S* boxes_a, int64_t num_a, const S* boxes_b,
                             int64_t num_b, int64_t stride, S* iou) {
  using T = ComputeType<S>;
  constexpr int64_t kStep = kLanes<T>;
  Boxes<kind, T> tile[kTile / kStep];
  if (num_b < kStep) {
    // The longer side in the lanes.
    const Boxes<kind, T> all_b =
        Prepared<kind, T>(LoadSomeBoxes(boxes_b, num_b));
    for (int64_t j = 0; j < num_b; ++j) {
      tile[j] = SplatLane(all_b, static_cast<int>(j));
    }
    for (int64_t i = 0; i < num_a; i += kStep) {
      const int64_t rows = num_a - i < kStep ? num_a - i : kStep;
      const Boxes<kind, T> a =
          Prepared<kind, T>(LoadSomeBoxes(boxes_a + 4 * i, rows));
      for (int64_t j = 0; j < num_b; ++j) {
        const Vec<T> value = Value(a, tile[j]);
        S* out = iou + i * stride + j;
        if (stride == 1) {
          StoreSome(out, value, rows);
          continue;
        }
        S lanes[kStep];
        StoreNarrow(lanes, value);
        for (int64_t k = 0; k < rows; ++k) out[k * stride] = lanes[k];
      }
    }
    return;
  }
  for (int64_t first = 0; first < num_b; first += kTile) {
    const int64_t columns = num_b - first < kTile ? num_b - first : kTile;
    for (int64_t j = 0; j < columns; j += kStep) {
      tile[j / kStep] = Prepared<kind, T>(
          LoadSomeBoxes(boxes_b + 4 * (first + j), columns - j));
    }
    const int64_t whole = columns / kStep;
    for (int64_t i = 0; i < num_a; ++i) {
      const Boxes<kind, T> a =
          PreparedOne<kind, T>(LoadWideBox(boxes_a + 4 * i));
      S* out = iou + i * stride + first;
      for (int64_t k = 0; k < whole; ++k) {
        StoreNarrow(out + k * kStep, Value(a, tile[k]));
      }
      if (whole * kStep < columns) {
        StoreSome(out + whole * kStep, Value(a, tile[whole]),
                  columns - whole * kStep);
      }
    }
  }
}

template <IouKind kind, typename S>
SSDOPS_INLINE void Rows(const S* boxes_a, const S* boxes_b,
                        const BoxIouShape& shape, int64_t begin, int64_t end,
                        S* iou) {
  for (int64_t row = begin; row < end;) {
    const int64_t image = row / shape.num_a;
    int64_t rows = (image + 1) * shape.num_a - row;
    rows = rows < end - row ? rows : end - row;
    const int64_t first_a = shape.a_batched ? row : row % shape.num_a;
    const int64_t first_b = shape.b_batched ? image * shape.num_b : 0;
    Rectangle<kind>(boxes_a + 4 * first_a, rows, boxes_b + 4 * first_b,
                    shape.num_b, shape.num_b, iou + row * shape.num_b);
    row += rows;
  }
}

template <IouKind kind, typename S>
SSDOPS_INLINE void Pairs(const S* boxes_a, const S* boxes_b, int64_t begin,
                         int64_t end, S* iou) {
  using T = ComputeType<S>;
  for (int64_t i = begin; i < end; i += kLanes<T>) {
    const auto a = Prepared<kind, T>(LoadSomeBoxes(boxes_a + 4 * i, end - i));
    const auto b = Prepared<kind, T>(LoadSomeBoxes(boxes_b + 4 * i, end - i));
    StoreSome(iou + i, Value(a, b), end - i);
  }
}

// Boxes as a derivative needs them: with their corners, empty or not.
template <IouKind kind, typename T>
SSDOPS_INLINE Boxes<kind, T> WithAngle(const VecBox<T>& box) {
  Boxes<kind, T> boxes = {box, Vec<T>{}, Vec<T>{}};
  if constexpr (kind == IouKind::kCiou) {
    boxes.angle = Atan(PairAspect<T, Vec<T>>(box));
  }
  return boxes;
}

template <IouKind kind, typename T>
SSDOPS_INLINE void Derivative(const Boxes<kind, T>& a, const Boxes<kind, T>& b,
                              VecBox<T>* by_a, VecBox<T>* by_b) {
  PairIouDerivative<kind, T>(a.box, a.angle, b.box, b.angle, by_a, by_b);
}

template <typename S>
SSDOPS_INLINE Vec<ComputeType<S>> LoadSome(const S* from, int64_t count) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  if (count >= kStep) return LoadWide(from);
  S lanes[kStep] = {};
  for (int64_t k = 0; k < count; ++k) lanes[k] = from[k];
  return LoadWide(lanes);
}

template <typename T>
SSDOPS_INLINE VecBox<T> Scaled(Vec<T> grad, const VecBox<T>& by) {
  return {grad * by.ymin, grad * by.xmin, grad * by.ymax, grad * by.xmax};
}

template <typename T>
SSDOPS_INLINE VecBox<T> Sum(const VecBox<T>& a, const VecBox<T>& b) {
  return {a.ymin + b.ymin, a.xmin + b.xmin, a.ymax + b.ymax, a.xmax + b.xmax};
}

template <typename T>
SSDOPS_INLINE bool AllZero(Vec<T> grad) {
  return Bits(grad != Vec<T>{}) == 0;
}

// The sums of a row are taken in 16 parts, by index modulo 16, so that their
// order does not depend on the width of the vectors.
constexpr int kParts = 16;

// The sum of the kParts numbers by halves.
template <typename T>
SSDOPS_INLINE T SumOfParts(T* parts) {
  for (int half = kParts / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) parts[k] = parts[k] + parts[k + half];
  }
  return parts[0];
}

template <IouKind kind, typename S>
SSDOPS_INLINE void GradRows(const S* grad_iou, const S* boxes_a,
                            const S* boxes_b, const BoxIouShape& shape,
                            int64_t begin, int64_t end, S* grad_boxes_a) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const int64_t num_a = shape.num_a, num_b = shape.num_b;
  for (int64_t row = begin; row < end; ++row) {
    const Box<T> box = LoadWideBox(boxes_a + 4 * row);
    const Boxes<kind, T> a = WithAngle<kind, T>(SplatBox(box));
    // Images that this row takes part in.
    const int64_t first = shape.a_batched ? row / num_a : 0;
    const int64_t last = shape.a_batched ? first + 1 : shape.batch;
    VecBox<T> sums[kParts / kStep] = {};
    for (int64_t image = first; image < last; ++image) {
      const S* image_b = boxes_b + (shape.b_batched ? 4 * image * num_b : 0);
      const int64_t row_of_image = shape.a_batched ? row % num_a : row;
      const S* grads = grad_iou + (image * num_a + row_of_image) * num_b;
      for (int64_t j = 0; j < num_b; j += kParts) {
        for (int part = 0; part < kParts / kStep; ++part) {
          const int64_t column = j + part * kStep;
          if (column >= num_b) break;
          const Vec<T> grad = LoadSome(grads + column, num_b - column);
          if (AllZero<T>(grad)) continue;
          const Boxes<kind, T> b = WithAngle<kind, T>(
              LoadSomeBoxes(image_b + 4 * column, num_b - column));
          VecBox<T> by_a, by_b;
          Derivative(a, b, &by_a, &by_b);
          sums[part] = Sum<T>(sums[part], Scaled<T>(grad, by_a));
        }
      }
    }
    T parts[4][kParts];
    for (int part = 0; part < kParts / kStep; ++part) {
      Store(parts[0] + part * kStep, sums[part].ymin);
      Store(parts[1] + part * kStep, sums[part].xmin);
      Store(parts[2] + part * kStep, sums[part].ymax);
      Store(parts[3] + part * kStep, sums[part].xmax);
    }
    for (int c = 0; c < 4; ++c) {
      grad_boxes_a[4 * row + c] = Narrow<S>(SumOfParts(parts[c]));
    }
  }
}

// The first `count` of kLanes boxes into rows of 4.
template <typename S>
SSDOPS_INLINE void StoreBoxes(S* to, const VecBox<ComputeType<S>>& box,
                              int64_t count) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  S columns[4][kStep];
  StoreNarrow(columns[0], box.ymin);
  StoreNarrow(columns[1], box.xmin);
  StoreNarrow(columns[2], box.ymax);
  StoreNarrow(columns[3], box.xmax);
  for (int64_t k = 0; k < count && k < kStep; ++k) {
    for (int c = 0; c < 4; ++c) to[4 * k + c] = columns[c][k];
  }
}

// Rows whose gradients are added up before they go to the sum of a column:
// the error then grows with this number and not with that of all rows.
constexpr int64_t kRowsOfPartialSum = 64;

template <IouKind kind, typename S>
SSDOPS_INLINE void GradColumns(const S* grad_iou, const S* boxes_a,
                               const S* boxes_b, const BoxIouShape& shape,
                               int64_t begin, int64_t end, S* grad_boxes_b) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const int64_t num_a = shape.num_a, num_b = shape.num_b;
  const int64_t groups = (num_b + kBoxIouColumns - 1) / kBoxIouColumns;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image_b = item / groups;
    const int64_t first = shape.b_batched ? image_b : 0;
    const int64_t last = shape.b_batched ? first + 1 : shape.batch;
    const int64_t low = item % groups * kBoxIouColumns;
    const int64_t high =
        low + kBoxIouColumns < num_b ? low + kBoxIouColumns : num_b;
    for (int64_t j = low; j < high; j += kStep) {
      const int64_t row_b = image_b * num_b + j;
      const Boxes<kind, T> b =
          WithAngle<kind, T>(LoadSomeBoxes(boxes_b + 4 * row_b, high - j));
      VecBox<T> sum = {};
      for (int64_t image = first; image < last; ++image) {
        const S* image_a = boxes_a + (shape.a_batched ? 4 * image * num_a : 0);
        const S* grads = grad_iou + image * num_a * num_b + j;
        for (int64_t block = 0; block < num_a; block += kRowsOfPartialSum) {
          const int64_t block_end = block + kRowsOfPartialSum < num_a
                                        ? block + kRowsOfPartialSum
                                        : num_a;
          VecBox<T> partial = {};
          for (int64_t i = block; i < block_end; ++i) {
            const Vec<T> grad = LoadSome(grads + i * num_b, high - j);
            if (AllZero<T>(grad)) continue;
            const Box<T> box = LoadWideBox(image_a + 4 * i);
            VecBox<T> by_a, by_b;
            Derivative(WithAngle<kind, T>(SplatBox(box)), b, &by_a, &by_b);
            partial = Sum<T>(partial, Scaled<T>(grad, by_b));
          }
          sum = Sum<T>(sum, partial);
        }
      }
      StoreBoxes(grad_boxes_b + 4 * row_b, sum, high - j);
    }
  }
}

template <IouKind kind, typename S>
SSDOPS_INLINE void GradPairs(const S* grad_iou, const S* boxes_a,
                             const S* boxes_b, int64_t begin, int64_t end,
                             S* grad_boxes_a, S* grad_boxes_b) {
  using T = ComputeType<S>;
  for (int64_t i = begin; i < end; i += kLanes<T>) {
    const int64_t count = end - i;
    const Vec<T> grad = LoadSome(grad_iou + i, count);
    VecBox<T> by_a, by_b;
    Derivative(WithAngle<kind, T>(LoadSomeBoxes(boxes_a + 4 * i, count)),
               WithAngle<kind, T>(LoadSomeBoxes(boxes_b + 4 * i, count)), &by_a,
               &by_b);
    StoreBoxes<S>(grad_boxes_a + 4 * i, Scaled<T>(grad, by_a), count);
    StoreBoxes<S>(grad_boxes_b + 4 * i, Scaled<T>(grad, by_b), count);
  }
}

}  // namespace

// The call with the kind as a template argument.
#define SSDOPS_FOR_KIND(kind, Function, ...)        \
  switch (kind) {                                   \
    case IouKind::kIou:                             \
      return Function<IouKind::kIou>(__VA_ARGS__);  \
    case IouKind::kGiou:                            \
      return Function<IouKind::kGiou>(__VA_ARGS__); \
    case IouKind::kDiou:                            \
      return Function<IouKind::kDiou>(__VA_ARGS__); \
    case IouKind::kCiou:                            \
      return Function<IouKind::kCiou>(__VA_ARGS__); \
    case IouKind::kIoa:                             \
      return Function<IouKind::kIoa>(__VA_ARGS__);  \
  }

template <typename S>
void BoxIouRows(const S* boxes_a, const S* boxes_b, const BoxIouShape& shape,
                IouKind kind, int64_t begin, int64_t end, S* iou) {
  SSDOPS_FOR_KIND(kind, Rows, boxes_a, boxes_b, shape, begin, end, iou)
}

template <typename S>
void BoxIouPairs(const S* boxes_a, const S* boxes_b, IouKind kind,
                 int64_t begin, int64_t end, S* iou) {
  SSDOPS_FOR_KIND(kind, Pairs, boxes_a, boxes_b, begin, end, iou)
}

template <typename S>
void BoxIouGradRows(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                    const BoxIouShape& shape, IouKind kind, int64_t begin,
                    int64_t end, S* grad_boxes_a) {
  SSDOPS_FOR_KIND(kind, GradRows, grad_iou, boxes_a, boxes_b, shape, begin, end,
                  grad_boxes_a)
}

template <typename S>
void BoxIouGradColumns(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                       const BoxIouShape& shape, IouKind kind, int64_t begin,
                       int64_t end, S* grad_boxes_b) {
  SSDOPS_FOR_KIND(kind, GradColumns, grad_iou, boxes_a, boxes_b, shape, begin,
                  end, grad_boxes_b)
}

template <typename S>
void BoxIouGradPairs(const S* grad_iou, const S* boxes_a, const S* boxes_b,
                     IouKind kind, int64_t begin, int64_t end, S* grad_boxes_a,
                     S* grad_boxes_b){
    SSDOPS_FOR_KIND(kind, GradPairs, grad_iou, boxes_a, boxes_b, begin, end,
                    grad_boxes_a, grad_boxes_b)}

#undef SSDOPS_FOR_KIND

#define SSDOPS_INSTANTIATE(S)                                                  \
  template void BoxIouRows<S>(const S*, const S*, const BoxIouShape&, IouKind, \
                              int64_t, int64_t, S*);                           \
  template void BoxIouPairs<S>(const S*, const S*, IouKind, int64_t, int64_t,  \
                               S*);                                            \
  template void BoxIouGradRows<S>(const S*, const S*, const S*,                \
                                  const BoxIouShape&, IouKind, int64_t,        \
                                  int64_t, S*);                                \
  template void BoxIouGradColumns<S>(const S*, const S*, const S*,             \
                                     const BoxIouShape&, IouKind, int64_t,     \
                                     int64_t, S*);                             \
  template void BoxIouGradPairs<S>(const S*, const S*, const S*, IouKind,      \
                                   int64_t, int64_t, S*, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
