// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_CUDA_STATUS_H_
#define SSDOPS_CUDA_STATUS_H_

// The types of CUDA that cross the border of the launchers: cudaError_t and
// cudaStream_t. A launcher, declared in ssdops/<op>_cuda.h,
//   - takes pointers to the memory of one GPU, sizes, a workspace in that
//     memory, aligned to kWorkspaceAlignment, and a stream;
//   - only starts kernels in that stream: it neither allocates nor waits nor
//     copies to or from the host, so that it can be captured in a CUDA graph;
//   - starts a number of kernels that depends neither on the batch nor on the
//     data;
//   - returns the first error of starting them;
//   - gives the same bits on every GPU, in every run and in every batch, and
//     those of the CPU kernel, except where its contract says otherwise.
// The current GPU must be that of the stream and the memory. Without CUDA these
// headers are empty.

#ifdef SSDOPS_WITH_CUDA
#include <cuda_runtime_api.h>
// Code that only a build with CUDA has.
#define SSDOPS_CUDA_ONLY(...) __VA_ARGS__
#else
#define SSDOPS_CUDA_ONLY(...)
#endif

#endif  // SSDOPS_CUDA_STATUS_H_
