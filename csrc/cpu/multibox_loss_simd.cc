// SPDX-License-Identifier: Apache-2.0
#include "multibox_loss_simd.h"

#include <utility>

#include "simd.h"
#include "simd_line_writer.h"
#include "simd_math.h"
#include "simd_rows.h"

namespace ssdops {
namespace SSDOPS_ISA {
namespace {

// 1 / FLT_MIN, and an exponent above its logarithm with a finite exponential.
constexpr float kLargestOdds = 8.50705917e37f;
constexpr float kLargestExponent = 88.0f;

// Elements [at, at + kLanes) of a row of logits, `fill` after its end. Reads
// over the end of the row where there is memory.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Vec<T> LoadLogits(const S* row, int64_t at, int64_t size,
                                int64_t available, T fill) {
  const int64_t count = size - at;
  if (count >= kLanes<T>) return LoadWide(row + at);
  if (available - at >= kLanes<T>) {
    return FirstLanes<T>(count) ? LoadWide(row + at) : Splat(fill);
  }
  T lanes[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) {
    lanes[i] = i < count ? Widen(row[at + i]) : fill;
  }
  return Load(lanes);
}

template <typename S>
SSDOPS_INLINE void StoreLogits(S* row, int64_t at, int64_t size,
                               Vec<ComputeType<S>> v) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  if (size - at >= kStep) {
    StoreNarrow(row + at, v);
    return;
  }
  S lanes[kStep];
  StoreNarrow(lanes, v);
  for (int64_t i = 0; i < size - at; ++i) row[at + i] = lanes[i];
}

template <typename V, int kDistance, int... kIndex>
SSDOPS_INLINE V SwapLanes(V v, std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(v, v, (kIndex ^ kDistance)...);
}

// Joins lanes i and i + kDistance, then at half the distance, down to one.
template <typename T, int kDistance, typename Join>
SSDOPS_INLINE T FoldLanes(Vec<T> v, const Join& join) {
  if constexpr (kDistance == 0) {
    return v[0];
  } else {
    const Vec<T> other = SwapLanes<Vec<T>, kDistance>(
        v, std::make_integer_sequence<int, kLanes<T>>());
    return FoldLanes<T, kDistance / 2>(join(v, other), join);
  }
}

// 16 partial sums by index modulo 16, whatever the vectors hold.
template <typename T>
struct PartialSums {
  static constexpr int kParts = 16 / kLanes<T>;
  Vec<T> parts[kParts] = {};

  // `at` is a multiple of kLanes.
  SSDOPS_INLINE void Add(int64_t at, Vec<T> v) {
    const int64_t part = at / kLanes<T> % kParts;
    for (int p = 0; p < kParts; ++p) {
      if (p == part) parts[p] += v;
    }
  }

  SSDOPS_INLINE T Total() const {
    Vec<T> sums[kParts];
    for (int p = 0; p < kParts; ++p) sums[p] = parts[p];
    for (int half = kParts / 2; half > 0; half /= 2) {
      for (int p = 0; p < half; ++p) sums[p] += sums[p + half];
    }
    return FoldLanes<T, kLanes<T> / 2>(
        sums[0], [](Vec<T> a, Vec<T> b)
                     __attribute__((always_inline)) { return a + b; });
  }
};

template <typename T>
SSDOPS_INLINE T LargestLane(Vec<T> v) {
  return FoldLanes<T, kLanes<T> / 2>(
      v, [](Vec<T> a, Vec<T> b)
             __attribute__((always_inline)) { return Max(a, b); });
}

// Lane of index `index` of a row in its elements [at, at + kLanes), if there.
template <typename T>
SSDOPS_INLINE Mask<T> LaneOf(int64_t index, int64_t at) {
  using Integer = std::decay_t<decltype(Mask<T>{}[0])>;
  return Iota<T>() == static_cast<Integer>(index - at);
}

// ln(1 + y) for y >= 0, also where 1 + y is rounded. NaN for NaN.
template <typename T>
SSDOPS_INLINE Vec<T> LogOnePlus(Vec<T> y) {
  const Vec<T> u = y + T(1);
  const Vec<T> correction = y / (u - T(1));
  return u == T(1) ? y : Log(u) * correction;
}
typedef uint8_t Flags __attribute__((vector_size(kLanes<float>)));

// Calls body(anchors, count) for the anchors that count, in their order, at
// most kLanes<T> at a time. Their logits, which lie scattered over the memory,
// are fetched some anchors ahead. Anchors of classes that do not exist are left
// out; false if there are such.
template <typename S, typename Body>
SSDOPS_INLINE bool ForEachCounted(const ConfidenceRows<S>& rows,
                                  const Body& body) {
  constexpr int kStep = kLanes<float>;
  constexpr int kGroup = kLanes<ComputeType<S>>;
  constexpr int kAhead = 32;
  const int64_t row_bytes = rows.num_classes * static_cast<int64_t>(sizeof(S));
  int32_t found[kAhead + kStep];
  int pending = 0;
  bool valid = true;
  const auto finish = [&]() __attribute__((always_inline)) {
    for (int k = 0; k < pending; k += kGroup) {
      body(found + k, pending - k < kGroup ? pending - k : kGroup);
    }
    pending = 0;
  };
  for (int64_t i = 0; i < rows.num_anchors; i += kStep) {
    const int64_t count = rows.num_anchors - i;
    int32_t classes[kStep];
    uint8_t mined[kStep] = {};
    for (int lane = 0; lane < kStep; ++lane) classes[lane] = -1;
    if (count >= kStep) {
      memcpy(classes, rows.classes + i, sizeof(classes));
      if (rows.mined != nullptr) memcpy(mined, rows.mined + i, sizeof(mined));
    } else {
      for (int64_t lane = 0; lane < count; ++lane) {
        classes[lane] = rows.classes[i + lane];
        if (rows.mined != nullptr) mined[lane] = rows.mined[i + lane] ? 1 : 0;
      }
    }
    const Mask<float> c = LoadMask<float>(classes);
    Mask<float> counts = c >= 0;
    if (rows.mined != nullptr) {
      Flags flags;
      memcpy(&flags, mined, sizeof(flags));
      counts = (c > 0) | (__builtin_convertvector(flags, Mask<float>) != 0);
    }
    for (uint32_t bits = Bits(counts); bits != 0; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      if (classes[lane] >= rows.num_classes) {
        valid = false;
        continue;
      }
      const int64_t anchor = i + lane;
      found[pending++] = static_cast<int32_t>(anchor);
      const auto* row = reinterpret_cast<const char*>(
          rows.logits + anchor * rows.num_classes);
      for (int64_t at = 0; at < row_bytes; at += kCacheLine) {
        __builtin_prefetch(row + at);
      }
      __builtin_prefetch(row + row_bytes - 1);
    }
    if (pending >= kAhead) finish();
  }
  finish();
  return valid;
}

// The softmax of a row: exponentials relative to the largest logit.
template <typename T>
struct Softmax {
  T largest, target, of_target, of_others;
};

template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Softmax<T> SoftmaxOf(const S* row, int64_t size,
                                   int64_t available, int64_t target) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  Vec<T> largest = Splat(kNone);
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    largest = Max(LoadLogits(row, j, size, available, kNone), largest);
  }
  Softmax<T> softmax;
  softmax.largest = LargestLane<T>(largest);
  softmax.target = Widen(row[target]);
  softmax.of_target = ssdops::Exp(softmax.target - softmax.largest);
  PartialSums<T> sums;
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vec<T> x = LoadLogits(row, j, size, available, kNone);
    const Vec<T> e = Exp(x - softmax.largest);
    sums.Add(j, LaneOf<T>(target, j) ? Vec<T>{} : e);
  }
  softmax.of_others = sums.Total();
  return softmax;
}

// The same of rows side by side.
template <typename T>
struct VecSoftmax {
  Vec<T> largest, target, of_target, of_others;
};

template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE VecSoftmax<T> SoftmaxOf(const ConfidenceRows<S>& rows,
                                      const int32_t* anchors, int count) {
  const int64_t size = rows.num_classes;
  VecSoftmax<T> softmax = {};
  if (!RowGroup<S>::Takes(rows.num_anchors, rows.num_classes)) {
    for (int lane = 0; lane < count; ++lane) {
      const int64_t first = anchors[lane] * size;
      const Softmax<T> row =
          SoftmaxOf(rows.logits + first, size, rows.available - first,
                    rows.classes[anchors[lane]]);
      softmax.largest[lane] = row.largest;
      softmax.target[lane] = row.target;
      softmax.of_target[lane] = row.of_target;
      softmax.of_others[lane] = row.of_others;
    }
    return softmax;
  }
  const RowGroup<S> group(rows.logits, rows.num_classes, anchors, count);
  Mask<T> targets = {};
  for (int lane = 0; lane < count; ++lane) {
    const int32_t target = rows.classes[anchors[lane]];
    targets[lane] = target;
    softmax.target[lane] = Widen(rows.logits[anchors[lane] * size + target]);
  }
  using Integer = std::decay_t<decltype(targets[0])>;
  softmax.largest = group.Largest();
  softmax.of_target = Exp(softmax.target - softmax.largest);
  softmax.of_others =
      group.Sum(0, [&](int64_t j) __attribute__((always_inline)) {
        const Vec<T> e = Exp(group.column(j) - softmax.largest);
        return targets == static_cast<Integer>(j) ? Vec<T>{} : e;
      });
  return softmax;
}

template <typename T>
SSDOPS_INLINE Vec<T> SoftmaxLoss(const VecSoftmax<T>& s) {
  const Vec<T> behind = s.largest - s.target;
  // The first is exact for small losses; in the second the logarithm is not
  // small.
  return behind == T(0) ? LogOnePlus<T>(s.of_others)
                        : behind + Log(s.of_target + s.of_others) +
                              (s.of_others - s.of_others);
}

// Of each class, with e = exp(-|x|): the logit of the right answer z, which is
// x for the target and -x for others, ln(1 + e), and the probability of the
// wrong answer 1 / (1 + exp(z)).
template <typename T>
struct Sigmoids {
  Vec<T> z, log_one_plus_e, wrong;
};

template <typename T>
SSDOPS_INLINE Sigmoids<T> SigmoidsOf(Vec<T> x, Mask<T> is_target) {
  const Vec<T> e = Exp(x > T(0) ? -x : x);
  const Vec<T> u = e + T(1);
  Sigmoids<T> s;
  s.z = is_target ? x : -x;
  s.log_one_plus_e = LogOnePlus<T>(e);
  s.wrong = (s.z > T(0) ? e : Vec<T>{} + T(1)) / u;
  return s;
}

// -ln of the probability of the right answer.
template <typename T>
SSDOPS_INLINE Vec<T> CrossEntropy(const Sigmoids<T>& s) {
  return (s.z < T(0) ? -s.z : Vec<T>{}) + s.log_one_plus_e;
}

// alpha_t (1 - p_t)^gamma
template <typename T>
SSDOPS_INLINE Vec<T> FocalWeight(const Sigmoids<T>& s, Mask<T> is_target,
                                 T alpha, T gamma) {
  const Vec<T> log_wrong = -((s.z > T(0) ? s.z : Vec<T>{}) + s.log_one_plus_e);
  const Vec<T> factor = is_target ? Splat(alpha) : Splat(T(1) - alpha);
  return factor * Exp(log_wrong * gamma);
}

template <typename S>
SSDOPS_INLINE ComputeType<S> SigmoidLoss(const ConfidenceRows<S>& rows,
                                         const S* row, int64_t available,
                                         int64_t target) {
  using T = ComputeType<S>;
  const int64_t size = rows.num_classes;
  PartialSums<T> sums;
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vec<T> x = LoadLogits(row, j, size, available, T(0));
    const Mask<T> is_target = LaneOf<T>(target, j);
    const Sigmoids<T> s = SigmoidsOf<T>(x, is_target);
    Vec<T> loss = CrossEntropy<T>(s);
    Mask<T> counts = FirstLanes<T>(size - j);
    if (rows.loss == ConfidenceLoss::kSigmoidFocal) {
      loss *= FocalWeight<T>(s, is_target, rows.focal_alpha, rows.focal_gamma);
      counts &= ~LaneOf<T>(0, j);
    }
    sums.Add(j, counts ? loss : Vec<T>{});
  }
  return sums.Total();
}

template <typename S>
SSDOPS_INLINE ComputeType<S> OddsAgainstBackground(const S* row, int64_t size,
                                                   int64_t available) {
  using T = ComputeType<S>;
  const T background = Widen(row[0]);
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  PartialSums<T> sums;
  for (int64_t j = 0; j < size - 1; j += kLanes<T>) {
    const Vec<T> x =
        LoadLogits(row + 1, j, size - 1, available - 1, kNone) - background;
    // A NaN stays.
    const Vec<T> e =
        Exp(x > T(kLargestExponent) ? Splat(T(kLargestExponent)) : x);
    sums.Add(j, FirstLanes<T>(size - 1 - j) ? e : Vec<T>{});
  }
  const T odds = sums.Total();
  return odds > T(kLargestOdds) ? T(kLargestOdds) : odds;
}

// The same of rows side by side.
template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE Vec<T> OddsAgainstBackground(const ConfidenceRows<S>& rows,
                                           const int32_t* anchors, int count) {
  if (!RowGroup<S>::Takes(rows.num_anchors, rows.num_classes)) {
    Vec<T> odds = {};
    for (int lane = 0; lane < count; ++lane) {
      const int64_t first = anchors[lane] * rows.num_classes;
      odds[lane] = OddsAgainstBackground(rows.logits + first, rows.num_classes,
                                         rows.available - first);
    }
    return odds;
  }
  const RowGroup<S> group(rows.logits, rows.num_classes, anchors, count);
  const Vec<T> background = group.column(0);
  const Vec<T> odds =
      group.Sum(1, [&](int64_t j) __attribute__((always_inline)) {
        const Vec<T> x = group.column(j) - background;
        return Exp(x > T(kLargestExponent) ? Splat(T(kLargestExponent)) : x);
      });
  return odds > T(kLargestOdds) ? Splat(T(kLargestOdds)) : odds;
}

// Sums of neighbours: first those of a, then those of b.
template <int... kIndex>
SSDOPS_INLINE Vec<float> AddNeighbours(Vec<float> a, Vec<float> b,
                                       std::integer_sequence<int, kIndex...>) {
  return __builtin_shufflevector(a, b, (2 * kIndex)...) +
         __builtin_shufflevector(a, b, (2 * kIndex + 1)...);
}

// exp(x), wrong by 3 %: the bits of a float are almost its logarithm. NaN is
// taken for the largest exponent.
SSDOPS_INLINE Vec<float> RoughExp(Vec<float> x) {
  const Vec<float> limited =
      Max(Min(x, Splat(kLargestExponent)), Splat(-87.0f));
  const Vec<float> bits = limited * 12102203.2f + 1064986823.0f;
  return reinterpret_cast<Vec<float>>(
      __builtin_convertvector(bits, Mask<float>));
}

// Sums of RoughExp over the classes from 1, of kRows rows one after another:
// kLanes / kRows lanes to be added for each.
template <int kRows, typename S>
SSDOPS_INLINE Vec<float> RoughOdds(const S* rows, int64_t num_classes,
                                   int64_t whole, Mask<float> rest) {
  if constexpr (kRows == 1) {
    const Vec<float> background = Splat<float>(Widen(rows[0]));
    const Vec<float> zero = {};
    Vec<float> sum = {};
    int64_t j = 1;
    for (; j <= whole; j += kLanes<float>) {
      sum += RoughExp(LoadWide(rows + j) - background);
    }
    if (j < num_classes) {
      sum += rest ? RoughExp(LoadWide(rows + j) - background) : zero;
    }
    return sum;
  } else {
    constexpr int kHalf = kRows / 2;
    // One after the other: arguments would be evaluated from the last, and
    // the processor fetches ahead only of rising addresses.
    const Vec<float> first = RoughOdds<kHalf>(rows, num_classes, whole, rest);
    const Vec<float> second =
        RoughOdds<kHalf>(rows + kHalf * num_classes, num_classes, whole, rest);
    return AddNeighbours(first, second,
                         std::make_integer_sequence<int, kLanes<float>>());
  }
}

}  // namespace

template <typename S>
void EstimateOdds(const ConfidenceRows<S>& rows, float* odds) {
  constexpr int kStep = kLanes<float>;
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const int64_t size = rows.num_classes - 1;
  const int64_t whole = size / kStep * kStep;
  const Mask<float> rest = FirstLanes<float>(size - whole);
  int64_t i = 0;
  // The last vector of a row reads into the next one.
  for (; i + kStep <= rows.num_anchors &&
         (i + kStep) * rows.num_classes + kStep <= rows.available;
       i += kStep) {
    FetchAhead(rows.logits + i * rows.num_classes, kStep * rows.num_classes);
    const Vec<float> sums = RoughOdds<kStep>(rows.logits + i * rows.num_classes,
                                             rows.num_classes, whole, rest);
    Store(odds + i, Min(sums, Splat(kLargestOdds)));
  }
  for (; i < rows.num_anchors; ++i) {
    const int64_t first = i * rows.num_classes;
    const S* row = rows.logits + first;
    const float background = Widen(row[0]);
    PartialSums<float> sums;
    for (int64_t j = 0; j < size; j += kStep) {
      // The exponential of kNone is as good as 0.
      const Vec<float> x =
          LoadLogits(row + 1, j, size, rows.available - first - 1, kNone);
      sums.Add(j, RoughExp(x - background));
    }
    const float sum = sums.Total();
    odds[i] = sum < kLargestOdds ? sum : kLargestOdds;
  }
}

namespace {

template <typename S, typename T = ComputeType<S>>
SSDOPS_INLINE void SoftmaxGrad(const S* row, int64_t size, int64_t available,
                               int64_t target, const Softmax<T>& s, T scale,
                               S* grad) {
  constexpr T kNone = -std::numeric_limits<T>::infinity();
  const T factor = scale / (s.of_target + s.of_others);
  const T of_target = -(s.of_others * factor);
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vec<T> x = LoadLogits(row, j, size, available, kNone);
    const Vec<T> value = Exp(x - s.largest) * factor;
    StoreLogits(grad, j, size, LaneOf<T>(target, j) ? Splat(of_target) : value);
  }
}

template <typename S>
void SigmoidGrad(const ConfidenceRows<S>& rows, const S* row, int64_t available,
                 int64_t target, ComputeType<S> scale, S* grad) {
  using T = ComputeType<S>;
  const int64_t size = rows.num_classes;
  for (int64_t j = 0; j < size; j += kLanes<T>) {
    const Vec<T> x = LoadLogits(row, j, size, available, T(0));
    const Mask<T> is_target = LaneOf<T>(target, j);
    const Sigmoids<T> s = SigmoidsOf<T>(x, is_target);
    // With respect to z, without the sign.
    Vec<T> slope = s.wrong;
    if (rows.loss == ConfidenceLoss::kSigmoidFocal) {
      const Vec<T> right = T(1) - s.wrong;
      slope = FocalWeight<T>(s, is_target, rows.focal_alpha, rows.focal_gamma) *
              (rows.focal_gamma * right * CrossEntropy<T>(s) + s.wrong);
      slope = LaneOf<T>(0, j) ? Vec<T>{} : slope;
    }
    slope = slope * scale;
    StoreLogits(grad, j, size, is_target ? -slope : slope);
  }
}

}  // namespace

template <typename S>
void RankingLosses(const ConfidenceRows<S>& rows, ComputeType<S> limit,
                   ComputeType<S>* hardness) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const int64_t size = rows.num_classes;
  int32_t found[2 * kStep];
  int pending = 0;
  const auto rank = [&](const int32_t* anchors,
                        int count) __attribute__((always_inline)) {
    if (rows.loss == ConfidenceLoss::kSoftmax) {
      const Vec<T> odds = OddsAgainstBackground(rows, anchors, count);
      for (int lane = 0; lane < count; ++lane) {
        hardness[anchors[lane]] = odds[lane];
      }
      return;
    }
    for (int lane = 0; lane < count; ++lane) {
      const int64_t first = anchors[lane] * size;
      hardness[anchors[lane]] =
          SigmoidLoss(rows, rows.logits + first, rows.available - first, 0);
    }
  };
  for (int64_t i = 0; i < rows.num_anchors; i += kStep) {
    const int64_t count = rows.num_anchors - i;
    uint32_t bits = 0;
    if (count >= kStep) {
      bits = Bits(Load(hardness + i) >= limit);
      Store(hardness + i, Splat(T(-1)));
    } else {
      bits = Bits(LoadPartial(hardness + i, count, T(-1)) >= limit);
      StorePartial(hardness + i, Splat(T(-1)), count);
    }
    for (; bits != 0; bits &= bits - 1) {
      const int64_t anchor = i + __builtin_ctz(bits);
      if (rows.classes[anchor] != 0) continue;
      found[pending++] = static_cast<int32_t>(anchor);
      __builtin_prefetch(rows.logits + anchor * size);
    }
    if (pending < kStep) continue;
    rank(found, kStep);
    pending -= kStep;
    memcpy(found, found + kStep, sizeof(int32_t) * kStep);
  }
  if (pending > 0) rank(found, pending);
}

template <typename S>
double ConfidenceSum(const ConfidenceRows<S>& rows, bool* valid) {
  using T = ComputeType<S>;
  const int64_t size = rows.num_classes;
  double sum = 0;
  const auto add = [&](const int32_t* anchors,
                       int count) __attribute__((always_inline)) {
    if (rows.loss == ConfidenceLoss::kSoftmax) {
      const Vec<T> losses = SoftmaxLoss<T>(SoftmaxOf(rows, anchors, count));
      for (int lane = 0; lane < count; ++lane) sum += losses[lane];
      return;
    }
    for (int lane = 0; lane < count; ++lane) {
      const int64_t first = anchors[lane] * size;
      sum += SigmoidLoss(rows, rows.logits + first, rows.available - first,
                         rows.classes[anchors[lane]]);
    }
  };
  *valid = ForEachCounted(rows, add);
  return sum;
}

template <typename S>
void ConfidenceGrad(const ConfidenceRows<S>& rows, ComputeType<S> scale,
                    bool stream, S* grad) {
  using T = ComputeType<S>;
  const int64_t size = rows.num_classes;
  const int64_t row_bytes = size * static_cast<int64_t>(sizeof(S));
  const bool in_lines = stream && row_bytes <= LineWriter::kMaxRowBytes;
  LineWriter writer(grad);
  int64_t written = 0;
  const auto zeros_until = [&](int64_t anchor) __attribute__((always_inline)) {
    const int64_t bytes = (anchor - written) * row_bytes;
    if (in_lines) {
      writer.Zeros(bytes);
    } else {
      memset(grad + written * size, 0, static_cast<size_t>(bytes));
    }
    written = anchor;
  };
  // body(to) writes the gradient of a row.
  const auto write_row = [&](int64_t anchor,
                             const auto& body) __attribute__((always_inline)) {
    zeros_until(anchor);
    if (in_lines) {
      writer.Row(row_bytes, [&](char* to) __attribute__((always_inline)) {
        body(reinterpret_cast<S*>(to));
      });
    } else {
      body(grad + anchor * size);
    }
    ++written;
  };
  const auto write = [&](const int32_t* anchors,
                         int count) __attribute__((always_inline)) {
    VecSoftmax<T> softmax = {};
    const bool is_softmax = rows.loss == ConfidenceLoss::kSoftmax;
    if (is_softmax) softmax = SoftmaxOf(rows, anchors, count);
    for (int lane = 0; lane < count; ++lane) {
      const int64_t anchor = anchors[lane];
      const S* row = rows.logits + anchor * size;
      const int64_t available = rows.available - anchor * size;
      const int64_t target = rows.classes[anchor];
      write_row(anchor, [&](S* to) __attribute__((always_inline)) {
        if (is_softmax) {
          SoftmaxGrad<S>(row, size, available, target,
                         {softmax.largest[lane], softmax.target[lane],
                          softmax.of_target[lane], softmax.of_others[lane]},
                         scale, to);
        } else {
          SigmoidGrad(rows, row, available, target, scale, to);
        }
      });
    }
  };
  ForEachCounted(rows, write);
  zeros_until(rows.num_anchors);
  if (in_lines) writer.Finish();
}

void FillZeros(void* to, int64_t bytes, bool stream) {
  if (!stream) {
    memset(to, 0, static_cast<size_t>(bytes));
    return;
  }
  LineWriter writer(to);
  writer.Zeros(bytes);
  writer.Finish();
}

void FinishStream() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

#define SSDOPS_INSTANTIATE(S)                                               \
  template void RankingLosses<S>(const ConfidenceRows<S>&, ComputeType<S>,  \
                                 ComputeType<S>*);                          \
  template double ConfidenceSum<S>(const ConfidenceRows<S>&, bool*);        \
  template void ConfidenceGrad<S>(const ConfidenceRows<S>&, ComputeType<S>, \
                                  bool, S*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE
#define SSDOPS_INSTANTIATE(S) \
  template void EstimateOdds<S>(const ConfidenceRows<S>&, float*);
SSDOPS_INSTANTIATE(float)
SSDOPS_INSTANTIATE(Half)
SSDOPS_INSTANTIATE(BFloat16)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
