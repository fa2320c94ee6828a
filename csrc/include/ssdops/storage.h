// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_STORAGE_H_
#define SSDOPS_STORAGE_H_

// The four dtypes of every op. Half types are stored as such and computed in
// float: a kernel is a template on the storage type S, widens what it reads and
// narrows what it writes.

#include <cstdint>

#include "ssdops/box_math.h"
#include "ssdops/exp_log.h"

namespace ssdops {

// IEEE binary16 and the upper half of IEEE binary32, as bits.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename S>
struct ComputeTypeOf {
  using Type = float;
};
template <>
struct ComputeTypeOf<double> {
  using Type = double;
};
// The type in which an op on S does its arithmetic.
template <typename S>
using ComputeType = typename ComputeTypeOf<S>::Type;

// Exact. Integer arithmetic keeps subnormal numbers even where the processor
// flushes those of float to zero.
SSDOPS_HOST_DEVICE inline float Widen(Half half) {
  const uint32_t sign = (half.bits & 0x8000u) << 16u;
  const uint32_t magnitude = half.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {
    // Infinity stays; a NaN becomes quiet.
    const uint32_t payload = (magnitude & 0x3ffu) << 13u;
    const uint32_t quiet = payload != 0 ? 0x400000u : 0u;
    return BitCast<float>(sign | 0x7f800000u | payload | quiet);
  }
  if (magnitude >= 0x400u) {
    return BitCast<float>(sign | ((magnitude << 13u) + 0x38000000u));
  }
  const float value = static_cast<float>(magnitude) * 5.9604644775390625e-8f;
  return BitCast<float>(sign | BitCast<uint32_t>(value));
}
SSDOPS_HOST_DEVICE inline float Widen(BFloat16 half) {
  return BitCast<float>(static_cast<uint32_t>(half.bits) << 16u);
}
SSDOPS_HOST_DEVICE inline float Widen(float x) { return x; }
SSDOPS_HOST_DEVICE inline double Widen(double x) { return x; }

// Round to the nearest, ties to even; beyond the largest number: infinity.
SSDOPS_HOST_DEVICE inline Half NarrowToHalf(float x) {
  const uint32_t bits = BitCast<uint32_t>(x);
  const uint32_t sign = (bits >> 16u) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13u) & 0x3ffu);
  } else if (magnitude >= 0x47800000u) {
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    // Half a unit of the last place less one, plus the last bit that stays.
    half =
        (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u;
  } else {
    // Adding 0.5 leaves the rounded subnormal in the low bits.
    half = BitCast<uint32_t>(BitCast<float>(magnitude) + 0.5f) - 0x3f000000u;
  }
  return {static_cast<uint16_t>(sign | half)};
}
SSDOPS_HOST_DEVICE inline BFloat16 NarrowToBFloat16(float x) {
  const uint32_t bits = BitCast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return {static_cast<uint16_t>((bits >> 16u) | 0x40u)};
  }
  return {
      static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u)};
}

template <typename S>
SSDOPS_HOST_DEVICE inline S Narrow(ComputeType<S> x) {
  return x;
}
template <>
SSDOPS_HOST_DEVICE inline Half Narrow<Half>(float x) {
  return NarrowToHalf(x);
}
template <>
SSDOPS_HOST_DEVICE inline BFloat16 Narrow<BFloat16>(float x) {
  return NarrowToBFloat16(x);
}

// The corners of a stored box.
template <typename S>
SSDOPS_HOST_DEVICE inline Box<ComputeType<S>> LoadWideBox(const S* corners) {
  return {Widen(corners[0]), Widen(corners[1]), Widen(corners[2]),
          Widen(corners[3])};
}

template <typename S>
SSDOPS_HOST_DEVICE inline void StoreBox(const Box<ComputeType<S>>& box,
                                        S* corners) {
  corners[0] = Narrow<S>(box.ymin);
  corners[1] = Narrow<S>(box.xmin);
  corners[2] = Narrow<S>(box.ymax);
  corners[3] = Narrow<S>(box.xmax);
}

// Largest finite number of a storage type.
template <typename S>
SSDOPS_HOST_DEVICE inline constexpr ComputeType<S> LargestOf() {
  return std::numeric_limits<S>::max();
}
template <>
SSDOPS_HOST_DEVICE inline constexpr float LargestOf<Half>() {
  return 65504.0f;
}
template <>
SSDOPS_HOST_DEVICE inline constexpr float LargestOf<BFloat16>() {
  return 3.38953139e38f;
}

// Largest number of the compute type that Narrow<S> does not round to infinity.
template <typename S>
SSDOPS_HOST_DEVICE inline constexpr ComputeType<S> NarrowLimit() {
  return std::numeric_limits<S>::max();
}
template <>
SSDOPS_HOST_DEVICE inline constexpr float NarrowLimit<Half>() {
  return 65519.99609375f;
}
template <>
SSDOPS_HOST_DEVICE inline constexpr float NarrowLimit<BFloat16>() {
  return 0x1.fefffep127f;
}

// SSDOPS_FOR_EACH_STORAGE(M) writes M(S) for each of the four.
#define SSDOPS_FOR_EACH_STORAGE(M) \
  M(float)                         \
  M(double)                        \
  M(::ssdops::Half)                \
  M(::ssdops::BFloat16)

}  // namespace ssdops

#endif  // SSDOPS_STORAGE_H_
