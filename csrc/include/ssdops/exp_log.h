// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_EXP_LOG_H_
#define SSDOPS_EXP_LOG_H_

// One exponential and one logarithm for all devices. The float versions consist
// of IEEE additions, multiplications and bit operations alone, so that they
// give the same bits on CPU and GPU and in every vector width; the error is at
// most 2 units in the last place (tests/kernels/test_exp_log.py).
//
// Source of the polynomials: Cephes mathematical library, expf.c and logf.c
// (S. L. Moshier).

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ssdops/box_math.h"

namespace ssdops {

template <typename To, typename From>
SSDOPS_HOST_DEVICE inline To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes must be equal");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// 2^n for n in [-126, 127].
SSDOPS_HOST_DEVICE inline float PowerOfTwo(int32_t n) {
  return BitCast<float>(static_cast<uint32_t>(n + 127) << 23u);
}

// Largest argument with a finite exponential, rounded down to a short number.
template <typename T>
inline constexpr T kMaxExpArgument = T(88.72);
template <>
inline constexpr double kMaxExpArgument<double> = 709.78;

// The polynomials, for V a float or a vector of floats. Terms are summed in
// pairs: each sum of a single chain would wait for the one before it.

// exp(r) for |r| <= ln(2) / 2.
template <typename V>
SSDOPS_HOST_DEVICE inline V ExpOfReduced(V r) {
  const V z = r * r;
  const V p01 = r * 1.6666665459e-1f + 5.0000001201e-1f;
  const V p23 = r * 8.3334519073e-3f + 4.1665795894e-2f;
  const V p45 = r * 1.9875691500e-4f + 1.3981999507e-3f;
  const V p = (p45 * z + p23) * z + p01;
  return (p * z + r) + 1.0f;
}

// ln(1 + m) + exponent * ln(2) for 1 + m in [sqrt(1/2), sqrt(2)).
template <typename V>
SSDOPS_HOST_DEVICE inline V LogOfReduced(V m, V exponent) {
  const V z = m * m;
  const V p01 = m * -2.4999993993e-1f + 3.3333331174e-1f;
  const V p23 = m * -1.6668057665e-1f + 2.0000714765e-1f;
  const V p45 = m * -1.2420140846e-1f + 1.4249322787e-1f;
  const V p67 = m * -1.1514610310e-1f + 1.1676998740e-1f;
  const V high = (z * 7.0376836292e-2f + p67) * z + p45;
  const V p = high * (z * z) + (p23 * z + p01);
  const V rest = p * (m * z) + exponent * -2.12194440e-4f;
  return (m + (rest - z * 0.5f)) + exponent * 0.693359375f;
}

// x / ln(2) rounded to an integer; x minus that many ln(2).
template <typename V>
SSDOPS_HOST_DEVICE inline V ReduceExpArgument(V x, V* reduced) {
  // Adding 1.5 * 2^23 pushes the fraction out.
  constexpr float kRound = 12582912.0f;
  const V n = (x * 1.44269504f + kRound) - kRound;
  // ln 2 in two parts: the product of a small integer and the first is exact.
  *reduced = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  return n;
}

// Below this exp(x) is 0 even as a subnormal number.
inline constexpr float kMinExpArgument = -104.0f;

// exp(x) for x <= kMaxExpArgument; 0 where the result is below the smallest
// subnormal number; NaN for NaN.
SSDOPS_HOST_DEVICE inline float Exp(float x) {
  if (!(x >= kMinExpArgument)) return x < kMinExpArgument ? 0.0f : x;
  float r;
  const auto exponent = static_cast<int32_t>(ReduceExpArgument(x, &r));
  // Two factors, since 2^n alone can be beyond the range of either end.
  const int32_t half = exponent / 2;
  return ExpOfReduced(r) * PowerOfTwo(half) * PowerOfTwo(exponent - half);
}

// ln(x) for positive finite x.
SSDOPS_HOST_DEVICE inline float Log(float x) {
  constexpr float kSqrtHalf = 0.707106781f;
  float exponent = -126.0f;
  if (x < 1.17549435e-38f) {  // subnormal: shift into the normal range
    x *= 8388608.0f;
    exponent -= 23.0f;
  }
  // x = m * 2^exponent with m in [0.5, 1).
  const uint32_t bits = BitCast<uint32_t>(x);
  exponent += static_cast<float>(static_cast<int32_t>(bits >> 23u));
  float m = BitCast<float>((bits & 0x007fffffu) | 0x3f000000u);
  if (m < kSqrtHalf) {
    exponent -= 1.0f;
    m = m + m - 1.0f;
  } else {
    m = m - 1.0f;
  }
  return LogOfReduced(m, exponent);
}

SSDOPS_HOST_DEVICE inline double Exp(double x) { return std::exp(x); }
SSDOPS_HOST_DEVICE inline double Log(double x) { return std::log(x); }

}  // namespace ssdops

#endif  // SSDOPS_EXP_LOG_H_
