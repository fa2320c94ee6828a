// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_BOXES_H_
#define SSDOPS_CPU_SIMD_BOXES_H_

// Rows of four numbers (boxes, offsets) to one vector per column and back. Only
// for files that are compiled per instruction set (isa_variants.h).

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {

// Elements 0 and 1, or 2 and 3, of every group of four, of a and b in turn.
#if defined(__AVX512F__)
SSDOPS_INLINE Vec<float> Low(Vec<float> a, Vec<float> b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25,
                                 12, 28, 13, 29);
}
SSDOPS_INLINE Vec<float> High(Vec<float> a, Vec<float> b) {
  return __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11,
                                 27, 14, 30, 15, 31);
}
SSDOPS_INLINE Vec<double> Low(Vec<double> a, Vec<double> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
}
SSDOPS_INLINE Vec<double> High(Vec<double> a, Vec<double> b) {
  return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
}
#elif defined(__AVX2__)
SSDOPS_INLINE Vec<float> Low(Vec<float> a, Vec<float> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
}
SSDOPS_INLINE Vec<float> High(Vec<float> a, Vec<float> b) {
  return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
}
SSDOPS_INLINE Vec<double> Low(Vec<double> a, Vec<double> b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
SSDOPS_INLINE Vec<double> High(Vec<double> a, Vec<double> b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#else
SSDOPS_INLINE Vec<float> Low(Vec<float> a, Vec<float> b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
SSDOPS_INLINE Vec<float> High(Vec<float> a, Vec<float> b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#endif

// Every group of four as a 4 x 4 matrix with one row per vector, transposed:
// its own inverse.
template <typename T>
SSDOPS_INLINE VecBox<T> Transpose(Vec<T> a, Vec<T> b, Vec<T> c, Vec<T> d) {
  const Vec<T> ac_low = Low(a, c), ac_high = High(a, c);
  const Vec<T> bd_low = Low(b, d), bd_high = High(b, d);
  return {Low(ac_low, bd_low), High(ac_low, bd_low), Low(ac_high, bd_high),
          High(ac_high, bd_high)};
}

// The order in which LoadRows brings rows into lanes, undone.
template <typename T>
SSDOPS_INLINE Vec<T> InOrder(Vec<T> v) {
  if constexpr (kLanes<T> == 16) {
    return __builtin_shufflevector(v, v, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14,
                                   3, 7, 11, 15);
  } else if constexpr (kLanes<T> == 8) {
    return __builtin_shufflevector(v, v, 0, 4, 1, 5, 2, 6, 3, 7);
  } else {
    return v;
  }
}

// kLanes rows of four, in an order that StoreRows and InOrder take back.
template <typename S>
SSDOPS_INLINE VecBox<ComputeType<S>> LoadRows(const S* from) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const Vec<T> a = LoadWide(from), b = LoadWide(from + kStep);
  const Vec<T> c = LoadWide(from + 2 * kStep), d = LoadWide(from + 3 * kStep);
  if constexpr (kStep == 2) {
    // A row is two vectors.
    return {__builtin_shufflevector(a, c, 0, 2),
            __builtin_shufflevector(a, c, 1, 3),
            __builtin_shufflevector(b, d, 0, 2),
            __builtin_shufflevector(b, d, 1, 3)};
  } else {
    return Transpose<T>(a, b, c, d);
  }
}

template <typename S>
SSDOPS_INLINE void StoreRows(S* to, const VecBox<ComputeType<S>>& columns) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  VecBox<T> rows;
  if constexpr (kStep == 2) {
    rows.ymin = __builtin_shufflevector(columns.ymin, columns.xmin, 0, 2);
    rows.xmin = __builtin_shufflevector(columns.ymax, columns.xmax, 0, 2);
    rows.ymax = __builtin_shufflevector(columns.ymin, columns.xmin, 1, 3);
    rows.xmax = __builtin_shufflevector(columns.ymax, columns.xmax, 1, 3);
  } else {
    rows = Transpose<T>(columns.ymin, columns.xmin, columns.ymax, columns.xmax);
  }
  StoreNarrow(to, rows.ymin);
  StoreNarrow(to + kStep, rows.xmin);
  StoreNarrow(to + 2 * kStep, rows.ymax);
  StoreNarrow(to + 3 * kStep, rows.xmax);
}

// The first `count` of them; zeros in the other lanes.
template <typename S>
SSDOPS_INLINE VecBox<ComputeType<S>> LoadRows(const S* from, int64_t count) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  if (count >= kStep) return LoadRows(from);
  S rows[4 * kStep] = {};
  memcpy(rows, from, 4 * static_cast<size_t>(count) * sizeof(S));
  return LoadRows(rows);
}

template <typename S>
SSDOPS_INLINE void StoreRows(S* to, const VecBox<ComputeType<S>>& columns,
                             int64_t count) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  if (count >= kStep) {
    StoreRows(to, columns);
    return;
  }
  S rows[4 * kStep];
  StoreRows(rows, columns);
  memcpy(to, rows, 4 * static_cast<size_t>(count) * sizeof(S));
}

// Calls block(row, anchor, count) for rows [begin, end) of [batch, num_anchors]
// with at most kLanes<T> rows of one image at a time.
template <typename T, typename Block>
SSDOPS_INLINE void ForEachBlock(int64_t begin, int64_t end, int64_t num_anchors,
                                const Block& block) {
  int64_t anchor = begin % num_anchors;
  for (int64_t row = begin; row < end;) {
    int64_t count = num_anchors - anchor;
    count = count < end - row ? count : end - row;
    int64_t done = 0;
    for (; done + kLanes<T> <= count; done += kLanes<T>) {
      block(row + done, anchor + done, int64_t{kLanes<T>});
    }
    if (done < count) block(row + done, anchor + done, count - done);
    row += count;
    anchor = 0;
  }
}

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_BOXES_H_
