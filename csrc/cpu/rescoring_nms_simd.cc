// SPDX-License-Identifier: Apache-2.0
#include "rescoring_nms_simd.h"

#include "simd.h"
#include "simd_math.h"
#include "ssdops/iou_kinds.h"

namespace ssdops {
namespace SSDOPS_ISA {
namespace {

template <typename T>
SSDOPS_INLINE Vec<T> Infinity() {
  return Splat(std::numeric_limits<T>::infinity());
}

template <typename T>
SSDOPS_INLINE VecBox<T> LoadColumns(const BoxColumns<T>& boxes, int64_t j) {
  return {Load(boxes.ymin + j), Load(boxes.xmin + j), Load(boxes.ymax + j),
          Load(boxes.xmax + j)};
}

template <typename T>
SSDOPS_INLINE VecBox<T> SplatColumns(const BoxColumns<T>& boxes, int64_t i) {
  return {Splat(boxes.ymin[i]), Splat(boxes.xmin[i]), Splat(boxes.ymax[i]),
          Splat(boxes.xmax[i])};
}

// Intersection of boxes from columns: those that are not valid have a negative
// height here.
template <typename T>
SSDOPS_INLINE Vec<T> Overlap(const VecBox<T>& a, const VecBox<T>& b) {
  const Vec<T> zero = {};
  const Vec<T> height = Min(a.ymax, b.ymax) - Max(a.ymin, b.ymin);
  const Vec<T> width = Min(a.xmax, b.xmax) - Max(a.xmin, b.xmin);
  const Vec<T> product = height * width;
  const Mask<T> meets = (height > zero) & (width > zero) &
                        (product <= std::numeric_limits<T>::max());
  return meets ? product : zero;
}

template <typename T>
SSDOPS_INLINE bool Any(Mask<T> mask) {
  return Bits(mask) != 0;
}

// The measure, at least 0, of boxes with this overlap.
template <bool kDiou, typename T>
SSDOPS_INLINE Vec<T> Measure(const VecBox<T>& a, Vec<T> area_a,
                             const VecBox<T>& b, Vec<T> area_b,
                             Vec<T> overlap) {
  const Vec<T> zero = {};
  Vec<T> value = overlap / ((area_a + area_b) - overlap);
  if (kDiou) value = Max(value - PairDiouPenalty<T, Vec<T>>(a, b), zero);
  return overlap > zero ? value : zero;
}

// Integers in the order of the numbers whose bits they are: the bits of a
// negative number but its sign are turned round, and back.
template <typename T>
SSDOPS_INLINE Mask<T> OrderedBits(Mask<T> bits) {
  using Integer = std::decay_t<decltype(bits[0])>;
  return bits < 0 ? bits ^ std::numeric_limits<Integer>::max() : bits;
}

template <bool kGaussian, bool kDiou, typename T>
SSDOPS_INLINE int64_t TakeSoftlyAs(const RescoringOptions<T>& options,
                                   const BoxColumns<T>& boxes, int64_t count,
                                   int64_t max_taken, T* scores, int32_t* taken,
                                   T* taken_scores) {
  constexpr int kStep = kLanes<T>;
  const Vec<T> zero = {}, one = zero + T(1), dropped = -Infinity<T>();
  const Vec<T> score_threshold = Splat(options.score_threshold);
  const Vec<T> iou_threshold = Splat(options.iou_threshold);
  const Vec<T> sigma = Splat(options.sigma);
  int64_t num_taken = 0;
  int64_t best = -1;
  // The first pass takes none, but finds the first to take.
  for (;;) {
    VecBox<T> box = {};
    Vec<T> area = {};
    if (best >= 0) {
      taken[num_taken] = static_cast<int32_t>(best);
      taken_scores[num_taken] = scores[best];
      if (++num_taken == max_taken) break;
      scores[best] = -std::numeric_limits<T>::infinity();
      box = SplatColumns(boxes, best);
      area = Splat(boxes.area[best]);
    }
    // In each lane the first of the highest scores.
    Vec<T> best_scores = dropped;
    Mask<T> best_indices = {};
    Mask<T> indices = Iota<T>();
    for (int64_t j = 0; j < count; j += kStep, indices += kStep) {
      Vec<T> score = Load(scores + j);
      if (!Any<T>(score > dropped)) continue;
      const VecBox<T> other = LoadColumns(boxes, j);
      const Vec<T> overlap = Overlap<T>(box, other);
      // Without an overlap all weights are 1.
      if (Any<T>(overlap > zero)) {
        const Vec<T> u =
            Measure<kDiou, T>(box, area, other, Load(boxes.area + j), overlap);
        Vec<T> weight;
        if (kGaussian) {
          weight = Exp(-((u * u) / sigma));
        } else {
          weight = u > iou_threshold ? one - u : one;
        }
        score *= weight;
        score = score > score_threshold ? score : dropped;
        Store<T>(scores + j, score);
      }
      const Mask<T> better = score > best_scores;
      best_scores = better ? score : best_scores;
      best_indices = better ? indices : best_indices;
    }
    best = -1;
    T best_score = -std::numeric_limits<T>::infinity();
    for (int lane = 0; lane < kStep; ++lane) {
      const T score = best_scores[lane];
      const int64_t index = best_indices[lane];
      if (score > best_score ||
          (best >= 0 && score == best_score && index < best)) {
        best_score = score;
        best = index;
      }
    }
    if (best < 0) break;
  }
  return num_taken;
}

template <bool kGaussian, bool kDiou, typename T>
SSDOPS_INLINE void MatrixDecaysAs(const BoxColumns<T>& boxes, int64_t count,
                                  T* compensation, T* decays) {
  constexpr int kStep = kLanes<T>;
  const Vec<T> zero = {}, one = zero + T(1);
  // What candidates that are not earlier have here makes no decay stronger.
  const Vec<T> none = kGaussian ? Infinity<T>() : zero;
  for (int64_t j = 0; j < count; j += kStep) Store<T>(compensation + j, none);
  for (int64_t i = 0; i < count; ++i) {
    const VecBox<T> box = SplatColumns(boxes, i);
    const Vec<T> area = Splat(boxes.area[i]);
    Vec<T> largest = zero;
    Vec<T> strongest = kGaussian ? zero : one;
    for (int64_t j = 0; j < i; j += kStep) {
      const VecBox<T> other = LoadColumns(boxes, j);
      const Vec<T> overlap = Overlap<T>(box, other);
      // Without an overlap no decay is stronger than none.
      if (!Any<T>(overlap > zero)) continue;
      const Vec<T> any_u =
          Measure<kDiou, T>(box, area, other, Load(boxes.area + j), overlap);
      const Vec<T> u = FirstLanes<T>(i - j) ? any_u : zero;
      largest = Max(u, largest);
      const Vec<T> decay = kGaussian ? Load(compensation + j) - u * u
                                     : (one - u) / Load(compensation + j);
      strongest = Min(decay, strongest);
    }
    T m = 0, decay = strongest[0];
    for (int lane = 0; lane < kStep; ++lane) {
      const T u = largest[lane], d = strongest[lane];
      m = u > m ? u : m;
      decay = d < decay ? d : decay;
    }
    compensation[i] = kGaussian ? m * m : T(1) - m;
    decays[i] = decay;
  }
}

template <bool kDiou, typename T>
SSDOPS_INLINE int64_t FirstOverlappingAs(T threshold,
                                         const BoxColumns<T>& boxes,
                                         int64_t count, const Box<T>& box,
                                         T area) {
  const VecBox<T> wide_box = SplatBox(box);
  const Vec<T> wide_area = Splat(area), zero = {};
  for (int64_t j = 0; j < count; j += kLanes<T>) {
    const VecBox<T> other = LoadColumns(boxes, j);
    const Vec<T> overlap = Overlap<T>(other, wide_box);
    if (!Any<T>(overlap > zero)) continue;
    const Vec<T> u = Measure<kDiou, T>(other, Load(boxes.area + j), wide_box,
                                       wide_area, overlap);
    const Mask<T> above = u > threshold;
    const uint32_t bits = Bits(above);
    if (bits != 0) return j + __builtin_ctz(bits);
  }
  return -1;
}

}  // namespace

template <typename S>
int64_t ScanAbove(const S* scores, int64_t num_rows, int64_t num_classes,
                  int64_t available, const ComputeType<S>* thresholds,
                  int32_t* indices) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  int64_t found = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t c = 0; c < num_classes; c += kStep) {
      const int64_t first = row * num_classes + c;
      if (first + kStep <= available) {
        // What belongs to the next row is not above infinity.
        const Mask<T> above = LoadWide(scores + first) > Load(thresholds + c);
        uint32_t bits = Bits(above);
        for (; bits != 0; bits &= bits - 1) {
          indices[found++] = static_cast<int32_t>(first) + __builtin_ctz(bits);
        }
      } else {
        for (int64_t k = c; k < num_classes; ++k) {
          const int64_t index = row * num_classes + k;
          if (Widen(scores[index]) > thresholds[k]) {
            indices[found++] = static_cast<int32_t>(index);
          }
        }
        break;
      }
    }
  }
  return found;
}

template <typename T>
T NthLargest(int64_t n, int64_t count, T* scores) {
  constexpr int kStep = kLanes<T>;
  using Integer = std::decay_t<decltype(Mask<T>{}[0])>;
  using Unsigned = std::make_unsigned_t<Integer>;
  constexpr Unsigned kSign = Unsigned{1} << (8 * sizeof(T) - 1);
  for (int64_t j = 0; j < count; j += kStep) {
    const Vec<T> lowest = -Infinity<T>();
    // The sum makes 0 of -0.
    Vec<T> score = Load(scores + j) + Vec<T>{};
    score = FirstLanes<T>(count - j) ? score : lowest;
    const Mask<T> keys = OrderedBits<T>(reinterpret_cast<Mask<T>>(score));
    memcpy(scores + j, &keys, sizeof(keys));
  }
  // From the highest bit on, the largest number that n of them reach.
  Unsigned key = 0;
  for (Unsigned bit = kSign; bit != 0; bit >>= 1u) {
    const auto trial = static_cast<Integer>((key | bit) ^ kSign);
    Mask<T> reach = {};
    for (int64_t j = 0; j < count; j += kStep) {
      reach -= LoadMask<T>(scores + j) >= trial;
    }
    int64_t total = 0;
    for (int lane = 0; lane < kStep; ++lane) total += reach[lane];
    if (total >= n) key |= bit;
  }
  Mask<T> result = {};
  result[0] = static_cast<Integer>(key ^ kSign);
  return reinterpret_cast<Vec<T>>(OrderedBits<T>(result))[0];
}

template <typename T>
int64_t TakeSoftly(const RescoringOptions<T>& options,
                   const BoxColumns<T>& boxes, int64_t count, int64_t max_taken,
                   T* scores, int32_t* taken, T* taken_scores) {
  if (options.gaussian) {
    return options.diou
               ? TakeSoftlyAs<true, true, T>(options, boxes, count, max_taken,
                                             scores, taken, taken_scores)
               : TakeSoftlyAs<true, false, T>(options, boxes, count, max_taken,
                                              scores, taken, taken_scores);
  }
  return options.diou
             ? TakeSoftlyAs<false, true, T>(options, boxes, count, max_taken,
                                            scores, taken, taken_scores)
             : TakeSoftlyAs<false, false, T>(options, boxes, count, max_taken,
                                             scores, taken, taken_scores);
}

template <typename T>
void MatrixDecays(const RescoringOptions<T>& options,
                  const BoxColumns<T>& boxes, int64_t count, T* compensation,
                  T* decays) {
  if (options.gaussian) {
    if (options.diou) {
      MatrixDecaysAs<true, true, T>(boxes, count, compensation, decays);
    } else {
      MatrixDecaysAs<true, false, T>(boxes, count, compensation, decays);
    }
  } else if (options.diou) {
    MatrixDecaysAs<false, true, T>(boxes, count, compensation, decays);
  } else {
    MatrixDecaysAs<false, false, T>(boxes, count, compensation, decays);
  }
}

template <typename T>
int64_t FirstOverlapping(const RescoringOptions<T>& options,
                         const BoxColumns<T>& boxes, int64_t count,
                         const Box<T>& box, T area) {
  return options.diou ? FirstOverlappingAs<true, T>(options.iou_threshold,
                                                    boxes, count, box, area)
                      : FirstOverlappingAs<false, T>(options.iou_threshold,
                                                     boxes, count, box, area);
}

#define SSDOPS_INSTANTIATE(S)                                        \
  template int64_t ScanAbove<S>(const S*, int64_t, int64_t, int64_t, \
                                const ComputeType<S>*, int32_t*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE

#define SSDOPS_INSTANTIATE(T)                                                \
  template T NthLargest<T>(int64_t, int64_t, T*);                            \
  template int64_t TakeSoftly<T>(const RescoringOptions<T>&,                 \
                                 const BoxColumns<T>&, int64_t, int64_t, T*, \
                                 int32_t*, T*);                              \
  template void MatrixDecays<T>(const RescoringOptions<T>&,                  \
                                const BoxColumns<T>&, int64_t, T*, T*);      \
  template int64_t FirstOverlapping<T>(const RescoringOptions<T>&,           \
                                       const BoxColumns<T>&, int64_t,        \
                                       const Box<T>&, T);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(double)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
