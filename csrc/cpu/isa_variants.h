// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CPU_ISA_VARIANTS_H_
#define SSDOPS_CPU_ISA_VARIANTS_H_

// The inner loops of an op live in cpu/<stem>_simd.cc, which is compiled once
// per instruction set, each time into a namespace of its own (SSDOPS_ISA).
// cpu/<stem>_simd.h declares them for all:
//
//   SSDOPS_DECLARE_VARIANTS(template <typename S> void Rows(const S* a);)
//
// and cpu/<stem>.cc calls the one that suits the processor:
//
//   SSDOPS_CALL_VARIANT(Rows<S>(a));
//
// Such a file must not leave behind an inline function that others share: no
// standard algorithms or containers, everything from headers always inlined.
// .ci/run inspects the object files. Function multiversioning of the compiler
// is not used, because its resolvers run before a sanitizer is set up.

#include "ssdops/isa.h"

#ifdef SSDOPS_ISA_VARIANTS
#define SSDOPS_DECLARE_VARIANTS(...) \
  namespace baseline {               \
  __VA_ARGS__                        \
  }                                  \
  namespace avx2 {                   \
  __VA_ARGS__                        \
  }                                  \
  namespace avx512 {                 \
  __VA_ARGS__                        \
  }
#define SSDOPS_CALL_VARIANT(...)                        \
  (::ssdops::ActiveIsa() == ::ssdops::Isa::kAvx512      \
       ? avx512::__VA_ARGS__                            \
       : (::ssdops::ActiveIsa() == ::ssdops::Isa::kAvx2 \
              ? avx2::__VA_ARGS__                       \
              : baseline::__VA_ARGS__))
#else
#define SSDOPS_DECLARE_VARIANTS(...) \
  namespace baseline {               \
  __VA_ARGS__                        \
  }
#define SSDOPS_CALL_VARIANT(...) baseline::__VA_ARGS__
#endif

#endif  // SSDOPS_CPU_ISA_VARIANTS_H_
