// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_XLA_XLA_PRELUDE_H_
#define SSDOPS_XLA_XLA_PRELUDE_H_

// The only place that includes the part of TensorFlow that compiles for XLA.
// None of it is a stable interface.

#include "absl/strings/str_cat.h"
#include "tensorflow/compiler/tf2xla/type_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/strings/proto_serialization.h"
#include "tensorflow/core/public/version.h"

#endif  // SSDOPS_XLA_XLA_PRELUDE_H_
