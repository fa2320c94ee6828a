// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_ATAN_H_
#define SSDOPS_ATAN_H_

// One arctangent for all devices: in float, IEEE operations and comparisons
// alone, so that it gives the same bits on CPU and GPU and in every vector
// width; the error is at most 2.5 units in the last place
// (tests/kernels/test_atan.py).
//
// Source of the polynomial: Cephes mathematical library, atanf.c (S. L.
// Moshier).

#include <cmath>

#include "ssdops/box_math.h"

namespace ssdops {

// atan(x) for V a float or a vector of floats; NaN for NaN, 0 for -0.
template <typename V>
SSDOPS_HOST_DEVICE inline V AtanOfFloats(V x) {
  const V zero = V{};
  const V one = zero + 1.0f;
  const V magnitude = x < zero ? -x : x;
  // atan(m) = pi/2 + atan(-1 / m) = pi/4 + atan((m - 1) / (m + 1)).
  const auto large = magnitude > 2.41421356f;
  const auto medium = magnitude > 0.414213562f;
  const V numerator =
      large ? zero - one : (medium ? magnitude - one : magnitude);
  const V denominator = large ? magnitude : (medium ? magnitude + one : one);
  const V start =
      large ? zero + 1.57079633f : (medium ? zero + 0.785398163f : zero);
  // What pi/2 and pi/4 have lost in rounding.
  const V rest =
      large ? zero - 4.37113883e-8f : (medium ? zero - 2.18556941e-8f : zero);
  const V r = numerator / denominator;
  const V z = r * r;
  V p = z * 8.05374449538e-2f - 1.38776856032e-1f;
  p = p * z + 1.99777106478e-1f;
  p = p * z - 3.33329491539e-1f;
  const V y = start + ((p * z * r + rest) + r);
  return x < zero ? -y : y;
}

SSDOPS_HOST_DEVICE inline float Atan(float x) { return AtanOfFloats(x); }
SSDOPS_HOST_DEVICE inline double Atan(double x) { return std::atan(x); }

}  // namespace ssdops

#endif  // SSDOPS_ATAN_H_
