# SPDX-License-Identifier: Apache-2.0
"""Centre-size box decoding in plain TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype


def decode_boxes(
    offsets: tf.Tensor, anchors: tf.Tensor, *, variances: Sequence[float]
) -> tf.Tensor:
    """See `ssdops.ops.decode_boxes`."""
    dtype = offsets.dtype
    compute = compute_dtype(dtype)
    offsets = tf.cast(offsets, compute)
    anchors = tf.stop_gradient(tf.cast(anchors, compute))
    scale = tf.constant(variances, compute)

    anchor_low, anchor_high = anchors[..., :2], anchors[..., 2:]
    anchor_size = anchor_high - anchor_low
    anchor_centre = (anchor_low + anchor_high) * 0.5
    shift = _saturate(offsets[..., :2] * scale[:2], compute)
    centre = _saturate(shift * anchor_size + anchor_centre, compute)
    size = _saturate(
        _saturating_exp(offsets[..., 2:] * scale[2:], compute) * anchor_size, compute
    )
    half = size * 0.5
    boxes = tf.concat([centre - half, centre + half], axis=-1)
    boxes = tf.cast(_saturate(boxes, dtype), dtype)
    boxes.set_shape(offsets.shape)
    return boxes


def _saturate(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Limit to the finite range of `dtype`; NaN stays NaN, no gradient outside."""
    largest = tf.constant(dtype.max, x.dtype)
    x = tf.where(x > largest, largest, x)
    return tf.where(x < -largest, -largest, x)


def _saturating_exp(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """exp(x), at most the largest finite number of `dtype`."""
    # The branch not taken must stay finite: 0 * inf would be NaN in the gradient.
    overflows = x > tf.constant(_largest_exponent(dtype), dtype)
    return tf.where(
        overflows,
        tf.constant(dtype.max, dtype),
        tf.exp(tf.where(overflows, tf.zeros([], dtype), x)),
    )


def _largest_exponent(dtype: tf.DType) -> float:
    """Largest argument whose exponential is finite in `dtype`, just below ln(max)."""
    return 709.78 if dtype == tf.float64 else 88.72
