// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_ISA_H_
#define SSDOPS_ISA_H_

// Instruction sets that the CPU kernels are compiled for. All give the same
// bits; which one runs is chosen once, by what the processor has.

namespace ssdops {

enum class Isa { kBaseline, kAvx2, kAvx512 };

constexpr int kNumIsas = 3;

// The best one that was compiled and that this processor has.
Isa BestIsa();

// The one that runs: the best one, unless a lower one was set.
Isa ActiveIsa();

// For tests and measurements. A higher one than the best becomes the best.
void SetActiveIsa(Isa isa);

// "baseline", "avx2" or "avx512".
const char* IsaName(Isa isa);

}  // namespace ssdops

#endif  // SSDOPS_ISA_H_
