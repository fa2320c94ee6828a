// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_MINE_HARD_NEGATIVES_SIMD_H_
#define SSDOPS_CPU_MINE_HARD_NEGATIVES_SIMD_H_

#include <cstdint>
#include <limits>
#include <type_traits>

#include "isa_variants.h"
#include "ssdops/storage.h"

namespace ssdops {

// A loss as an integer of its width that orders as losses do.
template <typename T>
using LossKey = std::conditional_t<std::is_same_v<T, double>, int64_t, int32_t>;

// Key of an anchor that is no candidate: below that of every loss.
template <typename Key>
constexpr Key kNoCandidate = std::numeric_limits<Key>::min();

// Arrays of keys have room for whole vectors and one more.
constexpr int64_t KeyRoom(int64_t count) { return (count + 31) / 16 * 16; }

struct ClassCounts {
  int64_t positives, candidates;
};

// The keys above `key` are chosen, and the first `ties` of those equal to it.
template <typename Key>
struct KeyCut {
  Key key;
  int64_t ties;
};

SSDOPS_DECLARE_VARIANTS(
    ClassCounts CountClasses(const int32_t* classes, int64_t count);

    // Keys of an image, and kNoCandidate up to KeyRoom(count).
    template <typename S>
    void MakeKeys(const S* losses, const int32_t* classes, int64_t count,
                  LossKey<ComputeType<S>>* keys);

    // The cut that chooses `wanted` keys, at least 1 and at most as many as are
    // `floor` or more, which is above kNoCandidate. The keys are padded with
    // kNoCandidate as by MakeKeys; `buffer` has as much room.
    template <typename Key> KeyCut<Key> FindCut(const Key* keys, int64_t count,
                                                int64_t wanted, Key floor,
                                                Key* buffer);

    template <typename Key> void WriteChosen(const Key* keys, int64_t count,
                                             KeyCut<Key> cut, bool* chosen);)

}  // namespace ssdops

#endif  // SSDOPS_CPU_MINE_HARD_NEGATIVES_SIMD_H_
