# SPDX-License-Identifier: Apache-2.0
"""Hard negative mining in plain TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype


def mine_hard_negatives(
    losses: tf.Tensor, target_classes: tf.Tensor, *, negative_ratio: float
) -> tf.Tensor:
    """See `ssdops.ops.mine_hard_negatives`."""
    losses = tf.cast(losses, compute_dtype(losses.dtype))
    candidate = tf.equal(target_classes, 0)
    count = num_mined(target_classes, negative_ratio)

    keys = _order(losses)
    keys = tf.where(candidate, keys, keys.dtype.min)
    batch, num_anchors = tf.unstack(tf.shape(losses), num=2)
    # Of equal elements, the lower index comes first.
    _, order = tf.math.top_k(keys, k=num_anchors)
    chosen = tf.range(num_anchors)[None, :] < count[:, None]
    image = tf.broadcast_to(tf.range(batch)[:, None], [batch, num_anchors])
    places = tf.stack([image, order], axis=-1)
    ranked = tf.scatter_nd(places, tf.cast(chosen, tf.int32), [batch, num_anchors])
    mined = ranked > 0
    mined.set_shape(losses.shape)
    return mined


def num_mined(target_classes: tf.Tensor, negative_ratio: float) -> tf.Tensor:
    """Number of negatives to mine, int32 `[B]`."""
    positives = tf.reduce_sum(tf.cast(target_classes > 0, tf.int32), axis=-1)
    candidates = tf.reduce_sum(tf.cast(tf.equal(target_classes, 0), tf.int32), axis=-1)
    wanted = tf.cast(positives, tf.float64) * tf.constant(negative_ratio, tf.float64)
    # Limited before it is converted: the product may be beyond every integer.
    limit = tf.cast(candidates, tf.float64)
    return tf.cast(tf.minimum(wanted, limit), tf.int32)


def _order(losses: tf.Tensor) -> tf.Tensor:
    """Integers that are ordered as the losses are, a NaN above infinity."""
    integer = tf.int64 if losses.dtype == tf.float64 else tf.int32
    zero = tf.zeros([], losses.dtype)
    losses = tf.where(tf.equal(losses, zero), zero, losses)  # -0 is 0
    bits = tf.bitcast(losses, integer)
    # Of negative numbers the bits order the other way round.
    keys = tf.where(bits < 0, tf.bitwise.bitwise_xor(bits, integer.max), bits)
    return tf.where(tf.math.is_nan(losses), tf.constant(integer.max, integer), keys)
