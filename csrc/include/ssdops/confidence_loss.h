// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CONFIDENCE_LOSS_H_
#define SSDOPS_CONFIDENCE_LOSS_H_

// What the confidence losses of multibox_loss.h make of one logit. The CPU
// kernels have the same on vectors (cpu/multibox_loss_simd.cc); the operations
// and their order are part of the contract.

#include "ssdops/exp_log.h"

namespace ssdops {

// 1 / FLT_MIN, and an exponent above its logarithm with a finite exponential.
constexpr float kLargestOdds = 8.50705917e37f;
constexpr float kLargestExponent = 88.0f;

// What a class adds to the odds against the background; a NaN stays.
template <typename T>
SSDOPS_HOST_DEVICE inline T OddsOf(T logit, T background) {
  const T x = logit - background;
  return Exp(x > T(kLargestExponent) ? T(kLargestExponent) : x);
}

template <typename T>
SSDOPS_HOST_DEVICE inline T LimitOdds(T odds) {
  return odds > T(kLargestOdds) ? T(kLargestOdds) : odds;
}

// ln(1 + y) for y >= 0, also where 1 + y is rounded. NaN for NaN.
template <typename T>
SSDOPS_HOST_DEVICE inline T LogOnePlus(T y) {
  const T u = y + T(1);
  const T correction = y / (u - T(1));
  return u == T(1) ? y : Log(u) * correction;
}

// The softmax of a row: exponentials relative to the largest logit, of the
// target and summed over the other classes.
template <typename T>
struct RowSoftmax {
  T largest, target, of_target, of_others;
};

template <typename T>
SSDOPS_HOST_DEVICE inline T SoftmaxLoss(const RowSoftmax<T>& s) {
  const T behind = s.largest - s.target;
  // The first is exact for small losses; in the second the logarithm is not
  // small.
  return behind == T(0) ? LogOnePlus(s.of_others)
                        : behind + Log(s.of_target + s.of_others) +
                              (s.of_others - s.of_others);
}

// Of one class, with e = exp(-|x|): the logit of the right answer z, which is x
// for the target and -x for others, ln(1 + e), and the probability of the wrong
// answer 1 / (1 + exp(z)).
template <typename T>
struct ClassSigmoid {
  T z, log_one_plus_e, wrong;
};

template <typename T>
SSDOPS_HOST_DEVICE inline ClassSigmoid<T> SigmoidOf(T x, bool is_target) {
  const T e = Exp(x > T(0) ? -x : x);
  const T u = e + T(1);
  const T z = is_target ? x : -x;
  return {z, LogOnePlus(e), (z > T(0) ? e : T(1)) / u};
}

// -ln of the probability of the right answer.
template <typename T>
SSDOPS_HOST_DEVICE inline T CrossEntropy(const ClassSigmoid<T>& s) {
  return (s.z < T(0) ? -s.z : T(0)) + s.log_one_plus_e;
}

// alpha_t (1 - p_t)^gamma
template <typename T>
SSDOPS_HOST_DEVICE inline T FocalWeight(const ClassSigmoid<T>& s,
                                        bool is_target, T alpha, T gamma) {
  const T log_wrong = -((s.z > T(0) ? s.z : T(0)) + s.log_one_plus_e);
  return (is_target ? alpha : T(1) - alpha) * Exp(log_wrong * gamma);
}

// Derivative of the focal loss of a class by z, without the sign; that of the
// cross-entropy is `wrong`.
template <typename T>
SSDOPS_HOST_DEVICE inline T FocalSlope(const ClassSigmoid<T>& s, bool is_target,
                                       T alpha, T gamma) {
  const T right = T(1) - s.wrong;
  return FocalWeight(s, is_target, alpha, gamma) *
         (gamma * right * CrossEntropy(s) + s.wrong);
}

}  // namespace ssdops

#endif  // SSDOPS_CONFIDENCE_LOSS_H_
