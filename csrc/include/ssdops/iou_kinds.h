// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_IOU_KINDS_H_
#define SSDOPS_IOU_KINDS_H_

// Intersection over union and what others made of it, for one pair of boxes,
// with derivatives. Shared by every kernel on every device; the operations and
// their order are part of the contract (box_math.h).
//
//   I = area(A ∩ B)   U = area(A) + area(B) - I   E = smallest box around both
//
//   kIou   I / U
//   kGiou  IoU - (area(E) - U) / area(E)
//   kDiou  IoU - |centre(A) - centre(B)|^2 / |diagonal(E)|^2
//   kCiou  DIoU - alpha * v,  v = 4 / pi^2 * (atan(w_A / h_A) - atan(w_B /
//          h_B))^2,  alpha = v / ((1 - IoU) + v)
//   kIoa   I / area(A)
//
// Every input gives a finite value:
//   * I / U and I / area(A) are 0 unless I is positive and finite: so with an
//     empty box, for boxes that only touch, and with a NaN.
//   * What is subtracted is 0 if it cannot be measured: if a box is inverted
//     (ymax < ymin or xmax < xmin) or its height or width is not finite (a NaN,
//     an infinity), and if a divisor is 0 or a result not finite. A box without
//     height or width still has a place: it has no area but a distance.
//   * v is 0 if a box is empty; alpha is 0 where both v and 1 - IoU are.
// IoU and IoA are in [0, 1], GIoU and DIoU in [-1, 1], CIoU in [-1.5, 1], up to
// rounding.
//
// The derivatives take alpha as a constant, as the paper's code does. Where a
// term above is replaced by 0 its derivative is 0, and so is an element that is
// not finite (of the quotient of two subnormal numbers). Where coordinates of A
// and B are equal, the minimum and the maximum belong to A; boxes that touch do
// not meet.
//
// References: Rezatofighi et al., Generalized Intersection over Union, CVPR
// 2019; Zheng et al., Distance-IoU Loss, AAAI 2020.

#include <limits>

#include "ssdops/atan.h"
#include "ssdops/box_math.h"

namespace ssdops {

enum class IouKind { kIou, kGiou, kDiou, kCiou, kIoa };

// As users write them, in the order of the enumerators.
inline constexpr const char* kIouKindNames[] = {"iou", "giou", "diou", "ciou",
                                                "ioa"};

// The functions whose names begin with Pair are written on V, which is T or a
// vector of T, and on B, a box with corners of type V. Comparisons of vectors
// are masks, hence & in place of && and ?: in place of branches.

template <typename V>
struct PairSize {
  V height, width;
};

// Whether distances from the box can be measured.
template <typename T, typename B>
SSDOPS_HOST_DEVICE inline auto PairIsPlaced(const B& box) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  const auto height = box.ymax - box.ymin;
  const auto width = box.xmax - box.xmin;
  return (height >= T(0)) & (height <= kLargest) & (width >= T(0)) &
         (width <= kLargest);
}

// Size of the smallest box around both.
template <typename V, typename B>
SSDOPS_HOST_DEVICE inline PairSize<V> PairEnclosing(const B& a, const B& b) {
  return {
      (a.ymax > b.ymax ? a.ymax : b.ymax) - (a.ymin < b.ymin ? a.ymin : b.ymin),
      (a.xmax > b.xmax ? a.xmax : b.xmax) -
          (a.xmin < b.xmin ? a.xmin : b.xmin)};
}

// From the centre of a to the centre of b.
template <typename T, typename V, typename B>
SSDOPS_HOST_DEVICE inline PairSize<V> PairDistance(const B& a, const B& b) {
  return {((b.ymin - a.ymin) + (b.ymax - a.ymax)) * T(0.5),
          ((b.xmin - a.xmin) + (b.xmax - a.xmax)) * T(0.5)};
}

// The part of 1 - GIoU that is not 1 - IoU, given U.
template <typename T, typename V, typename B>
SSDOPS_HOST_DEVICE inline V PairGiouPenalty(const B& a, const B& b, V total) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  const PairSize<V> size = PairEnclosing<V>(a, b);
  const V enclosing = size.height * size.width;
  const auto measured = PairIsPlaced<T>(a) & PairIsPlaced<T>(b) &
                        (enclosing > T(0)) & (enclosing <= kLargest) &
                        (total <= kLargest);
  const V penalty = (enclosing - total) / enclosing;
  return measured ? penalty : V{};
}

// The same for DIoU.
template <typename T, typename V, typename B>
SSDOPS_HOST_DEVICE inline V PairDiouPenalty(const B& a, const B& b) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  const PairSize<V> size = PairEnclosing<V>(a, b);
  const PairSize<V> d = PairDistance<T, V>(a, b);
  const V diagonal = size.height * size.height + size.width * size.width;
  const V distance = d.height * d.height + d.width * d.width;
  const auto measured = PairIsPlaced<T>(a) & PairIsPlaced<T>(b) &
                        (diagonal > T(0)) & (diagonal <= kLargest) &
                        (distance <= kLargest);
  const V penalty = distance / diagonal;
  return measured ? penalty : V{};
}

// width / height, of which the angle of a box is the arctangent; NaN for a box
// that has no angle. It is a property of one box: kernels on all pairs take the
// arctangent once per box.
template <typename T, typename V, typename B>
SSDOPS_HOST_DEVICE inline V PairAspect(const B& box) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  const V height = box.ymax - box.ymin;
  const V width = box.xmax - box.xmin;
  const auto has_angle = (height > T(0)) & (height <= kLargest) &
                         (width > T(0)) & (width <= kLargest);
  const V none = V{} + std::numeric_limits<T>::quiet_NaN();
  const V aspect = width / height;
  return has_angle ? aspect : none;
}

// 4 / pi^2.
template <typename T>
inline constexpr T kAspectScale = T(0.40528473456935109);

// alpha of CIoU; 0 if an angle is NaN.
template <typename T, typename V>
SSDOPS_HOST_DEVICE inline V PairAlpha(V iou, V v) {
  const V divisor = (T(1) - iou) + v;
  const V alpha = v / divisor;
  return divisor > T(0) ? alpha : V{};
}

// The further part of 1 - CIoU that 1 - DIoU has not.
template <typename T, typename V>
SSDOPS_HOST_DEVICE inline V PairAspectPenalty(V iou, V angle_a, V angle_b) {
  const V difference = angle_a - angle_b;
  const V v = (difference * difference) * kAspectScale<T>;
  const V alpha = PairAlpha<T>(iou, v);
  const V penalty = alpha * v;
  return v >= T(0) ? penalty : V{};
}

// The value, given the areas (of box_math.h), the angles (used by kCiou alone)
// and the area of the intersection.
template <IouKind kind, typename T, typename V, typename B>
SSDOPS_HOST_DEVICE inline V PairIou(const B& a, V area_a, V angle_a, const B& b,
                                    V area_b, V angle_b, V overlap) {
  const V total = kind == IouKind::kIoa ? area_a : (area_a + area_b) - overlap;
  const V quotient = overlap / total;
  const V iou = overlap > T(0) ? quotient : V{};
  if constexpr (kind == IouKind::kGiou) {
    return iou - PairGiouPenalty<T>(a, b, total);
  } else if constexpr (kind == IouKind::kDiou) {
    return iou - PairDiouPenalty<T, V>(a, b);
  } else if constexpr (kind == IouKind::kCiou) {
    return (iou - PairDiouPenalty<T, V>(a, b)) -
           PairAspectPenalty<T>(iou, angle_a, angle_b);
  } else {
    return iou;
  }
}

// x, or 0 if it is not finite.
template <typename T, typename V>
SSDOPS_HOST_DEVICE inline V PairFinite(V x) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  const auto is_finite = (x <= kLargest) & (x >= -kLargest);
  return is_finite ? x : V{};
}

// The derivatives of the value with respect to the corners of a and b.
template <IouKind kind, typename T, typename V, typename B>
SSDOPS_HOST_DEVICE inline void PairIouDerivative(const B& a, V angle_a,
                                                 const B& b, V angle_b, B* by_a,
                                                 B* by_b) {
  constexpr T kLargest = std::numeric_limits<T>::max();
  const V zero = V{};
  const V one = zero + T(1);
  const V height_a = a.ymax - a.ymin, width_a = a.xmax - a.xmin;
  const V height_b = b.ymax - b.ymin, width_b = b.xmax - b.xmin;
  const auto valid_a = (a.ymax > a.ymin) & (a.xmax > a.xmin);
  const auto valid_b = (b.ymax > b.ymin) & (b.xmax > b.xmin);
  const V area_a = valid_a ? height_a * width_a : zero;
  const V area_b = valid_b ? height_b * width_b : zero;
  const auto a_ends_first_y = a.ymax <= b.ymax;
  const auto a_ends_first_x = a.xmax <= b.xmax;
  const auto a_begins_last_y = a.ymin >= b.ymin;
  const auto a_begins_last_x = a.xmin >= b.xmin;
  const V height =
      (a_ends_first_y ? a.ymax : b.ymax) - (a_begins_last_y ? a.ymin : b.ymin);
  const V width =
      (a_ends_first_x ? a.xmax : b.xmax) - (a_begins_last_x ? a.xmin : b.xmin);
  const V product = height * width;
  const auto meets = valid_a & valid_b & (height > T(0)) & (width > T(0)) &
                     (product <= kLargest);
  const V overlap = meets ? product : zero;

  // I / total: derivatives with respect to I and to the two areas.
  const V total = kind == IouKind::kIoa ? area_a : (area_a + area_b) - overlap;
  const auto divides = (overlap > T(0)) & (total <= kLargest);
  const V inverse = one / (divides ? total : one);
  // The quotient itself for alpha, in which 1 - IoU may cancel.
  const V quotient =
      kind == IouKind::kCiou ? overlap / total : overlap * inverse;
  const V iou = divides ? quotient : zero;
  V by_area_a = divides ? zero - iou * inverse : zero;
  V by_area_b = kind == IouKind::kIoa ? zero : by_area_a;
  V by_overlap = divides ? inverse - by_area_b : zero;

  // What the penalties add: with respect to the smallest box around both and
  // to the distance of the centres.
  V by_height = zero, by_width = zero, by_shift_y = zero, by_shift_x = zero;
  const PairSize<V> size = PairEnclosing<V>(a, b);
  if constexpr (kind == IouKind::kGiou) {
    const V enclosing = size.height * size.width;
    const auto measured = PairIsPlaced<T>(a) & PairIsPlaced<T>(b) &
                          (enclosing > T(0)) & (enclosing <= kLargest) &
                          (total <= kLargest);
    const V by_total = measured ? one / enclosing : zero;
    const V by_enclosing = zero - (total * by_total) * by_total;
    by_height = measured ? by_enclosing * size.width : zero;
    by_width = measured ? by_enclosing * size.height : zero;
    by_area_a = by_area_a + by_total;
    by_area_b = by_area_b + by_total;
    by_overlap = by_overlap - by_total;
  }
  if constexpr (kind == IouKind::kDiou || kind == IouKind::kCiou) {
    const PairSize<V> d = PairDistance<T, V>(a, b);
    const V diagonal = size.height * size.height + size.width * size.width;
    const V distance = d.height * d.height + d.width * d.width;
    const auto measured = PairIsPlaced<T>(a) & PairIsPlaced<T>(b) &
                          (diagonal > T(0)) & (diagonal <= kLargest) &
                          (distance <= kLargest);
    const V by_distance = measured ? one / diagonal : zero;
    const V slope = (distance * by_distance) * by_distance * T(2);
    by_height = measured ? slope * size.height : zero;
    by_width = measured ? slope * size.width : zero;
    by_shift_y = measured ? by_distance * d.height : zero;
    by_shift_x = measured ? by_distance * d.width : zero;
  }
  V by_height_a = by_area_a * width_a, by_width_a = by_area_a * height_a;
  V by_height_b = by_area_b * width_b, by_width_b = by_area_b * height_b;
  by_height_a = valid_a ? by_height_a : zero;
  by_width_a = valid_a ? by_width_a : zero;
  by_height_b = valid_b ? by_height_b : zero;
  by_width_b = valid_b ? by_width_b : zero;
  if constexpr (kind == IouKind::kIoa) {
    // 0 even where the area of b is infinite.
    by_height_b = zero;
    by_width_b = zero;
  }
  if constexpr (kind == IouKind::kCiou) {
    const V difference = angle_a - angle_b;
    const V v = (difference * difference) * kAspectScale<T>;
    const auto differs = v > T(0);
    const V slope =
        (PairAlpha<T>(iou, v) * difference) * (T(-2) * kAspectScale<T>);
    const V by_angle = differs ? slope : zero;
    // Of atan(w / h): 1 / h and -w / h^2, divided by 1 + (w / h)^2.
    const V aspect_a = width_a / height_a, aspect_b = width_b / height_b;
    const V by_aspect_a = by_angle / (one + aspect_a * aspect_a) / height_a;
    const V by_aspect_b = by_angle / (one + aspect_b * aspect_b) / height_b;
    by_width_a = differs ? by_width_a + by_aspect_a : by_width_a;
    by_height_a = differs ? by_height_a - by_aspect_a * aspect_a : by_height_a;
    by_width_b = differs ? by_width_b - by_aspect_b : by_width_b;
    by_height_b = differs ? by_height_b + by_aspect_b * aspect_b : by_height_b;
  }

  // Height and width of the intersection and of the smallest box around both
  // end at a corner of one of the two.
  const V meet_y = meets ? by_overlap * width : zero;
  const V meet_x = meets ? by_overlap * height : zero;
  const auto a_is_lowest_y = a.ymin <= b.ymin;
  const auto a_is_lowest_x = a.xmin <= b.xmin;
  const auto a_is_highest_y = a.ymax >= b.ymax;
  const auto a_is_highest_x = a.xmax >= b.xmax;
  by_a->ymin = PairFinite<T>(((a_begins_last_y ? zero - meet_y : zero) +
                              (a_is_lowest_y ? zero - by_height : zero)) -
                             (by_height_a - by_shift_y));
  by_a->xmin = PairFinite<T>(((a_begins_last_x ? zero - meet_x : zero) +
                              (a_is_lowest_x ? zero - by_width : zero)) -
                             (by_width_a - by_shift_x));
  by_a->ymax = PairFinite<T>(
      ((a_ends_first_y ? meet_y : zero) + (a_is_highest_y ? by_height : zero)) +
      (by_height_a + by_shift_y));
  by_a->xmax = PairFinite<T>(
      ((a_ends_first_x ? meet_x : zero) + (a_is_highest_x ? by_width : zero)) +
      (by_width_a + by_shift_x));
  by_b->ymin = PairFinite<T>(((a_begins_last_y ? zero : zero - meet_y) +
                              (a_is_lowest_y ? zero : zero - by_height)) -
                             (by_height_b + by_shift_y));
  by_b->xmin = PairFinite<T>(((a_begins_last_x ? zero : zero - meet_x) +
                              (a_is_lowest_x ? zero : zero - by_width)) -
                             (by_width_b + by_shift_x));
  by_b->ymax = PairFinite<T>(
      ((a_ends_first_y ? zero : meet_y) + (a_is_highest_y ? zero : by_height)) +
      (by_height_b - by_shift_y));
  by_b->xmax = PairFinite<T>(
      ((a_ends_first_x ? zero : meet_x) + (a_is_highest_x ? zero : by_width)) +
      (by_width_b - by_shift_x));
}

// The angle of a box for kCiou, which the other kinds do not look at.
template <IouKind kind, typename T>
SSDOPS_HOST_DEVICE inline T AngleFor(const Box<T>& box) {
  return kind == IouKind::kCiou ? Atan(PairAspect<T, T>(box)) : T(0);
}

// The value for one pair, given the areas of the boxes.
template <IouKind kind, typename T>
SSDOPS_HOST_DEVICE inline T IouOfKind(const Box<T>& a, T area_a,
                                      const Box<T>& b, T area_b) {
  return PairIou<kind, T>(a, area_a, AngleFor<kind>(a), b, area_b,
                          AngleFor<kind>(b), Intersection(a, b));
}

// The derivatives of the value, times `grad`.
template <IouKind kind, typename T>
SSDOPS_HOST_DEVICE inline void IouOfKindGrad(const Box<T>& a, const Box<T>& b,
                                             T grad, Box<T>* grad_a,
                                             Box<T>* grad_b) {
  Box<T> by_a, by_b;
  PairIouDerivative<kind, T>(a, AngleFor<kind>(a), b, AngleFor<kind>(b), &by_a,
                             &by_b);
  *grad_a = {grad * by_a.ymin, grad * by_a.xmin, grad * by_a.ymax,
             grad * by_a.xmax};
  *grad_b = {grad * by_b.ymin, grad * by_b.xmin, grad * by_b.ymax,
             grad * by_b.xmax};
}

}  // namespace ssdops

#endif  // SSDOPS_IOU_KINDS_H_
