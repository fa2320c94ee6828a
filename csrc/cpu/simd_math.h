// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_MATH_H_
#define SSDOPS_CPU_SIMD_MATH_H_

// Exp and Log of exp_log.h and Atan of atan.h, element by element, with the
// same bits.

#include "simd.h"
#include "ssdops/atan.h"
#include "ssdops/exp_log.h"

namespace ssdops {
namespace SSDOPS_ISA {

using ::ssdops::Exp;
using ::ssdops::Log;

SSDOPS_INLINE Vec<float> PowerOfTwo(Mask<float> n) {
  return reinterpret_cast<Vec<float>>((n + 127) << 23);
}

SSDOPS_INLINE Vec<float> Exp(Vec<float> x) {
  const Vec<float> lowest = Splat(kMinExpArgument);
  const Mask<float> in_range = x >= lowest;
  const Vec<float> limited = in_range ? x : lowest;
  Vec<float> r;
  const Vec<float> n = ReduceExpArgument(limited, &r);
  const auto exponent = __builtin_convertvector(n, Mask<float>);
  // Division by 2 that rounds towards zero, as the scalar code does.
  const Mask<float> half =
      (exponent + (exponent < 0 ? Mask<float>{} + 1 : Mask<float>{})) >> 1;
  const Vec<float> y =
      ExpOfReduced(r) * PowerOfTwo(half) * PowerOfTwo(exponent - half);
  return in_range ? y : (x < lowest ? Vec<float>{} : x);
}

// Log of positive x that is not subnormal. A biased exponent of 0 stands for
// `offset`.
SSDOPS_INLINE Vec<float> LogOfNormal(Vec<float> x,
                                     Vec<float> offset = Splat(-126.0f)) {
  const Mask<float> bits = reinterpret_cast<Mask<float>>(x);
  Vec<float> exponent =
      offset + __builtin_convertvector(bits >> 23, Vec<float>);
  Vec<float> m = reinterpret_cast<Vec<float>>((bits & 0x007fffff) | 0x3f000000);
  const Mask<float> small = m < 0.707106781f;
  exponent = small ? exponent - 1.0f : exponent;
  m = small ? m + m - 1.0f : m - 1.0f;
  return LogOfReduced(m, exponent);
}

SSDOPS_INLINE Vec<float> Log(Vec<float> x) {
  const Mask<float> subnormal = x < 1.17549435e-38f;
  return LogOfNormal(subnormal ? x * 8388608.0f : x,
                     subnormal ? Splat(-149.0f) : Splat(-126.0f));
}

SSDOPS_INLINE Vec<double> Exp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::ssdops::Exp(double{x[i]});
  return x;
}

SSDOPS_INLINE Vec<double> Log(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::ssdops::Log(double{x[i]});
  return x;
}

SSDOPS_INLINE Vec<float> Atan(Vec<float> x) { return AtanOfFloats(x); }

SSDOPS_INLINE Vec<double> Atan(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = ::ssdops::Atan(double{x[i]});
  return x;
}

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_MATH_H_
