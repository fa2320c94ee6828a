# SPDX-License-Identifier: Apache-2.0
"""The multibox loss in plain TensorFlow, differentiable by TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import tensorflow as tf

from ssdops.reference._dtypes import compute_dtype
from ssdops.reference.box_iou import box_iou
from ssdops.reference.decode_boxes import decode_boxes
from ssdops.reference.mine_hard_negatives import mine_hard_negatives

# The official code limits probabilities to FLT_MIN: odds from its reciprocal on are
# equally hard.
_LARGEST_ODDS: Final = 8.50705917e37
_LARGEST_EXPONENT: Final = 88.0


def multibox_loss(
    logits: tf.Tensor,
    offsets: tf.Tensor,
    target_classes: tf.Tensor,
    target_offsets: tf.Tensor,
    *,
    anchors: tf.Tensor | None,
    variances: Sequence[float],
    negative_ratio: float,
    localization_weight: float,
    confidence_loss: str,
    localization_loss: str,
    normalizer: tf.Tensor | None,
    focal_alpha: float,
    focal_gamma: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """See `ssdops.ops.multibox_loss`; also returns the mask of mined negatives."""
    compute = compute_dtype(logits.dtype)
    logits = tf.cast(logits, compute)
    offsets = tf.cast(offsets, compute)
    target_offsets = tf.stop_gradient(tf.cast(target_offsets, compute))
    zero = tf.zeros([], compute)
    positive = target_classes > 0
    num_positives = tf.reduce_sum(tf.cast(positive, compute))

    if confidence_loss == "sigmoid_focal":
        mined = tf.zeros_like(positive)
        counted = target_classes >= 0
    else:
        mined = mine_hard_negatives(
            tf.stop_gradient(_hardness(logits, confidence_loss)),
            target_classes,
            negative_ratio=negative_ratio,
        )
        counted = positive | mined
    # where, not a product: what is left out may be infinite.
    classes = tf.where(counted, target_classes, 0)
    safe_logits = tf.where(counted[..., None], logits, zero)
    losses = _confidence(
        safe_logits, classes, confidence_loss, focal_alpha, focal_gamma
    )
    confidence = tf.reduce_sum(tf.where(counted, losses, zero))

    mask = positive[..., None]
    losses = _localization(
        tf.where(mask, offsets, zero),
        tf.where(mask, target_offsets, zero),
        anchors,
        variances,
        localization_loss,
    )
    localization = tf.reduce_sum(tf.where(positive, losses, zero))

    if normalizer is None:
        divisor = tf.maximum(num_positives, 1)
        counts = num_positives > 0
        localization = tf.where(counts, localization, zero)
        confidence = tf.where(counts, confidence, zero)
    else:
        divisor = tf.maximum(tf.cast(tf.stop_gradient(normalizer), compute), 1)
    localization /= divisor
    confidence /= divisor
    total = localization_weight * localization + confidence
    return total, localization, confidence, tf.stop_gradient(num_positives), mined


def _hardness(logits: tf.Tensor, confidence_loss: str) -> tf.Tensor:
    """By what negatives are ranked: it rises with their loss as background."""
    if confidence_loss == "sigmoid":
        background = tf.zeros(tf.shape(logits)[:-1], tf.int32)
        return _confidence(logits, background, "sigmoid", 0.0, 0.0)
    above = logits[..., 1:] - logits[..., :1]
    # A NaN stays.
    limited = tf.where(above > _LARGEST_EXPONENT, _LARGEST_EXPONENT, above)
    odds = tf.reduce_sum(tf.exp(limited), axis=-1)
    return tf.where(odds > _LARGEST_ODDS, _LARGEST_ODDS, odds)


def _confidence(
    logits: tf.Tensor,
    classes: tf.Tensor,
    confidence_loss: str,
    alpha: float,
    gamma: float,
) -> tf.Tensor:
    """Losses `[B, A]` of logits `[B, A, C]` against classes `[B, A]`."""
    if confidence_loss == "softmax":
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=classes, logits=logits
        )
    num_classes = tf.shape(logits)[-1]
    target = tf.equal(tf.range(num_classes), classes[..., None])
    # The logit of the right answer, and -ln of its probability.
    right = tf.where(target, logits, -logits)
    entropy = tf.nn.softplus(-right)
    if confidence_loss == "sigmoid":
        return tf.reduce_sum(entropy, axis=-1)
    share = tf.where(target, tf.cast(alpha, logits.dtype), 1 - alpha)
    # (1 - p)^gamma by its logarithm, which is finite.
    losses = share * tf.exp(-gamma * tf.nn.softplus(right)) * entropy
    return tf.reduce_sum(losses[..., 1:], axis=-1)


def _localization(
    offsets: tf.Tensor,
    targets: tf.Tensor,
    anchors: tf.Tensor | None,
    variances: Sequence[float],
    localization_loss: str,
) -> tf.Tensor:
    """Losses `[B, A]` of offsets `[B, A, 4]` against targets of the same shape."""
    if localization_loss in ("smooth_l1", "l2"):
        difference = offsets - targets
        square = 0.5 * difference * difference
        if localization_loss == "l2":
            return tf.reduce_sum(square, axis=-1)
        distance = tf.abs(difference)
        return tf.reduce_sum(tf.where(distance < 1, square, distance - 0.5), axis=-1)
    assert anchors is not None
    anchors = tf.cast(anchors, offsets.dtype)
    boxes = decode_boxes(offsets, anchors, variances=variances)
    wanted = decode_boxes(targets, anchors, variances=variances)
    wanted = tf.stop_gradient(wanted)
    return 1 - box_iou(boxes, wanted, kind=localization_loss, aligned=True)
