// SPDX-License-Identifier: Apache-2.0
#include "mine_hard_negatives_simd.h"

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {
namespace {

// The vector of keys is the mask of the losses.
template <typename Key>
using Loss = std::conditional_t<sizeof(Key) == 8, double, float>;

SSDOPS_INLINE Mask<float> LoadClasses(const int32_t* from, float) {
  return LoadMask<float>(from);
}
SSDOPS_INLINE Mask<double> LoadClasses(const int32_t* from, double) {
  typedef int32_t Narrow32 __attribute__((vector_size(kVectorBytes / 2)));
  Narrow32 classes;
  memcpy(&classes, from, sizeof(classes));
  return __builtin_convertvector(classes, Mask<double>);
}

template <typename T>
SSDOPS_INLINE Mask<T> KeysOf(Vec<T> loss, Mask<T> classes) {
  using Key = LossKey<T>;
  constexpr Key kLargest = std::numeric_limits<Key>::max();
  const Vec<T> zero = {};
  loss = loss == zero ? zero : loss;  // -0 is 0
  const Mask<T> bits = reinterpret_cast<Mask<T>>(loss);
  // Of negative numbers the bits order the other way round.
  Mask<T> keys = bits < 0 ? bits ^ kLargest : bits;
  keys = loss == loss ? keys : Mask<T>{} + kLargest;
  return classes == 0 ? keys : Mask<T>{} + kNoCandidate<Key>;
}

// Appends the elements of which a bit is set; writes up to a whole vector.
SSDOPS_INLINE int64_t Append(int32_t* to, Mask<float> v, uint32_t bits) {
#if defined(__AVX512F__)
  const __m512i packed = _mm512_maskz_compress_epi32(
      static_cast<__mmask16>(bits), reinterpret_cast<__m512i>(v));
  memcpy(to, &packed, sizeof(packed));
  return __builtin_popcount(bits);
#else
  int32_t lanes[kLanes<float>];
  memcpy(lanes, &v, sizeof(v));
  int64_t count = 0;
  for (; bits != 0; bits &= bits - 1) to[count++] = lanes[__builtin_ctz(bits)];
  return count;
#endif
}
SSDOPS_INLINE int64_t Append(int64_t* to, Mask<double> v, uint32_t bits) {
#if defined(__AVX512F__)
  const __m512i packed = _mm512_maskz_compress_epi64(
      static_cast<__mmask8>(bits), reinterpret_cast<__m512i>(v));
  memcpy(to, &packed, sizeof(packed));
  return __builtin_popcount(bits);
#else
  int64_t lanes[kLanes<double>];
  memcpy(lanes, &v, sizeof(v));
  int64_t count = 0;
  for (; bits != 0; bits &= bits - 1) to[count++] = lanes[__builtin_ctz(bits)];
  return count;
#endif
}

template <typename Key>
SSDOPS_INLINE int64_t CountAtLeast(const Key* keys, int64_t count, Key limit) {
  using T = Loss<Key>;
  constexpr int kStep = kLanes<T>;
  // Two sums, so that one does not wait for the other.
  Mask<T> sums[2] = {};
  int64_t i = 0;
  for (; i + 2 * kStep <= count; i += 2 * kStep) {
    sums[0] -= LoadMask<T>(keys + i) >= limit;
    sums[1] -= LoadMask<T>(keys + i + kStep) >= limit;
  }
  for (; i < count; i += kStep) sums[0] -= LoadMask<T>(keys + i) >= limit;
  sums[0] += sums[1];
  int64_t total = 0;
  for (int lane = 0; lane < kStep; ++lane) total += sums[0][lane];
  return total;
}

template <typename Key>
SSDOPS_INLINE Key LargestKey(const Key* keys, int64_t count) {
  using T = Loss<Key>;
  Mask<T> largest = LoadMask<T>(keys);
  for (int64_t i = kLanes<T>; i < count; i += kLanes<T>) {
    const Mask<T> v = LoadMask<T>(keys + i);
    largest = v > largest ? v : largest;
  }
  Key result = largest[0];
  for (int lane = 1; lane < kLanes<T>; ++lane) {
    result = largest[lane] > result ? Key{largest[lane]} : result;
  }
  return result;
}

// Bisection on the value of the key: at least `wanted` keys are `low` or more,
// fewer are above `high`. One pass per step, and it ends as soon as a limit
// divides the keys as it shall, which takes few steps unless keys are equal.
template <typename Key>
SSDOPS_INLINE KeyCut<Key> Bisect(const Key* keys, int64_t count, int64_t wanted,
                                 Key low, Key high) {
  using Distance = std::make_unsigned_t<Key>;
  while (low < high) {
    const Distance distance =
        static_cast<Distance>(high) - static_cast<Distance>(low);
    const Key middle = static_cast<Key>(static_cast<Distance>(low) +
                                        (distance / 2 + distance % 2));
    const int64_t found = CountAtLeast(keys, count, middle);
    if (found == wanted) return {static_cast<Key>(middle - 1), 0};
    if (found > wanted) {
      low = middle;
    } else {
      high = static_cast<Key>(middle - 1);
    }
  }
  constexpr Key kLargest = std::numeric_limits<Key>::max();
  const int64_t above =
      low == kLargest ? 0
                      : CountAtLeast(keys, count, static_cast<Key>(low + 1));
  return {low, wanted - above};
}

}  // namespace

ClassCounts CountClasses(const int32_t* classes, int64_t count) {
  Mask<float> positives = {}, candidates = {};
  int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) {
    const Mask<float> c = LoadMask<float>(classes + i);
    positives -= c > 0;
    candidates -= c == 0;
  }
  ClassCounts counts = {0, 0};
  for (int lane = 0; lane < kLanes<float>; ++lane) {
    counts.positives += positives[lane];
    counts.candidates += candidates[lane];
  }
  for (; i < count; ++i) {
    counts.positives += classes[i] > 0 ? 1 : 0;
    counts.candidates += classes[i] == 0 ? 1 : 0;
  }
  return counts;
}

template <typename S>
void MakeKeys(const S* losses, const int32_t* classes, int64_t count,
              LossKey<ComputeType<S>>* keys) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    const Mask<T> v =
        KeysOf<T>(LoadWide(losses + i), LoadClasses(classes + i, T{}));
    memcpy(keys + i, &v, sizeof(v));
  }
  S last[kStep] = {};
  int32_t last_classes[kStep];
  for (int lane = 0; lane < kStep; ++lane) {
    const bool inside = i + lane < count;
    if (inside) last[lane] = losses[i + lane];
    last_classes[lane] = inside ? classes[i + lane] : -1;
  }
  const Mask<T> v = KeysOf<T>(LoadWide(last), LoadClasses(last_classes, T{}));
  memcpy(keys + i, &v, sizeof(v));
  for (int64_t k = i + kStep; k < KeyRoom(count); ++k) {
    keys[k] = kNoCandidate<LossKey<T>>;
  }
}

template <typename Key>
KeyCut<Key> FindCut(const Key* keys, int64_t count, int64_t wanted, Key floor,
                    Key* buffer) {
  using T = Loss<Key>;
  constexpr int kStep = kLanes<T>;
  constexpr int64_t kSample = 256;
  // A limit that a sample suggests leaves a few of the largest keys, and they
  // are all that has to be looked at closely. A limit that is too high costs
  // time, not correctness.
  const int64_t expected = wanted * kSample / (count > 0 ? count : 1);
  const int64_t rank = expected + expected / 2 + 8;
  if (count >= 4 * kSample && rank < kSample * 3 / 4) {
    Key sample[kSample];
    const int64_t stride = count / kSample;
    for (int64_t i = 0; i < kSample; ++i) sample[i] = keys[i * stride];
    const KeyCut<Key> cut = Bisect(sample, kSample, rank, kNoCandidate<Key>,
                                   LargestKey(sample, kSample));
    Key limit = cut.ties > 0 ? cut.key : static_cast<Key>(cut.key + 1);
    limit = limit > floor ? limit : floor;
    if (limit > kNoCandidate<Key> + 1) {
      const Key below = static_cast<Key>(limit - 1);
      int64_t kept = 0;
      for (int64_t i = 0; i < count; i += kStep) {
        const Mask<T> v = LoadMask<T>(keys + i);
        const uint32_t bits = Bits(v > below);
        if (bits != 0) kept += Append(buffer + kept, v, bits);
      }
      if (kept >= wanted) {
        const Mask<T> none = Mask<T>{} + kNoCandidate<Key>;
        memcpy(buffer + kept, &none, sizeof(none));
        return Bisect(buffer, kept, wanted, limit, LargestKey(buffer, kept));
      }
    }
  }
  return Bisect(keys, count, wanted, floor, LargestKey(keys, count));
}

template <typename Key>
void WriteChosen(const Key* keys, int64_t count, KeyCut<Key> cut,
                 bool* chosen) {
  using T = Loss<Key>;
  constexpr int kStep = kLanes<T>;
  typedef uint8_t Flags __attribute__((vector_size(kStep)));
  int64_t ties = cut.ties;
  for (int64_t i = 0; i < count; i += kStep) {
    const Mask<T> v = LoadMask<T>(keys + i);
    const Flags flags =
        __builtin_convertvector(v > cut.key, Flags) & static_cast<uint8_t>(1);
    uint8_t bytes[kStep];
    memcpy(bytes, &flags, sizeof(flags));
    if (ties > 0) {
      for (uint32_t equal = Bits(v == cut.key); equal != 0 && ties > 0;
           equal &= equal - 1, --ties) {
        bytes[__builtin_ctz(equal)] = 1;
      }
    }
    if (i + kStep <= count) {
      memcpy(chosen + i, bytes, sizeof(bytes));
    } else {
      for (int64_t lane = 0; lane < count - i; ++lane) {
        chosen[i + lane] = bytes[lane] != 0;
      }
    }
  }
}

#define SSDOPS_INSTANTIATE(S)                                  \
  template void MakeKeys<S>(const S*, const int32_t*, int64_t, \
                            LossKey<ComputeType<S>>*);
SSDOPS_FOR_EACH_STORAGE(SSDOPS_INSTANTIATE)
#undef SSDOPS_INSTANTIATE
#define SSDOPS_INSTANTIATE(Key)                                               \
  template KeyCut<Key> FindCut<Key>(const Key*, int64_t, int64_t, Key, Key*); \
  template void WriteChosen<Key>(const Key*, int64_t, KeyCut<Key>, bool*);
SSDOPS_INSTANTIATE(int32_t)
SSDOPS_INSTANTIATE(int64_t)
#undef SSDOPS_INSTANTIATE

}  // namespace SSDOPS_ISA
}  // namespace ssdops
