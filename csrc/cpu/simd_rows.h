// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_ROWS_H_
#define SSDOPS_CPU_SIMD_ROWS_H_

// Rows of class logits that lie scattered over an image. Only for files that
// are compiled per instruction set (isa_variants.h).

#include <limits>
#include <type_traits>

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {

// Rows of logits side by side, one to a lane: what has to wait within a row,
// for its maximum, its sum and its logarithm, waits once for all of them.
template <typename S>
class RowGroup {
  using T = ComputeType<S>;

 public:
  // Of rows that are handled so: their columns lie on the stack.
  static constexpr int64_t kMaxClasses = 128;

  // Lanes behind `count` hold the first row again.
  SSDOPS_INLINE RowGroup(const S* logits, int64_t num_classes,
                         const int32_t* rows, int count)
      : num_classes_(num_classes) {
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      starts_[lane] =
          rows[lane < count ? lane : 0] * static_cast<int32_t>(num_classes);
    }
    for (int64_t j = 0; j < num_classes; ++j) columns_[j] = Gather(logits + j);
  }

  // Whether the rows of an image can be handled so.
  static SSDOPS_INLINE bool Takes(int64_t num_rows, int64_t num_classes) {
    return num_classes <= kMaxClasses &&
           num_rows * num_classes <= std::numeric_limits<int32_t>::max();
  }

  SSDOPS_INLINE Vec<T> column(int64_t j) const { return columns_[j]; }

  SSDOPS_INLINE Vec<T> Largest() const {
    Vec<T> largest = Splat(-std::numeric_limits<T>::infinity());
    for (int64_t j = 0; j < num_classes_; ++j) {
      largest = Max(columns_[j], largest);
    }
    return largest;
  }

  // Sum of term(j) over the classes from `first` on: 16 partial sums by index,
  // then of halves.
  template <typename Term>
  SSDOPS_INLINE Vec<T> Sum(int64_t first, const Term& term) const {
    constexpr int kParts = 16;
    Vec<T> parts[kParts] = {};
    for (int64_t j = first; j < num_classes_; ++j) {
      parts[(j - first) % kParts] += term(j);
    }
    for (int half = kParts / 2; half > 0; half /= 2) {
      for (int p = 0; p < half; ++p) parts[p] += parts[p + half];
    }
    return parts[0];
  }

 private:
  SSDOPS_INLINE Vec<T> Gather(const S* from) const {
#if defined(__AVX512F__)
    if constexpr (std::is_same_v<S, float>) {
      return _mm512_mask_i32gather_ps(
          _mm512_setzero_ps(), 0xffff,
          _mm512_loadu_si512(static_cast<const void*>(starts_)), from,
          sizeof(float));
    }
#endif
    S column[kLanes<T>];
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      column[lane] = from[starts_[lane]];
    }
    return LoadWide(column);
  }

  int64_t num_classes_;
  int32_t starts_[kLanes<T>];
  Vec<T> columns_[kMaxClasses];
};

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_ROWS_H_
