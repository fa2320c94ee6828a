# SPDX-License-Identifier: Apache-2.0
"""Centre-size box encoding in plain TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype


def encode_boxes(
    boxes: tf.Tensor, anchors: tf.Tensor, *, variances: Sequence[float]
) -> tf.Tensor:
    """See `ssdops.ops.encode_boxes`."""
    dtype = boxes.dtype
    compute = compute_dtype(dtype)
    boxes = tf.cast(boxes, compute)
    anchors = tf.stop_gradient(tf.cast(anchors, compute))
    scale = tf.constant(variances, compute)

    low, high = boxes[..., :2], boxes[..., 2:]
    anchor_low, anchor_high = anchors[..., :2], anchors[..., 2:]
    size, anchor_size = high - low, anchor_high - anchor_low
    encodable = _positive_finite(size) & _positive_finite(anchor_size)
    # Unencodable rows are computed on a unit box instead, so that neither the
    # value nor the gradient of the branch that is thrown away can be NaN.
    mask = encodable[..., None]
    size = tf.where(mask, size, 1)
    anchor_size = tf.where(mask, anchor_size, 1)
    centre = tf.where(mask, (low + high) * 0.5, 0)
    anchor_centre = tf.where(mask, (anchor_low + anchor_high) * 0.5, 0)

    ratio = size / anchor_size
    encodable &= tf.reduce_all((ratio > 0) & (ratio <= compute.max), axis=-1)
    ratio = tf.where(encodable[..., None], ratio, 1)
    shift = (centre - anchor_centre) / anchor_size / scale[:2]
    stretch = tf.math.log(ratio) / scale[2:]
    offsets = tf.cast(tf.concat([shift, stretch], axis=-1), dtype)
    finite = tf.reduce_all(tf.math.is_finite(offsets), axis=-1)
    offsets = tf.where((encodable & finite)[..., None], offsets, 0)
    offsets.set_shape(boxes.shape)
    return offsets


def _positive_finite(size: tf.Tensor) -> tf.Tensor:
    """Whether both numbers of `[..., 2]` are positive and finite."""
    return tf.reduce_all((size > 0) & (size <= size.dtype.max), axis=-1)
