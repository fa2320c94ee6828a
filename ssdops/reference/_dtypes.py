# SPDX-License-Identifier: Apache-2.0
"""The dtype rule of every op: half types are stored as such, computed in float32."""

from __future__ import annotations

import tensorflow as tf


def compute_dtype(dtype: tf.DType) -> tf.DType:
    """Dtype in which an op on tensors of `dtype` does its arithmetic."""
    return tf.float64 if dtype == tf.float64 else tf.float32
