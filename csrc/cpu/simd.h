// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_H_
#define SSDOPS_CPU_SIMD_H_

// Vectors of the width of the instruction set that this file is compiled for,
// as the vector extension of GCC and Clang: + - * / < > and ?: work element by
// element and, without fused multiply-add, give the bits of the scalar code.
// Only for files that are compiled per instruction set (isa_variants.h).

#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__SSE2__)
#include <immintrin.h>
#endif

#include "ssdops/box_math.h"
#include "ssdops/storage.h"

#ifndef SSDOPS_ISA
#error "SSDOPS_ISA names the instruction set that this file is compiled for"
#endif

#define SSDOPS_INLINE inline __attribute__((always_inline))

namespace ssdops {
namespace SSDOPS_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// Bytes that memory and caches exchange.
constexpr int64_t kCacheLine = 64;

template <typename T>
struct VecOf;
template <>
struct VecOf<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
  using Mask = decltype(Type{} < Type{});
};
template <>
struct VecOf<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
  using Mask = decltype(Type{} < Type{});
};

// T is float or double. A mask is what comparisons give: compilers differ in
// how they call a 64-bit integer. It has all bits of an element set, or none;
// it is also the vector of integers of the same width.
template <typename T>
using Vec = typename VecOf<T>::Type;
template <typename T>
using Mask = typename VecOf<T>::Mask;
template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <typename T>
SSDOPS_INLINE Vec<T> Splat(T x) {
  return x - Vec<T>{};
}

template <typename T>
SSDOPS_INLINE Vec<T> Load(const T* from) {
  Vec<T> v;
  memcpy(&v, from, sizeof(v));
  return v;
}

template <typename T>
SSDOPS_INLINE void Store(T* to, Vec<T> v) {
  memcpy(to, &v, sizeof(v));
}

template <typename T>
SSDOPS_INLINE Mask<T> LoadMask(const void* from) {
  Mask<T> m;
  memcpy(&m, from, sizeof(m));
  return m;
}

// As the scalar a < b ? a : b: if one is NaN, the result is b.
template <typename V>
SSDOPS_INLINE V Min(V a, V b) {
  return a < b ? a : b;
}
template <typename V>
SSDOPS_INLINE V Max(V a, V b) {
  return a > b ? a : b;
}

// One instruction does that, which compilers do not always see.
#if defined(__AVX512F__)
// GCC 12 warns of the plain ones.
#define SSDOPS_PACKED(name, a, b) _mm512_maskz_##name(~0, a, b)
#elif defined(__AVX2__)
#define SSDOPS_PACKED(name, a, b) _mm256_##name(a, b)
#elif defined(__SSE2__)
#define SSDOPS_PACKED(name, a, b) _mm_##name(a, b)
#endif
#ifdef SSDOPS_PACKED
SSDOPS_INLINE Vec<float> Min(Vec<float> a, Vec<float> b) {
  return SSDOPS_PACKED(min_ps, a, b);
}
SSDOPS_INLINE Vec<float> Max(Vec<float> a, Vec<float> b) {
  return SSDOPS_PACKED(max_ps, a, b);
}
SSDOPS_INLINE Vec<double> Min(Vec<double> a, Vec<double> b) {
  return SSDOPS_PACKED(min_pd, a, b);
}
SSDOPS_INLINE Vec<double> Max(Vec<double> a, Vec<double> b) {
  return SSDOPS_PACKED(max_pd, a, b);
}
#undef SSDOPS_PACKED
#endif

// One bit per element, element 0 lowest.
SSDOPS_INLINE uint32_t Bits(Mask<float> m) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask(reinterpret_cast<__m512i>(m));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<__m256>(m)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_ps(reinterpret_cast<__m128>(m)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes<float>; ++i) bits |= (m[i] & 1u) << i;
  return bits;
#endif
}
SSDOPS_INLINE uint32_t Bits(Mask<double> m) {
#if defined(__AVX512F__)
  return _mm512_movepi64_mask(reinterpret_cast<__m512i>(m));
#elif defined(__AVX2__)
  return static_cast<uint32_t>(
      _mm256_movemask_pd(reinterpret_cast<__m256d>(m)));
#elif defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_pd(reinterpret_cast<__m128d>(m)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < kLanes<double>; ++i) {
    bits |= (static_cast<uint32_t>(m[i]) & 1u) << i;
  }
  return bits;
#endif
}

// 0, 1, 2, ... as integers of the width of T.
template <typename T>
SSDOPS_INLINE Mask<T> Iota() {
  Mask<T> v;
  for (int i = 0; i < kLanes<T>; ++i) v[i] = i;
  return v;
}

// The first `count` lanes.
template <typename T>
SSDOPS_INLINE Mask<T> FirstLanes(int64_t count) {
  const auto limit = static_cast<std::decay_t<decltype(Mask<T>{}[0])>>(
      count < kLanes<T> ? count : kLanes<T>);
  return Iota<T>() < limit;
}

// The first `count` elements, `fill` in the other lanes.
template <typename T>
SSDOPS_INLINE Vec<T> LoadPartial(const T* from, int64_t count, T fill) {
  T lanes[kLanes<T>];
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = i < count ? from[i] : fill;
  return Load(lanes);
}

template <typename T>
SSDOPS_INLINE void StorePartial(T* to, Vec<T> v, int64_t count) {
  T lanes[kLanes<T>];
  Store(lanes, v);
  for (int i = 0; i < kLanes<T> && i < count; ++i) to[i] = lanes[i];
}

// kLanes<ComputeType<S>> stored elements, widened.
SSDOPS_INLINE Vec<float> LoadWide(const float* from) { return Load(from); }
SSDOPS_INLINE Vec<double> LoadWide(const double* from) { return Load(from); }

// The bits of 16-bit storage types, one to an element of Vec<float>.
typedef uint16_t NarrowBits __attribute__((vector_size(kVectorBytes / 2)));
typedef uint32_t WideBits __attribute__((vector_size(kVectorBytes)));
SSDOPS_INLINE WideBits LoadBits(const void* from) {
  NarrowBits bits;
  memcpy(&bits, from, sizeof(bits));
  return __builtin_convertvector(bits, WideBits);
}
SSDOPS_INLINE void StoreBits(void* to, WideBits wide) {
  const NarrowBits bits = __builtin_convertvector(wide, NarrowBits);
  memcpy(to, &bits, sizeof(bits));
}

// Widen and Narrow of storage.h, element by element.
SSDOPS_INLINE Vec<float> LoadWide(const BFloat16* from) {
  return reinterpret_cast<Vec<float>>(LoadBits(from) << 16u);
}
SSDOPS_INLINE Vec<float> LoadWide(const Half* from) {
#if defined(__AVX512F__)
  __m256i bits;
  memcpy(&bits, from, sizeof(bits));
  return _mm512_maskz_cvtph_ps(0xffff, bits);  // GCC 12 warns of the plain one
#elif defined(__AVX2__)
  __m128i bits;
  memcpy(&bits, from, sizeof(bits));
  return _mm256_cvtph_ps(bits);
#else
  const WideBits bits = LoadBits(from);
  const WideBits magnitude = bits & 0x7fffu;
  const WideBits payload = (magnitude & 0x3ffu) << 13u;
  const WideBits special =
      0x7f800000u | payload | (payload != 0u ? WideBits{} + 0x400000u : 0u);
  const Vec<float> tiny =
      __builtin_convertvector(reinterpret_cast<Mask<float>>(magnitude),
                              Vec<float>) *
      5.9604644775390625e-8f;
  const WideBits wide =
      magnitude >= 0x7c00u
          ? special
          : (magnitude >= 0x400u ? (magnitude << 13u) + 0x38000000u
                                 : reinterpret_cast<WideBits>(tiny));
  return reinterpret_cast<Vec<float>>(((bits & 0x8000u) << 16u) | wide);
#endif
}

SSDOPS_INLINE void StoreNarrow(float* to, Vec<float> v) { Store(to, v); }
SSDOPS_INLINE void StoreNarrow(double* to, Vec<double> v) { Store(to, v); }
SSDOPS_INLINE void StoreNarrow(Half* to, Vec<float> v) {
#if defined(__AVX512F__)
  const __m256i bits =
      _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT);
  memcpy(to, &bits, sizeof(bits));
#elif defined(__AVX2__)
  const __m128i bits = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  memcpy(to, &bits, sizeof(bits));
#else
  const WideBits bits = reinterpret_cast<WideBits>(v);
  const WideBits magnitude = bits & 0x7fffffffu;
  const WideBits nan = 0x7e00u | ((magnitude >> 13u) & 0x3ffu);
  const WideBits normal =
      (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u;
  const WideBits tiny = reinterpret_cast<WideBits>(
                            reinterpret_cast<Vec<float>>(magnitude) + 0.5f) -
                        0x3f000000u;
  const WideBits finite = magnitude >= 0x38800000u ? normal : tiny;
  const WideBits infinity = WideBits{} + 0x7c00u;
  const WideBits half = magnitude > 0x7f800000u
                            ? nan
                            : (magnitude >= 0x47800000u ? infinity : finite);
  StoreBits(to, ((bits >> 16u) & 0x8000u) | half);
#endif
}
SSDOPS_INLINE void StoreNarrow(BFloat16* to, Vec<float> v) {
  const WideBits bits = reinterpret_cast<WideBits>(v);
  const WideBits nan = (bits >> 16u) | 0x40u;
  const WideBits rounded = (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
  StoreBits(to, (bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

// Fetches what will be read soon by a loop over memory that reads `count`
// elements at `from` now. By themselves, processors fetch ahead only up to the
// end of a page.
template <typename S>
SSDOPS_INLINE void FetchAhead(const S* from, int64_t count) {
  constexpr int64_t kBytesAhead = 2048;
  const auto* ahead = reinterpret_cast<const char*>(from) + kBytesAhead;
  const int64_t bytes = count * static_cast<int64_t>(sizeof(S));
  for (int64_t at = 0; at < bytes; at += kCacheLine) {
    __builtin_prefetch(ahead + at);
  }
}

// Any number of stored elements into an array of the compute type.
template <typename S>
SSDOPS_INLINE void WidenArray(const S* from, int64_t count,
                              ComputeType<S>* to) {
  constexpr int kStep = kLanes<ComputeType<S>>;
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    Store<ComputeType<S>>(to + i, LoadWide(from + i));
  }
  for (; i < count; ++i) to[i] = Widen(from[i]);
}

// Corners of kLanes boxes, one vector per coordinate.
template <typename T>
struct VecBox {
  Vec<T> ymin, xmin, ymax, xmax;
};

// kLanes stored boxes, their corners brought from rows of 4 into columns.
template <typename S>
SSDOPS_INLINE VecBox<ComputeType<S>> LoadBoxes(const S* from) {
  using T = ComputeType<S>;
  constexpr int kStep = kLanes<T>;
  const Vec<T> first = LoadWide(from), second = LoadWide(from + kStep);
  const Vec<T> third = LoadWide(from + 2 * kStep);
  const Vec<T> fourth = LoadWide(from + 3 * kStep);
#if defined(__clang__)
  T rows[4 * kStep];
  Store(rows, first);
  Store(rows + kStep, second);
  Store(rows + 2 * kStep, third);
  Store(rows + 3 * kStep, fourth);
  VecBox<T> box;
  for (int i = 0; i < kStep; ++i) {
    box.ymin[i] = rows[4 * i];
    box.xmin[i] = rows[4 * i + 1];
    box.ymax[i] = rows[4 * i + 2];
    box.xmax[i] = rows[4 * i + 3];
  }
  return box;
#else
  // Every second number, twice.
  const Mask<T> even = Iota<T>() + Iota<T>(), odd = even + 1;
  const Vec<T> y_low = __builtin_shuffle(first, second, even);
  const Vec<T> x_low = __builtin_shuffle(first, second, odd);
  const Vec<T> y_high = __builtin_shuffle(third, fourth, even);
  const Vec<T> x_high = __builtin_shuffle(third, fourth, odd);
  return {__builtin_shuffle(y_low, y_high, even),
          __builtin_shuffle(x_low, x_high, even),
          __builtin_shuffle(y_low, y_high, odd),
          __builtin_shuffle(x_low, x_high, odd)};
#endif
}

template <typename T>
SSDOPS_INLINE VecBox<T> SplatBox(const Box<T>& box) {
  return {Splat(box.ymin), Splat(box.xmin), Splat(box.ymax), Splat(box.xmax)};
}

// Area, Intersection and Iou of box_math.h, element by element: the same
// operations in the same order.
template <typename T>
SSDOPS_INLINE Vec<T> Area(const VecBox<T>& box) {
  const Vec<T> zero = {};
  const Mask<T> valid = (box.ymax > box.ymin) & (box.xmax > box.xmin);
  return valid ? (box.ymax - box.ymin) * (box.xmax - box.xmin) : zero;
}

template <typename T>
SSDOPS_INLINE Vec<T> Intersection(const VecBox<T>& a, const VecBox<T>& b) {
  const Vec<T> zero = {};
  const Vec<T> height = Min(a.ymax, b.ymax) - Max(a.ymin, b.ymin);
  const Vec<T> width = Min(a.xmax, b.xmax) - Max(a.xmin, b.xmin);
  const Vec<T> product = height * width;
  const Mask<T> valid = (a.ymax > a.ymin) & (a.xmax > a.xmin) &
                        (b.ymax > b.ymin) & (b.xmax > b.xmin);
  const Mask<T> meets = valid & (height > zero) & (width > zero) &
                        (product <= std::numeric_limits<T>::max());
  return meets ? product : zero;
}

template <typename T>
SSDOPS_INLINE Vec<T> Iou(const VecBox<T>& a, Vec<T> area_a, const VecBox<T>& b,
                         Vec<T> area_b) {
  const Vec<T> zero = {};
  const Vec<T> overlap = Intersection<T>(a, b);
  const Vec<T> quotient = overlap / ((area_a + area_b) - overlap);
  return overlap > zero ? quotient : zero;
}

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_H_
