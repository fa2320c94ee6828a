// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_DIVISION_H_
#define SSDOPS_CPU_SIMD_DIVISION_H_

// Division by a divisor of several dividends, with the bits of the operator /.
// Only for files that are compiled per instruction set (isa_variants.h).

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {

template <typename T>
class Divisor {
 public:
  SSDOPS_INLINE explicit Divisor(T divisor) : divisor_(divisor) {}
  SSDOPS_INLINE Vec<T> Divide(Vec<T> x) const { return x / divisor_; }
  // As Divide where divisor and x are tame or x is +0.
  SSDOPS_INLINE Vec<T> DivideTame(Vec<T> x) const { return x / divisor_; }

 private:
  T divisor_;
};

// A number is tame if its magnitude is in [2^-40, 2^40): quotients and
// remainders of two such numbers are far from the ends of the range of float.
// Wildness is at least kWild for all others, also for negative numbers unless
// their magnitude is what is asked about.
constexpr uint32_t kWild = 80 << 23;
SSDOPS_INLINE WideBits Wildness(Vec<float> x) {
  return reinterpret_cast<WideBits>(x) - ((127u - 40u) << 23);
}
SSDOPS_INLINE WideBits WildnessOfMagnitude(Vec<float> x) {
  return Wildness(reinterpret_cast<Vec<float>>(reinterpret_cast<WideBits>(x) &
                                               0x7fffffffu));
}
SSDOPS_INLINE bool AreTame(WideBits wildness) {
  return Bits(reinterpret_cast<Mask<float>>(wildness >= kWild)) == 0;
}

#if defined(__AVX512F__) || defined(__FMA__)

#if defined(__AVX512F__)
// a * b + c and c - a * b, rounded once.
SSDOPS_INLINE Vec<float> MultiplyAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm512_fmadd_ps(a, b, c);
}
SSDOPS_INLINE Vec<float> NegativeMultiplyAdd(Vec<float> a, Vec<float> b,
                                             Vec<float> c) {
  return _mm512_fnmadd_ps(a, b, c);
}
#else
SSDOPS_INLINE Vec<float> MultiplyAdd(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
SSDOPS_INLINE Vec<float> NegativeMultiplyAdd(Vec<float> a, Vec<float> b,
                                             Vec<float> c) {
  return _mm256_fnmadd_ps(a, b, c);
}
#endif

// A division takes as long as a dozen of multiplications. The product with the
// inverse, known to twice the precision of float, is one of the two floats
// around x / divisor; adding the remainder, which is exact, times the inverse
// rounds to the nearer one (Markstein, "Computation of elementary functions on
// the IBM RISC System/6000 processor", 1990, theorem 4).
template <>
class Divisor<float> {
 public:
  SSDOPS_INLINE explicit Divisor(float divisor)
      : divisor_(Splat(divisor)),
        inverse_(Splat(1.0f / divisor)),
        inverse_rest_(
            Splat(static_cast<float>(1.0 / divisor - 1.0f / divisor))) {}

  SSDOPS_INLINE Vec<float> Divide(Vec<float> x) const { return x / divisor_; }

  SSDOPS_INLINE Vec<float> DivideTame(Vec<float> x) const {
    const Vec<float> q = MultiplyAdd(x, inverse_, x * inverse_rest_);
    return MultiplyAdd(NegativeMultiplyAdd(divisor_, q, x), inverse_, q);
  }

 private:
  Vec<float> divisor_, inverse_, inverse_rest_;
};

#endif

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_DIVISION_H_
