// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_TENSORFLOW_TF_PRELUDE_H_
#define SSDOPS_TENSORFLOW_TF_PRELUDE_H_

// The only place that includes TensorFlow: its headers move between versions.

#include "absl/container/inlined_vector.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/threadpool.h"
#ifdef SSDOPS_WITH_CUDA
#include "xla/stream_executor/stream.h"
#endif

#endif  // SSDOPS_TENSORFLOW_TF_PRELUDE_H_
