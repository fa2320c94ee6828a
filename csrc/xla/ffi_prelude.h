// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_XLA_FFI_PRELUDE_H_
#define SSDOPS_XLA_FFI_PRELUDE_H_

// The only place that includes XLA's interface for foreign functions, and what
// runs an op kernel of TensorFlow.

#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/framework/node_properties.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/lib/core/threadpool.h"
#include "tensorflow/core/public/version.h"
#include "xla/ffi/api/ffi.h"

namespace xla::ffi {
// TensorFlow's libraries have it; its own header needs some that they lack.
const XLA_FFI_Api* GetXlaFfiApi();
}  // namespace xla::ffi

#endif  // SSDOPS_XLA_FFI_PRELUDE_H_
