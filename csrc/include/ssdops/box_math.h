// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_BOX_MATH_H_
#define SSDOPS_BOX_MATH_H_

// Box arithmetic for one pair of boxes, shared by every kernel on every device.
// The operations and their order are part of the contract: results are equal in
// every bit to the plain TensorFlow reference (compile without fused
// multiply-add).

#include <limits>

// Always inlined: the CPU kernels are compiled for several instruction sets,
// and a shared copy of such a function would belong to one of them by chance.
#ifdef __CUDACC__
#define SSDOPS_HOST_DEVICE __host__ __device__ __attribute__((always_inline))
#else
#define SSDOPS_HOST_DEVICE __attribute__((always_inline))
#endif

namespace ssdops {

// Corners of a box; 4 adjacent numbers in memory, in this order.
template <typename T>
struct Box {
  T ymin, xmin, ymax, xmax;
};

template <typename T>
SSDOPS_HOST_DEVICE inline Box<T> LoadBox(const T* corners) {
  return {corners[0], corners[1], corners[2], corners[3]};
}

// A box with a height or width that is not positive is empty; so is, because
// comparisons with it are false, one with a NaN.
template <typename T>
SSDOPS_HOST_DEVICE inline bool IsValid(const Box<T>& box) {
  return box.ymax > box.ymin && box.xmax > box.xmin;
}

template <typename T>
SSDOPS_HOST_DEVICE inline T Area(const Box<T>& box) {
  return IsValid(box) ? (box.ymax - box.ymin) * (box.xmax - box.xmin) : T(0);
}

// Area of the intersection; 0 if a box is empty, if they do not meet, or if the
// area is not finite.
template <typename T>
SSDOPS_HOST_DEVICE inline T Intersection(const Box<T>& a, const Box<T>& b) {
  const T height =
      (a.ymax < b.ymax ? a.ymax : b.ymax) - (a.ymin > b.ymin ? a.ymin : b.ymin);
  const T width =
      (a.xmax < b.xmax ? a.xmax : b.xmax) - (a.xmin > b.xmin ? a.xmin : b.xmin);
  const T product = height * width;
  const bool meets = IsValid(a) && IsValid(b) && height > 0 && width > 0;
  return meets && product <= std::numeric_limits<T>::max() ? product : T(0);
}

// Intersection over union in [0, 1], given the areas of the boxes. The union is
// positive wherever the intersection is: both areas are at least as large.
template <typename T>
SSDOPS_HOST_DEVICE inline T Iou(const Box<T>& a, T area_a, const Box<T>& b,
                                T area_b) {
  const T overlap = Intersection(a, b);
  return overlap > 0 ? overlap / ((area_a + area_b) - overlap) : T(0);
}

}  // namespace ssdops

#endif  // SSDOPS_BOX_MATH_H_
