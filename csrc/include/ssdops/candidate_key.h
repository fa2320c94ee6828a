// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CANDIDATE_KEY_H_
#define SSDOPS_CANDIDATE_KEY_H_

#include <cstdint>

#include "ssdops/exp_log.h"

namespace ssdops {

// A candidate as one number: candidates in descending order of their keys are
// in the order of detections (higher score, then lower class, then lower
// anchor). The scores of one image have fewer than 2^32 elements.
template <typename T>
struct CandidateKeyOf;
template <>
struct CandidateKeyOf<float> {
  using Type = uint64_t;
  using Score = uint32_t;
};
template <>
struct CandidateKeyOf<double> {
  using Type = unsigned __int128;
  using Score = uint64_t;
};
template <typename T>
using CandidateKey = typename CandidateKeyOf<T>::Type;

// Unsigned integers in the order of the numbers; -0 is 0.
template <typename T>
SSDOPS_HOST_DEVICE inline typename CandidateKeyOf<T>::Score OrderedBits(T x) {
  using Bits = typename CandidateKeyOf<T>::Score;
  constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  const Bits bits = BitCast<Bits>(x + T(0));
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}
template <typename T>
SSDOPS_HOST_DEVICE inline T FromOrderedBits(
    typename CandidateKeyOf<T>::Score ordered) {
  using Bits = typename CandidateKeyOf<T>::Score;
  constexpr Bits kSign = Bits{1} << (8 * sizeof(Bits) - 1);
  return BitCast<T>((ordered & kSign) != 0 ? ordered & ~kSign : ~ordered);
}

template <typename T>
SSDOPS_HOST_DEVICE inline CandidateKey<T> MakeKey(T score, uint32_t slot) {
  return (CandidateKey<T>{OrderedBits(score)} << 32u) | (0xffffffffu - slot);
}
template <typename T>
SSDOPS_HOST_DEVICE inline T KeyScore(CandidateKey<T> key) {
  return FromOrderedBits<T>(
      static_cast<typename CandidateKeyOf<T>::Score>(key >> 32u));
}
// class * num_anchors + anchor.
template <typename T>
SSDOPS_HOST_DEVICE inline uint32_t KeySlot(CandidateKey<T> key) {
  return 0xffffffffu - static_cast<uint32_t>(key);
}

}  // namespace ssdops

#endif  // SSDOPS_CANDIDATE_KEY_H_
