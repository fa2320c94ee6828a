# SPDX-License-Identifier: Apache-2.0
"""The multibox loss with hard negative mining, in plain TensorFlow."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from ssdops.constants import BACKGROUND_CLASS
from ssdops.ops import Targets

# Caffe computes -ln(max(p, FLT_MIN)) of a softmax: candidates beyond this are equally
# hard.
_HARDEST = 87.33655


class MultiboxLoss(NamedTuple):
    """Scalars float32 (float64 for float64 input).

    Attributes:
        total: localization times its weight plus confidence.
        localization: smooth-L1 of the offsets of positives, over `num_positives`.
        confidence: cross-entropy of positives and mined negatives, over the same.
        num_positives: number of positives in the batch, as a float.
    """

    total: tf.Tensor
    localization: tf.Tensor
    confidence: tf.Tensor
    num_positives: tf.Tensor


def multibox_loss(
    offsets: Any,
    logits: Any,
    targets: Targets,
    *,
    negative_ratio: float = 3.0,
    localization_weight: float = 1.0,
    score_activation: str = "softmax",
) -> MultiboxLoss:
    """Localization and confidence loss of a batch.

    Per image, the `negative_ratio` times number of positives hardest negatives join
    the positives in the confidence loss; an image without positives contributes
    nothing. Both parts are divided by the number of positives in the batch; without
    any, loss and gradient are 0.

    Args:
        offsets: floating tensor `[B, A, 4]`, predicted.
        logits: floating tensor `[B, A, C]`, predicted; class 0 is the background.
        targets: of `assign_targets`.
        negative_ratio: mined negatives per positive, at least 0.
        localization_weight: factor of the localization part in the total.
        score_activation: `"softmax"`, or `"sigmoid"` for one cross-entropy per class.

    Returns:
        `MultiboxLoss`; half types are computed in float32. Finite for finite input.

    Raises:
        ValueError: if an option is out of range.

    Differentiable in `offsets` and `logits`; the choice of the negatives is not part
    of the gradient. Equal losses are mined in the order of the anchors.

    References:
        `multibox_loss_layer.cpp` of the official Caffe code: VALID normalization,
        MAX_NEGATIVE mining.
    """
    if score_activation not in ("softmax", "sigmoid"):
        raise ValueError(
            f"score_activation must be 'softmax' or 'sigmoid', got {score_activation!r}"
        )
    offsets = _at_least_float32(offsets)
    logits = _at_least_float32(logits)
    dtype = logits.dtype
    positive = targets.classes > BACKGROUND_CLASS
    negative = tf.equal(targets.classes, BACKGROUND_CLASS)
    # Ignored anchors need some label too; their losses are not counted.
    labels = tf.maximum(targets.classes, BACKGROUND_CLASS)
    num_positives = tf.reduce_sum(tf.cast(positive, dtype))

    if score_activation == "softmax":
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits
        )
    else:
        wanted = tf.one_hot(labels, tf.shape(logits)[-1], dtype=dtype)
        losses = tf.reduce_sum(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=wanted, logits=logits), -1
        )
    hardness = losses
    if score_activation == "softmax":
        hardness = tf.minimum(losses, tf.constant(_HARDEST, dtype))
    mined = mine_hard_negatives(
        hardness, positive, negative, negative_ratio=negative_ratio
    )
    # where, not a product: an infinite loss of an anchor that is left out is no NaN.
    counted = positive | mined
    confidence = tf.reduce_sum(tf.where(counted, losses, tf.zeros([], dtype)))

    distance = tf.abs(offsets - tf.cast(targets.offsets, dtype))
    near = tf.minimum(distance, 1.0)
    smooth = 0.5 * near * near + (distance - near)
    localization = tf.reduce_sum(
        tf.where(positive[..., None], smooth, tf.zeros([], dtype))
    )

    normalizer = tf.maximum(num_positives, 1)
    localization /= normalizer
    confidence /= normalizer
    total = localization_weight * localization + confidence
    return MultiboxLoss(total, localization, confidence, num_positives)


def mine_hard_negatives(
    losses: Any, positive: Any, negative: Any, *, negative_ratio: float = 3.0
) -> tf.Tensor:
    """The negatives with the largest loss, per image.

    Args:
        losses: floating tensor `[B, A]`, confidence loss of every anchor.
        positive: bool `[B, A]`.
        negative: bool `[B, A]`, anchors to choose from.
        negative_ratio: chosen ones per positive, at least 0; the product is rounded
            down, and there are never more than negatives.

    Returns:
        bool `[B, A]`. Equal losses are chosen in the order of the anchors.

    Raises:
        ValueError: if `negative_ratio` is negative or not finite.

    Not differentiable; deterministic.
    """
    if not 0 <= negative_ratio < float("inf"):
        raise ValueError(
            f"negative_ratio must be finite and at least 0, got {negative_ratio}"
        )
    losses = tf.stop_gradient(_at_least_float32(losses))
    positive = tf.convert_to_tensor(positive)
    negative = tf.convert_to_tensor(negative)
    hardness = tf.where(negative, losses, tf.constant(-float("inf"), losses.dtype))
    num_positives = tf.reduce_sum(tf.cast(positive, losses.dtype), axis=-1)
    wanted = tf.cast(tf.floor(num_positives * negative_ratio), tf.int32)
    available = tf.reduce_sum(tf.cast(negative, tf.int32), axis=-1)
    count = tf.minimum(wanted, available)

    batch, num_anchors = tf.unstack(tf.shape(losses), num=2)
    _, order = tf.math.top_k(hardness, k=num_anchors)
    chosen = tf.range(num_anchors)[None, :] < count[:, None]
    image = tf.broadcast_to(tf.range(batch)[:, None], [batch, num_anchors])
    places = tf.stack([image, order], axis=-1)
    ranked = tf.scatter_nd(places, tf.cast(chosen, tf.int32), [batch, num_anchors])
    mined = ranked > 0
    mined.set_shape(losses.shape)
    return mined


def _at_least_float32(values: Any) -> tf.Tensor:
    tensor = tf.convert_to_tensor(values)
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
