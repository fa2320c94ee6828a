// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_SIMD_LINE_WRITER_H_
#define SSDOPS_CPU_SIMD_LINE_WRITER_H_

// Large outputs past the caches. Only for files that are compiled per
// instruction set (isa_variants.h).

#include "simd.h"

namespace ssdops {
namespace SSDOPS_ISA {

// A line past the caches; both are aligned.
SSDOPS_INLINE void StreamLine(char* to, const char* from) {
#if defined(__AVX512F__)
  _mm512_stream_si512(
      reinterpret_cast<__m512i*>(to),
      _mm512_load_si512(reinterpret_cast<const __m512i*>(from)));
#elif defined(__SSE2__)
  for (int64_t at = 0; at < kCacheLine; at += 16) {
    _mm_stream_si128(
        reinterpret_cast<__m128i*>(to + at),
        _mm_load_si128(reinterpret_cast<const __m128i*>(from + at)));
  }
#else
  memcpy(to, from, kCacheLine);
#endif
}

// Writes a stretch of memory from its begin to its end past the caches, in
// whole lines: a line written in parts would have to be read first.
class LineWriter {
 public:
  // Of the rows that are written.
  static constexpr int64_t kMaxRowBytes = 4096;

  SSDOPS_INLINE explicit LineWriter(void* to)
      : start_(
            static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kCacheLine)),
        fill_(start_),
        line_(static_cast<char*>(to) - start_) {}

  SSDOPS_INLINE void Zeros(int64_t bytes) {
    // The buffer holds zeros already.
    const int64_t end = fill_ + bytes;
    if (end < kCacheLine) {
      fill_ = end;
      return;
    }
    WriteLine(buffer_);
    memset(buffer_, 0, kCacheLine);
    for (int64_t at = kCacheLine; at + kCacheLine <= end; at += kCacheLine)
      StreamZeros();
    fill_ = end % kCacheLine;
  }

  // body(to) writes a row of so many bytes.
  template <typename Body>
  SSDOPS_INLINE void Row(int64_t bytes, const Body& body) {
    body(buffer_ + fill_);
    const int64_t end = fill_ + bytes;
    int64_t at = 0;
    for (; at + kCacheLine <= end; at += kCacheLine) WriteLine(buffer_ + at);
    fill_ = end - at;
    if (at == 0) return;
    memcpy(buffer_, buffer_ + at, kCacheLine);
    memset(buffer_ + kCacheLine, 0, static_cast<size_t>(at));
  }

  SSDOPS_INLINE void Finish() {
    memcpy(line_ + start_, buffer_ + start_,
           static_cast<size_t>(fill_ - start_));
  }

 private:
  // The first line may begin in the middle.
  SSDOPS_INLINE void WriteLine(const char* from) {
    if (start_ == 0) {
      StreamLine(line_, from);
    } else {
      memcpy(line_ + start_, from + start_,
             static_cast<size_t>(kCacheLine - start_));
      start_ = 0;
    }
    line_ += kCacheLine;
  }

  SSDOPS_INLINE void StreamZeros() {
    alignas(kCacheLine) static constexpr char kZeros[kCacheLine] = {};
    StreamLine(line_, kZeros);
    line_ += kCacheLine;
  }

  int64_t start_;  // in the first line
  int64_t fill_;   // bytes of the buffer, from that line on
  char* line_;     // where the buffer goes
  // Zeros behind `fill_`.
  alignas(kCacheLine) char buffer_[kMaxRowBytes + 2 * kCacheLine] = {};
};

}  // namespace SSDOPS_ISA
}  // namespace ssdops

#endif  // SSDOPS_CPU_SIMD_LINE_WRITER_H_
