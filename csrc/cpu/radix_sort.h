// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_RADIX_SORT_H_
#define SSDOPS_CPU_RADIX_SORT_H_

// Sorting of some hundred to some hundred thousand items by unsigned keys, in
// ascending order, stably. key_of(item) is the key of an item.

#include <algorithm>
#include <cstdint>
#include <utility>

namespace ssdops {

// With fewer items, insertion is quicker.
constexpr int64_t kMinRadixSort = 25;

constexpr int64_t kMaxDigitBits = 11;
inline int DigitBits(int64_t count) {
  return count >= 4096 ? kMaxDigitBits : count >= 512 ? 9 : 8;
}

// What SortByBits wants of its histogram for so many bits.
constexpr int64_t SortHistogramSize(int64_t width) {
  // Digits of fewer bits are more, but together they have fewer values.
  return (width + kMaxDigitBits - 1) / kMaxDigitBits << kMaxDigitBits;
}

// The bits in which keys differ, and the rest of the first one.
template <typename Item, typename KeyOf>
struct KeyBits {
  using Key = decltype(std::declval<KeyOf>()(std::declval<Item>()));

  KeyBits(const Item* items, int64_t count, KeyOf key_of) {
    for (int64_t i = 0; i < count; ++i) {
      varying |= key_of(items[i]) ^ key_of(items[0]);
    }
    for (Key bits = varying; bits != 0; bits >>= 1u) ++width;
  }

  // The `bits` highest ones that differ, as a number.
  Key Prefix(Key key, int bits) const {
    const Key low = width < 8 * static_cast<int>(sizeof(Key))
                        ? key & ((Key{1} << width) - 1)
                        : key;
    return width > bits ? low >> (width - bits) : low;
  }

  Key varying = 0;
  int width = 0;
};

// Sorts by `width` bits of the keys from bit `low` on, by digits from the
// lowest. Uses both arrays, and returns the one with the result.
template <typename Item, typename KeyOf>
Item* SortByBits(Item* items, Item* other, int64_t count, int low, int width,
                 KeyOf key_of, uint32_t* histogram) {
  if (width == 0) return items;
  const int max_bits = DigitBits(count);
  const int digits = (width + max_bits - 1) / max_bits;
  const int bits = (width + digits - 1) / digits;
  const int64_t size = int64_t{1} << bits;
  const auto mask = static_cast<uint32_t>(size - 1);
  const auto digit_of = [&](const Item& item, int d) {
    return static_cast<uint32_t>(key_of(item) >> (low + d * bits)) & mask;
  };
  std::fill(histogram, histogram + digits * size, 0u);
  for (int64_t i = 0; i < count; ++i) {
    for (int d = 0; d < digits; ++d) {
      ++histogram[d * size + digit_of(items[i], d)];
    }
  }
  for (int d = 0; d < digits; ++d) {
    uint32_t* starts = histogram + d * size;
    uint32_t total = 0;
    for (int64_t k = 0; k < size; ++k) {
      const uint32_t here = starts[k];
      starts[k] = total;
      total += here;
    }
    for (int64_t i = 0; i < count; ++i) {
      const Item item = items[i];
      other[starts[digit_of(item, d)]++] = item;
    }
    std::swap(items, other);
  }
  return items;
}

// Sorts by insertion; gives up after `max_moves`, with equal keys still in
// their order.
template <typename Item, typename KeyOf>
bool SortByInsertion(Item* items, int64_t count, int64_t max_moves,
                     KeyOf key_of) {
  for (int64_t i = 1; i < count; ++i) {
    const Item item = items[i];
    int64_t k = i;
    for (; k > 0 && key_of(items[k - 1]) > key_of(item); --k) {
      items[k] = items[k - 1];
    }
    items[k] = item;
    max_moves -= i - k;
    if (max_moves < 0) return false;
  }
  return true;
}

// Sorts in place, with the other array of `count` items as scratch, by the two
// highest digits and then by insertion: they tell almost all keys apart, unless
// many are alike. Then false, with equal keys still in their order.
template <typename Item, typename KeyOf>
bool SortByHighestBits(Item* items, Item* other, int64_t count, KeyOf key_of,
                       uint32_t* histogram) {
  constexpr int kDigits = 2;
  static_assert(kDigits % 2 == 0, "the result is in the array it came from");
  if (count < kMinRadixSort) {
    return SortByInsertion(items, count, count * count, key_of);
  }
  const KeyBits<Item, KeyOf> keys(items, count, key_of);
  const int width = std::min(keys.width, kDigits * DigitBits(count));
  Item* sorted = SortByBits(items, other, count, keys.width - width, width,
                            key_of, histogram);
  if (sorted != items) std::copy_n(sorted, count, items);
  return SortByInsertion(items, count, count, key_of);
}

}  // namespace ssdops

#endif  // SSDOPS_CPU_RADIX_SORT_H_
